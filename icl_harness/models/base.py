"""The seam to models: a node and its queries go in, answers come out as they come.

A back end realises the node in its own way (a KV cache that grows, a cache breakpoint, a fitted
classifier); no back end is ever handed whole prompts. To add a provider: a folder here, with a
class that has `answers` and a `provider.py` that says how it is opened.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from icl_harness.errors import SpecError
from icl_harness.models.forecast import Counter, Forecast
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    from icl_harness.models.api.prices import Price
    from icl_harness.models.api.terms import Terms
    from icl_harness.models.training import Training

Scoring = Literal["generate", "choices", "choices-normalised", "decisions"]
Status = Literal["ok", "failed", "overflow", "refused"]
# How a back end tells the likelihood of a gold answer that it did not give: not at all, with every
# answer, or by a request that weighs it as a choice.
GoldLikelihood = Literal["none", "given", "weighed"]


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a back end takes: turns of a chat, and so many tokens; None where that is not known."""

    chat: bool = False
    context_window: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are made. `scoring` other than generate takes the likeliest of the query's
    choices.
    """

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
    """Where a local model keeps keys and values between runs, and how much of the disk they may
    take.
    """

    folder: str
    most_gb: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.most_gb < float("inf"):
            raise SpecError(f"--kv-cache-gb is {self.most_gb}; it takes a number above 0.")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens and dollars of one answer; None where the back end does not say.

    Prompt tokens include those read from a cache and those written to one; completion tokens
    include reasoning.
    """

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None


def spent_tokens(usage: Usage) -> int:
    """Return the tokens of a prompt and its answer, as far as they are known."""
    return (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)


TOKEN_KINDS = (
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
)


def sum_usage(usages: Sequence[Usage]) -> Usage:
    """Return what several requests took together; None where one of them does not say."""
    totals: dict[str, Any] = {}
    for name in (*TOKEN_KINDS, "cost_usd"):
        parts = [getattr(usage, name) for usage in usages]
        totals[name] = None if None in parts else sum(parts)
    return Usage(**totals)


def share_usage(usage: Usage, n: int) -> list[Usage]:
    """Return `n` usages that sum to one exactly, in tokens and in dollars."""
    whole = {name: getattr(usage, name) for name in TOKEN_KINDS}
    shares = {
        name: [None] * n if total is None else share_whole(total, n)
        for name, total in whole.items()
    }
    dollars = [None] * n if usage.cost_usd is None else _share_dollars(usage.cost_usd, n)
    parts = zip(*(shares[name] for name in TOKEN_KINDS), strict=True)
    return [
        Usage(**dict(zip(TOKEN_KINDS, part, strict=True)), cost_usd=usd)
        for part, usd in zip(parts, dollars, strict=True)
    ]


def share_whole(total: int, n: int) -> list[int]:
    """Return `n` whole numbers that sum to `total`, the first with the rest."""
    each, rest = divmod(total, n)
    return [each + rest] + [each] * (n - 1)


def _share_dollars(total: float, n: int) -> list[float]:
    fraction, exponent = math.frexp(total)  # in units of its last bit, so that no sum is rounded
    return [
        math.ldexp(part, exponent - 53) for part in share_whole(int(math.ldexp(fraction, 53)), n)
    ]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer to one query. Without a text it has an `error` and is missing, not wrong: the
    request failed (and may be sent again), overflowed the context window, or was refused by the
    provider or its filter.
    """

    query_id: str
    sample: int = 0
    text: str | None = None
    status: Status = "ok"
    error: str | None = None
    usage: Usage = field(default_factory=Usage)
    latency_s: float | None = None
    logprobs: Mapping[str, float] | None = None  # choice -> natural log-likelihood
    # choice -> what it was compared by, where that is not its log-likelihood
    choice_scores: Mapping[str, float] | None = None
    # what the model wrote, where thoughts or a stop string were taken off: more than `text`
    whole: str | None = None
    cut: bool = False  # the limit on tokens ended it, or a thought in it was not ended
    # requests for it that broke off once they were sent: the provider may have charged for them
    n_lost: int = 0
    # its number in the batch of a token: struck out in the ledger once this is stored
    place: tuple[str, int] | None = None
    training: Training | None = None  # that came before it and serves others after it, too

    def __post_init__(self) -> None:
        if (self.status == "ok") != (self.text is not None and self.error is None):
            raise ValueError(
                f"answer to {self.query_id}: status {self.status!r} does not fit its text and error"
            )


class Model(ABC):
    """A back end. `id` is `provider/name` as the user wrote it."""

    id: str
    capabilities: Capabilities = Capabilities()
    is_api: ClassVar[bool] = False  # whether its answers come from a provider, at its price
    price: Price | None = None  # of an API's tokens, where it is known
    gold_likelihood: GoldLikelihood = "none"
    no_chat = "has no chat template"  # why shots cannot be turns, where they cannot
    counts_by = "its tokenizer"  # what `count_tokens` counts by, as far as it is no estimate

    @abstractmethod
    def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield an answer for every query, in any order; answers that arrive together come in one
        list. An async generator: closing it early cancels what is in flight.

        A request that fails is an `Answer` with its status, so that the others go on. Raises
        `AccountError` where no further request can succeed, `SpecError` where the back end cannot
        do what `sampling` asks.
        """

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return the tokens of the prefix plus `query`, or None where the back end cannot tell
        beforehand.
        """
        return None

    def count_longest(self, node: Node, queries: Sequence[str]) -> int | None:
        """Return the tokens of the longest prompt that one of `queries` makes behind the prefix."""
        counts = [self.count_tokens(node, query) for query in queries]
        return max((count for count in counts if count is not None), default=None)

    def limit(self, sampling: Sampling) -> int:
        """Return the most tokens that an answer may take, reasoning included."""
        return sampling.max_tokens

    def usual_reasoning(self) -> tuple[int, int] | None:
        """Return how many tokens thoughts take usually, from and to; None where there are none."""
        return None

    def counter(self) -> Counter:
        """Return what counts the tokens of prompts for a plan."""
        return Counter(self.count_tokens, self.counts_by)

    def forecast(self) -> Forecast | None:
        """Return what foresees the cost of requests; None where they cost nothing."""
        return None

    def with_terms(self, terms: Terms) -> Model:
        """Return this model as a run asks it on `terms`: itself, unless it is an API's."""
        return self

    def describe(self) -> dict[str, Any]:
        """Return what a run folder should say of this model: versions, device, precision, a content
        hash of weights.
        """
        return {}

    async def close(self) -> None:
        """Give back connections and memory."""
        return None


def weights_of(description: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the part of a model's description that tells its weights from others of the same name;
    None without.
    """
    known = {
        name: description[name]
        for name in ("sha256", "revision", "adapter")
        if description.get(name)
    }
    return known or None


def truncate_at_stop(text: str, stop: Sequence[str]) -> str:
    """Return `text` up to the first stop string."""
    return text[: stop_place(text, stop)]


def stop_place(text: str, stop: Sequence[str]) -> int | None:
    """Return where the first stop string of a text begins; None where none ends it.

    One of white space alone counts after the answer's first word: many models begin with line ends.
    """
    first_word = len(text) - len(text.lstrip())
    places = [text.find(s, 0 if s.strip() else first_word) for s in stop]
    return min((place for place in places if place >= 0), default=None)


def visible_stops(stop: Sequence[str]) -> tuple[str, ...]:
    """Return the stop strings that no line end before an answer can be."""
    return tuple(s for s in stop if s.strip())
