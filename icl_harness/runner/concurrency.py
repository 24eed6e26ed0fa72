"""Small helpers around asyncio that know nothing of runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def first_error() -> Iterator[None]:
    """Raise the first error of a task group as itself: the others say the same, or were cancelled
    for it.
    """
    try:
        yield
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def run_async(work: Coroutine[object, object, T], interrupt: Callable[[], None] | None = None) -> T:
    """Run a coroutine to its end, in a thread of its own where a loop is running already (a
    notebook). There Ctrl-C calls `interrupt`, once for each; without one, the work is cancelled.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    return _run_in_thread(work, interrupt)


def _run_in_thread(work: Coroutine[object, object, T], interrupt: Callable[[], None] | None) -> T:
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[object] | None]] = Future()

    async def begin() -> T:
        begun.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        return await work

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, begin())
        while True:
            try:
                return running.result()
            except KeyboardInterrupt:  # it comes here, not to the thread, which would go on sending
                if running.done():
                    raise
                loop, task = begun.result()
                if interrupt is not None:
                    interrupt()
                elif task is not None:
                    loop.call_soon_threadsafe(task.cancel)
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None
