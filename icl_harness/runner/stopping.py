"""What Ctrl-C does to a walk, and SIGTERM and SIGHUP alike.

The first lets the requests that are underway come back, as they are paid for, and sends no more;
where none is, the walk is cancelled. The second gives them up, which counts them as lost. A third,
or a second where nothing is underway, ends it at once. In: signals. Out: `Stopped`.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from icl_harness.models.api.flights import Flights, Stopped

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Stopper:
    """Stops one walk. `say` shows a line to the user."""

    def __init__(self, flights: Flights, say: Callable[[str], None]) -> None:
        self._flights = flights
        self._say = say
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None
        self.n_signals = 0
        self.n_pressed = 0

    def press(self) -> None:
        """Go one step further; called in the walk's loop."""
        self.n_pressed += 1
        if self._flights.n_open and not self._flights.stopping:
            self._say(self._flights.stop())
        elif self.n_pressed == 2 and self._flights.n_in_air:
            self._flights.cut()
        elif self._task is not None:
            self._task.cancel()

    def press_soon(self) -> None:
        """Go one step further; called from another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.press)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Obey signals while the walk, which is the current task, goes on. Raises `Stopped` where
        it was cancelled.
        """
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
                    before[number] = signal.signal(number, self._signalled)
        try:
            yield
        except asyncio.CancelledError:
            if self.n_pressed:
                raise Stopped from None
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self.n_signals += 1
        is_draining = self._flights.stopping and self.n_signals == 2
        if self.n_signals > 1 and not is_draining:
            raise KeyboardInterrupt
        self.press_soon()
