"""A model behind a provider's SDK: what the back ends of all APIs share.

In: a provider's `request` (what a node's requests share), `send` (one request) and `read` (its
response). Out: an `ApiModel` that answers a node's queries: the first alone, which writes the
provider's cache, then the others. The SDKs' own retries are off: theirs would pass by the limiter,
and multiply with those of `requests`.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Generic, Self, TypeVar

from icl_harness.errors import SpecError
from icl_harness.models.api.access import load_sdk, masked
from icl_harness.models.api.account import BYTES_PER_TOKEN, Account, Service
from icl_harness.models.api.api_args import ApiArgs
from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.batcher import Batcher
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.client import Connection
from icl_harness.models.api.counting import ApiCounter, CountEndpoint
from icl_harness.models.api.endpoint import Endpoint, R, S
from icl_harness.models.api.fan_out import fan_out
from icl_harness.models.api.faults import Reply
from icl_harness.models.api.foresight import Caching, Foresight
from icl_harness.models.api.requests import Requests
from icl_harness.models.api.terms import Terms
from icl_harness.models.api.usual import usual_tokens
from icl_harness.models.api.warming import warm
from icl_harness.models.base import Answer, Capabilities, Model, Sampling, visible_stops
from icl_harness.models.forecast import Counter, Forecast
from icl_harness.models.model_args import read_model_args
from icl_harness.prompts.tree import Node, Query

REASONING_TOKENS = 8192  # room beside the answer for models known to think first
C = TypeVar("C")  # the client of the SDK


class ApiModel(Model, Endpoint[R, S, Reply], Generic[C, R, S]):
    """A model behind a provider's SDK."""

    is_api: ClassVar[bool] = True
    service: ClassVar[Service]
    args_class: ClassVar[type[ApiArgs]] = ApiArgs
    chosen_by: ClassVar[tuple[str, ...]] = ()  # the model-args that chose this class
    chats: ClassVar[bool] = True  # whether answers are a chat model's turns
    scorings: ClassVar[tuple[str, ...]] = ("generate",)

    args: ApiArgs
    account: Account
    connection: Connection[C]
    _batcher: Batcher[Any, S] | None

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
        terms = terms or Terms()
        self.attach(Account(self.service, name, id=id, base_url=base_url, terms=terms))
        args = read_model_args(self.args_class, model_args, id, others=self.chosen_by)
        self.configure(args)
        if terms.batch:
            self.batch_api()
        self.account.find_key()
        load_sdk(self.service.sdk, self.service.install, id)

    def attach(self, account: Account) -> None:
        """Take an account, and begin anew what belongs to a run: connections, batches, caches."""
        self.account = account
        self.connection = Connection(self.open_client, self.close_client)
        self._batcher = None

    def configure(self, args: ApiArgs) -> None:
        """Take the user's options. Raises `ModelError` for ones that cannot be."""
        self.args = args
        room, temperature = args.reasoning_tokens, args.send_temperature
        account = self.account
        account.configure(args, self.reasoning_room() if room is None else room)
        account.chats, account.charges_writes = self.chats, self.charges_writes
        self.price = account.price
        self.send_temperature = self.takes_temperature() if temperature is None else temperature
        self.capabilities = Capabilities(chat=self.chats, context_window=args.context_window)

    @abstractmethod
    def open_client(self) -> C:
        """Return a new client, made inside the running event loop."""

    @abstractmethod
    async def close_client(self, client: C) -> None:
        """Give back the client's connections."""

    def reasons(self) -> bool:
        """Whether the model is known to think before it answers."""
        return False

    def reasoning_room(self) -> int:
        """Return the tokens that reasoning may take beside the answer, unless the user says how
        many.
        """
        return REASONING_TOKENS if self.reasons() else 0

    def usual_reasoning(self) -> tuple[int, int] | None:
        """Return how many tokens thoughts take usually, within their room."""
        room = self.account.reasoning_tokens
        if not self.reasons() or not room:
            return None
        named = ("reasoning_effort", "effort", "thinking_level")
        asked = [getattr(self.args, name, None) for name in named]
        low, high = usual_tokens(self.name, next(filter(None, asked), None))
        return min(low, room), min(high, room)

    def takes_temperature(self) -> bool:
        """Whether a request may name a temperature, unless the user says."""
        return True

    @property
    def charges_writes(self) -> bool:
        """Whether writing to the provider's cache has its own price, and is in the usage."""
        return False

    @property
    def caching(self) -> Caching:
        """How the provider caches what is sent to it."""
        return "none"

    def limit(self, sampling: Sampling) -> int:
        """Return the most tokens that an answer may take, reasoning included."""
        return self.account.limit(sampling)

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return an estimate of a token for every 3 bytes; None where no context window is given to
        compare it with.
        """
        if self.capabilities.context_window is None:
            return None
        return -(-(node.n_bytes + len(query.encode())) // BYTES_PER_TOKEN)

    def exact_tokens(self, node: Node, query: str = "") -> int | None:
        """Return the tokens by the model's own tokenizer; None where that is not here."""
        return None

    def count_endpoint(self) -> CountEndpoint | None:
        """Return the provider's endpoint that counts tokens; None where there is none."""
        return None

    def counter(self) -> Counter:
        """Return what counts the tokens of prompts for a plan."""
        endpoint = self.count_endpoint()
        return ApiCounter(self.account, self.exact_tokens, self.counts_by, endpoint)

    def forecast(self) -> Forecast:
        """Return what foresees the cost of requests."""
        return Foresight(self.account, self.caching)

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield answers as they come. Close it early to cancel what is in flight."""
        if sampling.scoring not in self.scorings:
            known = " or ".join(self.scorings)
            raise SpecError(
                f"{self.id} offers no scoring {sampling.scoring!r}; use scoring {known}."
            )
        if self.account.terms.batch:
            stream = self._batches().answers(node, queries, sampling)
        elif sampling.scoring != "generate":
            stream = self.weigh(node, queries, sampling)
        else:
            stream = self._generate(node, queries, sampling)
        async with contextlib.aclosing(stream):
            async for answered in stream:
                yield answered
                # They are stored now.
                self.account.terms.flights.land((a.query_id, a.sample) for a in answered)

    async def _generate(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield generated answers, one request each."""
        async with self.kept(self.account.prefix(node, len(queries))) as prefix:
            requests, rest = Requests(self.account, self, prefix, sampling), list(queries)
            async for answer in warm(requests, rest):
                yield [answer]
            stream = fan_out(requests.answer, rest, self.account.args.concurrency)
            async with contextlib.aclosing(stream):  # closed early, it cancels what is in flight
                async for answered in stream:
                    yield answered

    def weigh(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield the likeliest choices, where `scorings` names more than generation."""
        raise AssertionError(f"{self.id} names scorings that it cannot do")

    def kept(self, prefix: Prefix) -> AbstractAsyncContextManager[Prefix]:
        """Keep at the provider what it needs for a cached prefix, as long as this lasts. Most need
        nothing.
        """
        return contextlib.nullcontext(prefix)

    def batch_api(self) -> BatchApi[Any, S]:
        """Return the provider's batches. Raises `SpecError` where there are none."""
        raise SpecError(f"{self.id} takes no batches. Leave --batch out.")

    def _batches(self) -> Batcher[Any, S]:
        if self._batcher is None:
            self._batcher = Batcher(self.account, self.batch_api(), self.read)
        return self._batcher

    def with_terms(self, terms: Terms) -> Self:
        """Return this model as another that is asked on `terms`, with connections of its own."""
        other = copy.copy(self)
        other.attach(self.account.with_terms(terms))
        if terms.batch:
            other.batch_api()
        return other

    def describe(self) -> dict[str, Any]:
        """Return the SDK, the server and the user's options; never a key."""
        distribution, base_url = self.service.distribution, self.account.base_url
        return {
            "sdk": f"{distribution} {importlib.metadata.version(distribution)}",
            "base_url": base_url and self.account.one_line(masked(base_url)),
            "reasoning_tokens": self.account.reasoning_tokens,
            "temperature_sent": self.send_temperature,
            **self.args.given(beside=ApiArgs),
        }

    async def close(self) -> None:
        """Close the connections; a later call of `answers` opens new ones."""
        if line := self.account.misses.line():
            self.account.say_once(f"{self.id}: {self.account.one_line(line)}", "misses")
        batcher, self._batcher = self._batcher, None
        if batcher is not None:
            await batcher.close()
        await self.connection.close()


def stops(sampling: Sampling, limit: int | None = None) -> list[str]:
    """Return the stop strings to send. `answer_to` applies them all, so that what a provider
    refuses may be left out.

    Blank ones stay here: Anthropic refuses them, and elsewhere an answer that opens with a newline
    would come empty.
    """
    return list(visible_stops(sampling.stop)[:limit])
