"""In which order lines send the same request, where several are walked at a time.

At temperature 0 a request is sent once a run and copied from then on. The first cell in grid order
sends it; later ones copy its answer. So a line waits behind an earlier one that is underway and may
still send the very same prompt: zero-shot, above all. It never waits for a later one, so the first
line underway always proceeds. Within a line whose cells are sent at the same time, larger shot
counts wait for smaller ones in the same way (a bank may hold too few for either).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from icl_harness.prompts.modes import PromptPath
from icl_harness.prompts.tree import Node
from icl_harness.runner.line import Line


class LineState:
    """How far a line is: its path, once that is known, and the shot counts that are still to do."""

    def __init__(self, line: Line, shots: Sequence[int]) -> None:
        self.line = line
        self.path: PromptPath | None = None  # reinforced: not before the bank is there
        self.shots = tuple(shots)
        self.todo = set(shots)
        # how many shots fit, by the position of a bundle in its cell, where the provider's refusals
        # or an earlier run showed it
        self.most_shots: dict[int, int] = {}
        self.searching = asyncio.Lock()  # for those numbers

    def may_send(self, node: Node, k: int) -> bool:
        """Return whether this line may still send requests behind a prefix, with `k` shots."""
        if self.path is None:  # without its bank it shares the prompt without shots alone
            return k == 0 and 0 in self.todo
        # A cell that drops shots comes to a smaller count, but then the next larger cell has been
        # there as well.
        larger = next((n for n in self.shots if n >= k), None)
        if larger not in self.todo or k > len(self.path.shots):
            return False
        return self.path.node(k).hash == node.hash


class GridOrder:
    """The lines that are underway, in the order of the grid."""

    def __init__(self) -> None:
        self._states: list[LineState] = []
        self._changed = asyncio.Condition()

    def enter(self, line: Line, shots: Sequence[int]) -> LineState:
        """Add a line with its shot counts, ascending, behind all that are there."""
        self._states.append(LineState(line, shots))
        return self._states[-1]

    async def update(
        self, state: LineState, *, path: PromptPath | None = None, done: int | None = None
    ) -> None:
        """Take note of a line's path, or that it is done with a shot count."""
        async with self._changed:
            state.path = path or state.path
            state.todo -= {done}
            self._changed.notify_all()

    async def leave(self, state: LineState) -> None:
        """Take note that a line is done."""
        async with self._changed:
            self._states.remove(state)
            self._changed.notify_all()

    async def wait(
        self, state: LineState, node: Node, k: int, shots: int, *, other_lines: bool = True
    ) -> None:
        """Return once no earlier line, and none of the line's cells of fewer than `shots` shots,
        may still send requests behind a prefix with `k` shots.
        """

        def is_free() -> bool:
            return not self._must_wait(state, node, k, shots, other_lines)

        async with self._changed:
            await self._changed.wait_for(is_free)

    def _must_wait(
        self, state: LineState, node: Node, k: int, shots: int, other_lines: bool
    ) -> bool:
        if any(k <= smaller < shots for smaller in state.todo):
            return True
        earlier = self._states[: self._states.index(state)] if other_lines else []
        return any(_shares(other, state) and other.may_send(node, k) for other in earlier)


def _shares(one: LineState, other: LineState) -> bool:
    """Return whether two lines may copy each other's answers."""
    a, b = one.line, other.line
    return (a.model, a.task.name, a.variant) == (b.model, b.task.name, b.variant)
