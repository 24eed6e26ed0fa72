"""The limiter against simulated providers, in a loop whose time jumps: nothing sleeps, and a
deadlock is an error.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness.errors import SpecError
from icl_harness.models.api.limiter import Limiter, Rates, limiter_of, retry_after_s


class Jump(selectors.DefaultSelector):
    """Instead of waiting for its timeout, it moves the time there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("deadlock: every task waits for another")
        self.now += max(timeout, 0)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jump = Jump()
        super().__init__(self.jump)

    def time(self) -> float:
        return self.jump.now


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def limiter(most: int = 64, **rates: float | None) -> Limiter:
    return Limiter(Rates(**rates), most, clock=now)


async def sent_at(limiter: Limiter, *tokens: int, answer_s: float = 0.0) -> list[float]:
    """Ask for one slot per count of tokens, all at once, and return when each was given."""

    async def one(n: int) -> float:
        async with limiter.slot(n) as slot:
            start = now()
            await asyncio.sleep(answer_s)
            slot.answered()
            return start

    return list(await asyncio.gather(*map(one, tokens)))


async def rounds(limiter: Limiter, outcomes: str, n_workers: int = 1000) -> list[int]:
    """Return how many were in flight in each second, where each request takes one and ends as its
    round says.

    a: answered, r: refused, f: failed otherwise.
    """

    async def worker() -> None:
        while True:
            async with limiter.slot(1) as slot:
                await asyncio.sleep(1)
                outcome = outcomes[round(now()) - 1]
                slot.answered() if outcome == "a" else slot.refused() if outcome == "r" else None

    workers = [asyncio.create_task(worker()) for _ in range(n_workers)]
    in_flight = []
    await asyncio.sleep(0.5)
    for _ in outcomes:
        in_flight.append(limiter.n_in_flight)
        await asyncio.sleep(1 if len(in_flight) < len(outcomes) else 0)
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return in_flight


def test_ten_prompts_of_a_million_tokens_go_a_minute_apart_at_a_million_a_minute() -> None:
    times = run(sent_at(limiter(tpm=1e6), *[1_000_000] * 10))
    assert times == pytest.approx([60.0 * i for i in range(10)])


def test_small_requests_flow_evenly() -> None:
    times = run(sent_at(limiter(tpm=600_000), *[1000] * 300))
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx([0.1] * 299)


def test_requests_are_paced_as_well_as_tokens() -> None:
    times = run(sent_at(limiter(rpm=30, tpm=1e9), 1, 1, 1))
    assert times == pytest.approx([0, 2, 4])


def test_a_request_beyond_the_minutes_budget_goes_and_those_behind_it_wait_it_off() -> None:
    times = run(sent_at(limiter(tpm=1000), 10, 5000, 10, 10))
    assert times == pytest.approx([0, 0.6, 300.6, 301.2])


def test_an_idle_hour_saves_nothing_up() -> None:
    async def main() -> list[float]:
        paced = limiter(rpm=60)
        await sent_at(paced, 1)
        await asyncio.sleep(3600)
        return [t - 3600 for t in await sent_at(paced, 1, 1, 1)]

    assert run(main()) == pytest.approx([0, 1, 2])


def test_late_sleeps_do_not_slow_the_pace() -> None:
    async def late(delay_s: float) -> None:
        await asyncio.sleep(delay_s + 0.004)

    async def main() -> float:
        paced = Limiter(Rates(rpm=6000), clock=now, sleep=late)
        return (await sent_at(paced, *[1] * 1001))[-1]

    assert run(main()) == pytest.approx(10, abs=0.02)  # 1000 after the first, a hundred a second


@pytest.mark.parametrize(("used", "next_at"), [(100, 6.0), (1000, 60.0), (2000, 120.0)])
def test_the_pace_goes_by_the_tokens_really_used(used: int, next_at: float) -> None:
    async def main() -> float:
        paced = limiter(tpm=1000)
        async with paced.slot(500) as slot:
            await asyncio.sleep(1)
            slot.used(700)
            slot.used(used)  # the last word counts, once
        return (await sent_at(paced, 1))[0]

    assert run(main()) == pytest.approx(next_at)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["rpm", "tpm"])
