"""Queries that read the same are fed once, and all requests for them get the answer.

In: a node's queries and what a model reads behind the node for each. Out: one `Group` per distinct
text, checked against the context window.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from icl_harness.models.base import Answer, Status, Usage
from icl_harness.models.local.tokens import Branch, TokenTree
from icl_harness.prompts.tree import Node, Query


@dataclass(frozen=True, slots=True)
class Tail:
    """What a model reads behind the node: the query's `own` edges, then its `text`."""

    own: str
    text: str


def text_tail(query: Query) -> Tail:
    """Return the tail of a query in plain text."""
    return Tail("".join(edge.text for edge in query.own), query.text)


@dataclass(frozen=True, slots=True)
class Group:
    """One distinct tail, its tokens, and the requests for it (samples, or queries alike)."""

    tail: Tail
    branch: Branch
    queries: list[Query]

    def __len__(self) -> int:
        return len(self.queries)

    def with_queries(self, queries: list[Query]) -> Group:
        """Return the same text for some of its requests."""
        return replace(self, queries=queries)

    def answers(self, answer: Answer) -> list[Answer]:
        """Return the same answer to every request."""
        return [replace(answer, query_id=query.id, sample=query.sample) for query in self.queries]

    def missing(self, status: Status, error: str) -> list[Answer]:
        """Return an answer without text to every request."""
        usage = Usage(prompt_tokens=len(self.branch), cached_tokens=0, completion_tokens=0)
        return self.answers(Answer(query_id="", status=status, error=error, usage=usage))


def by_tail(tail: Tail, query: Query) -> Hashable:
    """Tell queries apart by what is read."""
    return tail


def by_choices(tail: Tail, query: Query) -> Hashable:
    """Tell queries apart by what is read and the choices behind it."""
    return tail, query.choices, query.continuations, query.ending


def group(
    tree: TokenTree,
    node: Node,
    queries: Sequence[Query],
    key: Callable[[Tail, Query], Hashable],
    read: Callable[[Query], Tail],
) -> list[Group]:
    """Return the distinct queries, as `key` tells them apart, in the order in which they come.

    `read` gives what stands between the node and the answer to a query.
    """
    found: dict[Hashable, tuple[Tail, list[Query]]] = {}
    for query in queries:
        tail = read(query)
        found.setdefault(key(tail, query), (tail, []))[1].append(query)
    branches = tail_branches(tree, node, [tail for tail, _ in found.values()])
    return [
        Group(tail, branch, same)
        for branch, (tail, same) in zip(branches, found.values(), strict=True)
    ]


def tail_branches(tree: TokenTree, node: Node, tails: Sequence[Tail]) -> list[Branch]:
    """Return the tokens of tails: those without own edges together, as most queries have none."""
    plain = [tail.text for tail in tails if not tail.own]
    branches = iter(tree.branches(node, plain))
    return [
        tree.branches(node, [tail.text], own=tail.own)[0] if tail.own else next(branches)
        for tail in tails
    ]


def choice_branches(
    tree: TokenTree,
    node: Node,
    groups: Sequence[Group],
    trim: Callable[[str], str] = str,
    turn_end: str = "",
) -> list[list[Branch]]:
    """Return, for each group, the tokens of its tail followed by each choice's continuation; where
    one choice begins another, to what ends it.

    `trim` is applied to continuations (an answer that is a turn of a chat begins with a word), and
    `turn_end` ends those of a chat.
    """
    plain, plain_ends = list[str](), list[str]()
    for group in groups:
        if not group.tail.own:
            texts, ends = _choice_texts(group, trim, turn_end)
            plain += texts
            plain_ends += ends
    branches = iter(tree.branches(node, plain, endings=plain_ends))
    found: list[list[Branch]] = []
    for group in groups:
        if group.tail.own:
            texts, ends = _choice_texts(group, trim, turn_end)
            found.append(tree.branches(node, texts, own=group.tail.own, endings=ends))
        else:
            found.append([next(branches) for _ in group.queries[0].continuations])
    return found


def _choice_texts(
    group: Group, trim: Callable[[str], str], turn_end: str
) -> tuple[list[str], list[str]]:
    """Return the texts of a group's choices, and what follows each."""
    query = group.queries[0]
    texts = [group.tail.text + trim(written) for written in query.continuations]
    ending = (turn_end or query.ending) if query.ending else ""
    return texts, [ending] * len(texts)


def misfit(n_tokens: int, n_new: int, window: int | None) -> tuple[Status, str] | None:
    """Return why a prompt of `n_tokens` cannot be followed by `n_new` more; None where it can."""
    if n_tokens == 0:
        return "failed", "the prompt has no tokens; a model without a BOS token needs at least one"
    if window is None or n_tokens + n_new <= window:
        return None
    answer = f" and up to {n_new:,} more to generate" if n_new else ""
    return (
        "overflow",
        f"the prompt has {n_tokens:,} tokens{answer}; the model's window is {window:,}",
    )
