"""Anthropic messages: `anthropic/NAME`.

The prefix is JSON once, and sent as such through the SDK's client, with a cache breakpoint at the
end of the shots and at the shot counts before it. The SDK 2.x has no keyword for temperature; the
API takes it. Left out: streams, tools.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from icl_harness.errors import ModelError
from icl_harness.models.anthropic.wire import (
    cache_miss,
    content_text,
    count_tokens,
    post_message,
    read_usage,
    silence,
    written_1h,
)
from icl_harness.models.api.account import Service
from icl_harness.models.api.api_args import ApiArgs
from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.body import Body, Json, Turn
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.client import http_client
from icl_harness.models.api.counting import CountEndpoint, PromptTurns
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.api.foresight import Caching
from icl_harness.models.api.model import ApiModel, stops
from icl_harness.models.base import Sampling
from icl_harness.models.model_args import whole, word
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import Message

# By platform.claude.com/docs, "Thinking" and the migration guides, November 2026. From 4.7 on
# temperature is refused in any request; from 5 on a model thinks unless a request disables it,
# where it can be disabled.
NO_TEMPERATURE = re.compile(r"(opus|sonnet|haiku)-(4[-.][7-9]|[5-9]|\d\d)(?!\d)|fable|mythos")
THINKS = re.compile(r"(opus|sonnet|haiku)-([5-9]|\d\d)(?!\d)|fable|mythos")
# Why a message ended: the room for it did; something beside the model did, and it is not whole
CUT_OFF = {"max_tokens", "model_context_window_exceeded"}
BROKEN_OFF = {"error", "pause_turn"}
SERVICE = Service(
    provider="anthropic",
    key_names=("ANTHROPIC_API_KEY",),
    base_url_name="ANTHROPIC_BASE_URL",
    sdk="anthropic",
    distribution="anthropic",
    install="anthropic",
    # platform.claude.com/docs (prompt caching), November 2026
    fewest_cached=(
        (r"opus-4-[5-7]|haiku-4-5", 4096),
        (r"haiku-3|3-(5-)?haiku|sonnet-4-6", 2048),
        (r"opus-5", 512),
        ("", 1024),
    ),
    paces_cached=False,
    keeps_hours=True,
)


class AnthropicArgs(ApiArgs):
    """`thinking_budget` is for models up to 4.6, `thinking=adaptive` (with `effort`) for those from
    there on, `thinking=disabled` for where it is on by itself.
    """

    effort: str | None = word()
    thinking_budget: int | None = whole(None, least=1024)
    thinking: Literal["adaptive", "disabled"] | None = Field(
        None, description="adaptive or disabled"
    )


class AnthropicModel(ApiModel["AsyncAnthropic", Body, "Message"]):
    """`anthropic/NAME`. Thinking is no part of the answer."""

    service = SERVICE
    args_class = AnthropicArgs
    args: AnthropicArgs

    def configure(self, args: ApiArgs) -> None:
        """Take the user's options. Raises `ModelError` for ones that exclude each other."""
        super().configure(args)
        if self.args.thinking and self.args.thinking_budget:
            raise ModelError(
                f"{self.id}: --model-arg thinking_budget turns thinking on by itself; leave out "
                "thinking."
            )

    @property
    def charges_writes(self) -> bool:
        """Whether writing to the provider's cache has its own price: always."""
        return True

    @property
    def caching(self) -> Caching:
        """How the provider caches: at breakpoints."""
        return "breakpoints"

    @property
    def diagnoses(self) -> bool:
        """Whether the provider says why a cache was not read."""
        return True

    def reasons(self) -> bool:
        """Whether the model thinks before it answers."""
        args = self.args
        if args.thinking == "disabled":
            return False
        is_asked = args.thinking is not None or args.thinking_budget is not None
        return is_asked or THINKS.search(self.name) is not None

    def reasoning_room(self) -> int:
        """Return the thinking budget, or a room that is enough."""
        return self.args.thinking_budget or super().reasoning_room()

    def takes_temperature(self) -> bool:
        """Whether a request may name a temperature."""
        return not self.reasons() and NO_TEMPERATURE.search(self.name) is None

    def open_client(self) -> AsyncAnthropic:
        """Return a new client of the SDK."""
        import anthropic

        return anthropic.AsyncAnthropic(
            api_key=self.account.key,
            base_url=self.account.base_url,
            timeout=self.args.timeout_s,
            max_retries=0,
            http_client=http_client(anthropic.DefaultAioHttpClient, self.account),
        )

    async def close_client(self, client: AsyncAnthropic) -> None:
        """Close the connections."""
        await client.close()

    def request(self, prefix: Prefix, sampling: Sampling) -> Body:
        """Return the body of a prefix."""
        return Body(prefix.pieces, partial(self._params, prefix, sampling), _messages)

    async def send(self, request: Body, query: Query) -> Message:
        """Send one request."""
        return await post_message(self.connection.client(), request.fill(query))

    def read(self, response: Message) -> Reply:
        """Return the text of a message, without what was thought."""
        if error := getattr(response, "error", None):  # in the place of a message
            raise Fault.in_answer(error)
        usage, kept_1h = read_usage(response.usage), written_1h(response.usage)
        text, reason = content_text(response.content), str(response.stop_reason)
        if reason == "refusal":
            why = f"refusal {text or ''}".strip()
            return Reply(text=None, usage=usage, written_1h=kept_1h, refused=why)
        if reason in BROKEN_OFF:
            raise Fault(f"the server broke the answer off ({reason})", lost=True)
        is_cut = reason in CUT_OFF
        silent = silence(response) if not text and not is_cut else ""
        return Reply(
            text=text or "",
            usage=usage,
            written_1h=kept_1h,
            cut_off=is_cut,
            silent=silent,
            id=response.id or "",
            miss=cache_miss(response),
        )

    def batch_api(self) -> BatchApi[Body, Message]:
        """Return the batches of this model."""
        from icl_harness.models.anthropic.batch_api import AnthropicBatches

        return AnthropicBatches(self.account, self.connection, self.request)

    def count_endpoint(self) -> CountEndpoint:
        """Return the endpoint that counts tokens."""

        async def count(prompt: PromptTurns) -> int:
            return await count_tokens(self.connection.client(), self.name, prompt)

        return count

    def _params(self, prefix: Prefix, sampling: Sampling, turns: list[Turn]) -> dict[str, Json]:
        """Return a request's parameters, its messages last."""
        params: dict[str, Json] = {
            "model": self.name,
            "max_tokens": self.limit(sampling),
            **self._thinking(),
        }
        if stop := stops(sampling):
            params["stop_sequences"] = stop
        if prefix.baseline is not None:
            params["diagnostics"] = {"previous_message_id": prefix.baseline or None}
        if self.args.effort:
            params["output_config"] = {"effort": self.args.effort}
        if self.send_temperature:
            params["temperature"] = sampling.temperature
        chat = [turn for turn in turns if turn[0] != "system"]
        for _, texts in turns[: len(turns) - len(chat)]:
            params["system"] = _blocks(texts, prefix)
        return {**params, "messages": _messages(chat, prefix)}

    def _thinking(self) -> dict[str, Json]:
        if budget := self.args.thinking_budget:
            return {"thinking": {"type": "enabled", "budget_tokens": budget}}
        kind = self.args.thinking
        return {"thinking": {"type": kind}} if kind else {}


def _messages(turns: list[Turn], prefix: Prefix | None = None) -> list[Json]:
    """Return turns as messages, with the breakpoints of a prefix."""
    return [{"role": role, "content": _blocks(texts, prefix)} for role, texts in turns]


def _blocks(texts: list[tuple[int, str]], prefix: Prefix | None) -> list[Json]:
    """Return the texts of a turn as blocks; one that ends in a breakpoint asks for a cache."""
    marks = prefix.breakpoints if prefix else frozenset[int]()
    blocks: list[Json] = []
    for i, text in texts:
        block: dict[str, Json] = {"type": "text", "text": text}
        if prefix and i in marks:
            block["cache_control"] = {"type": "ephemeral", "ttl": prefix.ttl}
        blocks.append(block)
    return blocks
