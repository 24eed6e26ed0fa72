"""What requests to Anthropic have in common: bodies sent through the SDK, faults, usage, counts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from icl_harness.models.api.body import Filled
from icl_harness.models.api.counting import PromptTurns
from icl_harness.models.api.faults import (
    CALLED_A_TOOL,
    NO_CONTENT,
    ONLY_THOUGHT,
    Fault,
    Miss,
    counted,
)
from icl_harness.models.base import Usage

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import Message, MessageParam, TextBlockParam
    from anthropic.types import Usage as SdkUsage


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Turn what the SDK raises into a `Fault`."""
    import anthropic

    try:
        yield
    except anthropic.APIStatusError as error:
        raise Fault.from_body(
            error.status_code, error.body, error.message, error.response.headers
        ) from None
    except Exception as error:  # the transport's, the SDK's, the parser's  # noqa: BLE001
        raise Fault.from_exception(error) from None


async def post_message(client: AsyncAnthropic, filled: Filled) -> Message:
    """Send a body that is made already and return the SDK's message. Raises `Fault`."""
    from anthropic.types import Message

    with faults():
        return await client.post(
            "/v1/messages", cast_to=Message, content=filled, options={"headers": filled.headers}
        )


def read_usage(used: SdkUsage) -> Usage:
    """Return a message's usage; Anthropic leaves the cached tokens out of the input's."""
    read, written = used.cache_read_input_tokens, used.cache_creation_input_tokens
    thought = used.output_tokens_details
    return Usage(
        prompt_tokens=counted(used.input_tokens, "input_tokens")
        + counted(read, "cache_read_input_tokens")
        + counted(written, "cache_creation_input_tokens"),
        cached_tokens=read,
        cache_write_tokens=written,
        completion_tokens=used.output_tokens,  # thinking is part of it
        reasoning_tokens=thought.thinking_tokens if thought else None,
    )


def content_text(content: object) -> str | None:
    """Return the text of a message without its thoughts: servers give it as blocks, as one text, or
    as none.
    """
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise TypeError("a content that is neither a text nor blocks")
    blocks = [block if isinstance(block, dict) else vars(block) for block in content]
    return "".join(block.get("text") or "" for block in blocks if block.get("type") == "text")


def silence(message: Message) -> str:
    """Return why a message without a text holds no answer; "" where it is an empty answer."""
    if message.content is None:
        return NO_CONTENT
    types = {getattr(block, "type", None) for block in message.content}
    if "text" in types or not types:
        return ""
    return CALLED_A_TOOL if "tool_use" in types else ONLY_THOUGHT


def cache_miss(message: Message) -> Miss | None:
    """Return what differs from an earlier request, where the provider was asked and knows it."""
    found = getattr(message, "diagnostics", None)
    reason = getattr(found, "cache_miss_reason", None)
    if reason is None:
        return None
    tokens = getattr(reason, "cache_missed_input_tokens", None)
    return Miss(str(reason.type), tokens if isinstance(tokens, int) else None)


def written_1h(used: SdkUsage) -> int:
    """Return the tokens that were written to a cache for an hour."""
    written = getattr(used, "cache_creation", None)
    return getattr(written, "ephemeral_1h_input_tokens", None) or 0


async def count_tokens(client: AsyncAnthropic, name: str, prompt: PromptTurns) -> int:
    """Return the tokens of a prompt as the provider counts them. Raises `Fault`."""
    import anthropic

    system: list[TextBlockParam] = []
    messages: list[MessageParam] = []
    for role, texts in prompt:
        blocks: list[TextBlockParam] = [{"type": "text", "text": text} for text in texts]
        if role == "system":
            system += blocks
        elif role == "assistant":
            messages.append({"role": "assistant", "content": blocks})
        else:
            messages.append({"role": "user", "content": blocks})
    with faults():
        counted = await client.messages.count_tokens(
            model=name, messages=messages, system=system or anthropic.omit
        )
        return counted.input_tokens
