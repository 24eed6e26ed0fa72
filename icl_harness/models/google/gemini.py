"""Gemini through google-genai: `google/NAME`.

A prefix that several queries share is kept in a cached content (kept.py); the requests then hold
only the query, as a turn of its own. Left out: Vertex AI, streams, tools.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from icl_harness.models.api.args import one_of, whole
from icl_harness.models.api.backend import ApiModel, stops
from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.body import turns
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.base import Answer, Sampling, Usage
from icl_harness.models.google.caches import Caches, faults, is_gone
from icl_harness.models.google.kept import KeptCache
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    from icl_harness.models.api.decisions import Decisions

MOST_STOPS = 5
LEVELS = ("minimal", "low", "medium", "high", "xhigh")
THINKING = re.compile(r"(models/)?gemini-(2\.5|[3-9])")
# Why an answer may have no text without the model being at fault: it said nothing, or all its
# tokens were thoughts.
EMPTY_BY_ITSELF = {"STOP", "MAX_TOKENS"}
WITHHELD = {
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
}  # what text there is was cut off
ROLES = {"user": "user", "assistant": "model"}


class GeminiModel(ApiModel):
    """What both SDKs of Google share. A request is (system texts, turns, config); the last text is
    a hole.
    """

    provider = "google"
    key_names = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    base_url_name = "GOOGLE_GEMINI_BASE_URL"
    chosen_by = ("sdk",)

    def _reasons(self) -> bool:
        return THINKING.match(self.name) is not None

    def _reasoning_room(self) -> int:
        budget: int = self.extras.get("thinking_budget", -1)  # -1: as the model likes
        return super()._reasoning_room() if budget < 0 else budget

    def _config(self, sampling: Sampling) -> dict[str, Any]:
        config: dict[str, Any] = {"max_output_tokens": self.limit(sampling)}
        if self.send_temperature:
            config["temperature"] = sampling.temperature
        if stop := stops(sampling, MOST_STOPS):
            config["stop_sequences"] = stop
        return config

    def _read(self, response: Any) -> Reply:
        used = response.usage_metadata
        usage = _usage(used) if used else Usage()
        if not response.candidates:
            blocked = response.prompt_feedback and response.prompt_feedback.block_reason
            if not blocked:
                raise Fault(
                    "malformed body: neither a candidate nor a reason for having none", lost=True
                )
            return Reply(text=None, usage=usage, refused=f"prompt blocked, {blocked.name}")
        candidate = response.candidates[0]
        content = (candidate.content and candidate.content.parts) or []
        text = "".join(part.text or "" for part in content if not getattr(part, "thought", None))
        reason = candidate.finish_reason.name if candidate.finish_reason else "STOP"
        if reason in WITHHELD or (not text and reason not in EMPTY_BY_ITSELF):
            return Reply(text=None, usage=usage, refused=reason)
        return Reply(text=text, usage=usage, cut_off=reason == "MAX_TOKENS")


def _usage(used: Any) -> Usage:
    # Thoughts are billed as output. The legacy SDK does not name them, but they are part of the
    # total.
    completion = max(
        (used.total_token_count or 0) - (used.prompt_token_count or 0),
        used.candidates_token_count or 0,
    )
    return Usage(
        prompt_tokens=used.prompt_token_count,
        cached_tokens=used.cached_content_token_count or 0,
        completion_tokens=completion,
        reasoning_tokens=getattr(used, "thoughts_token_count", None),
    )


class GoogleModel(GeminiModel):
    """`google/NAME`."""

    sdk = ("google.genai", "google-genai", "google-genai")
    extra_args = MappingProxyType({"thinking_budget": whole(-1), "thinking_level": one_of(*LEVELS)})
    scorings = ("generate", "decisions")

    @functools.cached_property
    def cached_contents(self) -> Caches:
        """Return what is kept at the provider."""
        return Caches(self)

    @functools.cached_property
    def _kept_by_name(self) -> dict[str, KeptCache]:
        """Return what is kept for the nodes that are asked about, by the name that the prefix was
        given.
        """
        return {}

    def _open(self) -> Any:
        from google import genai

        # Our own HTTP client: else the SDK takes aiohttp or httpx2 by what is installed, with other
        # limits and errors.
        http = self.http_client()
        options = genai.types.HttpOptions(
            base_url=self.base_url,
            timeout=round(self.timeout_s * 1000),
            httpx_async_client=http,
            retry_options=genai.types.HttpRetryOptions(
                attempts=1
            ),  # its decisions would be tried five times
        )
        return genai.Client(api_key=self.key, vertexai=False, http_options=options), http

    @contextlib.asynccontextmanager
    async def _kept(self, prefix: Prefix) -> AsyncGenerator[Prefix, None]:
        if not prefix.cached or not self.cached_contents.offered:
            yield prefix
            return
        contents, system = _contents(prefix)
        whole = {"contents": contents[:-1] or None, "system_instruction": system}
        name, kept = "", KeptCache(self.cached_contents, self, prefix, whole)
        try:
            await kept.open()
            name = kept.name
            if name:
                self._kept_by_name[name] = kept
            yield replace(prefix, name=name, cached=not kept.too_small)
        finally:
            self._kept_by_name.pop(name, None)
            await kept.close()

    def _request(self, prefix: Prefix, sampling: Sampling) -> Any:
        """Return the contents with a hole, and the config: all of it, as a cached content may be
        lost.
        """
        from google.genai import types

        contents, system = _contents(prefix)
        config = types.GenerateContentConfig(
            **self._config(sampling),
            system_instruction=system,
            cached_content=prefix.name or None,
            automatic_continuation=False,
        )
        if self.thinking:
            config.thinking_config = types.ThinkingConfig(**self.thinking)
        return contents, config

    @property
    def thinking(self) -> dict[str, Any]:
        """Return what the user said of its thinking."""
        return {
            name: value
            for name, value in self.extras.items()
            if name in ("thinking_budget", "thinking_level")
        }

    def asked(self, request: Any, query: Query) -> tuple[list[Any], Any]:
        """Return the contents and the config of one query; where its prefix is kept, the query's
        own content is all.
        """
        from google.genai import types

        contents, config = request
        asked = types.Content(role="user", parts=[types.Part(text=query.text)])
        own: dict[str, Any] = {"seed": query.seed & 0x7FFFFFFF}  # an int32
        kept = self._kept_of(request)
        name = kept.name if kept else config.cached_content
        if name:
            own |= {"cached_content": name, "system_instruction": None}
            return [asked], config.model_copy(update=own)
        own["cached_content"] = None
        return [*contents[:-1], asked], config.model_copy(update=own)

    async def _send(self, client: Any, request: Any, query: Query) -> Any:
        contents, config = self.asked(request, query)
        try:
            with faults():
                return await client[0].aio.models.generate_content(
                    model=self.name, contents=contents, config=config
                )
        except Fault as fault:
            kept = self._kept_of(request)
            if kept is None or not config.cached_content or not is_gone(fault):
                raise
            kept.lost(config.cached_content)
            raise Fault(str(fault), status=503) from None  # once more: it is made anew before

    async def _before(self, request: Any) -> None:
        if kept := self._kept_of(request):
            await kept.ready()

    def _after(self, request: Any, answer: Answer) -> Answer:
        kept = self._kept_of(request)
        return kept.told(answer) if kept else answer

    def _weighed(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        from icl_harness.models.api.decisions import decide

        return decide(self._decisions, node, queries, sampling)

    @functools.cached_property
    def _decisions(self) -> Decisions:
        from icl_harness.models.google.decisions import GoogleDecisions

        return GoogleDecisions(self)

    def _kept_of(self, request: Any) -> KeptCache | None:
        return self._kept_by_name.get(request[1].cached_content)

    async def close(self) -> None:
        """Delete what is left at the provider and close the connections."""
        await self.cached_contents.end()
        await super().close()

    def batch_api(self) -> BatchApi:
        """Return the batches of this model."""
        from icl_harness.models.google.batches import GoogleBatches

        return GoogleBatches(self)

    async def _close(self, client: Any) -> None:
        sdk, http = client
        sdk.close()
        await sdk.aio.aclose()
        await http.aclose()


def _contents(prefix: Prefix) -> tuple[list[Any], Any]:
    """Return the contents of a prefix and what the system says. The last content is a hole: the
    query has one of its own, whether its prefix is kept or not, so that all points of a curve are
    asked alike.
    """
    from google.genai import types

    contents, system = [], None
    for role, texts in google_turns(prefix):
        parts = [types.Part(text=text) for text in texts]
        if role == "system":
            system = types.Content(parts=parts)
        else:
            contents.append(types.Content(role=role, parts=parts))
    return contents, system


def google_turns(prefix: Prefix) -> list[tuple[str, list[str]]]:
    """Return the turns of a prefix in Google's roles, and the query's hole as one more."""
    found = [
        (ROLES.get(role, role), [text for _, text in texts]) for role, texts in turns(prefix.pieces)
    ]
    role, texts = found[-1]
    return [*found[:-1], *([(role, texts[:-1])] if texts[1:] else []), ("user", texts[-1:])]
