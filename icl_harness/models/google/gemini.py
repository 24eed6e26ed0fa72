"""Gemini through google-genai: `google/NAME`.

A prefix that several queries share is kept in a cached content (kept_cache.py); the requests then
hold only the query, as a turn of its own. Left out: Vertex AI, streams, tools.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from icl_harness.models.api.account import Account, Service
from icl_harness.models.api.api_args import ApiArgs
from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.body import Json, query_turns
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.client import http_client
from icl_harness.models.api.counting import CountEndpoint, PromptTurns
from icl_harness.models.api.endpoint import R, S
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.api.foresight import Caching
from icl_harness.models.api.model import ApiModel, stops
from icl_harness.models.base import Answer, Sampling
from icl_harness.models.google.cached_contents import CachedContents, is_gone
from icl_harness.models.google.kept_cache import KeptCache
from icl_harness.models.google.responses import read_response
from icl_harness.models.google.wire import (
    GoogleClient,
    count_tokens,
    faults,
    google_role,
    google_turns,
)
from icl_harness.models.model_args import whole
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    from google.genai.types import Content, GenerateContentConfig, GenerateContentResponse

    from icl_harness.models.google.batch_api import BatchBody
    from icl_harness.models.google.decisions import GoogleDecisions

MOST_STOPS = 5
THINKING = re.compile(r"(models/)?gemini-(2\.5|[3-9])")
SERVICE = Service(
    provider="google",
    key_names=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    base_url_name="GOOGLE_GEMINI_BASE_URL",
    sdk="google.genai",
    distribution="google-genai",
    install="google-genai",
    # ai.google.dev/gemini-api/docs/caching, November 2026
    fewest_cached=((r"gemini-2\.5", 2048), (r"gemini-[3-9]", 4096), ("", 2048)),
)
C = TypeVar("C")


class GeminiArgs(ApiArgs):
    """`thinking_budget` is for models up to 2.5 (-1: as the model likes), `thinking_level` for
    those from 3 on.
    """

    thinking_budget: int | None = whole(None, least=-1)
    thinking_level: Literal["minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="minimal or low or medium or high or xhigh"
    )


class GeminiModel(ApiModel[C, R, S], Generic[C, R, S]):
    """What both SDKs of Google share."""

    service = SERVICE
    chosen_by = ("sdk",)

    def reasons(self) -> bool:
        """Whether the model thinks before it answers."""
        return THINKING.match(self.name) is not None

    def config(self, sampling: Sampling) -> dict[str, Json]:
        """Return the generation's config, under the SDKs' names."""
        config: dict[str, Json] = {"max_output_tokens": self.limit(sampling)}
        if self.send_temperature:
            config["temperature"] = sampling.temperature
        if stop := stops(sampling, MOST_STOPS):
            config["stop_sequences"] = stop
        return config


@dataclass(frozen=True)
class GeminiRequest:
    """What the requests of a prefix share: its contents, and the config with what the system says.
    Both are whole, as a cached content may be lost.
    """

    contents: list[Content]
    config: GenerateContentConfig


class GoogleModel(GeminiModel[GoogleClient, GeminiRequest, "GenerateContentResponse"]):
    """`google/NAME`."""

    args_class = GeminiArgs
    args: GeminiArgs
    scorings: ClassVar[tuple[str, ...]] = ("generate", "decisions")

    def attach(self, account: Account) -> None:
        """Take an account, and begin anew what belongs to a run."""
        super().attach(account)
        self.cached_contents = CachedContents(account, self.connection)
        # what is kept for the nodes that are asked about, by the name that the prefix was given
        self._kept_by_name: dict[str | None, KeptCache] = {}
        self._decisions: GoogleDecisions | None = None

    @property
    def caching(self) -> Caching:
        """How the provider caches: as contents that are kept."""
        return "kept"

    def reasoning_room(self) -> int:
        """Return the thinking budget, or a room that is enough."""
        budget = self.args.thinking_budget
        return super().reasoning_room() if budget is None or budget < 0 else budget

    def open_client(self) -> GoogleClient:
        """Return a new client of the SDK.

        It is given our HTTP client: else the SDK takes aiohttp or httpx2 by what is installed, with
        other limits and errors.
        """
        import httpx2
        from google import genai

        # `read_response` says what an unknown one means
        warnings.filterwarnings("ignore", ".* is not a valid FinishReason", UserWarning)
        http = http_client(httpx2.AsyncClient, self.account)
        options = genai.types.HttpOptions(
            base_url=self.account.base_url,
            timeout=round(self.args.timeout_s * 1000),
            httpx_async_client=http,
            # its decisions would be tried five times
            retry_options=genai.types.HttpRetryOptions(attempts=1),
        )
        sdk = genai.Client(api_key=self.account.key, vertexai=False, http_options=options)
        return GoogleClient(sdk, http)

    async def close_client(self, client: GoogleClient) -> None:
        """Close the connections."""
        await client.close()

    async def close(self) -> None:
        """Delete what is left at the provider and close the connections."""
        await self.cached_contents.end()
        await super().close()

    @contextlib.asynccontextmanager
    async def kept(self, prefix: Prefix) -> AsyncGenerator[Prefix, None]:
        """Keep a prefix in a cached content as long as this lasts."""
        if not prefix.cached or not self.cached_contents.offered:
            yield prefix
            return
        contents, system = _contents(prefix)
        name, kept = "", KeptCache(self.cached_contents, prefix, contents, system)
        try:
            await kept.open()
            name = kept.name
            if name:
                self._kept_by_name[name] = kept
            yield replace(prefix, name=name, cached=not kept.too_small)
        finally:
            self._kept_by_name.pop(name, None)
            await kept.close()

    def request(self, prefix: Prefix, sampling: Sampling) -> GeminiRequest:
        """Return the contents of a prefix and the config."""
        from google.genai import types

        contents, system = _contents(prefix)
        config = types.GenerateContentConfig.model_validate(
            {
                **self.config(sampling),
                "system_instruction": system,
                "cached_content": prefix.name or None,
                "automatic_continuation": False,
            }
        )
        if thinking := self._thinking():
            config.thinking_config = types.ThinkingConfig.model_validate(thinking)
        return GeminiRequest(contents, config)

    async def before(self, request: GeminiRequest) -> None:
        """See to it that the cached content is there."""
        if kept := self._kept_of(request):
            await kept.ready()

    async def send(self, request: GeminiRequest, query: Query) -> GenerateContentResponse:
        """Send one request."""
        contents, config = self.filled(request, query)
        try:
            with faults():
                return await self.connection.client().aio.models.generate_content(
                    model=self.name, contents=list(contents), config=config
                )
        except Fault as fault:
            kept = self._kept_of(request)
            if kept is None or not config.cached_content or not is_gone(fault):
                raise
            kept.lost(config.cached_content)
            raise Fault(str(fault), status=503) from None  # once more: it is made anew before

    def filled(
        self, request: GeminiRequest, query: Query
    ) -> tuple[list[Content], GenerateContentConfig]:
        """Return the contents and the config of one query. Its own turns follow the prefix, or are
        all there is where the prefix is kept.
        """
        from google.genai import types

        own = []
        for role, text in query_turns(query):
            own.append(types.Content(role=google_role(role), parts=[types.Part(text=text)]))
        kept = self._kept_of(request)
        name = kept.name if kept else request.config.cached_content
        update: dict[str, Json] = {"seed": query.seed & 0x7FFFFFFF}  # an int32
        update["cached_content"] = name or None
        if name:
            update["system_instruction"] = None
        config = request.config.model_copy(update=update)
        return (own if name else [*request.contents, *own]), config

    def read(self, response: GenerateContentResponse) -> Reply:
        """Return the text of a response."""
        return read_response(response)

    def after(self, request: GeminiRequest, answer: Answer) -> Answer:
        """Return an answer with what the cached content cost, if none has carried it yet."""
        kept = self._kept_of(request)
        return kept.billed(answer) if kept else answer

    def weigh(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield the likeliest choices, by Google's decisions."""
        from icl_harness.models.api.decisions import decide
        from icl_harness.models.google.decisions import GoogleDecisions

        if self._decisions is None:
            self._decisions = GoogleDecisions(self.account, self.connection)
        return decide(self._decisions, node, queries, sampling)

    def batch_api(self) -> BatchApi[BatchBody, GenerateContentResponse]:
        """Return the batches of this model."""
        from icl_harness.models.google.batch_api import GoogleBatches

        return GoogleBatches(self.account, self.connection, self._config_json)

    def count_endpoint(self) -> CountEndpoint:
        """Return the endpoint that counts tokens."""

        async def count(prompt: PromptTurns) -> int | None:
            return await count_tokens(self.connection.client(), self.name, prompt)

        return count

    def _thinking(self) -> dict[str, Json]:
        """Return what the user said of its thinking."""
        args = self.args
        both = {"thinking_budget": args.thinking_budget, "thinking_level": args.thinking_level}
        return {name: value for name, value in both.items() if value is not None}

    def _config_json(self, sampling: Sampling) -> dict[str, Json]:
        """Return the generation's config as JSON."""
        from google.genai import types

        config = types.GenerationConfig.model_validate(self.config(sampling))
        found: dict[str, Json] = config.model_dump(mode="json", by_alias=True, exclude_none=True)
        if thinking := self._thinking():
            room = types.ThinkingConfig.model_validate(thinking)
            found["thinkingConfig"] = room.model_dump(mode="json", by_alias=True, exclude_none=True)
        return found

    def _kept_of(self, request: GeminiRequest) -> KeptCache | None:
        return self._kept_by_name.get(request.config.cached_content)


def _contents(prefix: Prefix) -> tuple[list[Content], Content | None]:
    """Return the contents of a prefix and what the system says."""
    from google.genai import types

    contents, system = [], None
    for role, texts in google_turns(prefix.pieces)[:-1]:
        parts = [types.Part(text=text) for _, text in texts]
        if role == "system":
            system = types.Content(parts=parts)
        else:
            contents.append(types.Content(role=google_role(role), parts=parts))
    return contents, system
