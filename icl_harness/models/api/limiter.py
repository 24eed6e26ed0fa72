"""When the next request may be sent: one limiter per account, shared by all its cells and models.

In: the limits that the user set (--rpm, --tpm), and what the provider says: answers, refusals,
headers. Out: `slot`, which waits until one more request may be sent. Concurrency rises while
requests are answered and halves when one is refused; requests and tokens are paced evenly, so that
none burst; Retry-After and the rate-limit headers are obeyed. Left out: sending, retrying, counting
tokens; limits per day.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from icl_harness.errors import SpecError

START = 8  # concurrency before anything is known
CAP_S = 120.0  # no word of a provider's stops an account for longer
LATE_S = 1.0  # sleeps end late: up to this, what one request is late by is given back to the next
LOOK_S = 1.0  # how often the first in the queue looks whether its wait has become shorter or longer
UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

# What providers count: the headers of what remains and of its reset, and whether a request takes
# its tokens of it or 1. How much of its room an answer will fill is not known, so output tokens
# stop requests only where none are left.
QUOTAS = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", False),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", True),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset", False),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset", True),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset", True),
    (
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
        False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the user allows a minute; None where no limit is known."""

    rpm: float | None = None  # requests
    tpm: float | None = None  # tokens: the prompt and the room for the answer

    def __post_init__(self) -> None:
        for name, value in (("rpm", self.rpm), ("tpm", self.tpm)):
            if value is not None and not 0 < value < math.inf:
                raise SpecError(f"--{name} is {value}; it takes a number above 0.")


class Pace:
    """A steady pace: the next is due when all before it are paid for. One of any size goes then,
    and the rest wait.
    """

    def __init__(self) -> None:
        self.s_each = 0.0  # seconds that each request or token takes
        self.due = -math.inf

    def spend(self, n: float, now: float) -> None:
        """Take note of `n` sent now."""
        start = self.due if now - self.due < LATE_S else now
        self.due = start + n * self.s_each


@dataclass
class Quota:
    """What the provider said remains, true until its reset."""

    remaining: float
    reset: float  # by the limiter's clock
    of_tokens: bool

    def need(self, tokens: int) -> int:
        """Return what a request takes of it."""
        return tokens if self.of_tokens else 1


class Slot:
    """The place of one request that may be sent. Say what became of it while it is held."""

    def __init__(self, limiter: Limiter, number: int, tokens: int) -> None:
        self._limiter = limiter
        self._number = number
        self._tokens = tokens

    def answered(self) -> None:
        """The provider answered: more may be sent at once, if some had to wait for a place."""
        self._limiter._rise(self._number)

    def refused(self, retry_after_s: float = 0.0) -> None:
        """The provider sent a 429 or 529: half as many at once, and none for `retry_after_s`."""
        self._limiter._fall(self._number, retry_after_s)

    def used(self, tokens: int) -> None:
        """The request took other tokens than were reserved for it."""
        self._limiter._tokens.due += (tokens - self._tokens) * self._limiter._tokens.s_each
        self._tokens = tokens


