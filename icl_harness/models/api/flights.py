"""Requests in flight: sent, and their answers not stored yet. What a stop does to them, and what a
crash would leave of them.

In: who sends requests, and who stores answers. Out: the dollars that may have been charged without
a record of it, in the run's ledger, so that a resume counts them towards --max-cost. They are
written down before they are spent, in steps, as a commit for each request would take long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from icl_harness.counts import n_of
from icl_harness.models.api.ledger import Ledger, new_token

HEADROOM = 1.25  # of what is in flight, so that hardly any more has to be written down
Key = tuple[str, int]  # of a query: its id and sample


class Stopped(Exception):
    """The user stopped the run: what was not sent yet is not sent any more."""


@dataclass(eq=False)
class Seat:
    """The place of one request from when it is wanted until it has a response, retries included;
    `in_air` while one is awaited.
    """

    limit: asyncio.Timeout
    most_s: float
    in_air: bool = False
    start: float = field(default_factory=time.monotonic)


class Flights:
    """The requests of a run that are in flight."""

    def __init__(self) -> None:
        self.ledger: Ledger | None = None  # of the run, once there is one
        self.stopping = False
        self._seats: set[Seat] = set()
        self._usd: dict[Key, float] = {}  # of those sent whose answers are not stored
        self._token = new_token()
        self._lost_usd = 0.0
        self._noted_usd = 0.0
        self._mean_s = 0.0  # that a response took of late

    @property
    def n_open(self) -> int:
        """Return how many queries were sent whose answers are not stored."""
        return len(self._usd)

    @property
    def n_in_air(self) -> int:
        """Return how many requests await a response."""
        return sum(seat.in_air for seat in self._seats)

    def take_off(self, keys: Iterable[Key], usd: float) -> None:
        """Take note of a request that is about to be sent, and its worst price."""
        keys = list(keys)
        for key in keys:
            self._usd[key] = self._usd.get(key, 0.0) + usd / len(keys)
        self._note()

    def land(self, keys: Iterable[Key]) -> None:
        """Take note that the answers to queries are stored, or never will be."""
        for key in keys:
            self._usd.pop(key, None)

    def lose(self, usd: float) -> None:
        """Count dollars that were spent, or may have been, and that no record holds."""
        if usd:
            self._lost_usd += usd
            self._note()

    def close(self) -> None:
        """Write down what no record holds, to the dollar: nothing is in flight any more."""
        self._usd.clear()
        self._note(exact=True)

    @asynccontextmanager
    async def seat(self, most_s: float) -> AsyncIterator[Seat]:
        """Give a request its place. Raises `Stopped` where no more are sent, or it is given up."""
        if self.stopping:
            raise Stopped
        seat = Seat(asyncio.timeout(None), most_s)
        self._seats.add(seat)
        try:
            async with seat.limit:
                yield seat
        except TimeoutError:
            if seat.limit.expired():
                raise Stopped from None
            raise
        finally:
            self._seats.discard(seat)

    @asynccontextmanager
    async def in_air(self, seat: Seat | None) -> AsyncIterator[None]:
        """Hold a request in the air until it has a response; one that is cancelled stays there."""
        if seat is None:
            yield
            return
        seat.in_air, seat.start = True, time.monotonic()
        try:
            yield
        except Exception:
            seat.in_air = False
            raise
        seat.in_air = False
        took_s = time.monotonic() - seat.start
        self._mean_s += (took_s - self._mean_s) * (0.1 if self._mean_s else 1.0)

    def stop(self) -> str:
        """Send no more, wait for what is in the air; return a line on how long that takes."""
        self.stopping = True
        waiting = [seat for seat in self._seats if seat.in_air]
        for seat in self._seats.difference(waiting):
            _give_up(seat)
        now = time.monotonic()
        most_s = max((seat.start + seat.most_s - now for seat in waiting), default=0.0)
        oldest_s = max((now - seat.start for seat in waiting), default=0.0)
        about_s = max(self._mean_s - oldest_s / 2, min(self._mean_s, most_s), 1.0)
        requests = n_of(len(waiting), "request")
        return (
            f"stopping: waiting for {requests} underway, paid for in any case: about "
            f"{about_s:,.0f} s, at most {max(most_s, 1):,.0f} s. Ctrl-C again ends that."
        )

    def cut(self) -> None:
        """Give up what is in the air; it counts as lost."""
        for seat in self._seats:
            _give_up(seat)

    def _note(self, *, exact: bool = False) -> None:
        """Write down what a crash would leave without a record, if more than is written down."""
        usd = self._lost_usd + sum(self._usd.values())
        if exact and usd != self._noted_usd:
            self._write(usd)
        elif usd > self._noted_usd:
            self._write(self._lost_usd + HEADROOM * (usd - self._lost_usd))

    def _write(self, usd: float) -> None:
        self._noted_usd = usd
        if self.ledger is not None:
            self.ledger.note_unrecorded(self._token, usd)


def _give_up(seat: Seat) -> None:
    seat.limit.reschedule(asyncio.get_running_loop().time())
