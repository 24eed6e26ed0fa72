"""Many queries, few requests at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

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

    async def worker() -> None:
        for query in todo:
            done.put_nowait(await ask(query))

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
            for task in workers if None in arrived else ():
                if task.done():
                    task.result()  # raises what ended it
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
