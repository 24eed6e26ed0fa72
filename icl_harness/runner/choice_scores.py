"""Choices taken by more than their log-likelihood.

In: a node and requests whose choices are weighed. Out: their answers, each the choice with the best
score. Back ends are asked for plain log-likelihoods (`choices`), and these stay with the answers:
only the choice that is taken differs. Per byte is `acc_bytes` of lm-evaluation-harness, and its
`acc_norm` where all characters are of one byte: the length is that of the choice, without the white
space before it. Learners that weigh no texts answer as they always do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Literal

from icl_harness.models.base import Answer, Model, Sampling, Scoring
from icl_harness.models.likeliest import likeliest
from icl_harness.prompts.tree import Node, Query
from icl_harness.runner.groups import Request
from icl_harness.runner.responses import Responses, responses

Correction = Literal["choices-per-byte"]
AnyScoring = Literal[Scoring, Correction]  # of --scoring


def correction_of(scoring: AnyScoring) -> Correction | None:
    """Return what changes which choice is taken; None where the back end's own answer stays."""
    return scoring if scoring == "choices-per-byte" else None


def sent_scoring(scoring: AnyScoring) -> Scoring:
    """Return what back ends are asked for."""
    return "choices" if scoring == "choices-per-byte" else scoring


async def corrected_responses(
    model: Model, node: Node, requests: Sequence[Request], sampling: Sampling
) -> Responses:
    """Yield each request with its answer, as `responses` does, with the best choice per byte."""
    async with aclosing(responses(model, node, requests, sampling)) as stream:
        async for answered in stream:
            if model.gold_likelihood != "weighed":
                yield answered
                continue
            yield [(request, _corrected(request.query, answer)) for request, answer in answered]


def _corrected(query: Query, answer: Answer) -> Answer:
    """Return an answer with the best of its query's choices."""
    if answer.status != "ok":
        return answer
    nats = answer.logprobs or {}
    if not nats.keys() >= set(query.choices):
        error = "the back end does not tell the log-likelihood of each choice"
        return replace(answer, status="failed", text=None, error=error)
    return replace(answer, text=likeliest(_scores(query, nats)))


def _scores(query: Query, nats: Mapping[str, float]) -> dict[str, float]:
    pairs = zip(query.choices, query.continuations, strict=True)
    return {choice: nats[choice] / n_bytes(written) for choice, written in pairs}


def n_bytes(written: str) -> int:
    """Return the bytes of a choice as it is written behind a query, in UTF-8; those of white space
    before it count only where there is nothing else.
    """
    return len((written.lstrip() or written).encode())
