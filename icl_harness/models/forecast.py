"""What a model can say of requests before they are sent: their tokens, and what they will cost.

In: a node and the queries behind it. Out: a `Count`, by the model's own tokenizer (a provider's
back end counts in other ways, too), and for an API a `Foreseen`, by a `Forecast`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl_harness.prompts.tree import Node, Prompt, Query

if TYPE_CHECKING:
    from icl_harness.models.api.limiter import Rates


@dataclass(frozen=True, kw_only=True)
class Count:
    """The tokens of a node, and of all that each query puts behind it. `how` they were counted is
    one of a few words.
    """

    prefix: int
    queries: tuple[int, ...]
    how: str

    @property
    def estimated(self) -> bool:
        """Whether nothing counted them."""
        return self.how.startswith("estimate")


class Counter:
    """Counts by a tokenizer. `count_tokens(node, text)` returns None where there is no tokenizer,
    and `how` names it. `notes` say what the user should know of the counting.
    """

    def __init__(self, count_tokens: Callable[[Node, str], int | None], how: str) -> None:
        self.notes: list[str] = []
        self._count_tokens = count_tokens
        self._how = how
        self._known: dict[tuple[tuple[tuple[str, str], ...], str], int] = {}  # by a query's texts

    async def count(self, node: Node, queries: Sequence[Query]) -> Count | None:
        """Return the tokens; None for a model that knows no tokens."""
        prefix = self._count_tokens(node, "")
        if prefix is None:
            return None
        behind = tuple(self._behind(node, query, prefix) for query in queries)
        return Count(prefix=prefix, queries=behind, how=self._how)

    def _behind(self, node: Node, query: Query, prefix: int) -> int:
        """Return the tokens that a query adds to its node, counted once for each text."""
        own = tuple((edge.role, edge.text) for edge in query.own)
        key = (own, query.text)
        if key not in self._known:
            self._known[key] = (self._whole(node, query) or prefix) - prefix
        return self._known[key]

    def _whole(self, node: Node, query: Query) -> int | None:
        """Return the tokens of a whole prompt."""
        if node.role:  # a query's own turns are turns, not text
            return self._count_tokens(Prompt(node, query).leaf, query.text)
        return self._count_tokens(node, query.tail)


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """What the requests of a cell take; dollars are None without a price: those of the prompts in
    three ways, and those of the answers at most.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    usd_cached: float | None = None
    usd_plain: float | None = None
    usd_batch: float | None = None
    usd_output: float | None = None  # half as much in a batch


class Forecast(ABC):
    """Foresees the requests of one model, as its provider's caches fill in the order of a walk.

    `rates` are the account's, as far as the user gave them; `paces_cached`: whether tokens that are
    read from a cache count against them.
    """

    rates: Rates
    paces_cached: bool

    @abstractmethod
    def ask(self, node: Node, count: Count, completion: int) -> Foreseen:
        """Return what it takes to ask the queries that were counted; `completion` is the room for
        each answer.
        """
