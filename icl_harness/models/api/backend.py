"""What the API back ends share: bounded concurrency, keys, retries, faults and their fates (floor 2).

In: a provider's `_send` (one request) and `_read` (its response). Out: an `ApiModel` that answers a node's queries.
Left out: prefix caches, batches, rate limits. Nothing secret passes: every provider's text goes through `one_line`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import random
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from icl_harness.errors import AccountError, ModelError, SpecError
from icl_harness.models.api_args import find_base_url, find_key, load_sdk, read_args
from icl_harness.models.base import Answer, Capabilities, Model, Sampling, Usage, truncate_at_stop
from icl_harness.models.faults import Fault, one_line, storable
from icl_harness.prompts import Node, Query

REASONING_TOKENS = 8192  # room beside the answer for models known to think first
BYTES_PER_TOKEN = 3  # of English, tokenizers need 4 or more; of digits and code about 3


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a response says. `text` is None where a filter withheld it; `filtered` then says which."""

    text: str | None
    usage: Usage = field(default_factory=Usage)
    cache_write_tokens: int = 0  # part of the prompt tokens; priced apart
    filtered: str = ""
    cut_off: bool = False  # the limit on tokens ended it


class ApiModel(Model):
    """A model behind a provider's SDK: `_send` asks it once, `_read` reads what came, the rest is done here."""

    provider: ClassVar[str]
    key_names: ClassVar[tuple[str, ...]]
    base_url_name: ClassVar[str]  # the environment variable that the SDK would read
    sdk: ClassVar[tuple[str, str, str]]  # module, distribution, what to pip install
    sdk_retries: ClassVar[bool] = True  # False: the SDK has no retries worth having, so ours are used, never both
    extra_args: ClassVar[Mapping[str, Callable[[str], Any]]] = {}

    def __init__(self, name: str, *, id: str, base_url: str | None = None, **model_args: str) -> None:
        self.name = name
        self.id = id
        self.base_url = find_base_url(base_url, self.base_url_name, id)
        args = read_args(model_args, self.extra_args, id)
        self.concurrency: int = args.pop("concurrency", 16)
        self.timeout_s: float = args.pop("timeout_s", 600.0)
        self.max_retries: int = args.pop("max_retries", 5)
        self.reasoning_tokens: int = args.pop("reasoning_tokens", REASONING_TOKENS if self._reasons() else 0)
        self.send_temperature: bool = args.pop("send_temperature", self._takes_temperature())
        self.capabilities = Capabilities(chat=True, context_window=args.pop("context_window", None))
        self.extras = args
        self.key = find_key(self.key_names, id)
        if not self.key and not self._key_optional():
            raise ModelError(f"{id} needs a key: set {' or '.join(self.key_names)}.")
        module, _, install = self.sdk
        load_sdk(module, install, id)
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @abstractmethod
    def _open(self) -> Any:
        """Return a new client, made inside the running event loop."""

    @abstractmethod
    async def _send(self, client: Any, prefix: str, query: Query, sampling: Sampling) -> Any:
        """Ask once and return the SDK's response. Raises `Fault`."""

    @abstractmethod
    def _read(self, response: Any) -> Reply:
        """Return what a response says. Raises `Fault` where it says nothing."""

    @abstractmethod
    async def _close(self, client: Any) -> None:
        """Give back the client's connections."""

    def _key_optional(self) -> bool:
        return False

    def _reasons(self) -> bool:
        return False

    def _takes_temperature(self) -> bool:
        return True

    def _limit(self, sampling: Sampling) -> int:
        return sampling.max_tokens + self.reasoning_tokens

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return an estimate of a token for every 3 bytes; None where no context window is given to compare it with."""
        if self.capabilities.context_window is None:
            return None
        return -(-(node.n_bytes + len(query.encode())) // BYTES_PER_TOKEN)

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield answers as they come, with at most `concurrency` requests alive. Close it early to cancel them."""
        if sampling.scoring != "generate":
            raise SpecError(f"{self.id} gives no log-likelihoods of choices; use scoring generate.")
        prefix = node.text  # joined once, shared by all requests
        stream = fan_out(lambda query: self._answer(prefix, query, sampling), queries, self.concurrency)
        async with contextlib.aclosing(stream):  # so that a consumer who closes this one cancels what flies
            async for answered in stream:
                yield answered

    async def _answer(self, prefix: str, query: Query, sampling: Sampling) -> Answer:
        start = time.perf_counter()
        answer = Answer(query_id=query.id, sample=query.sample, text="")
        try:
            reply = await self._ask(prefix, query, sampling)
        except Fault as fault:
            fate, error = fault.fate, fault.describe(self.key)
            if fate == "account":
                raise AccountError(f"{self.id}: {error}. Check {self._suspects(fault)}.") from None
            if fate == "filtered":
                error = f"filtered: {error}"
            status: Literal["overflow", "failed"] = "overflow" if fate == "overflow" else "failed"
            seconds, final = time.perf_counter() - start, fate == "filtered"
            return replace(answer, text=None, status=status, error=error, final=final, latency_s=seconds)
        answer = replace(answer, usage=self._priced(reply), latency_s=time.perf_counter() - start)
        if reply.text is None:
            error = f"filtered: {one_line(reply.filtered, self.key)}"
            return replace(answer, text=None, status="failed", error=error, final=True)
        if reply.cut_off and not reply.text.strip():  # it was still thinking: that is no wrong answer
            error = f"no answer within {self._limit(sampling)} tokens; give room with --model-arg reasoning_tokens=N"
            return replace(answer, text=None, status="failed", error=error)
        return replace(answer, text=cut(reply.text, sampling.stop))

    async def _ask(self, prefix: str, query: Query, sampling: Sampling) -> Reply:
        """Send until it is answered or may not be sent again. Raises `Fault`."""
        retries = 0 if self.sdk_retries else self.max_retries
        for attempt in range(retries + 1):
            try:
                return self._understand(await self._received(prefix, query, sampling))
            except Fault as fault:
                if fault.fate != "transient" or attempt == retries:
                    raise
                await asyncio.sleep(backoff_s(attempt, fault.retry_after_s))
        raise AssertionError("the last attempt returns or raises")

    async def _received(self, prefix: str, query: Query, sampling: Sampling) -> Any:
        try:
            return await self._send(self._connected(), prefix, query, sampling)
        except RecursionError:  # of the JSON parser, in every SDK
            raise Fault("malformed body: nested too deeply") from None

    def _understand(self, response: Any) -> Reply:
        try:
            reply = self._read(response)
            usage = reply.usage
            counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, reply.cache_write_tokens)
            if not isinstance(reply.text, str | None) or not all(map(is_count, counts)):
                raise TypeError("a text or a count of tokens is neither")
            return replace(reply, text=reply.text and storable(reply.text))
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            # SDKs build their classes from any JSON: a body of another shape shows only where it is read.
            raise Fault(f"malformed body: {error}") from None

    def _suspects(self, fault: Fault) -> str:
        if fault.status == 404 or "model_not_found" in fault.codes:
            server = f" and the base URL {one_line(self.base_url, self.key)}" if self.base_url else ""
            return f"the model's name{server}"
        return f"{' or '.join(self.key_names)} and its account"

    def _priced(self, reply: Reply) -> Usage:
        # Another server's tokens have another price.
        official = self.base_url is None
        cost = cost_usd(self.provider, self.name, reply.usage, reply.cache_write_tokens) if official else None
        return replace(reply.usage, cost_usd=cost)

    def _connected(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:  # connections belong to the loop that opened them
            self._client, self._loop = self._open(), loop
        return self._client

    def describe(self) -> dict[str, Any]:
        """Return the SDK, the server and the arguments; never a key."""
        _, distribution, _ = self.sdk
        return {
            "sdk": f"{distribution} {importlib.metadata.version(distribution)}",
            "base_url": self.base_url and one_line(self.base_url, self.key),
            "reasoning_tokens": self.reasoning_tokens,
            "temperature_sent": self.send_temperature,
            **self.extras,
        }

    async def close(self) -> None:
        """Close the connections; a later call of `answers` opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await self._close(client)


async def fan_out(
    ask: Callable[[Query], Awaitable[Answer]], queries: Sequence[Query], concurrency: int
) -> AsyncGenerator[list[Answer], None]:
    """Yield what `ask` says of each query, those that came together in one list; the first exception ends it.

    Each worker takes the next query when it is free, so that no more than `concurrency` requests ever exist.
    """
    todo = iter(queries)
    done: asyncio.Queue[Answer | None] = asyncio.Queue()

    async def worker() -> None:
        for query in todo:
            done.put_nowait(await ask(query))

    workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, len(queries)))]
    for task in workers:
        task.add_done_callback(lambda _: done.put_nowait(None))  # wakes the loop below
    try:
        n_left = len(queries)
        while n_left:
            arrived = [await done.get()]
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


def parts(prefix: str, query: str) -> list[str]:
    """Return the prompt's parts, cut where shots end; one part where the other would be blank, which APIs refuse."""
    return [prefix, query] if prefix.strip() and query.strip() else [prefix + query]


def stops(sampling: Sampling, limit: int | None = None) -> list[str]:
    """Return the stop strings to send. `cut` applies them all, so that what a provider refuses may be left out.

    Blank ones stay here: Anthropic refuses them, and elsewhere an answer that opens with a newline would come empty.
    """
    return [stop for stop in sampling.stop if stop.strip()][:limit]


def cut(text: str, stop: Sequence[str]) -> str:
    """Return the answer up to its first stop string; newlines that a chat model opens with do not stop it."""
    return truncate_at_stop(text.lstrip("\n"), stop) if stop else text


def backoff_s(attempt: int, retry_after_s: float = 0.0) -> float:
    """Return the wait before the next attempt, as the OpenAI SDK has it: 0.5 s doubling to 8 s, up to 25 % less."""
    return max(min(retry_after_s, 120.0), min(0.5 * 2.0**attempt, 8.0) * (1 - 0.25 * random.random()))


def is_count(n: object) -> bool:
    """Return whether `n` is a number of tokens that the store can hold, or None."""
    return n is None or (isinstance(n, int) and 0 <= n < 2**63)


def host(base_url: str | None) -> str:
    """Return the host of a URL, "" for None."""
    return urlsplit(base_url or "").hostname or ""


def cost_usd(provider: str, model: str, usage: Usage, cache_write_tokens: int = 0) -> float | None:
    """Return the price by genai-prices; None without it, for a model it does not know, or for an unknown usage."""
    try:
        import genai_prices
    except ImportError:
        return None
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    tokens = genai_prices.Usage(
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=usage.cached_tokens or 0,
        cache_write_tokens=cache_write_tokens,
        output_tokens=usage.completion_tokens,
    )
    try:
        return float(genai_prices.calc_price(tokens, model, provider_id=provider).total_price)
    except (LookupError, ValueError):  # a model it does not know; counts that contradict each other
        return None
