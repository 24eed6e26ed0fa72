"""OpenAI, and every server that speaks its chat completions: `openai/NAME`, `--base-url URL`.

To a model that is not OpenAI's own nothing is sent but what every such server knows: no cache key,
no content in parts. What a server gives as `reasoning_content` is no part of the answer; one
without a parser for its model's reasoning leaves it in the text, as <think>…</think>, and so does
this file.

The prefix is JSON once, and sent as such through the SDK's client. Newer models of OpenAI are given
a cache breakpoint at the end of the shots; older ones and other servers cache by themselves. Left
out: streams, tools, images.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from icl_harness.models.api.args import word
from icl_harness.models.api.backend import ApiModel, stops
from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.body import Body, turns
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.base import Answer, Sampling, Usage
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    from icl_harness.models.api.decisions import Decisions

# Their reasoning is sampled as the provider likes: temperature, stop and seed are refused, and so
# is `max_tokens`.
REASONING = re.compile(r"(o\d|gpt-[5-9])(?!.*chat)")
OWN_NAMES = re.compile(
    r"(gpt-|o\d|chatgpt)(?!.*oss)"
)  # of OpenAI's own models, also behind a gateway
EXPLICIT_CACHE = re.compile(
    r"gpt-(5\.([6-9]|\d\d)|[6-9])"
)  # take breakpoints, and charge for what they write
MOST_STOPS = 4
MOST_STRING = (
    10_000_000  # characters; the limit on one string is 10,485,760, and the query is to come
)
BREAKPOINT = {"prompt_cache_breakpoint": {"mode": "explicit"}}


class OpenAIModel(ApiModel):
    """`openai/NAME`. With a base URL, any OpenAI-compatible server; a key is then sent only if
    there is one.
    """

    provider = "openai"
    key_names = ("OPENAI_API_KEY",)
    base_url_name = "OPENAI_BASE_URL"
    sdk = ("openai", "openai", "openai")
    extra_args: ClassVar[Mapping[str, Callable[[str], Any]]] = MappingProxyType(
        {"reasoning_effort": word}
    )
    scorings: ClassVar[tuple[str, ...]] = ("generate", "decisions")
    chosen_by = ("api",)
    path = "/chat/completions"
    text_type = "text"
    counts_by = "tiktoken"

    @property
    def own_name(self) -> str:
        """Return the name without the vendor that gateways put before it."""
        return self.name.rpartition("/")[2]

    @property
    def is_own(self) -> bool:
        """Whether this is a model of OpenAI's, wherever it is served."""
        return self.base_url is None or OWN_NAMES.match(self.own_name) is not None

    @property
    def charges_writes(self) -> bool:
        """Whether cache breakpoints are taken; they are then charged for."""
        return self.is_own and EXPLICIT_CACHE.match(self.own_name) is not None

    def _reasons(self) -> bool:
        return REASONING.match(self.own_name) is not None

    def _takes_temperature(self) -> bool:
        return not self._reasons()

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return tiktoken's count; an estimate where it knows no such model."""
        counted = (
            None if self.capabilities.context_window is None else self.exact_tokens(node, query)
        )
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
    def _encoding(self) -> Any:
        import tiktoken

        try:
            return tiktoken.encoding_for_model(self.name)
        except (
            KeyError,
            OSError,
        ):  # another vendor's model; or its file is not here and cannot be fetched
            return None

    def _key_optional(self) -> bool:
        return self.base_url is not None

    def _open(self) -> Any:
        import openai

        return openai.AsyncOpenAI(
            api_key=self.key or "none",  # the SDK insists on one
            base_url=self.base_url,
            timeout=self.timeout_s,
            max_retries=0,
            http_client=self.http_client(openai.DefaultAioHttpClient),
        )

    def _params(self, sampling: Sampling) -> dict[str, Any]:
        limit = "max_completion_tokens" if self.is_own else "max_tokens"
        params: dict[str, Any] = {"model": self.name, limit: self.limit(sampling)}
        if effort := self.extras.get("reasoning_effort"):
            params["reasoning_effort"] = effort
        if self.send_temperature:
            params["temperature"] = sampling.temperature
        if not self._reasons() and (stop := stops(sampling, MOST_STOPS)):
            params["stop"] = stop
        return params

    def _cache_params(self, prefix: Prefix) -> dict[str, Any]:
        """Return what routes the requests of a draw to where its prefix is kept.

        Where writes are charged for, the mode is told always: left to itself, the provider writes
        every whole prompt.
        """
        key = {"prompt_cache_key": prefix.key} if prefix.cached and self.is_own else {}
        return {**key, "prompt_cache_options": {"mode": "explicit"}} if self.charges_writes else key

    def _request(self, prefix: Prefix, sampling: Sampling) -> Any:
        marks = prefix.breakpoints if self.charges_writes else set()
        messages = [
            {"role": role, "content": self._content(texts, marks)}
            for role, texts in turns(prefix.pieces)
        ]
        return Body({**self._params(sampling), **self._cache_params(prefix), "messages": messages})

    def _weighed(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        from icl_harness.models.api.decisions import decide

        return decide(self._decisions, node, queries, sampling)

    @cached_property
    def _decisions(self) -> Decisions:
        from icl_harness.models.openai.decisions import OpenAIDecisions

        return OpenAIDecisions(self)

    def _content(self, texts: list[tuple[int, str]], marks: set[int]) -> str | list[dict[str, Any]]:
        """Return a message's content.

        OpenAI's own models get it in parts, cut at the grid's shot counts and before the query,
        cached or not: so all points of a curve are asked alike, and a larger shot count goes on
        where the smaller ended. Others get one string, as they do not agree on what stands between
        parts, unless it is longer than one may be.
        """
        is_whole = not self.is_own and sum(len(text) for _, text in texts) <= MOST_STRING
        if is_whole or (len(texts) == 1 and texts[0][0] not in marks):
            return "".join(text for _, text in texts)
        if not self.is_own:
            self.say_once(
                f"{self.id}: prompts of more than {MOST_STRING:,} characters are sent in parts, as one string may hold "
                "no more; there are servers that put a line end between parts.",
                "parts",
            )
        return [
            {"type": self.text_type, "text": text, **(BREAKPOINT if i in marks else {})}
            for i, text in texts
        ]

    async def _send(self, client: Any, request: Any, query: Query) -> Any:
        from openai.types.chat import ChatCompletion

        own = {} if self._reasons() else {"seed": query.seed}
        return await self.post(client, self.path, request.fill(query.text, **own), ChatCompletion)

    async def post(self, client: Any, path: str, filled: Any, kind: Any) -> Any:
        """Send a body that is made already and return the SDK's class of the response. Raises
        `Fault`.
        """
        import openai

        try:
            return await client.post(
                path, cast_to=kind, content=filled, options={"headers": filled.headers}
            )
        except openai.APIStatusError as error:
            raise Fault.from_body(
                error.status_code, error.body, error.message, error.response.headers
            ) from None
        except (openai.OpenAIError, ValueError) as error:  # no response; or one that is no JSON
            raise Fault.from_exception(error) from None

    def _read(self, response: Any) -> Reply:
        choice = response.choices[0]
        usage = read_usage(response.usage)
        if choice.message.refusal or choice.finish_reason == "content_filter":
            return Reply(text=None, usage=usage, refused=choice.message.refusal or "content_filter")
        return Reply(
            text=choice.message.content or "", usage=usage, cut_off=choice.finish_reason == "length"
        )

    def batch_api(self) -> BatchApi:
        """Return the batches of this model."""
        from icl_harness.models.openai.batches import OpenAIBatches

        return OpenAIBatches(self)

    async def _close(self, client: Any) -> None:
        await client.close()


def read_usage(used: Any) -> Usage:
    """Return the usage of a completion, of a chat or not."""
    if used is None:
        return Usage()
    read, thought = used.prompt_tokens_details, used.completion_tokens_details
    return Usage(
        prompt_tokens=used.prompt_tokens,
        cached_tokens=read.cached_tokens if read else None,
        cache_write_tokens=getattr(read, "cache_write_tokens", None) if read else None,
        completion_tokens=used.completion_tokens,  # reasoning is part of it
        reasoning_tokens=thought.reasoning_tokens if thought else None,
    )