def test_a_rate_that_is_none_is_refused_by_its_flag(name: str, value: float) -> None:
    with pytest.raises(SpecError, match=rf"^--{name} is {value}; it takes a number above 0\.$"):
        Rates(**{name: value})


def test_concurrency_doubles_a_round_until_the_first_refusal_then_grows_by_one_a_round() -> None:
    in_flight = run(rounds(limiter(most=500), "aaar" + "a" * 21))
    assert in_flight[:5] == [8, 16, 32, 64, 32]  # 64 refusals of one burst halve it once
    assert 50 <= in_flight[-1] <= 52


def test_each_burst_that_is_refused_halves_it_down_to_one() -> None:
    assert run(rounds(limiter(), "rrrrra")) == [8, 4, 2, 1, 1, 1]


def test_it_rises_to_what_was_allowed_and_no_further() -> None:
    assert run(rounds(limiter(most=20), "aaaa")) == [8, 16, 20, 20]
    assert run(rounds(limiter(most=3), "aaa")) == [3, 3, 3]


def test_it_does_not_rise_where_none_waits_for_a_place_nor_where_only_faults_come() -> None:
    async def main(n_workers: int, outcomes: str) -> float:
        adaptive = limiter()
        await rounds(adaptive, outcomes, n_workers)
        return adaptive.limit

    assert run(main(8, "a" * 10)) == 8
    assert run(main(9, "a" * 10)) > 8
    assert run(main(100, "f" * 10)) == 8


def test_it_does_not_rise_while_the_pace_is_what_holds_requests_back() -> None:
    async def main() -> float:
        paced = limiter(rpm=60)
        await sent_at(paced, *[1] * 100, answer_s=7.5)  # 8 in flight at times
        return paced.limit

    assert run(main()) == 8


def test_a_late_refusal_of_an_earlier_burst_halves_nothing_more() -> None:
    async def main() -> list[float]:
        adaptive, limits = limiter(), []
        async with adaptive.slot(1) as first, adaptive.slot(1) as second:
            first.refused()
            limits.append(adaptive.limit)
            async with adaptive.slot(1) as third:
                second.refused()
                limits.append(adaptive.limit)
                third.refused()
                limits.append(adaptive.limit)
        return limits

    assert run(main()) == [4, 4, 2]


@pytest.mark.parametrize(("asked_s", "waited_s"), [(0, 0), (7.5, 7.5), (4000, 120)])
def test_nothing_is_sent_for_as_long_as_a_refusal_asks(asked_s: float, waited_s: float) -> None:
    async def main() -> list[float]:
        adaptive = limiter()
        async with adaptive.slot(1) as first, adaptive.slot(1) as second:
            first.refused(asked_s)
            second.refused(1 if asked_s else 0)  # a shorter one does not shorten it
        return await sent_at(adaptive, 1, 1)

    assert run(main()) == pytest.approx([waited_s, waited_s])


def test_a_pause_holds_for_one_who_waits_already() -> None:
    async def main() -> list[float]:
        adaptive = limiter(rpm=2)
        async with adaptive.slot(1) as slot:
            waiting = asyncio.create_task(sent_at(adaptive, 1))
            await asyncio.sleep(29)
            slot.refused(50)
        return await waiting

    assert run(main()) == pytest.approx([79])


