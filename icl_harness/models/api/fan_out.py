"""Many queries, few requests at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from icl_harness.models.api.flights import Stopped
from icl_harness.models.base import Answer
from icl_harness.prompts.tree import Query

GATHER_S = 0.02  # answers that come within it are stored together, in one commit


async def fan_out(
    ask: Callable[[Query], Awaitable[Answer]], queries: Sequence[Query], most: int
) -> AsyncGenerator[list[Answer], None]:
    """Yield what `ask` says of each query, those that came together in one list; the first
    exception ends it.

    Each worker takes the next query when it is free, so that no more than `most` requests ever
    exist.
    """
    todo = iter(queries)
    done: asyncio.Queue[Answer | None] = asyncio.Queue()

    async def worker() -> Stopped | None:
        for query in todo:
            try:
                done.put_nowait(await ask(query))
            except Stopped as stopped:  # the answers underway come first
                return stopped
        return None

    workers = [asyncio.create_task(worker()) for _ in range(min(most, len(queries)))]
    for task in workers:
        task.add_done_callback(lambda _: done.put_nowait(None))  # wakes the loop below
    try:
        n_left = len(queries)
        while n_left:
            arrived = [await done.get()]
            await asyncio.sleep(GATHER_S)
            while not done.empty():
                arrived.append(done.get_nowait())
            answered = [answer for answer in arrived if answer is not None]
            n_left -= len(answered)
            if answered:
                yield answered
            if None in arrived:
                _raise_what_ended(workers, is_over=done.empty())
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _raise_what_ended(workers: Sequence[asyncio.Task[Stopped | None]], *, is_over: bool) -> None:
    """Raise what ended a worker: a failure at once, a stop when all have ended."""
    ends = [task.result() for task in workers if task.done()]
    stops = [stopped for stopped in ends if stopped is not None]
    if stops and is_over and len(ends) == len(workers):
        raise stops[0]
