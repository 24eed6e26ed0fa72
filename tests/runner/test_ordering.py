"""Whose turn it is: who waits for whom, and that nobody waits for ever."""

import asyncio
from types import SimpleNamespace

import pytest

from icl_harness.prompts.tree import Node
from icl_harness.runner.ordering import Place, Turns


def line(mode="supervised", draw=0, model="m", variant="default"):
    return SimpleNamespace(
        model=model, task=SimpleNamespace(name="t"), variant=variant, mode=mode, draw=draw
    )


class Path:
    """A path of prompts that is all its own beyond the prompt without shots."""

    def __init__(self, name: str, n_shots: int = 64) -> None:
        self.shots = range(n_shots)
        self._nodes = [Node("p")]
        for k in self.shots:
            self._nodes.append(self._nodes[-1].child(f"{name}{k}", shot=k))

    def node(self, k: int) -> Node:
        return self._nodes[k]


async def waits(turns: Turns, place: Place, node: Node, shots: int) -> bool:
    task = asyncio.create_task(turns.wait(place, node, shots))
    for _ in range(5):
        await asyncio.sleep(0)
    waiting = not task.done()
    task.cancel()
    return waiting


@pytest.mark.parametrize("shots", [0, 8])
def test_a_line_waits_for_an_earlier_one_that_still_has_the_same_prompt_before_it(shots) -> None:
    async def go() -> list[bool]:
        turns, node = Turns(), Path("a").node(shots)
        first, second = turns.enter(line(), (0, 8, 64)), turns.enter(line(draw=1), (0, 8, 64))
        for place in (first, second):
            await turns.move(place, path=Path("a"))
        found = [await waits(turns, place, node, shots) for place in (second, first)]
        for done in (64, shots):
            await turns.move(first, done=done)
            found.append(await waits(turns, second, node, shots))
        return found

    assert asyncio.run(go()) == [True, False, True, False]


def test_a_line_without_its_bank_is_awaited_for_the_prompt_without_shots_alone() -> None:
    async def go() -> list[bool]:
        turns, path = Turns(), Path("a")
        turns.enter(line("reinforced"), (0, 8))
        place = turns.enter(line(), (0, 8))
        await turns.move(place, path=path)
        return [await waits(turns, place, path.node(k), k) for k in (0, 8)]

    assert asyncio.run(go()) == [True, False]


def test_other_models_tasks_and_variants_are_not_waited_for() -> None:
    async def go() -> list[bool]:
        turns, path = Turns(), Path("a")
        for other in (line(model="n"), line(variant="flipped")):
            await turns.move(turns.enter(other, (0,)), path=path)
        place = turns.enter(line(), (0,))
        return [await waits(turns, place, path.node(0), 0)]

    assert asyncio.run(go()) == [False]


def test_a_cell_waits_for_the_smaller_ones_of_its_line_that_come_to_its_prompt() -> None:
    async def go() -> list[bool]:
        turns, path = Turns(), Path("bank", n_shots=5)
        place = turns.enter(line(), (2, 8, 16))
        await turns.move(place, path=path)
        found = [
            await waits(turns, place, path.node(5), 8),
            await waits(turns, place, path.node(5), 16),
        ]
        await turns.move(place, done=8)
        return [*found, await waits(turns, place, path.node(5), 16)]

    assert asyncio.run(go()) == [False, True, False]
