"""Anthropic messages: `anthropic/NAME`.

The prefix is JSON once, and sent as such through the SDK's client, with a cache breakpoint at the
end of the shots and at the shot counts before it. The SDK 2.x has no keyword for temperature; the
API takes it. Left out: streams, tools.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from icl_harness.errors import ModelError
from icl_harness.models.api.args import one_of, whole, word
from icl_harness.models.api.backend import ApiModel, stops
from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.body import Body, turns
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.base import Sampling, Usage
from icl_harness.prompts.tree import Query

# By platform.claude.com/docs, "Thinking" and the migration guides, November 2026. From 4.7 on
# temperature is refused in any request; from 5 on a model thinks unless it is told not to, where it
# can be told so.
NO_TEMPERATURE = re.compile(r"(opus|sonnet|haiku)-(4[-.][7-9]|[5-9]|\d\d)(?!\d)|fable|mythos")
THINKS = re.compile(r"(opus|sonnet|haiku)-([5-9]|\d\d)(?!\d)|fable|mythos")


class AnthropicModel(ApiModel):
    """`anthropic/NAME`. Thinking is no part of the answer. `thinking_budget=N` is for models up to
    4.6, `thinking=adaptive` (with `effort`) for those from there on, `thinking=disabled` for where
    it is on by itself.
    """

    provider = "anthropic"
    key_names = ("ANTHROPIC_API_KEY",)
    base_url_name = "ANTHROPIC_BASE_URL"
    sdk = ("anthropic", "anthropic", "anthropic")
    extra_args = MappingProxyType(
        {"effort": word, "thinking_budget": whole(1024), "thinking": one_of("adaptive", "disabled")}
    )
    charges_writes = True
    paces_cached = False

    def __init__(self, name: str, *, id: str, **how: Any) -> None:
        super().__init__(name, id=id, **how)
        if {"thinking", "thinking_budget"} <= self.extras.keys():
            raise ModelError(
                f"{id}: --model-arg thinking_budget turns thinking on by itself; leave out thinking."
            )

    def _reasons(self) -> bool:
        thinking = self.extras.get("thinking")
        return thinking != "disabled" and bool(
            thinking or "thinking_budget" in self.extras or THINKS.search(self.name)
        )

    def _reasoning_room(self) -> int:
        budget: int = self.extras.get("thinking_budget", 0)
        return budget or super()._reasoning_room()

    def _takes_temperature(self) -> bool:
        return not self._reasons() and NO_TEMPERATURE.search(self.name) is None

    def _thinking(self) -> dict[str, Any]:
        if budget := self.extras.get("thinking_budget"):
            return {"thinking": {"type": "enabled", "budget_tokens": budget}}
        kind = self.extras.get("thinking")
        return {"thinking": {"type": kind}} if kind else {}

    def _open(self) -> Any:
        import anthropic

        return anthropic.AsyncAnthropic(
            api_key=self.key,
            base_url=self.base_url,
            timeout=self.timeout_s,
            max_retries=0,
            http_client=self.http_client(anthropic.DefaultAioHttpClient),
        )

    def _params(self, sampling: Sampling) -> dict[str, Any]:
        params: dict[str, Any] = {
            "model": self.name,
            "max_tokens": self.limit(sampling),
            **self._thinking(),
        }
        if stop := stops(sampling):
            params["stop_sequences"] = stop
        if effort := self.extras.get("effort"):
            params["output_config"] = {"effort": effort}
        if self.send_temperature:
            params["temperature"] = sampling.temperature
        return params

    def _request(self, prefix: Prefix, sampling: Sampling) -> Any:
        control = {"type": "ephemeral", "ttl": prefix.ttl}
        marks = prefix.breakpoints
        params, messages = self._params(sampling), []
        for role, texts in turns(prefix.pieces):
            blocks = [
                {"type": "text", "text": text, **({"cache_control": control} if i in marks else {})}
                for i, text in texts
            ]
            if role == "system":
                params["system"] = blocks
            else:
                messages.append({"role": role, "content": blocks})
        return Body({**params, "messages": messages})

    async def _send(self, client: Any, request: Any, query: Query) -> Any:
        import anthropic

        filled = request.fill(query.text)
        options = {"headers": filled.headers}
        try:
            return await client.post(
                "/v1/messages", cast_to=anthropic.types.Message, content=filled, options=options
            )
        except anthropic.APIStatusError as error:
            raise Fault.from_body(
                error.status_code, error.body, error.message, error.response.headers
            ) from None
        except (
            anthropic.AnthropicError,
            ValueError,
        ) as error:  # no response; or one that is no JSON
            raise Fault.from_exception(error) from None

    def _read(self, response: Any) -> Reply:
        used = response.usage
        read, written = used.cache_read_input_tokens, used.cache_creation_input_tokens
        usage = Usage(
            prompt_tokens=used.input_tokens
            + (read or 0)
            + (written or 0),  # Anthropic leaves the cached ones out
            cached_tokens=read,
            cache_write_tokens=written,
            completion_tokens=used.output_tokens,  # thinking is part of it
            reasoning_tokens=used.output_tokens_details
            and used.output_tokens_details.thinking_tokens,
        )
        kept = getattr(used, "cache_creation", None)
        written_1h = (getattr(kept, "ephemeral_1h_input_tokens", None) or 0) if kept else 0
        text = "".join(block.text for block in response.content if block.type == "text")
        if response.stop_reason == "refusal":
            return Reply(
                text=None, usage=usage, written_1h=written_1h, refused=f"refusal {text}".strip()
            )
        return Reply(
            text=text,
            usage=usage,
            written_1h=written_1h,
            cut_off=response.stop_reason == "max_tokens",
        )

    def batch_api(self) -> BatchApi:
        """Return the batches of this model."""
        from icl_harness.models.anthropic.batches import AnthropicBatches

        return AnthropicBatches(self)

    async def _close(self, client: Any) -> None:
        await client.close()
