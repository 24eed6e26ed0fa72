"""The requests behind one node: each is sent until it is answered or may not be sent again.

In: an account, an endpoint, a prefix, queries one by one. Out: answers, with what they cost. A
request waits for the account's limiter and for the run's dollars; one that broke off once it was
sent is counted, as the provider may have charged for it.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Generic, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from icl_harness.errors import AccountError, ProviderError
from icl_harness.models.answer_text import answered, read_answer, unanswered
from icl_harness.models.api.account import Account
from icl_harness.models.api.body import query_bytes
from icl_harness.models.api.bounds import room_for
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.endpoint import Endpoint, P, R, S, read_reply
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.api.flights import Seat, Stopped
from icl_harness.models.api.limiter import CAP_S, Slot
from icl_harness.models.api.prices import Tokens
from icl_harness.models.api.timing import Timing
from icl_harness.models.base import Answer, Sampling, Usage, sum_usage, visible_stops
from icl_harness.prompts.tree import Query

T = TypeVar("T")
LONG_WAIT_S = 20.0  # that a user is told of
# Of a prefix's tokens: providers round down to a block, and the count is an estimate
CACHED_SHARE = 0.8
# In the words of a server that knows no such field
NO_DIAGNOSIS = re.compile(r"diagnostics|comparison_response_id|previous_message_id")


class Requests(Generic[R, S, P]):
    """The requests of one prefix at an endpoint."""

    def __init__(
        self, account: Account, endpoint: Endpoint[R, S, P], prefix: Prefix, sampling: Sampling
    ) -> None:
        self.account = account
        self.endpoint = endpoint
        self.prefix = prefix
        self.sampling = sampling
        # A server may stop at one within a thought that is part of the text.
        self._sends_stops = bool(visible_stops(sampling.stop)) and not account.thinks_aloud
        sent = sampling if self._sends_stops else replace(sampling, stop=())
        self.request = endpoint.request(prefix, sent)
        self._say_slow()
        self._warm = False  # an answer has shown that the prefix is cached
        self._sampling_sent = sent
        self._n_replies = 0

    async def answer(self, query: Query) -> Answer:
        """Return the answer to one query. Raises `ProviderError` where no further request can
        succeed.
        """
        start, lost, had_stops = time.perf_counter(), [0], self._sends_stops
        reply: P | None = None
        try:
            reply = await self.reply(query, lost)
            if had_stops and _ends_in_thought(reply):
                reply = await self._without_stops(query, reply, lost)
            found = answer_to(self.account, self.sampling, query, reply)
        except (Fault, Stopped) as error:
            if isinstance(error, Stopped) and reply is None and not lost[0]:
                raise  # nothing was sent, or nothing was charged for
            found = missing_answer(self.account, query, as_fault(error))
            if reply is not None:  # it was paid for, though it was no answer
                found = replace(found, usage=self.account.priced(reply))
        found = replace(found, n_lost=lost[0], latency_s=time.perf_counter() - start)
        return self.endpoint.after(self.request, found)

    async def _without_stops(self, query: Query, reply: P, lost: list[int]) -> P:
        """Send a query again without stop strings, and all others from now on; return the reply,
        with the usage of both.
        """
        if self._sends_stops:
            self._sends_stops, self.account.thinks_aloud = False, True
            self.request = self.endpoint.request(self.prefix, replace(self.sampling, stop=()))
        other = await self.reply(query, lost)
        usage = sum_usage([reply.usage, other.usage])
        return replace(other, usage=usage, written_1h=reply.written_1h + other.written_1h)

    def shows_cache(self, usage: Usage) -> bool:
        """Whether a usage shows that the prefix, not just that of fewer shots, is cached now."""
        kept = (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)
        return kept > 0 and kept >= CACHED_SHARE * self._tokens()

    def prefix_usd(self, *, cached: bool) -> float | None:
        """Return what a request's prefix costs, as far as its tokens are known; None without a
        price.
        """
        price, counts = self.account.price, self._counts(0, cached=cached)
        return None if price is None else price.input_usd(counts)

    async def reply(self, query: Query, lost: list[int]) -> P:
        """Send a query until there is a reply; `lost` counts what broke off. Raises `Fault` where
        there is none, and `ProviderError` where no other request was answered meanwhile either.
        """
        account, budget = self.account, self.account.terms.budget
        flights, keys = account.terms.flights, self.endpoint.keys(query)
        n_bytes = query_bytes(query)
        # The whole price is held back, as a cache may miss; what a hit spares is free again once it
        # is there.
        usd = self._most_usd(n_bytes)
        has_left, n_lost = False, lost[0]

        async def once(slot: Slot) -> P:
            nonlocal has_left
            if not has_left:
                has_left = True
                flights.take_off(keys, usd)
            reply = await self._reply_once(query)
            self._learn(n_bytes, reply, slot)
            if budget:
                cost = account.priced(reply).cost_usd
                budget.spent_usd += usd if cost is None else cost  # without a usage: the most
            return reply

        try:
            return await persist(
                account,
                once,
                tokens=self._paced(n_bytes),
                usd=usd,
                before=lambda: self.endpoint.before(self.request),
                lost=lost,
            )
        except Fault as fault:
            refuse_silence(account, fault)
            raise
        except BaseException:  # no answer will land
            flights.land(keys)
            raise
        finally:
            flights.lose((lost[0] - n_lost) * usd)  # they may have been charged for
            if budget:
                budget.spent_usd += (lost[0] - n_lost) * usd

    async def _reply_once(self, query: Query) -> P:
        """Send a query once and return its reply. Raises `Fault`."""
        account = self.account
        asks_why = self.prefix.baseline is not None  # others in flight may change it
        try:
            return read_reply(self.endpoint.read, await self._sent(query))
        except Fault as fault:
            if asks_why and NO_DIAGNOSIS.search(str(fault)):
                account.diagnoses = False
                self._compare_with(None)
                return await self._reply_once(query)
            is_counted = fault.fate == "transient" or fault.is_redirect
            account.n_unanswered = account.n_unanswered + 1 if is_counted else 0
            if account.n_unanswered == account.terms.timing.unanswered // 2 and account.reached:
                account.say_once(
                    f"{account.id}: {account.describe(fault)}; trying again. Ctrl-C keeps what is "
                    "answered.",
                    "waits",
                )
            raise

    async def _sent(self, query: Query) -> S:
        limit = self.account.limit(self.sampling)
        prompt_bytes = self.prefix.node.n_bytes + query_bytes(query)
        with room_for(self.endpoint.most_bytes(limit, prompt_bytes)):
            try:
                return await self.endpoint.send(self.request, query)
            except RecursionError:  # of the JSON parser, in every SDK
                raise Fault("malformed body: nested too deeply", lost=True) from None

    def _learn(self, n_bytes: int, reply: Reply, slot: Slot) -> None:
        """Remember what a reply shows: the server is there, the prefix is cached or not, how many
        tokens a byte took.
        """
        account, usage = self.account, reply.usage
        account.reached, account.n_unanswered = True, 0
        self._warm = self.shows_cache(usage)
        self._count_miss(reply)
        if usage.prompt_tokens:
            free = 0 if account.service.paces_cached else usage.cached_tokens or 0
            slot.used(usage.prompt_tokens - free + (usage.completion_tokens or 0))
            account.learn(self.prefix.node.n_bytes + n_bytes, usage.prompt_tokens)

    def _count_miss(self, reply: Reply) -> None:
        """Count a reply that did not read the prefix from the cache, and have the provider say why
        from the next request on.
        """
        usage, account = reply.usage, self.account
        self._n_replies += 1
        if not self.prefix.cached or self._n_replies == 1 or usage.cached_tokens is None:
            return
        missed = usage.cached_tokens < CACHED_SHARE * self._tokens()
        account.misses.count(missed, reply.miss, self._tokens())
        if not (missed and self.endpoint.diagnoses and account.diagnoses and reply.id):
            return
        if not self.prefix.baseline:  # first without one, as Anthropic keeps what is to be compared
            self._compare_with("" if self.prefix.baseline is None else reply.id)

    def _compare_with(self, baseline: str | None) -> None:
        self.prefix = replace(self.prefix, baseline=baseline)
        sent = self._sampling_sent
        if not self._sends_stops:
            sent = replace(sent, stop=())
        self.request = self.endpoint.request(self.prefix, sent)

    def _tokens(self, n_bytes: int = 0) -> int:
        """Return an estimate of the tokens of the prefix and `n_bytes` behind it."""
        whole = self.prefix.node.n_bytes + n_bytes
        return max(1, round(whole * self.account.tokens_per_byte))

    def _most_usd(self, n_bytes: int) -> float:
        """Return what an answer costs at most, as far as its prompt's tokens are known; 0 without a
        price.
        """
        price, batch = self.account.price, self.account.terms.batch
        if price is None:
            return 0.0
        return price.cost_usd(self._counts(n_bytes, cached=False), batch=batch) or 0.0

    def _counts(self, n_bytes: int, *, cached: bool) -> Tokens:
        """Return the tokens of a request by kind: its prefix read from a cache, or not."""
        prompt = self._tokens(n_bytes)
        prefix = min(prompt, self._tokens())
        writes = self.prefix.cached and not cached and self.account.charges_writes
        written = prefix if writes else 0
        return Tokens(
            prompt=prompt,
            cached=prefix if cached else 0,
            written=written,
            written_1h=written if self.prefix.ttl == "1h" else 0,
            completion=self.account.limit(self.sampling),
        )

    def _paced(self, n_bytes: int) -> int:
        """Return the tokens that a request is paced by: some providers do not count what is read
        from a cache.
        """
        is_free = self._warm and not self.account.service.paces_cached
        free = self._tokens() if is_free else 0
        return max(1, self._tokens(n_bytes) - free) + self.account.limit(self.sampling)

    def _say_slow(self) -> None:
        account = self.account
        rate, tokens = account.terms.rates.tpm, self._tokens() + account.limit(self.sampling)
        if rate and tokens > rate:
            account.say_once(
                f"{account.id}: a request takes {tokens:,} tokens with the room for its answer, "
                f"more than --tpm {rate:,.0f}: one goes every {60 * tokens / rate:,.0f} s.",
                "slow",
            )


def _ends_in_thought(reply: Reply) -> bool:
    """Return whether a reply breaks off in a thought, though its limit did not end it."""
    return not reply.cut_off and reply.text is not None and read_answer(reply.text).is_open


def answer_to(account: Account, sampling: Sampling, query: Query, reply: Reply) -> Answer:
    """Return the answer that a reply is."""
    usage = account.priced(reply, batch=account.terms.batch)
    answer = Answer(query_id=query.id, sample=query.sample, text="", usage=usage)
    if reply.silent:
        return replace(answer, text=None, status="failed", error=account.one_line(reply.silent))
    if reply.text is None:
        error = f"refused: {account.one_line(reply.refused)}"
        return replace(answer, text=None, status="refused", error=error)
    found = answered(answer, reply.text, sampling.stop, is_cut=reply.cut_off)
    if reply.cut_off and not (found.text or "").strip():
        return unanswered(found, account.limit(sampling))  # it was still thinking
    return found


def as_fault(error: Fault | Stopped) -> Fault:
    """Return a fault as it is, and that of a request which was given up."""
    if isinstance(error, Fault):
        return error
    return Fault("stopped before the answer came")


def missing_answer(account: Account, query: Query, fault: Fault) -> Answer:
    """Return the answer to a query that a fault leaves without one. Raises `AccountError` where no
    further request can succeed.
    """
    error = account.describe(fault)
    if fault.fate == "account":
        raise AccountError(f"{account.id}: {error}. Check {account.suspects(fault)}.") from None
    answer = Answer(query_id=query.id, sample=query.sample, status="failed", error=error)
    if fault.fate == "refused":
        return replace(answer, status="refused", error=f"refused: {error}")
    return replace(answer, status="overflow") if fault.fate == "overflow" else answer


async def persist(
    account: Account,
    once: Callable[[Slot], Awaitable[T]],
    *,
    tokens: int = 0,
    usd: float | None = None,
    before: Callable[[], Awaitable[None]] | None = None,
    lost: list[int] | None = None,
    tries: int | None = None,
) -> T:
    """Return what `once` does, in a slot of the account's limiter: again and again, while its
    faults may pass.

    `usd` is held back of the run's dollars, where given; `before` is awaited ahead of each slot;
    `lost` counts faults after which the provider may have answered. Raises `Fault`, or
    `ProviderError` where no server is there.
    """
    timing, flights = account.terms.timing, account.terms.flights
    most_tries = account.args.max_retries + 1 if tries is None else tries
    n_tries = 0
    seat: Seat | None = None

    def is_worth_another(error: BaseException) -> bool:
        is_stopped = seat is not None and flights.stopping
        return isinstance(error, Fault) and error.fate == "transient" and not is_stopped

    attempts = AsyncRetrying(
        stop=stop_after_attempt(most_tries),
        retry=retry_if_exception(is_worth_another),
        wait=partial(_wait_s, account),
        reraise=True,
    )

    async def attempt() -> T:
        nonlocal n_tries
        n_tries += 1
        try:
            if before is not None:
                await before()
            return await _in_slot(account, once, tokens, usd, seat)
        except Fault as fault:
            if lost is not None:
                lost[0] += fault.lost
            is_last = fault.fate != "transient" or n_tries == most_tries
            if not is_last and fault.unreached and n_tries >= timing.unreached_tries:
                refuse_absence(account, fault)
            raise

    if usd is None:  # it costs nothing, and may be needed to clear up after a stop
        return await attempts(attempt)
    try:
        async with flights.seat(account.args.timeout_s) as seat:
            return await attempts(attempt)
    except (Stopped, asyncio.CancelledError):
        if lost is not None and seat is not None and seat.in_air:
            lost[0] += 1
        raise


def _wait_s(account: Account, state: RetryCallState) -> float:
    """Return the wait before another attempt: the provider's, or ours where that is longer."""
    fault = state.outcome.exception() if state.outcome else None
    asked_s = fault.retry_after_s if isinstance(fault, Fault) else 0.0
    if isinstance(fault, Fault) and asked_s >= LONG_WAIT_S:
        more = " or longer; after that it is asked again" if asked_s >= CAP_S else ""
        account.say_once(
            f"{account.id}: {account.describe(fault)}. The provider asks to wait "
            f"{asked_s:,.0f} s{more}. Ctrl-C keeps what is answered.",
            "long wait",
        )
    return max(asked_s, backoff_s(state.attempt_number - 1, account.terms.timing))


