"""Whose turn it is, where several lines are walked at a time.

A greedy prompt is asked once a run and copied from then on. One by one, the first line of the grid
that comes to it asks. So a line waits behind an earlier one that is underway and still has the very
same prompt before it: zero-shot, above all. It never waits for a later one, so the first line
underway always goes on. Within a line whose cells are asked at the same time, larger shot counts
wait for smaller ones in the same way (a bank may hold too few for either).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from icl_harness.prompts.modes import PromptPath
from icl_harness.prompts.tree import Node
from icl_harness.runner.experiment import Line


class Place:
    """Where a line is: its path, once that is known, and the shot counts of the grid that are still
    before it.
    """

    def __init__(self, line: Line, shots: Sequence[int]) -> None:
        self.line = line
        self.path: PromptPath | None = None  # reinforced: not before the bank is there
        self.shots = tuple(shots)
        self.todo = set(shots)
        self.most_shots: int | None = None  # that fit, where the provider or an earlier run told it
        self.searching = asyncio.Lock()  # for that number

    def has_before_it(self, node: Node) -> bool:
        """Whether this line may still come to a prefix."""
        k = node.n_shots
        if self.path is None:  # without its bank it shares the prompt without shots alone
            return k == 0 and 0 in self.todo
        # A cell that drops shots comes to a smaller count, but then the next larger cell has been
        # there as well.
        nearest = next((n for n in self.shots if n >= k), None)
        return (
            nearest in self.todo
            and k <= len(self.path.shots)
            and self.path.node(k).hash == node.hash
        )


class Turns:
    """The lines that are underway, in the order of the grid."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._moved = asyncio.Condition()

    def enter(self, line: Line, shots: Sequence[int]) -> Place:
        """Add a line with its shot counts, ascending, behind all that are there."""
        self._places.append(Place(line, shots))
        return self._places[-1]

    async def move(
        self, place: Place, *, path: PromptPath | None = None, done: int | None = None
    ) -> None:
        """Take note of a line's path, or that it is done with a shot count."""
        async with self._moved:
            place.path = path or place.path
            place.todo -= {done}
            self._moved.notify_all()

    async def leave(self, place: Place) -> None:
        """Take note that a line is done."""
        async with self._moved:
            self._places.remove(place)
            self._moved.notify_all()

    async def wait(self, place: Place, node: Node, shots: int, *, other_lines: bool = True) -> None:
        """Return once no earlier line, and none of the line's cells of fewer shots, may still come
        to a prefix.
        """
        async with self._moved:
            await self._moved.wait_for(
                lambda: not self._is_awaited(place, node, shots, other_lines)
            )

    def _is_awaited(self, place: Place, node: Node, shots: int, other_lines: bool) -> bool:
        line = place.line
        if any(node.n_shots <= n < shots for n in place.todo):
            return True
        if not other_lines:
            return False
        for other in self._places[: self._places.index(place)]:
            theirs = other.line
            same = (theirs.model, theirs.task.name, theirs.variant) == (
                line.model,
                line.task.name,
                line.variant,
            )
            if same and other.has_before_it(node):
                return True
        return False
