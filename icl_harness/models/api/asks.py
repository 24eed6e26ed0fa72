"""The requests behind one node: each is sent until it is answered or may not be sent again.

In: a model, a prefix, queries one by one. Out: answers, with what they cost. A request waits for
the account's limiter and for the run's dollars; one that broke off once it was sent is counted, as
the provider may have charged for it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from icl_harness.errors import AccountError, ProviderError
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault, Reply, is_count, one_line, storable
from icl_harness.models.api.limiter import Slot
from icl_harness.models.api.prices import Tokens
from icl_harness.models.base import Answer, Sampling, Status, Usage, truncate_at_stop
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    from icl_harness.models.api.backend import ApiModel

T = TypeVar("T")
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0  # between attempts, doubling
CACHED_SHARE = (
    0.8  # of a prefix's tokens: providers round down to a block, and the count is an estimate
)
UNREACHED_TRIES = 3  # attempts at a server that never answered yet: nothing may be listening there
# attempts in a row, beside a request's own, at which giving it up ends the run: the provider is
# down
UNANSWERED = 24


class Wire(Protocol):
    """How requests of a kind are made, sent and read: a model itself, or another endpoint of its
    provider's.
    """

    def _request(self, prefix: Prefix, sampling: Sampling) -> Any: ...

    async def _before(self, request: Any) -> None: ...

    async def _send(self, client: Any, request: Any, query: Query) -> Any: ...

    def _read(self, response: Any) -> Reply: ...

    def _after(self, request: Any, answer: Answer) -> Answer: ...


class Asks:
    """A prefix, ready to be asked about."""

    def __init__(
        self, model: ApiModel, prefix: Prefix, sampling: Sampling, wire: Wire | None = None
    ) -> None:
        self.model = model
        self.wire: Wire = wire or model
        self.prefix = prefix
        self.sampling = sampling
        self.request: Any = self.wire._request(prefix, sampling)
        self._say_slow()
        self._warm = False  # an answer has shown that the prefix is cached

    def _say_slow(self) -> None:
        rate, tokens = self.model.terms.rates.tpm, self.tokens("") + self.model.limit(self.sampling)
        if rate and tokens > rate:
            self.model.say_once(
                f"{self.model.id}: a request takes {tokens:,} tokens with the room for its answer, more than --tpm "
                f"{rate:,.0f}: one goes every {60 * tokens / rate:,.0f} s.",
                "slow",
            )

    async def answer(self, query: Query) -> Answer:
        """Ask one query. Raises `ProviderError` where no further request can succeed."""
        start, lost = time.perf_counter(), [0]
        try:
            reply = await self.ask(query, lost)
            found = answer_to(self.model, self.sampling, query, reply)
        except Fault as fault:
            found = self.missing(query, fault)
        found = replace(found, n_lost=lost[0], latency_s=time.perf_counter() - start)
        return self.wire._after(self.request, found)

    def missing(self, query: Query, fault: Fault) -> Answer:
        """Return the answer to a query that has none. Raises `AccountError` where no other could
        have one.
        """
        return missing_answer(self.model, query, fault)

    def shows_cache(self, answer: Answer) -> bool:
        """Whether an answer's usage tells that the prefix, not just that of fewer shots, is cached
        now.
        """
        return self._is_cached(answer.usage)

    def _is_cached(self, usage: Usage) -> bool:
        kept = (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)
        return kept > 0 and kept >= CACHED_SHARE * self.tokens("")

    def tokens(self, query: str) -> int:
        """Return an estimate of the tokens of a prompt."""
        n_bytes = self.prefix.node.n_bytes + len(query.encode())
        return max(1, round(n_bytes * self.model.tokens_per_byte))

    def usd(self, query: str, *, cached: bool) -> float | None:
        """Return what an answer costs at most, as far as its prompt's tokens are known; None
        without a price.
        """
        price, counts = self.model.price, self._counts(query, cached=cached)
        return None if price is None else price.cost_usd(counts, batch=self.model.terms.batch)

    def prefix_usd(self, *, cached: bool) -> float | None:
        """Return what a request's prefix costs, as far as its tokens are known; None without a
        price.
        """
        price, counts = self.model.price, self._counts("", cached=cached)
        return None if price is None else price.input_usd(counts)

    def _counts(self, query: str, *, cached: bool) -> Tokens:
        prompt = self.tokens(query)
        prefix = min(prompt, self.tokens(""))
        written = prefix if self.prefix.cached and not cached and self.model.charges_writes else 0
        return Tokens(
            prompt=prompt,
            cached=prefix if cached else 0,
            written=written,
            written_1h=written if self.prefix.ttl == "1h" else 0,
            completion=self.model.limit(self.sampling),
        )

    def _paced(self, query: str) -> int:
        """Return the tokens that a request is paced by: some providers do not count what is read
        from a cache.
        """
        free = self.tokens("") if self._warm and not self.model.paces_cached else 0
        return max(1, self.tokens(query) - free) + self.model.limit(self.sampling)

    async def ask(self, query: Query, lost: list[int]) -> Reply:
        """Send until there is a reply; `lost` counts what broke off. Raises `Fault` where there is
        none, and `ProviderError` where no other request was answered meanwhile either.
        """
        model, budget = self.model, self.model.terms.budget
        # The whole price is held back, as a cache may miss; what a hit spares is free again once it
        # is there.
        usd = (self.usd(query.text, cached=False) or 0.0) if budget else 0.0

        async def once(slot: Slot) -> Reply:
            try:
                reply = understood(self.wire, await self._sent(query))
            except Fault as fault:
                model.n_unanswered = model.n_unanswered + 1 if fault.fate == "transient" else 0
                if model.n_unanswered == UNANSWERED // 2 and model.reached:
                    told = fault.describe(model.key)
                    model.say_once(
                        f"{model.id}: {told}; trying again. Ctrl-C keeps what is answered.", "waits"
                    )
                raise
            self._learn(query, reply, slot)
            if budget:
                cost = model.priced(reply).cost_usd
                budget.spent_usd += (
                    usd if cost is None else cost
                )  # a usage that is not told is no gift
            return reply

        try:
            return await persist(
                model,
                once,
                tokens=self._paced(query.text),
                usd=usd,
                before=lambda: self.wire._before(self.request),
                lost=lost,
            )
        except Fault as fault:
            if fault.fate == "transient" and model.n_unanswered >= UNANSWERED + model.max_retries:
                raise ProviderError(
                    f"{model.id}: none of the last {model.n_unanswered} requests was answered. The last one: "
                    f"{fault.describe(model.key)}. {model.whereabouts(fault)}"
                ) from None
            raise
        finally:
            if budget:
                budget.spent_usd += lost[0] * usd  # they may have been charged for

    async def _sent(self, query: Query) -> Any:
        try:
            return await self.wire._send(self.model.connected(), self.request, query)
        except RecursionError:  # of the JSON parser, in every SDK
            raise Fault("malformed body: nested too deeply", lost=True) from None

    def _learn(self, query: Query, reply: Reply, slot: Slot) -> None:
        """Take note of what a reply tells: the server is there, the prefix is cached or not, so
        many tokens.
        """
        model, usage = self.model, reply.usage
        model.reached, model.n_unanswered = True, 0
        self._warm = self._is_cached(usage)
        if usage.prompt_tokens:
            free = 0 if model.paces_cached else usage.cached_tokens or 0
            slot.used(usage.prompt_tokens - free + (usage.completion_tokens or 0))
            model.learn(self.prefix.node.n_bytes + len(query.text.encode()), usage.prompt_tokens)


def answer_to(model: ApiModel, sampling: Sampling, query: Query, reply: Reply) -> Answer:
    """Return the answer that a reply is."""
    usage = model.priced(reply, batch=model.terms.batch)
    answer = Answer(query_id=query.id, sample=query.sample, text="", usage=usage)
    if reply.text is None:
        error = f"refused: {one_line(reply.refused, model.key)}"
        return replace(answer, text=None, status="refused", error=error)
    if reply.cut_off and not reply.text.strip():  # it was still thinking: that is no wrong answer
        error = f"no answer within {model.limit(sampling)} tokens; give room with --model-arg reasoning_tokens=N"
        return replace(answer, text=None, status="failed", error=error)
    text = (
        reply.text.lstrip("\n") if model.chats else reply.text
    )  # a chat model may open with newlines: no stop
    return replace(
        answer, text=truncate_at_stop(text, sampling.stop) if sampling.stop else reply.text
    )


def missing_answer(model: ApiModel, query: Query, fault: Fault) -> Answer:
    """Return the answer that a query has by a fault. Raises `AccountError` where no further request
    can succeed.
    """
    fate, error = fault.fate, fault.describe(model.key)
    if fate == "account":
        raise AccountError(f"{model.id}: {error}. Check {model.suspects(fault)}.") from None
    status: Status = (
        "overflow" if fate == "overflow" else "refused" if fate == "refused" else "failed"
    )
    told = f"refused: {error}" if status == "refused" else error
    return Answer(query_id=query.id, sample=query.sample, status=status, error=told)


async def persist(
    model: ApiModel,
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
    tries = model.max_retries + 1 if tries is None else tries
    for attempt in range(tries):
        try:
            if before is not None:
                await before()
            budget = (
                nullcontext()
                if usd is None or model.terms.budget is None
                else model.terms.budget.hold(usd)
            )
            async with budget, model.limiter.slot(tokens) as slot:
                try:
                    done = await once(slot)
                except Fault as fault:
                    if fault.status in (429, 529) and fault.fate == "transient":
                        slot.refused(fault.retry_after_s)
                    raise
                slot.answered()
                return done
        except Fault as fault:
            if lost is not None:
                lost[0] += fault.lost
            if fault.fate != "transient" or attempt + 1 == tries:
                raise
            if fault.unreached and not model.reached and attempt + 1 >= UNREACHED_TRIES:
                raise ProviderError(
                    f"{model.id}: {fault.describe(model.key)}. {model.whereabouts(fault)}"
                ) from None
            await asyncio.sleep(max(fault.retry_after_s, backoff_s(attempt)))
    raise AssertionError("the last attempt returns or raises")


def understood(wire: Wire, response: Any) -> Reply:
    """Return what a response says. Raises `Fault` where it has another shape than the provider's."""
    try:
        reply = wire._read(response)
        usage = reply.usage
        counts = (
            usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens, usage.completion_tokens,
            usage.reasoning_tokens, reply.written_1h,
        )  # fmt: skip
        if not isinstance(reply.text, str | None) or not all(map(is_count, counts)):
            raise TypeError("a text or a count of tokens is neither")
        return replace(reply, text=reply.text and storable(reply.text))
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        # SDKs build their classes from any JSON: a body of another shape shows only where it is
        # read.
        raise Fault(f"malformed body: {error}", lost=True) from None


def backoff_s(attempt: int) -> float:
    """Return the wait before the next attempt: doubling, up to a quarter less so that requests do
    not march in step.
    """
    return min(FIRST_WAIT_S * 2.0**attempt, LONGEST_WAIT_S) * (1 - 0.25 * random.random())
