"""The seam to models: a node and its queries go in, answers come out as they come (floor 2).

A back end realises the node in its own way (a KV cache that grows, a cache breakpoint, a fitted classifier); no back
end is ever handed whole prompts. To add a provider: one file here with a class that has `answers`, one line in the
registry of `__init__`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from icl_harness.errors import SpecError
from icl_harness.prompts import Node, Query

Scoring = Literal["generate", "choices", "choices-normalised"]
Status = Literal["ok", "failed", "overflow"]


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a back end can do. `context_window` in tokens, None where it is not known."""

    logprobs: bool = False
    chat: bool = False
    context_window: int | None = None
    prefix_caching: bool = False
    batch: bool = False
    images: bool = False


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are made. `scoring` other than generate takes the likeliest of the query's choices."""

    max_tokens: int = 256
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    scoring: Scoring = "generate"

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise SpecError(f"max_tokens is {self.max_tokens}; an answer needs at least 1 token.")
        if self.temperature < 0:
            raise SpecError(f"temperature is {self.temperature}; it must not be negative.")


@dataclass(frozen=True, kw_only=True)
class KvCache:
    """Where a local model keeps keys and values between runs, and how much of the disk they may take."""

    folder: str
    most_gb: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.most_gb < float("inf"):
            raise SpecError(f"--kv-cache-gb is {self.most_gb}; it takes a number above 0.")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens and dollars of one answer; None where the back end does not say. Prompt tokens include cached ones."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


def spent_tokens(usage: Usage) -> int:
    """Return the tokens of a prompt and its answer, as far as they are known."""
    return (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer to one query. A failed or overflown request has an `error` and no text: it is missing, not wrong."""

    query_id: str
    sample: int = 0
    text: str | None = None
    status: Status = "ok"
    error: str | None = None
    usage: Usage = field(default_factory=Usage)
    latency_s: float | None = None
    logprobs: Mapping[str, float] | None = None  # choice -> natural log-likelihood of its continuation
    final: bool = False  # of a failed request: asking again cannot help (a filter withholds the answer)

    def __post_init__(self) -> None:
        if (self.status == "ok") != (self.text is not None and self.error is None):
            raise ValueError(f"answer to {self.query_id}: status {self.status!r} does not fit its text and error")


class Model(ABC):
    """A back end. `id` is `provider/name` as the user wrote it."""

    id: str
    capabilities: Capabilities = Capabilities()

    @abstractmethod
    def answers(self, node: Node, queries: Sequence[Query], sampling: Sampling) -> AsyncGenerator[list[Answer], None]:
        """Yield an answer for every query, in any order; answers that arrive together come in one list. An async
        generator: closing it early cancels what flies.

        A request that fails is an `Answer` with its status, so that the others go on. Raises `AccountError` where no
        further request can succeed, `SpecError` where the back end cannot do what `sampling` asks.
        """

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return the tokens of the prefix plus `query`, or None where the back end cannot tell beforehand."""
        return None

    def count_longest(self, node: Node, queries: Sequence[str]) -> int | None:
        """Return the tokens of the longest prompt that one of `queries` makes behind the prefix."""
        counts = [self.count_tokens(node, query) for query in queries]
        return max((count for count in counts if count is not None), default=None)

    def describe(self) -> dict[str, Any]:
        """Return what a run folder should say of this model: versions, device, precision, a content hash of weights."""
        return {}

    async def close(self) -> None:
        """Give back connections and memory."""
        return None


def weights_of(description: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the part of a model's description that tells its weights from others of the same name; None without."""
    known = {name: description[name] for name in ("sha256", "revision", "adapter") if description.get(name)}
    return known or None


def truncate_at_stop(text: str, stop: Sequence[str]) -> str:
    """Return `text` up to the first stop string, for back ends that do not stop there themselves."""
    cut = min((i for s in stop if (i := text.find(s)) >= 0), default=len(text))
    return text[:cut]