OPENAI = {"x-ratelimit-limit-tokens": "150000", "x-ratelimit-remaining-requests": "59"}
DATE = {"date": "Tue, 24 Nov 2026 10:00:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "waited_s"),
    [
        ({}, 0),
        (
            OPENAI | {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m1.5s"},
            61.5,
        ),
        (
            OPENAI | {"x-ratelimit-remaining-tokens": "999", "x-ratelimit-reset-tokens": "20ms"},
            0.02,
        ),
        (OPENAI | {"x-ratelimit-remaining-tokens": "1000", "x-ratelimit-reset-tokens": "20s"}, 0),
        (OPENAI | {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 120),
        (OPENAI | {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon"}, 0),
        (OPENAI | {"x-ratelimit-remaining-tokens": "none", "x-ratelimit-reset-tokens": "20s"}, 0),
        ({"X-RateLimit-Remaining-Requests": "0", "X-RateLimit-Reset-Requests": "12"}, 12),
        ({"x-ratelimit-remaining-requests": "0"}, 0),
        (
            DATE
            | {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-24T10:00:30Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-24T10:00:03Z",
            },
            30,
        ),
        (
            DATE
            | {
                "anthropic-ratelimit-tokens-remaining": "500",
                "anthropic-ratelimit-tokens-reset": "2026-11-24T11:00:40+01:00",
            },
            40,
        ),
        (
            DATE
            | {
                "anthropic-ratelimit-input-tokens-remaining": "500",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-24T10:00:04Z",
            },
            4,
        ),
        (
            DATE
            | {
                # how long the answer gets is not known
                "anthropic-ratelimit-output-tokens-remaining": "500",
                "anthropic-ratelimit-output-tokens-reset": "2026-11-24T10:00:40Z",
            },
            0,
        ),
        (
            DATE
            | {
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2026-11-24T10:00:40Z",
            },
            40,
        ),
        (
            DATE
            | {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-24T09:00:00Z",
            },
            0,
        ),
    ],
)
def test_what_the_headers_say_remains_is_all_that_is_sent_before_the_reset(
    headers: dict[str, str], waited_s: float
) -> None:
    async def main() -> list[float]:
        adaptive = limiter()
        adaptive.read_headers(headers)
        return await sent_at(adaptive, 1000)

    assert run(main()) == pytest.approx([waited_s])


def test_requests_sent_since_count_against_what_remains_and_newer_headers_replace_it() -> None:
    async def main() -> tuple[list[float], list[float]]:
        adaptive = limiter()
        adaptive.read_headers(
            {"x-ratelimit-remaining-tokens": "2500", "x-ratelimit-reset-tokens": "30s"}
        )
        first = await sent_at(adaptive, 1000, 1000, 1000)
        adaptive.read_headers(
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "30s"}
        )
        adaptive.read_headers(
            {"x-ratelimit-remaining-tokens": "1000", "x-ratelimit-reset-tokens": "30s"}
        )
        return first, await sent_at(adaptive, 1000, 1000)

    assert run(main()) == (pytest.approx([0, 0, 30]), pytest.approx([30, 60]))


def test_one_who_waits_for_a_reset_goes_soon_after_newer_headers_allow_it() -> None:
    async def main() -> list[float]:
        adaptive = limiter()
        adaptive.read_headers(
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "60s"}
        )
        waiting = asyncio.create_task(sent_at(adaptive, 1000))
        await asyncio.sleep(10.5)
        adaptive.read_headers(
            {"x-ratelimit-remaining-tokens": "5000", "x-ratelimit-reset-tokens": "60s"}
        )
        return await waiting

    assert run(main()) == pytest.approx([11])


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"Retry-After": "0.25"}, 0.25),
        ({"retry-after": "9", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "9", "retry-after-ms": "soon"}, 9),
        ({"retry-after": "86400"}, 120),
        ({"retry-after": "1e999"}, 120),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, 0),
        ({"retry-after": "later"}, 0),
        (DATE | {"retry-after": "Tue, 24 Nov 2026 10:00:42 GMT"}, 42),
        (DATE | {"retry-after": "Tue, 24 Nov 2026 09:00:42 GMT"}, 0),
        ({"retry-after": "Tue, 24 Nov 999999 10:00:42 GMT"}, 0),
        ({"retry-after": f"{10**20} Nov 2026 10:00:42 GMT"}, 0),
    ],
)
def test_retry_after_is_read_in_all_its_forms_and_capped(
    headers: dict[str, str], seconds: float
) -> None:
    assert retry_after_s(headers) == pytest.approx(seconds)


