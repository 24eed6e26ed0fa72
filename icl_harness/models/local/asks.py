"""Queries with the same words share their work: grouped, checked against the window, answered
together.

In: queries and the branches of their texts. Out: one `Item` per distinct ask, and the answers of
all who ask it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icl_harness.errors import SpecError
from icl_harness.models.base import Answer, Sampling, Status, Usage
from icl_harness.models.local.tokens import Branch, TokenTree
from icl_harness.prompts.tree import Node, Query


@dataclass(frozen=True, slots=True)
class Item:
    """One distinct text that follows the node, and all who ask it."""

    branch: Branch
    asks: list[Query]

    def answers(self, **fields: Any) -> list[Answer]:
        """Return the same answer for everyone who asks."""
        return [Answer(query_id=query.id, sample=query.sample, **fields) for query in self.asks]

    def missing(self, status: Status, error: str) -> list[Answer]:
        """Return an answer without text for everyone who asks."""
        usage = Usage(prompt_tokens=len(self.branch), cached_tokens=0, completion_tokens=0)
        return self.answers(status=status, error=error, usage=usage)


def group(
    tree: TokenTree,
    node: Node,
    queries: Sequence[Query],
    key: Callable[[Query], Any],
    behind: Callable[[str], str] = str,
) -> list[Item]:
    """Return the distinct queries, as `key` tells them apart, with their tokens, in the order of
    their first ask.

    `behind` makes of a query's text what stands between the node and the answer (in a chat
    template).
    """
    asks: dict[Any, list[Query]] = {}
    for query in queries:
        asks.setdefault(key(query), []).append(query)
    branches = tree.branches(node, [behind(same[0].text) for same in asks.values()])
    return [Item(branch, same) for branch, same in zip(branches, asks.values(), strict=True)]


def misfit(n_tokens: int, n_new: int, window: int | None) -> tuple[Status, str] | None:
    """Return why a prompt of `n_tokens` cannot be asked for `n_new` more, or None where it can."""
    if n_tokens == 0:
        return "failed", "the prompt has no tokens; a model without a BOS token needs at least one"
    if window is None or n_tokens + n_new <= window:
        return None
    answer = f" and up to {n_new:,} more to generate" if n_new else ""
    return (
        "overflow",
        f"the prompt has {n_tokens:,} tokens{answer}; the model's window is {window:,}",
    )


def need_choices(queries: Sequence[Query], sampling: Sampling) -> None:
    """Raise `SpecError` where a query has no choices to weigh."""
    for query in queries:
        if not query.choices or len(query.choices) != len(query.continuations):
            raise SpecError(
                f"scoring {sampling.scoring!r} weighs a query's choices, and query {query.id} has none. "
                "Use scoring 'generate', or a task whose examples have choices."
            )


def likeliest(weights: Mapping[str, float]) -> str:
    """Return the likeliest choice, the first of equals."""
    return max(weights, key=weights.__getitem__)
