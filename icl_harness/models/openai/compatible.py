"""What all endpoints of OpenAI and of compatible servers share: the model, its client, its counts.

In: the model's name and a base URL, if there is one. Out: what may be sent to it. A model is
OpenAI's own by its name where another server stands before it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Generic

from icl_harness.models.api.account import Account, Service
from icl_harness.models.api.api_args import ApiArgs
from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.body import Body, Json, Turn
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.client import http_client
from icl_harness.models.api.counting import CountEndpoint, PromptTurns
from icl_harness.models.api.endpoint import R, S
from icl_harness.models.api.foresight import Caching
from icl_harness.models.api.model import ApiModel
from icl_harness.models.base import Answer, Sampling
from icl_harness.models.model_args import word
from icl_harness.models.openai.wire import count_tokens
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    import tiktoken
    from openai import AsyncOpenAI

    from icl_harness.models.openai.decisions import OpenAIDecisions

# Their reasoning is sampled as the provider likes: temperature, stop and seed are refused, and so
# is `max_tokens`.
REASONING = re.compile(r"(o\d|gpt-[5-9])(?!.*chat)")
# of OpenAI's own models, also behind a gateway
OWN_NAMES = re.compile(r"(gpt-|o\d|chatgpt)(?!.*oss)")
# take breakpoints, and charge for what they write
EXPLICIT_CACHE = re.compile(r"gpt-(5\.([6-9]|\d\d)|[6-9])")
MOST_STOPS = 4
LONGEST_STRING = 10_485_760  # characters that OpenAI takes in one
MOST_STRING = 10_000_000  # that is sent as one, as the query is to come
BREAKPOINT: dict[str, Json] = {"prompt_cache_breakpoint": {"mode": "explicit"}}
SERVICE = Service(
    provider="openai",
    key_names=("OPENAI_API_KEY",),
    base_url_name="OPENAI_BASE_URL",
    sdk="openai",
    distribution="openai",
    install="openai",
    fewest_cached=(("", 1024),),  # developers.openai.com/api/docs/guides (prompt caching)
    keys_draws=True,
    key_optional=True,
)


class OpenAIArgs(ApiArgs):
    """`reasoning_effort`: as the model takes it."""

    reasoning_effort: str | None = word()


class OpenAICompatible(ApiModel["AsyncOpenAI", R, S], Generic[R, S]):
    """A model of OpenAI's, or of a server that speaks as OpenAI does."""

    service = SERVICE
    scorings: ClassVar[tuple[str, ...]] = ("generate", "decisions")
    chosen_by = ("api",)
    path: ClassVar[str]  # of the endpoint
    most_string: int = MOST_STRING
    counts_by = "tiktoken"

    def attach(self, account: Account) -> None:
        """Take an account, and begin anew what belongs to a run."""
        super().attach(account)
        self._decisions: OpenAIDecisions | None = None

    @property
    def own_name(self) -> str:
        """Return the name without the vendor that gateways put before it."""
        return self.name.rpartition("/")[2]

    @property
    def is_own(self) -> bool:
        """Whether this is a model of OpenAI's, wherever it is served."""
        return self.account.base_url is None or OWN_NAMES.match(self.own_name) is not None

    @property
    def charges_writes(self) -> bool:
        """Whether cache breakpoints are taken; they are then charged for."""
        return self.is_own and EXPLICIT_CACHE.match(self.own_name) is not None

    @property
    def caching(self) -> Caching:
        """How the provider caches."""
        if self.charges_writes:
            return "breakpoints"
        return "automatic" if self.is_own else "none"

    def reasons(self) -> bool:
        """Whether the model thinks before it answers."""
        return REASONING.match(self.own_name) is not None

    def takes_temperature(self) -> bool:
        """Whether a request may name a temperature."""
        return not self.reasons()

    def open_client(self) -> AsyncOpenAI:
        """Return a new client of the SDK."""
        import openai

        return openai.AsyncOpenAI(
            api_key=self.account.key or "none",  # the SDK insists on one
            base_url=self.account.base_url,
            timeout=self.args.timeout_s,
            max_retries=0,
            http_client=http_client(openai.DefaultAioHttpClient, self.account),
        )

    async def close_client(self, client: AsyncOpenAI) -> None:
        """Close the connections."""
        await client.close()

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return tiktoken's count; an estimate where it knows no such model."""
        if self.capabilities.context_window is None:
            return None
        counted = self.exact_tokens(node, query)
        return super().count_tokens(node, query) if counted is None else counted

    def exact_tokens(self, node: Node, query: str = "") -> int | None:
        """Return tiktoken's count, each edge of the tree counted once; None where it knows no such
        model.
        """
        if self._encoding is None:
            return None
        edges = []
        at: Node | None = node
        while at is not None and at.hash not in self._counts:
            edges.append(at)
            at = at.parent
        total = self._counts[at.hash] if at is not None else 0
        for edge in reversed(edges):
            total += len(self._encoding.encode_ordinary(edge.segment))
            self._counts[edge.hash] = total
        return total + len(self._encoding.encode_ordinary(query))

    @cached_property
    def _counts(self) -> dict[str, int]:
        return {}

    @cached_property
    def _encoding(self) -> tiktoken.Encoding | None:
        import tiktoken

        try:
            return tiktoken.encoding_for_model(self.name)
        except (KeyError, OSError):
            # another vendor's model; or its file is not here and cannot be fetched
            return None

    def count_endpoint(self) -> CountEndpoint | None:
        """Return the endpoint that counts tokens: OpenAI counts for its own models alone."""

        async def count(prompt: PromptTurns) -> int:
            return await count_tokens(self.connection.client(), self.name, prompt)

        return count if self.is_own else None

    def weigh(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield the likeliest choices, by OpenAI's decisions."""
        from icl_harness.models.api.decisions import decide
        from icl_harness.models.openai.decisions import OpenAIDecisions

        if self._decisions is None:
            self._decisions = OpenAIDecisions(self.account, self.connection)
        return decide(self._decisions, node, queries, sampling)

    def batches_of(self: OpenAICompatible[Body, S], kind: type[S]) -> BatchApi[Body, S]:
        """Return the batches of this model, whose responses are of a kind."""
        from icl_harness.models.openai.batch_api import OpenAIBatches

        return OpenAIBatches(
            self.account,
            self.connection,
            path=self.path,
            kind=kind,
            request=self.request,
            own_params=self.own_params,
        )

    def own_params(self, query: Query) -> dict[str, Json]:
        """Return the parameters that are a query's own."""
        return {}

    def cache_params(self, prefix: Prefix) -> dict[str, Json]:
        """Return what routes the requests of a draw to where its prefix is kept.

        Where writes are charged for, the mode is always given: left to itself, the provider writes
        every whole prompt.
        """
        params: dict[str, Json] = {}
        if prefix.cached and self.is_own:
            params["prompt_cache_key"] = prefix.key
        if self.charges_writes:
            params["prompt_cache_options"] = {"mode": "explicit"}
        return params

    def messages(self, turns: list[Turn], marks: frozenset[int] = frozenset()) -> list[Json]:
        """Return turns as messages; `marks` are the texts that end in a cache breakpoint."""
        messages: list[Json] = []
        for role, texts in turns:
            messages.append({"role": role, "content": self._content(role, texts, marks)})
        return messages

    def text_type(self, role: str) -> str:
        """Return the type of a text in a role's message."""
        return "text"

    def _content(self, role: str, texts: list[tuple[int, str]], marks: frozenset[int]) -> Json:
        """Return a message's content.

        OpenAI's own models get it in parts, cut at the grid's shot counts and before the query,
        cached or not: so all points of a curve are asked alike, and a larger shot count goes on
        where the smaller ended. Others get one string, as they do not agree on what stands between
        parts, unless it is longer than one may be.
        """
        is_whole = not self.is_own and sum(len(text) for _, text in texts) <= self.most_string
        if is_whole or (len(texts) == 1 and texts[0][0] not in marks):
            return "".join(text for _, text in texts)
        if not self.is_own:
            self.account.say_once(
                f"{self.id}: prompts of more than {self.most_string:,} characters are sent in "
                "parts, as one string may hold no more; there are servers that put a line end "
                "between parts.",
                "parts",
            )
        parts: list[Json] = []
        for i, text in texts:
            mark = BREAKPOINT if i in marks else {}
            parts.append({"type": self.text_type(role), "text": text, **mark})
        return parts