def test_a_time_without_its_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ+5")
    time.tzset()
    try:
        assert retry_after_s(DATE | {"retry-after": "2026-11-24T10:00:42"}) == 42
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_date_to_retry_after_is_read_by_our_clock_where_the_provider_shows_none() -> None:
    assert 80 < retry_after_s({"retry-after": formatdate(time.time() + 100, usegmt=True)}) <= 100


Request = tuple[
    float, int, float, str
]  # when it comes, its tokens, how long it takes, what becomes of it
REQUESTS = st.lists(
    st.tuples(st.floats(0, 90), st.integers(0, 3000), st.floats(0, 20), st.sampled_from("aaaarf")),
    max_size=60,
)
RATE = st.none() | st.floats(10, 5000)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(requests=REQUESTS, rpm=RATE, tpm=RATE, most=st.integers(1, 30))
def test_limits_hold_at_any_time_and_all_are_served(
    requests: list[Request], rpm: float | None, tpm: float | None, most: int
) -> None:
    sent: list[tuple[float, int]] = []
    n_in_flight = 0

    async def one(
        adaptive: Limiter, start: float, tokens: int, seconds: float, outcome: str
    ) -> None:
        nonlocal n_in_flight
        await asyncio.sleep(start)
        async with adaptive.slot(tokens) as slot:
            n_in_flight += 1
            assert n_in_flight <= min(adaptive.limit, most)
            sent.append((now(), tokens))
            await asyncio.sleep(seconds)
            n_in_flight -= 1
            slot.answered() if outcome == "a" else slot.refused(seconds) if outcome == "r" else None

    async def main() -> None:
        adaptive = limiter(most, rpm=rpm, tpm=tpm)
        await asyncio.gather(*(one(adaptive, *request) for request in requests))

    run(main())
    assert sorted(tokens for _, tokens in sent) == sorted(tokens for _, tokens, _, _ in requests)
    for i, (start, _) in enumerate(sent):
        minute = [tokens for t, tokens in sent[i:] if t < start + 60]
        # One second's worth more, since late sleeps are made up for; and the one that crosses the
        # line.
        assert len(minute) - 1 <= (rpm or 1e9) * 61 / 60 + 1e-6
        assert sum(minute[:-1]) <= (tpm or 1e9) * 61 / 60 + 1e-6


def test_first_come_first_served_though_a_small_one_would_fit_before_a_large_one() -> None:
    async def main() -> list[int]:
        adaptive, order = limiter(most=2, tpm=1000), []

        async def one(n: int, tokens: int) -> None:
            async with adaptive.slot(tokens):
                order.append(n)
                await asyncio.sleep(5)

        await asyncio.gather(*(one(n, (900, 1, 400)[n % 3]) for n in range(12)))
        return order

    assert run(main()) == list(range(12))


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(
    plans=st.lists(
        st.tuples(st.floats(0, 5), st.integers(0, 300), st.floats(0, 3), st.floats(0, 8)),
        max_size=40,
    ),
    most=st.integers(1, 5),
    rpm=RATE,
)
def test_waiters_and_requests_cancelled_at_any_time_leave_no_trace(
    plans: list[tuple[float, int, float, float]], most: int, rpm: float | None
) -> None:
    async def main() -> None:
        adaptive = limiter(most, rpm=rpm)

        async def one(start: float, tokens: int, seconds: float) -> None:
            await asyncio.sleep(start)
            async with adaptive.slot(tokens):
                await asyncio.sleep(seconds)

        async def cancelled(start: float, tokens: int, seconds: float, end: float) -> None:
            task = asyncio.create_task(one(start, tokens, seconds))
            await asyncio.sleep(end)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await asyncio.gather(*(cancelled(*plan) for plan in plans))
        assert (adaptive.n_in_flight, len(adaptive._queue)) == (0, 0)
        await asyncio.gather(
            *(one(0, 1, 1) for _ in range(2 * most + 1))
        )  # a lost place or wake is a deadlock here
        assert (adaptive.n_in_flight, len(adaptive._queue)) == (0, 0)

    run(main())


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [3, 12, 50])
@pytest.mark.parametrize("seed", range(3))
def test_throughput_converges_near_what_a_provider_takes_at_once(capacity: int, seed: int) -> None:
    rng = random.Random(seed)
    n_at_once = n_answered = n_refused = 0

    async def worker(adaptive: Limiter) -> None:
        nonlocal n_at_once, n_answered, n_refused
        while True:
            async with adaptive.slot(1) as slot:
                if n_at_once >= capacity:
                    await asyncio.sleep(0.05)
                    n_refused += now() > 100
                    slot.refused()
                    continue
                n_at_once += 1
                await asyncio.sleep(rng.uniform(0.5, 1.5))  # one a second for each place
                n_at_once -= 1
                n_answered += now() > 100
                slot.answered()

    async def main() -> None:
        adaptive = limiter(most=200)
        workers = [asyncio.create_task(worker(adaptive)) for _ in range(200)]
        await asyncio.sleep(600)
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    run(main())
    assert n_answered > 0.65 * 500 * capacity
    assert n_refused * capacity < n_answered  # less than one for each round of answers


