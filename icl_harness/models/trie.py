"""The choices of a query as a trie of next tokens, for engines that tell one next token's odds cheaply (floor 2, pure).

In: the ids of a node, the branch of a query and those of the query with each choice. Out: questions, each a prompt and
the next tokens whose log-probability is wanted of it; then, from what was told, each choice's log-likelihood.
A question's prompt begins with the node's ids, so that a prefix cache serves all of it but the last few tokens; the
likelihoods of prompt tokens, which would take one prompt per choice, are what engines turn their prefix cache off for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from icl_harness.models.tokens import Branch, Ids, common


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and the next tokens whose log-probability is wanted."""

    branch: Branch
    wanted: list[int]


@dataclass(frozen=True, slots=True)
class Trie:
    """`questions`, shortest prompt first; `paths`: for each choice, which question tells which of its tokens."""

    questions: list[Question]
    paths: list[list[tuple[int, int]]]

    def weigh(self, told: Sequence[Mapping[int, float]], *, normalised: bool = False) -> list[float]:
        """Return each choice's log-likelihood in nats, per token if `normalised`.

        `told`: for each question, token -> log-probability.
        """
        sums = [sum(told[question][token] for question, token in path) for path in self.paths]
        return [nats / len(path) if normalised else nats for nats, path in zip(sums, self.paths, strict=True)]


def build(ids: Ids, query: Branch, choices: Sequence[Branch], most: int) -> Trie:
    """Return the trie of one query's choices; a question asks for at most `most` tokens. `ids` are the node's.

    Every choice is weighed from the same place on: where the first of them leaves the ids of node and query. Raises
    `ValueError` where a choice adds no token or none stands before it.
    """
    low = min(branch.n_shared for branch in (query, *choices))  # places are counted from here on
    asked, *tails = ((*ids[low : branch.n_shared].tolist(), *branch.own) for branch in (query, *choices))
    start = min(common(asked, tail) for tail in tails)
    if low + start == 0 or any(len(tail) <= start for tail in tails):
        raise ValueError("a choice has no tokens of its own, or nothing stands before it")
    wanted: dict[tuple[int, ...], dict[int, None]] = {}  # what stands before -> the tokens that go on from there
    for tail in tails:
        for place in range(start, len(tail)):
            wanted.setdefault(tail[:place], {})[tail[place]] = None
    questions: list[Question] = []
    told_by: dict[tuple[int, ...], int] = {}  # what stands before, and the token
    for before in sorted(wanted, key=len):
        tokens = list(wanted[before])
        for part in (tokens[i : i + most] for i in range(0, len(tokens), most)):
            told_by |= {(*before, token): len(questions) for token in part}
            questions.append(Question(Branch(low, list(before)), part))
    paths = [[(told_by[tail[: place + 1]], tail[place]) for place in range(start, len(tail))] for tail in tails]
    return Trie(questions, paths)
