"""The choices of a query as a tree of tokens behind it.

In: the ids of a node, the branch of a query and those of the query with each choice. Out: a
`Candidate`, whose tree holds once what the choices share, or its chains for back ends that feed no
trees. trie.py asks the same tree token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from icl_harness.models.local.tokens import Branch, Ids, Twig, common


@dataclass(frozen=True, slots=True)
class Candidate:
    """The choices of one query (`item`) as one tree of tokens, or a chain of it.

    `reads[choice]` are (token of the twig, next token): the choice's log-likelihood is the sum of
    the next tokens'.
    """

    item: int
    twig: Twig
    reads: dict[int, list[tuple[int, int]]]

    @property
    def wanted(self) -> list[int]:
        """Return the tokens whose logits are read."""
        pairs = chain.from_iterable(self.reads.values())
        return sorted({token for token, _ in pairs})


def candidate(item: int, ids: Ids, query: Branch, choices: Sequence[Branch]) -> Candidate:
    """Return the row to feed for one query's choices: what they have in common is fed once, their
    last tokens never.

    Every choice is weighed from the same place on: where the first of them leaves the ids of node
    and query. `ids` are the node's. Raises `ValueError` where a choice adds no token or none stands
    before it.
    """
    start = min(_common(query, choice) for choice in choices)
    if start == 0 or any(len(choice) <= start for choice in choices):
        raise ValueError("a choice has no tokens of its own, or nothing stands before it")
    low = min(
        start - 1, *(choice.n_shared for choice in choices)
    )  # the last token before the choices is fed, too
    tails = [[*ids[low : choice.n_shared].tolist(), *choice.own] for choice in choices]
    own = tails[0][: start - low]
    parents = list(range(-1, len(own) - 1))
    known: dict[tuple[int, int], int] = {}  # (parent, token) -> its place in the twig
    reads: dict[int, list[tuple[int, int]]] = {}
    for index, tail in enumerate(tails):
        at, new = start - low - 1, tail[start - low :]
        reads[index] = []
        for i, token in enumerate(new):
            reads[index].append((at, token))
            if i + 1 < len(new):
                if (at, token) not in known:
                    known[at, token] = len(own)
                    own.append(token)
                    parents.append(at)
                at = known[at, token]
    return Candidate(item, Twig(low, own, tuple(parents)), reads)


def split(row: Candidate) -> list[Candidate]:
    """Return a candidate as several smaller ones; none where it is a chain."""
    return [] if row.twig.is_chain else chains(row)


def small(row: Candidate, most: int = 256) -> list[Candidate]:
    """Return a candidate as trees of about `most` tokens behind their stem: each token attends to
    all others of its row.
    """
    n_stem = row.twig.n_stem
    if len(row.twig.own) - n_stem <= most:
        return [row]
    most += n_stem
    parts: list[
        tuple[dict[int, int], list[int]]
    ] = []  # places in the whole tree -> in the part, and choices
    for choice, pairs in row.reads.items():
        line = row.twig.line(pairs[-1][0])
        if not parts or len(parts[-1][0].keys() | line) > max(most, len(line)):
            parts.append(({}, []))
        places, choices = parts[-1]
        choices.append(choice)
        for token in line:
            places.setdefault(token, len(places))
    return [_part(row, places, choices) for places, choices in parts]


def _part(row: Candidate, places: dict[int, int], choices: Sequence[int]) -> Candidate:
    twig = row.twig
    own, parents = (
        [twig.own[i] for i in places],
        tuple(places.get(twig.parents[i], -1) for i in places),
    )
    reads: dict[int, list[tuple[int, int]]] = {}
    for choice in choices:
        reads[choice] = [(places[token], new) for token, new in row.reads[choice]]
    return Candidate(row.item, Twig(twig.n_shared, own, parents), reads)


def chains(row: Candidate) -> list[Candidate]:
    """Return a candidate's tree as chains, for rows that hold no tree: one for each token that
    nothing follows.
    """
    left, found = dict(row.reads), []
    for leaf in sorted(set(range(len(row.twig.own))) - set(row.twig.parents)):
        places = {token: i for i, token in enumerate(row.twig.line(leaf))}
        mine = [choice for choice, pairs in left.items() if pairs[-1][0] in places]
        left = {choice: pairs for choice, pairs in left.items() if choice not in mine}
        found.append(_part(row, places, mine))
    return found


def _common(a: Branch, b: Branch) -> int:
    if a.n_shared != b.n_shared:
        return min(a.n_shared, b.n_shared)
    return a.n_shared + common(a.own, b.own)
