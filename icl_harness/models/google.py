"""Gemini through google-genai: `google/NAME` (floor 2).

The prompt is one user content of two parts, prefix and query. Left out: cached contents, batches, Vertex AI.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from icl_harness.models.api import ApiModel, Reply, parts, stops
from icl_harness.models.api_args import whole
from icl_harness.models.base import Sampling, Usage
from icl_harness.models.faults import Fault
from icl_harness.prompts import Query

MAX_STOPS = 5
THINKING = re.compile(r"(models/)?gemini-(2\.5|[3-9])")
# Why an answer may have no text without the model being at fault: it said nothing, or all its tokens were thoughts.
EMPTY_BY_ITSELF = {"STOP", "MAX_TOKENS"}


class GeminiModel(ApiModel):
    """What both SDKs of Google share."""

    provider = "google"
    key_names = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    base_url_name = "GOOGLE_GEMINI_BASE_URL"
    sdk_retries = False  # google-genai retries neither resets nor 529, nor waits as told; the legacy one has no limit

    def _reasons(self) -> bool:
        return THINKING.match(self.name) is not None

    def _config(self, sampling: Sampling) -> dict[str, Any]:
        config: dict[str, Any] = {"max_output_tokens": self._limit(sampling)}
        if self.send_temperature:
            config["temperature"] = sampling.temperature
        if stop := stops(sampling, MAX_STOPS):
            config["stop_sequences"] = stop
        return config

    def _read(self, response: Any) -> Reply:
        used = response.usage_metadata
        usage = (
            Usage(
                prompt_tokens=used.prompt_token_count,
                cached_tokens=used.cached_content_token_count or 0,
                # Thoughts are billed as output. The legacy SDK does not name them, but they are part of the total.
                completion_tokens=max(
                    (used.total_token_count or 0) - (used.prompt_token_count or 0), used.candidates_token_count or 0
                ),
            )
            if used
            else Usage()
        )
        if not response.candidates:
            blocked = response.prompt_feedback and response.prompt_feedback.block_reason
            if not blocked:
                raise Fault("malformed body: neither a candidate nor a reason for having none")
            return Reply(text=None, usage=usage, filtered=f"prompt blocked, {blocked.name}")
        candidate = response.candidates[0]
        content = (candidate.content and candidate.content.parts) or []
        text = "".join(part.text or "" for part in content if not getattr(part, "thought", None))
        reason = candidate.finish_reason.name if candidate.finish_reason else "STOP"
        if not text and reason not in EMPTY_BY_ITSELF:
            return Reply(text=None, usage=usage, filtered=reason)
        return Reply(text=text, usage=usage, cut_off=reason == "MAX_TOKENS")


class GoogleModel(GeminiModel):
    """`google/NAME`."""

    sdk = ("google.genai", "google-genai", "google-genai")
    extra_args = MappingProxyType({"thinking_budget": whole(0)})

    def _open(self) -> Any:
        import httpx2
        from google import genai

        # Our own HTTP client: else the SDK takes aiohttp or httpx2 by what is installed, with other limits and errors.
        http = httpx2.AsyncClient(
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=self.concurrency),
            timeout=self.timeout_s,
            follow_redirects=True,
        )
        options = genai.types.HttpOptions(
            base_url=self.base_url, timeout=round(self.timeout_s * 1000), httpx_async_client=http
        )
        return genai.Client(api_key=self.key, vertexai=False, http_options=options), http

    async def _send(self, client: Any, prefix: str, query: Query, sampling: Sampling) -> Any:
        import httpx2
        from google.genai import errors, types

        config = types.GenerateContentConfig(**self._config(sampling), seed=query.seed & 0x7FFFFFFF)  # an int32
        if "thinking_budget" in self.extras:
            config.thinking_config = types.ThinkingConfig(thinking_budget=self.extras["thinking_budget"])
        content = types.Content(role="user", parts=[types.Part(text=part) for part in parts(prefix, query.text)])
        try:
            return await client[0].aio.models.generate_content(model=self.name, contents=[content], config=config)
        except errors.APIError as error:
            headers = getattr(error.response, "headers", None) or {}
            raise Fault.from_body(error.code, error.details, str(error.message), headers) from None
        except (httpx2.HTTPError, ValueError) as error:  # no response; or one that is no JSON
            raise Fault.from_exception(error) from None

    async def _close(self, client: Any) -> None:
        sdk, http = client
        sdk.close()
        await sdk.aio.aclose()
        await http.aclose()
