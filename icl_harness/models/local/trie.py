"""The choices of a query as questions for next tokens, for engines that give those cheaply.

In: the tree of a query's choices (choices.py). Out: questions, each a prompt and the next tokens
whose log-probability it is for; then, from the engine's answers, each choice's log-likelihood. A
question's prompt begins with the node's ids, so that a prefix cache serves all of it but the last
few tokens; the likelihoods of prompt tokens, which would take one prompt per choice, are what
engines turn their prefix cache off for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from icl_harness.models.local.choices import Candidate
from icl_harness.models.local.tokens import Branch


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and the next tokens whose log-probability is wanted."""

    branch: Branch
    wanted: list[int]


@dataclass(frozen=True, slots=True)
class Trie:
    """`questions`, shortest prompt first; `paths`: for each choice, which question gives which of
    its tokens.
    """

    questions: list[Question]
    paths: list[list[tuple[int, int]]]

    def weigh(
        self, logprobs: Sequence[Mapping[int, float]], *, normalised: bool = False
    ) -> list[float]:
        """Return each choice's log-likelihood in nats, per token if `normalised`.

        `logprobs`: for each question, token -> log-probability.
        """
        sums: list[float] = []
        for path in self.paths:
            sums.append(sum(logprobs[question][token] for question, token in path))
        return [
            nats / len(path) if normalised else nats
            for nats, path in zip(sums, self.paths, strict=True)
        ]


def ask_apart(row: Candidate, most: int) -> Trie:
    """Return the questions of a query's choices; one asks for at most `most` tokens."""
    wanted: dict[
        int, dict[int, None]
    ] = {}  # a token of the tree -> the tokens that go on from there
    for pairs in row.reads.values():
        for before, token in pairs:
            wanted.setdefault(before, {})[token] = None
    lines: dict[int, list[int]] = {}
    for before in wanted:
        lines[before] = [row.twig.own[i] for i in row.twig.line(before)]
    questions: list[Question] = []
    question_of: dict[tuple[int, int], int] = {}  # what stands before, and the token
    for before in sorted(wanted, key=lambda before: len(lines[before])):
        tokens = list(wanted[before])
        for part in (tokens[i : i + most] for i in range(0, len(tokens), most)):
            question_of |= {(before, token): len(questions) for token in part}
            questions.append(Question(Branch(row.twig.n_shared, lines[before]), part))
    paths: list[list[tuple[int, int]]] = []
    for choice in sorted(row.reads):
        paths.append([(question_of[pair], pair[1]) for pair in row.reads[choice]])
    return Trie(questions, paths)
