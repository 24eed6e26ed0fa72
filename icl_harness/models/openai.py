"""OpenAI, and every server that speaks its chat completions: `openai/NAME`, `--base-url URL` (floor 2).

The prompt is one user message. Left out: the responses API, log-probabilities, cache keys and breakpoints.
"""

from __future__ import annotations

import re
from functools import cached_property
from types import MappingProxyType
from typing import Any

from icl_harness.models.api import ApiModel, Reply, host, stops
from icl_harness.models.api_args import word
from icl_harness.models.base import Sampling, Usage
from icl_harness.models.faults import Fault
from icl_harness.prompts import Node, Query

# Their reasoning is sampled as the provider likes: temperature, stop and seed are refused, and so is `max_tokens`.
REASONING = re.compile(r"(o\d|gpt-[5-9])(?!.*chat)")
MAX_STOPS = 4


class OpenAIModel(ApiModel):
    """`openai/NAME`. With a base URL, any OpenAI-compatible server; a key is then sent only if there is one."""

    provider = "openai"
    key_names = ("OPENAI_API_KEY",)
    base_url_name = "OPENAI_BASE_URL"
    sdk = ("openai", "openai", "openai")
    extra_args = MappingProxyType({"reasoning_effort": word})

    def _reasons(self) -> bool:
        return REASONING.match(self.name.rpartition("/")[2]) is not None

    def _takes_temperature(self) -> bool:
        return not self._reasons()

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return tiktoken's count, each edge of the tree counted once; an estimate where it knows no such model."""
        if self.capabilities.context_window is None or self._encoding is None:
            return super().count_tokens(node, query)
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
        except (KeyError, OSError):  # another vendor's model; or its file is not here and cannot be fetched
            return None

    def _key_optional(self) -> bool:
        return self.base_url is not None

    def _open(self) -> Any:
        import openai

        return openai.AsyncOpenAI(
            api_key=self.key or "none",  # the SDK insists on one
            base_url=self.base_url,
            timeout=self.timeout_s,
            max_retries=self.max_retries,
        )

    def _params(self, sampling: Sampling, seed: int) -> dict[str, Any]:
        official = not self.base_url or host(self.base_url).endswith("openai.com")
        limit = "max_completion_tokens" if official or self._reasons() else "max_tokens"
        params: dict[str, Any] = {limit: self._limit(sampling), **self.extras}
        if self.send_temperature:
            params["temperature"] = sampling.temperature
        if not self._reasons():
            params["seed"] = seed
            if stop := stops(sampling, MAX_STOPS):
                params["stop"] = stop
        return params

    async def _send(self, client: Any, prefix: str, query: Query, sampling: Sampling) -> Any:
        import openai

        try:
            return await client.chat.completions.create(
                model=self.name,
                messages=[{"role": "user", "content": prefix + query.text}],
                **self._params(sampling, query.seed),
            )
        except openai.APIStatusError as error:
            raise Fault.from_body(error.status_code, error.body, error.message, error.response.headers) from None
        except (openai.OpenAIError, ValueError) as error:  # no response; or one that is no JSON
            raise Fault.from_exception(error) from None

    def _read(self, response: Any) -> Reply:
        choice = response.choices[0]
        used = response.usage
        cached = used and used.prompt_tokens_details
        usage = Usage(
            prompt_tokens=used.prompt_tokens if used else None,
            cached_tokens=cached.cached_tokens if cached else None,
            completion_tokens=used.completion_tokens if used else None,  # reasoning is part of it
        )
        written = (getattr(cached, "cache_write_tokens", None) or 0) if cached else 0
        text = choice.message.content or choice.message.refusal or ""
        if not text and choice.finish_reason == "content_filter":
            return Reply(text=None, usage=usage, filtered="content_filter")
        return Reply(text=text, usage=usage, cache_write_tokens=written, cut_off=choice.finish_reason == "length")

    async def _close(self, client: Any) -> None:
        await client.close()