async def _in_slot(
    account: Account,
    once: Callable[[Slot], Awaitable[T]],
    tokens: int,
    usd: float | None,
    seat: Seat | None,
) -> T:
    """Do something once, when the account's limiter and the run's dollars let it."""
    budget = account.terms.budget
    held: AbstractAsyncContextManager[None] = nullcontext()
    if usd is not None and budget is not None:
        held = budget.hold(usd)
    async with held, account.limiter.slot(tokens) as slot:
        try:
            async with account.terms.flights.in_air(seat):
                done = await once(slot)
        except Fault as fault:
            if fault.status in (429, 529) and fault.fate == "transient":
                slot.refused(fault.retry_after_s)
            raise
        slot.answered()
        return done


def refuse_absence(account: Account, fault: Fault) -> None:
    """Raise `ProviderError` where no connection came about and no answer ever came: nothing may be
    listening.
    """
    if not account.reached:
        raise ProviderError(
            f"{account.id}: {account.describe(fault)}. {account.whereabouts(fault)}"
        ) from None


def refuse_silence(account: Account, fault: Fault) -> None:
    """Raise `ProviderError` where so many requests in a row failed that the provider is down,
    `AccountError` where it sends them all elsewhere.
    """
    most = account.terms.timing.unanswered + account.args.max_retries
    if fault.is_redirect and (account.n_unanswered >= most or not account.reached):
        raise AccountError(f"{account.id}: {account.describe(fault)}.") from None
    if fault.fate == "transient" and account.n_unanswered >= most:
        raise ProviderError(
            f"{account.id}: none of the last {account.n_unanswered} requests was answered. The "
            f"last one: {account.describe(fault)}. {account.whereabouts(fault)}"
        ) from None


def backoff_s(attempt: int, timing: Timing) -> float:
    """Return the wait before the next attempt: doubling, up to a quarter less so that requests do
    not march in step.
    """
    wait_s = min(timing.first_wait_s * 2.0**attempt, timing.longest_wait_s)
    return wait_s * (1 - 0.25 * random.random())
