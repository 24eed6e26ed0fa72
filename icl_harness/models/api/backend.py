"""What the API back ends share: the walk over a node's queries, keys, clients, prices.

In: a provider's `_request` (what a node's requests share), `_send` (one request) and `_read` (its
response). Out: an `ApiModel` that answers a node's queries: the first alone, which writes the
provider's cache, then the others. The SDKs' own retries are off: theirs would pass by the limiter,
and multiply with those of `asks`. Nothing secret passes: every provider's text goes through
`one_line`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import importlib.metadata
import inspect
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Self

from icl_harness.errors import ModelError, SpecError
from icl_harness.models.api.args import find_base_url, find_key, load_sdk, read_args
from icl_harness.models.api.asks import Asks
from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.batches import Batcher
from icl_harness.models.api.caching import Prefix, fewest_tokens, prefix_of, ttl_for
from icl_harness.models.api.fan_out import fan_out
from icl_harness.models.api.faults import Fault, Reply, one_line
from icl_harness.models.api.limiter import Limiter, Rates, limiter_of
from icl_harness.models.api.prices import Price, Tokens, find_price
from icl_harness.models.api.terms import Terms
from icl_harness.models.api.warming import warm
from icl_harness.models.base import Answer, Capabilities, Model, Sampling, Usage
from icl_harness.prompts.tree import Node, Query

REASONING_TOKENS = 8192  # room beside the answer for models known to think first
BYTES_PER_TOKEN = 3  # of English, tokenizers need 4 or more; of digits and code about 3
TELLING_BYTES = 2000  # of a prompt that tells how many bytes a token has
MOST_AT_ONCE = 64  # requests in flight, where the provider lets them


class ApiModel(Model):
    """A model behind a provider's SDK."""

    provider: ClassVar[str]
    key_names: ClassVar[tuple[str, ...]]
    base_url_name: ClassVar[str]  # the environment variable that the SDK would read
    sdk: ClassVar[tuple[str, str, str]]  # module, distribution, what to pip install
    paces_cached: ClassVar[bool] = (
        True  # whether tokens read from a cache count against the account's tokens a minute
    )
    caches: ClassVar[bool] = True  # whether a cache may be asked for at all
    chats: ClassVar[bool] = True  # whether answers are a chat model's turns
    extra_args: ClassVar[Mapping[str, Callable[[str], Any]]] = {}
    chosen_by: ClassVar[tuple[str, ...]] = ()  # the model-args that chose this class
    scorings: ClassVar[tuple[str, ...]] = ("generate",)

    def __init__(
        self,
        name: str,
        *,
        id: str,
        base_url: str | None = None,
        terms: Terms | None = None,
        **model_args: str,
    ) -> None:
        self.name = name
        self.id = id
        self.terms = terms or Terms()
        self.base_url = find_base_url(base_url, self.base_url_name, id)
        self.extras = args = read_args(model_args, self.extra_args, id, self.chosen_by)
        self.most: int = args.pop("concurrency", MOST_AT_ONCE)
        self.timeout_s: float = args.pop("timeout_s", 600.0)
        self.max_retries: int = args.pop("max_retries", 8)
        self.reasoning_tokens: int = args.pop("reasoning_tokens", self._reasoning_room())
        self.send_temperature: bool = args.pop("send_temperature", self._takes_temperature())
        self.price = self._find_price(args.pop("priced_as", None))
        self.capabilities = Capabilities(
            chat=True,
            context_window=args.pop("context_window", None),
            prefix_caching=True,
            batch=True,
            logprobs="choices" in self.scorings,
        )
        if self.terms.batch:
            self.batch_api()
        self.key = find_key(self.key_names, id)
        if not (self.key or self._key_optional() or self.terms.keyless):
            raise ModelError(
                f"{id} needs a key: set {' or '.join(self.key_names)}, or write it into .env."
            )
        module, _, install = self.sdk
        load_sdk(module, install, id)
        self.tokens_per_byte = 1 / BYTES_PER_TOKEN  # until an answer tells
        self.reached = False  # an answer has come
        self.n_unanswered = 0  # attempts in a row that may be made again
        self._client: Any = None
        self._batcher: Batcher | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._said = set[str]()
        self._longest = (0, 0)  # the bytes of the longest prompt that was answered, and its tokens

    @abstractmethod
    def _open(self) -> Any:
        """Return a new client, made inside the running event loop."""

    @abstractmethod
    def _request(self, prefix: Prefix, sampling: Sampling) -> Any:
        """Return what all requests of a prefix share, made once."""

    @abstractmethod
    async def _send(self, client: Any, request: Any, query: Query) -> Any:
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

    def _reasoning_room(self) -> int:
        """Return the tokens that reasoning may take beside the answer, unless the user says how
        many.
        """
        return REASONING_TOKENS if self._reasons() else 0

    def _takes_temperature(self) -> bool:
        return True

    @property
    def charges_writes(self) -> bool:
        """Whether writing a prefix to the provider's cache has a price of its own, and is told in
        the usage.
        """
        return False

    def limit(self, sampling: Sampling) -> int:
        """Return the most tokens that an answer may take, reasoning included."""
        return sampling.max_tokens + self.reasoning_tokens

    def learn(self, n_bytes: int, tokens: int) -> None:
        """Take note of how many tokens a prompt had; what stands around short ones would mislead."""
        if n_bytes >= TELLING_BYTES:
            self.tokens_per_byte = tokens / n_bytes
        if n_bytes <= self._longest[0]:
            return
        if n_bytes > 1.5 * self._longest[0] > TELLING_BYTES and tokens <= self._longest[1]:
            self.say_once(
                f"{self.id}: the server counts {tokens:,} tokens in a prompt of {n_bytes:,} bytes, no more than in one "
                f"of {self._longest[0]:,}: it may cut prompts off (num_ctx of Ollama, say). Give --model-arg "
                "context_window=N.",
                "short",
            )
        self._longest = (n_bytes, tokens)

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return an estimate of a token for every 3 bytes; None where no context window is given to
        compare it with.
        """
        if self.capabilities.context_window is None:
            return None
        return -(-(node.n_bytes + len(query.encode())) // BYTES_PER_TOKEN)

    def exact_tokens(self, node: Node, query: str = "") -> int | None:
        """Return the tokens of a prompt by the model's own tokenizer, None where that is not here."""
        return None

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield answers as they come. Close it early to cancel what flies."""
        if sampling.scoring not in self.scorings:
            raise SpecError(
                f"{self.id} offers no scoring {sampling.scoring!r}; use scoring {' or '.join(self.scorings)}."
            )
        if self.terms.batch:
            async with contextlib.aclosing(
                self._batches().answers(node, queries, sampling)
            ) as fetched:
                async for answered in fetched:
                    yield answered
            return
        if sampling.scoring != "generate":
            async with contextlib.aclosing(self._weighed(node, queries, sampling)) as weighed:
                async for answered in weighed:
                    yield answered
            return
        async with self._kept(self.prefix(node, len(queries))) as prefix:
            asks, rest = Asks(self, prefix, sampling), list(queries)
            async for answer in warm(asks, rest):
                yield [answer]
            stream = fan_out(asks.answer, rest, self.most)
            async with contextlib.aclosing(
                stream
            ):  # so that a consumer who closes this one cancels what flies
                async for answered in stream:
                    yield answered

    def batch_api(self) -> BatchApi:
        """Return the provider's batches. Raises `SpecError` where there are none."""
        raise SpecError(f"{self.id} takes no batches. Leave --batch out.")

    def _batches(self) -> Batcher:
        if self._batcher is None:
            self._batcher = Batcher(self)
        return self._batcher

    def _weighed(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield the likeliest choices, where `scorings` names more than generation."""
        raise AssertionError(f"{self.id} names scorings that it cannot do")

    def prefix(self, node: Node, n_queries: int) -> Prefix:
        """Return a node as it is sent: cached, where several queries share it and the provider
        caches as little.
        """
        tokens = round(node.n_bytes * self.tokens_per_byte)
        worth_it = n_queries > 1 and tokens >= fewest_tokens(self.provider, self.name)
        return prefix_of(
            node, cached=worth_it and self.caches, ttl=ttl_for(tokens, self.terms.rates)
        )

    def on(self, terms: Terms) -> Self:
        """Return this model as another that is asked on `terms`, with connections of its own."""
        other = copy.copy(self)
        for name, member in inspect.getmembers_static(type(self)):
            if isinstance(member, cached_property):  # made from this model and its terms
                vars(other).pop(name, None)
        other.terms, other._client, other._batcher, other._said = terms, None, None, set()
        if terms.batch:
            other.batch_api()
        return other

    @contextlib.asynccontextmanager
    async def _kept(self, prefix: Prefix) -> AsyncGenerator[Prefix, None]:
        """Keep at the provider what it needs for a cached prefix, as long as this lasts. Most need
        nothing.
        """
        yield prefix

    async def _before(self, request: Any) -> None:
        """Do what must be done before a request of a prefix may be sent, each time. Most need
        nothing.
        """
        return None

    def _after(self, request: Any, answer: Answer) -> Answer:
        """Return an answer as it is told, with what else it cost. Most cost nothing else."""
        return answer

    def say_once(self, note: str, kind: str) -> None:
        """Tell the user what should be known at once, the first time that it is of this kind."""
        if kind not in self._said:
            self._said.add(kind)
            self.terms.say(note)

    def connected(self) -> Any:
        """Return the client of the running event loop."""
        loop = asyncio.get_running_loop()
        if (
            self._client is None or self._loop is not loop
        ):  # connections belong to the loop that opened them
            self._client, self._loop = self._open(), loop
        return self._client

    @cached_property
    def limiter(self) -> Limiter:
        """Return the limiter of the account, which all its models share."""
        account = f"{self.provider} {self.base_url} {hash(self.key)}"
        # A plan asks what is counted, not what is paced.
        return limiter_of(account, Rates() if self.terms.keyless else self.terms.rates, self.most)

    def http_client(self, kind: Any = None) -> Any:
        """Return a new HTTP client for the SDK: of its own kind, or httpx2's."""
        import httpx2

        from icl_harness.models.api.client import http_client

        return http_client(
            kind or httpx2.AsyncClient, self.limiter, timeout_s=self.timeout_s, most=self.most
        )

    def suspects(self, fault: Fault) -> str:
        """Return what to check after a fault that no further request can mend."""
        if fault.status == 404 or "model_not_found" in fault.codes:
            server = (
                f" and the base URL {one_line(self.base_url, self.key)}" if self.base_url else ""
            )
            return f"the model's name{server}"
        return f"{' or '.join(self.key_names)} and its account"

    def whereabouts(self, fault: Fault) -> str:
        """Return what to check where no request is answered."""
        if fault.status == 429:
            return "Wait, or ask for less a minute with --rpm and --tpm."
        where = one_line(self.base_url, self.key) if self.base_url else "the network"
        return f"Is the server up? Check {where}."

    def priced(self, reply: Reply, *, batch: bool = False) -> Usage:
        """Return a reply's usage with its price."""
        usage = reply.usage
        if self.price is None or usage.prompt_tokens is None or usage.completion_tokens is None:
            return usage
        tokens = Tokens(
            prompt=usage.prompt_tokens,
            cached=usage.cached_tokens or 0,
            written=usage.cache_write_tokens or 0,
            written_1h=reply.written_1h,
            completion=usage.completion_tokens,
        )
        return replace(usage, cost_usd=self.price.cost_usd(tokens, batch=batch))

    def _find_price(self, priced_as: str | None) -> Price | None:
        """Return the price; another server's tokens have another one, which `priced_as` may name."""
        if priced_as is None:
            return None if self.base_url else find_price(self.provider, self.name)
        provider, _, name = priced_as.partition("/")
        price = find_price(provider, name)
        if price is None:
            raise ModelError(
                f"{self.id}: priced_as={priced_as}: no price is known. Name it as in openai/gpt-5."
            )
        return price

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
        batcher, self._batcher = self._batcher, None
        if batcher is not None:
            await batcher.close()
        client, self._client = self._client, None
        if client is not None:
            await self._close(client)


def stops(sampling: Sampling, limit: int | None = None) -> list[str]:
    """Return the stop strings to send. `asks.cut` applies them all, so that what a provider refuses
    may be left out.

    Blank ones stay here: Anthropic refuses them, and elsewhere an answer that opens with a newline
    would come empty.
    """
    return [stop for stop in sampling.stop if stop.strip()][:limit]
