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
    from openai.types import CompletionUsage
    from openai.types.decision import Usage as DecisionUsage
    from openai.types.responses import ResponseUsage

S = TypeVar("S")


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


def refuse_errors(response: object) -> None:
    """Raise `Fault` for an error that came in the place of a completion, or of its first choice."""
    error = getattr(response, "error", None)  # a field beside those of the SDK's class
    choices = getattr(response, "choices", None)
    if not error and choices:
        error = getattr(choices[0], "error", None)
        if not error and choices[0].finish_reason == "error":
            raise Fault("the server broke the answer off with an error", lost=True)
    if error:
        raise Fault.in_answer(error)


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
