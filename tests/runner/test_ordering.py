"""The order in which lines send the same request: who waits, and that nobody waits for ever."""

import asyncio
from types import SimpleNamespace

import pytest

from icl_harness.prompts.tree import Node
from icl_harness.runner.ordering import GridOrder, LineState


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


async def waits(order: GridOrder, state: LineState, node: Node, shots: int) -> bool:
    task = asyncio.create_task(order.wait(state, node, node.n_shots, shots))
    for _ in range(5):
        await asyncio.sleep(0)
    waiting = not task.done()
    task.cancel()
    return waiting


@pytest.mark.parametrize("shots", [0, 8])
def test_a_line_waits_for_an_earlier_one_that_may_still_send_the_same_prompt(shots) -> None:
    async def go() -> list[bool]:
        order, node = GridOrder(), Path("a").node(shots)
        first, second = order.enter(line(), (0, 8, 64)), order.enter(line(draw=1), (0, 8, 64))
        for state in (first, second):
            await order.update(state, path=Path("a"))
        found = [await waits(order, state, node, shots) for state in (second, first)]
        for done in (64, shots):
            await order.update(first, done=done)
            found.append(await waits(order, second, node, shots))
        return found

    assert asyncio.run(go()) == [True, False, True, False]


def test_a_line_without_its_bank_is_awaited_for_the_prompt_without_shots_alone() -> None:
    async def go() -> list[bool]:
        order, path = GridOrder(), Path("a")
        order.enter(line("reinforced"), (0, 8))
        state = order.enter(line(), (0, 8))
        await order.update(state, path=path)
        return [await waits(order, state, path.node(k), k) for k in (0, 8)]

    assert asyncio.run(go()) == [True, False]


def test_other_models_tasks_and_variants_are_not_waited_for() -> None:
    async def go() -> list[bool]:
        order, path = GridOrder(), Path("a")
        for other in (line(model="n"), line(variant="flipped")):
            await order.update(order.enter(other, (0,)), path=path)
        state = order.enter(line(), (0,))
        return [await waits(order, state, path.node(0), 0)]

    assert asyncio.run(go()) == [False]


def test_a_cell_waits_for_the_smaller_ones_of_its_line_that_come_to_its_prompt() -> None:
    async def go() -> list[bool]:
        order, path = GridOrder(), Path("bank", n_shots=5)
        state = order.enter(line(), (2, 8, 16))
        await order.update(state, path=path)
        found = [
            await waits(order, state, path.node(5), 8),
            await waits(order, state, path.node(5), 16),
        ]
        await order.update(state, done=8)
        return [*found, await waits(order, state, path.node(5), 16)]

    assert asyncio.run(go()) == [False, True, False]
