"""What requests to OpenAI have in common: bodies sent through the SDK, faults, usage, counts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from icl_harness.models.api.body import Filled
from icl_harness.models.api.counting import PromptTurns
from icl_harness.models.api.faults import Fault
from icl_harness.models.base import Usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Completion, CompletionUsage
    from openai.types.chat import ChatCompletion
    from openai.types.decision import Usage as DecisionUsage
    from openai.types.responses import ResponseUsage

S = TypeVar("S")
# Finish reasons, of OpenAI's and of other servers (DeepSeek, GLM, Mistral, vLLM): the server ended
# the answer, the limit on tokens did, a filter did.
BROKEN_OFF = {"error", "network_error", "insufficient_system_resource", "abort"}
CUT_OFF = {"length", "model_length", "model_context_window_exceeded", "max_tokens"}
WITHHELD = {"content_filter", "sensitive"}


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Turn what the SDK raises into a `Fault`."""
    import openai

    try:
        yield
    except openai.APIStatusError as error:
        raise Fault.from_body(
            error.status_code, error.body, error.message, error.response.headers
        ) from None
    except Exception as error:  # the transport's, the SDK's, the parser's  # noqa: BLE001
        raise Fault.from_exception(error) from None


async def post(client: AsyncOpenAI, path: str, filled: Filled, kind: type[S]) -> S:
    """Send a body that is made already and return the SDK's class of the response. Raises
    `Fault`.
    """
    with faults():
        return await client.post(
            path, cast_to=kind, content=filled, options={"headers": filled.headers}
        )


def refuse_errors(response: Completion | ChatCompletion) -> None:
    """Raise `Fault` for an error that came in the place of a completion, or of its first choice."""
    error = getattr(response, "error", None)  # a field beside those of the SDK's class
    if not error and not response.choices:
        raise Fault("malformed body: neither an answer nor an error", lost=True)
    if not error:
        choice = response.choices[0]
        error = getattr(choice, "error", None)
        reason = str(choice.finish_reason)
        if not error and reason in BROKEN_OFF:
            why = "" if reason == "error" else f" ({reason})"
            raise Fault(f"the server broke the answer off with an error{why}", lost=True)
    if error:
        raise Fault.in_answer(error)


def content_text(content: object) -> str | None:
    """Return the text of a message: servers give it as one, as parts of which some are thoughts, or
    as none.
    """
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise TypeError("a content that is neither a text nor parts")
    parts = [part if isinstance(part, dict) else vars(part) for part in content]
    return "".join(part.get("text") or "" for part in parts if part.get("type") != "thinking")


def read_usage(used: CompletionUsage | None) -> Usage:
    """Return the usage of a completion, of a chat or not."""
    if used is None:
        return Usage()
    read, thought = used.prompt_tokens_details, used.completion_tokens_details
    return Usage(
        prompt_tokens=used.prompt_tokens,
        cached_tokens=read.cached_tokens if read else None,
        cache_write_tokens=getattr(read, "cache_write_tokens", None),
        completion_tokens=used.completion_tokens,  # reasoning is part of it
        reasoning_tokens=thought.reasoning_tokens if thought else None,
    )


def read_response_usage(used: ResponseUsage | DecisionUsage | None) -> Usage:
    """Return the usage of a response or a decision."""
    if used is None:
        return Usage()
    read, thought = used.input_tokens_details, used.output_tokens_details
    return Usage(
        prompt_tokens=used.input_tokens,
        cached_tokens=read.cached_tokens if read else None,
        cache_write_tokens=getattr(read, "cache_write_tokens", None),
        completion_tokens=used.output_tokens,  # reasoning is part of it
        reasoning_tokens=thought.reasoning_tokens if thought else None,
    )


async def count_tokens(client: AsyncOpenAI, name: str, prompt: PromptTurns) -> int:
    """Return the tokens of a prompt as the provider counts them. Raises `Fault`."""
    messages: list[Any] = []
    for role, texts in prompt:
        kind = "output_text" if role == "assistant" else "input_text"
        parts = [{"type": kind, "text": text} for text in texts]
        messages.append({"role": role, "content": parts})
    with faults():
        counted = await client.responses.input_tokens.count(model=name, input=messages)
        return counted.input_tokens