@pytest.mark.parametrize(("headers", "most_refused"), [(True, 0.05), (False, 0.5)])
def test_a_budget_of_tokens_is_used_up_by_the_providers_word_alone(
    headers: bool, most_refused: float
) -> None:
    budget, n_refused, n_answered = 60_000.0, 0, 0  # all a minute's tokens; refilled steadily
    filled_at = 0.0

    async def worker(adaptive: Limiter) -> None:
        nonlocal budget, n_refused, n_answered, filled_at
        while True:
            async with adaptive.slot(1000) as slot:
                budget, filled_at = min(budget + (now() - filled_at) * 1000, 60_000), now()
                if budget < 1000:
                    n_refused += 1
                    slot.refused((1000 - budget) / 1000)
                    continue
                budget -= 1000
                remaining, reset_s = budget, (60_000 - budget) / 1000
                await asyncio.sleep(2)
                n_answered += 1
                slot.answered()
                if headers:
                    told = {"x-ratelimit-remaining-tokens": f"{remaining:.0f}"}
                    adaptive.read_headers(told | {"x-ratelimit-reset-tokens": f"{reset_s}s"})

    async def main() -> None:
        adaptive = limiter()
        workers = [asyncio.create_task(worker(adaptive)) for _ in range(100)]
        await asyncio.sleep(1200)
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    run(main())
    assert n_answered > 0.85 * 1200
    assert n_refused < most_refused * n_answered


def test_one_limiter_serves_loops_one_after_the_other_in_different_threads() -> None:
    adaptive = Limiter(most=2)

    async def one() -> bool:
        async with adaptive.slot(1) as slot:
            await asyncio.sleep(0)
            slot.answered()
            return True

    async def hold() -> None:
        async with adaptive.slot(1):
            await asyncio.Event().wait()

    async def main(n: int) -> list[bool]:
        answered = await asyncio.gather(*(one() for _ in range(n)))
        unfinished = [asyncio.create_task(hold()) for _ in range(5)]  # cancelled as the loop ends
        await asyncio.sleep(0)
        assert adaptive.n_in_flight == 2
        del unfinished
        return answered

    for n in (1, 7, 9):
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(asyncio.run, main(n)).result(timeout=60) == [True] * n
    assert adaptive.n_in_flight == 0


def test_an_account_has_one_limiter_and_the_latest_limits_hold_with_what_was_learnt() -> None:
    first = limiter_of("test: a", Rates(), 64)
    assert (
        limiter_of("test: a", Rates(rpm=60), 4) is first is not limiter_of("test: b", Rates(), 64)
    )
    assert (first.most, first.limit) == (4, 4)
    limiter_of("test: a", Rates(), 64)
    assert (first.most, first.limit) == (64, 4)
