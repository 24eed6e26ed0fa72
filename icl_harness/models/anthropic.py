"""Anthropic messages: `anthropic/NAME` (floor 2).

The prompt is one user message of two text blocks, prefix and query, so that a cache breakpoint has its place at the end
of the first. Left out: caching, thinking, token counts.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from icl_harness.models.api import ApiModel, Reply, parts, stops
from icl_harness.models.api_args import word
from icl_harness.models.base import Sampling, Usage
from icl_harness.models.faults import Fault
from icl_harness.prompts import Query


class AnthropicModel(ApiModel):
    """`anthropic/NAME`."""

    provider = "anthropic"
    key_names = ("ANTHROPIC_API_KEY",)
    base_url_name = "ANTHROPIC_BASE_URL"
    sdk = ("anthropic", "anthropic", "anthropic")
    extra_args = MappingProxyType({"effort": word})

    def _open(self) -> Any:
        import anthropic

        return anthropic.AsyncAnthropic(
            api_key=self.key, base_url=self.base_url, timeout=self.timeout_s, max_retries=self.max_retries
        )

    def _params(self, sampling: Sampling) -> dict[str, Any]:
        params: dict[str, Any] = {"max_tokens": self._limit(sampling)}
        if stop := stops(sampling):
            params["stop_sequences"] = stop
        if effort := self.extras.get("effort"):
            params["output_config"] = {"effort": effort}
        if self.send_temperature:
            params["extra_body"] = {"temperature": sampling.temperature}  # the SDK 2.x has no keyword for it
        return params

    async def _send(self, client: Any, prefix: str, query: Query, sampling: Sampling) -> Any:
        import anthropic

        content = [{"type": "text", "text": part} for part in parts(prefix, query.text)]
        try:
            return await client.messages.create(
                model=self.name, messages=[{"role": "user", "content": content}], **self._params(sampling)
            )
        except anthropic.APIStatusError as error:
            raise Fault.from_body(error.status_code, error.body, error.message, error.response.headers) from None
        except (anthropic.AnthropicError, ValueError) as error:  # no response; or one that is no JSON
            raise Fault.from_exception(error) from None

    def _read(self, response: Any) -> Reply:
        used = response.usage
        read, written = used.cache_read_input_tokens, used.cache_creation_input_tokens
        usage = Usage(
            prompt_tokens=used.input_tokens + (read or 0) + (written or 0),  # Anthropic leaves the cached ones out
            cached_tokens=read,
            completion_tokens=used.output_tokens,
        )
        text = "".join(block.text for block in response.content if block.type == "text")
        if not text and response.stop_reason == "refusal":
            return Reply(text=None, usage=usage, filtered="refusal")
        cut_off = response.stop_reason == "max_tokens"
        return Reply(text=text, usage=usage, cache_write_tokens=written or 0, cut_off=cut_off)

    async def _close(self, client: Any) -> None:
        await client.close()
