"""What requests to Gemini have in common: faults of google-genai, usage, counts, turns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from icl_harness.models.api.body import Turn, turns
from icl_harness.models.api.counting import PromptTurns
from icl_harness.models.api.faults import Fault, counted
from icl_harness.models.base import Usage
from icl_harness.prompts.tree import Piece

if TYPE_CHECKING:
    import httpx2
    from google.genai import Client
    from google.genai.client import AsyncClient
    from google.genai.types import ContentUnion

ROLES = {"user": "user", "assistant": "model"}


@dataclass(frozen=True)
class GoogleClient:
    """The SDK's client, and the HTTP client that it was given."""

    sdk: Client
    http: httpx2.AsyncClient

    @property
    def aio(self) -> AsyncClient:
        """The SDK's methods to await."""
        return self.sdk.aio

    async def close(self) -> None:
        """Close both."""
        self.sdk.close()
        await self.sdk.aio.aclose()
        await self.http.aclose()


class UsageMetadata(Protocol):
    """The usage of a response, as both SDKs of Google give it."""

    @property
    def prompt_token_count(self) -> int | None: ...

    @property
    def candidates_token_count(self) -> int | None: ...

    @property
    def cached_content_token_count(self) -> int | None: ...

    @property
    def total_token_count(self) -> int | None: ...


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Turn what google-genai raises into a `Fault`."""
    from google.genai import errors

    try:
        yield
    except errors.APIError as error:
        headers = getattr(error.response, "headers", None) or {}
        raise Fault.from_body(error.code, error.details, str(error.message), headers) from None
    except Exception as error:  # the transport's, the SDK's, the parser's  # noqa: BLE001
        raise Fault.from_exception(error) from None


def read_usage(used: UsageMetadata) -> Usage:
    """Return the usage of a response. Thoughts are billed as output; the legacy SDK does not name
    them, but they are part of the total.
    """
    total = counted(used.total_token_count, "total_token_count")
    prompt = counted(used.prompt_token_count, "prompt_token_count")
    answer = counted(used.candidates_token_count, "candidates_token_count")
    completion = max(total - prompt, answer)
    return Usage(
        prompt_tokens=used.prompt_token_count,
        cached_tokens=used.cached_content_token_count or 0,
        completion_tokens=completion,
        reasoning_tokens=getattr(used, "thoughts_token_count", None),
    )


def google_turns(pieces: Sequence[Piece], role: str = "user") -> list[Turn]:
    """Return the turns of a prefix, and a hole for what is the query's own as one more of a role:
    it has a turn of its own, so that all points of a curve are asked alike.
    """
    *found, (last, texts) = turns(pieces, role)
    if len(texts) > 1:
        return [*found, (last, texts[:-1]), (role, texts[-1:])]
    return [*found, (role, texts)]


def google_role(role: str) -> str:
    """Return a role as Gemini names it."""
    return ROLES.get(role, role)


async def count_tokens(client: GoogleClient, name: str, prompt: PromptTurns) -> int | None:
    """Return the tokens of a prompt as the provider counts them. Raises `Fault`.

    What the system says is counted as if the user said it: this endpoint takes it in no other way.
    """
    from google.genai import types

    contents: list[ContentUnion] = []
    for role, texts in prompt:
        parts = [types.Part(text=text) for text in texts]
        contents.append(types.Content(role=ROLES.get(role, "user"), parts=parts))
    with faults():
        counted = await client.aio.models.count_tokens(model=name, contents=contents)
        return counted.total_tokens