class Limiter:
    """Lets requests go, first come, first served. It serves one event loop at a time and is bound
    to none.
    """

    def __init__(
        self,
        rates: Rates = Rates(),
        most: int = 64,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.limit = float(START)  # how many may be in flight
        self.n_in_flight = 0
        self._clock, self._sleep = clock, sleep
        self._queue: deque[asyncio.Event] = deque()
        self._requests, self._tokens = Pace(), Pace()
        self._quotas: dict[str, Quota] = {}
        self._pause_end = -math.inf
        self._n_sent = 0
        self._n_sent_when_full = 0  # when one last waited for a place
        self._n_sent_when_halved: int | None = None  # None before the first refusal
        self.allow(rates, most)

    def allow(self, rates: Rates, most: int) -> None:
        """Set the user's limits; what was learnt of the provider's stays."""
        self.most = most
        self.limit = min(self.limit, most)
        self._requests.s_each = 60 / rates.rpm if rates.rpm else 0.0
        self._tokens.s_each = 60 / rates.tpm if rates.tpm else 0.0

    @asynccontextmanager
    async def slot(self, tokens: int) -> AsyncGenerator[Slot, None]:
        """Wait until a request of `tokens` may be sent, and hold its place while it is underway."""
        slot = await self._enter(tokens)
        try:
            yield slot
        finally:
            self.n_in_flight -= 1
            self._wake_first()

    def read_headers(self, headers: Mapping[str, str]) -> None:
        """Read the rate-limit headers of any response. Ones that cannot be read say nothing."""
        headers = {name.lower(): value for name, value in headers.items()}
        for remaining_name, reset_name, of_tokens in QUOTAS:
            remaining = _number(headers.get(remaining_name))
            reset_s = None if remaining is None else _reset_s(headers.get(reset_name, ""), headers)
            if remaining is not None and reset_s is not None:
                self._quotas[remaining_name] = Quota(
                    remaining, self._clock() + capped_s(reset_s), of_tokens
                )

    async def _enter(self, tokens: int) -> Slot:
        woken = asyncio.Event()
        self._queue.append(woken)
        try:
            while (wait_s := self._wait_s(woken, tokens)) > 0:
                if wait_s < math.inf:
                    await self._sleep(min(wait_s, LOOK_S))
                else:
                    woken.clear()
                    await woken.wait()
            return self._take(tokens)
        finally:  # also where the wait is cancelled
            self._queue.remove(woken)
            self._wake_first()

    def _wait_s(self, woken: asyncio.Event, tokens: int) -> float:
        """Return how long a request has to wait for the time; infinity where it waits for other
        requests.
        """
        if self._queue[0] is not woken:
            return math.inf
        short = (
            quota.reset for quota in self._quotas.values() if quota.remaining < quota.need(tokens)
        )
        wait_s = max(self._requests.due, self._tokens.due, self._pause_end, *short) - self._clock()
        if wait_s <= 0 and self.n_in_flight + 1 > self.limit:
            self._n_sent_when_full = self._n_sent
            return math.inf
        return wait_s

    def _take(self, tokens: int) -> Slot:
        now = self._clock()
        self.n_in_flight += 1
        self._n_sent += 1
        self._requests.spend(1, now)
        self._tokens.spend(tokens, now)
        for quota in self._quotas.values():
            quota.remaining -= quota.need(tokens)
        return Slot(self, self._n_sent, tokens)

    def _rise(self, number: int) -> None:
        if number > self._n_sent_when_full:  # none waited for a place while it was underway
            return
        # Each answer adds 1, which doubles the limit in a round; after the first refusal a whole
        # round adds 1.
        step = 1 if self._n_sent_when_halved is None else 1 / self.limit
        self.limit = min(self.limit + step, self.most)

    def _fall(self, number: int, retry_after_s: float) -> None:
        self._pause_end = max(self._pause_end, self._clock() + capped_s(retry_after_s))
        if number > (
            self._n_sent_when_halved or 0
        ):  # sent since: those before it are the same burst
            self.limit = max(self.limit / 2, 1)
            self._n_sent_when_halved = self._n_sent

    def _wake_first(self) -> None:
        if self._queue:
            self._queue[0].set()


_limiters: dict[str, Limiter] = {}


def limiter_of(account: str, rates: Rates = Rates(), most: int = 64) -> Limiter:
    """Return the account's limiter, the same one throughout the process; the user's latest limits
    hold.
    """
    limiter = _limiters.setdefault(account, Limiter())
    limiter.allow(rates, most)
    return limiter


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Return how long the provider asks to wait, at most 120 s; 0 where it does not say."""
    headers = {name.lower(): value for name, value in headers.items()}
    ms, after = _number(headers.get("retry-after-ms")), headers.get("retry-after", "")
    waits_s = (ms and ms / 1000, _number(after), _until_s(after, headers))
    return capped_s(next((wait_s for wait_s in waits_s if wait_s is not None), 0.0))


def capped_s(wait_s: float) -> float:
    """Return a wait between 0 and 120 s."""
    return min(max(wait_s, 0.0), CAP_S)


def _number(text: str | None) -> float | None:
    """Return the number; None for anything else."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _reset_s(text: str, headers: Mapping[str, str]) -> float | None:
    """Return the seconds until a reset given as "6m0s", "20ms", "1.5" (seconds) or a time; None for
    anything else.
    """
    if re.fullmatch(r"(\d+(\.\d+)?(h|ms|m|s))+", text):
        return sum(float(n) * UNIT_S[unit] for n, unit in re.findall(r"([\d.]+)(h|ms|m|s)", text))
    number = _number(text)
    return _until_s(text, headers) if number is None else number


def _until_s(text: str, headers: Mapping[str, str]) -> float | None:
    """Return the seconds until a time in RFC 3339 or HTTP's form, by the provider's own clock where
    it tells it.
    """
    end = _timestamp(text)
    return None if end is None else end - (_timestamp(headers.get("date", "")) or time.time())


def _timestamp(text: str) -> float | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            continue
    return None
