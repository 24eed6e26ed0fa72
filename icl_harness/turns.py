"""Whose turn it is, where several lines are walked at a time (floor 3).

A greedy prompt is asked once a run and copied from then on. One by one, the first line of the grid that comes to it
asks. So a line waits behind an earlier one that is underway and still has the very same prompt before it: zero-shot,
above all. It never waits for a later one, so the first line underway always goes on.
"""

from __future__ import annotations

import asyncio

from icl_harness.experiment import Line
from icl_harness.modes import PromptPath
from icl_harness.prompts import Node


class Place:
    """Where a line is: its path, once that is known, and the largest shot count behind it."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.path: PromptPath | None = None  # reinforced: not before the bank is there
        self.shots_done = -1

    def has_before_it(self, node: Node) -> bool:
        """Whether this line may still come to a prefix."""
        k = node.n_shots
        if self.path is None:
            return True
        return self.shots_done < k <= len(self.path.shots) and self.path.node(k).hash == node.hash


class Turns:
    """The lines that are underway, in the order of the grid."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._moved = asyncio.Condition()

    def enter(self, line: Line) -> Place:
        """Add a line, behind all that are there."""
        self._places.append(Place(line))
        return self._places[-1]

    async def move(self, place: Place, *, path: PromptPath | None = None, shots_done: int = -1) -> None:
        """Take note of a line's path, or that it is done with a shot count."""
        async with self._moved:
            place.path = path or place.path
            place.shots_done = max(place.shots_done, shots_done)
            self._moved.notify_all()

    async def leave(self, place: Place) -> None:
        """Take note that a line is done."""
        async with self._moved:
            self._places.remove(place)
            self._moved.notify_all()

    async def wait(self, place: Place, node: Node) -> None:
        """Return once no earlier line may still come to a prefix."""
        async with self._moved:
            await self._moved.wait_for(lambda: not self._is_awaited(place, node))

    def _is_awaited(self, place: Place, node: Node) -> bool:
        line = place.line
        for other in self._places[: self._places.index(place)]:
            theirs = other.line
            same = (theirs.model, theirs.task.name, theirs.variant) == (line.model, line.task.name, line.variant)
            if same and other.has_before_it(node):
                return True
        return False
