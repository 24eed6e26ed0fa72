"""Choices taken by more than their log-likelihood.

In: a node and requests whose choices are weighed. Out: their answers, each the choice with the best
score. Back ends are asked for plain log-likelihoods (`choices`), and these stay with the answers:
only the choice that is taken differs. Per byte is `acc_bytes` of lm-evaluation-harness, per
character its `acc_norm`. PMI (pointwise mutual information; Holtzman et al. 2021) takes off what a
choice has behind the bare cue of an answer; contextual calibration (Zhao et al. 2021), what it has
behind the same shots and an input that says nothing. Those prompts are the `bare` ones of a query:
each is weighed once a run. Learners that weigh no texts answer as they always do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from icl_harness.models.base import Answer, Model, Sampling, Scoring, Usage
from icl_harness.models.likeliest import likeliest
from icl_harness.prompts.modes import PromptPath
from icl_harness.prompts.tree import Node, Prompt, Query
from icl_harness.runner.groups import Request
from icl_harness.runner.recording import add_usage
from icl_harness.runner.responses import Responses, responses

Correction = Literal[
    "choices-per-byte", "choices-per-character", "choices-pmi", "choices-calibrated"
]
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)
AnyScoring = Literal[Scoring, Correction]  # of --scoring
Key = tuple[str, ...]  # what a bare prompt is told from others by
NO_CONTENT = ("N/A", "", "[MASK]")  # inputs that say nothing: Zhao et al. 2021, section 5
UNTOLD = "the back end does not tell the log-likelihood of each choice"


def correction_of(scoring: AnyScoring) -> Correction | None:
    """Return what changes which choice is taken; None where the back end's own answer stays."""
    return next((one for one in CORRECTIONS if one == scoring), None)


def sent_scoring(scoring: AnyScoring) -> Scoring:
    """Return what back ends are asked for."""
    plain: tuple[Scoring, ...] = get_args(Scoring)
    return next((one for one in plain if one == scoring), "choices")


def bare_texts(path: PromptPath, scoring: AnyScoring) -> tuple[str, ...]:
    """Return the texts in a query's place behind which its choices are weighed, too. Raises
    `TemplateError` where a template has no cue of an answer.
    """
    if scoring == "choices-pmi":
        return (path.cue(),)
    if scoring == "choices-calibrated":
        return tuple(map(path.query_text, NO_CONTENT))
    return ()


@dataclass(frozen=True, kw_only=True)
class BareWeights:
    """What choices weigh behind the bare prompts of a model. `owed`: what weighing took that no
    answer has taken over yet, by the hash of a node.
    """

    correction: Correction
    known: dict[Key, Mapping[str, float]] = field(default_factory=dict)
    owed: defaultdict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))


async def corrected_responses(
    model: Model,
    node: Node,
    requests: Sequence[Request],
    sampling: Sampling,
    bare: BareWeights,
) -> Responses:
    """Yield each request with its answer, as `responses` does, with the best choice. Where a bare
    prompt fails, so do the requests that need it; what bare prompts took is in the first answer.
    """
    lost: dict[Key, Answer] = {}
    if model.gold_likelihood == "weighed":
        lost = await _weigh_bare(model, node, requests, sampling, bare)
    sent = []
    for request in requests:
        failed = [lost[key] for key in _keys(bare, node, request.query) if key in lost]
        if failed:
            query = request.query
            missing = replace(failed[0], query_id=query.id, sample=query.sample)
            yield [(request, _charged(bare, node, missing))]
        else:
            sent.append(request)
    async with aclosing(responses(model, node, sent, sampling)) as stream:
        async for answered in stream:
            if model.gold_likelihood != "weighed":
                yield answered
                continue
            yield [(request, _corrected(bare, node, request, a)) for request, a in answered]


async def _weigh_bare(
    model: Model, node: Node, requests: Sequence[Request], sampling: Sampling, bare: BareWeights
) -> dict[Key, Answer]:
    """Weigh the choices behind the bare prompts that are not known; return the answers of those
    that failed.
    """
    wanted: dict[Key, Query] = {}
    for request in requests:
        for key, query in _bare_queries(bare, node, request.query).items():
            if key not in bare.known:
                wanted.setdefault(key, replace(query, id=f"bare {len(wanted)}"))
    keys = {query.id: key for key, query in wanted.items()}
    asked = [Request(query=query, members=(query,)) for query in wanted.values()]
    lost: dict[Key, Answer] = {}
    where = _bare_node(bare, node)
    async with aclosing(responses(model, where, asked, sampling)) as stream:
        async for answered in stream:
            for request, answer in answered:
                bare.owed[node.hash].append(answer)
                told = _told(request.query, answer)
                if told.status == "ok":
                    bare.known[keys[request.query.id]] = told.logprobs or {}
                else:
                    lost[keys[request.query.id]] = replace(
                        told, usage=Usage(), n_lost=0, training=None
                    )
    return lost


def _bare_node(bare: BareWeights, node: Node) -> Node:
    """Return what bare prompts stand behind: for the cue alone nothing, else the same shots."""
    return Node("", role=node.path[0].role) if bare.correction == "choices-pmi" else node


def _bare_queries(bare: BareWeights, node: Node, query: Query) -> dict[Key, Query]:
    where = _bare_node(bare, node)
    own = () if bare.correction == "choices-pmi" else query.own
    found = {}
    for text in query.bare:
        other = replace(query, text=text, own=own, bare=())
        prompt = Prompt(where, other).hash
        found[prompt, query.ending, *query.choices, *query.continuations] = other
    return found


def _keys(bare: BareWeights, node: Node, query: Query) -> list[Key]:
    return list(_bare_queries(bare, node, query))


def _corrected(bare: BareWeights, node: Node, request: Request, answer: Answer) -> Answer:
    """Return an answer with the best of its query's choices, and with what bare prompts took."""
    query = request.query
    answer = _charged(bare, node, _told(query, answer))
    if answer.status != "ok":
        return answer
    others = [bare.known[key] for key in _keys(bare, node, query)]
    unit = n_characters if bare.correction == "choices-per-character" else n_bytes
    found = scores(query, answer.logprobs or {}, others, unit)
    return replace(answer, text=likeliest(found), choice_scores=found)


def _charged(bare: BareWeights, node: Node, answer: Answer) -> Answer:
    """Return an answer with what bare prompts took that no other has taken over."""
    if answer.status == "overflow":  # it is not stored
        return answer
    for one in bare.owed.pop(node.hash, []):
        usage = add_usage(answer.usage, one.usage)
        n_lost, training = answer.n_lost + one.n_lost, answer.training or one.training
        answer = replace(answer, usage=usage, n_lost=n_lost, training=training)
    return answer


def _told(query: Query, answer: Answer) -> Answer:
    """Return an answer, failed where it lacks the likelihood of a choice."""
    if answer.status != "ok" or (answer.logprobs or {}).keys() >= set(query.choices):
        return answer
    return replace(answer, status="failed", text=None, error=UNTOLD)


def n_bytes(written: str) -> int:
    """Return the bytes of a choice as it is written behind a query, in UTF-8; those of white space
    before it count only where there is nothing else.
    """
    return len((written.lstrip() or written).encode())


def n_characters(written: str) -> int:
    """Return the characters of a choice as it is written behind a query, counted so, too."""
    return len(written.lstrip() or written)


def scores(
    query: Query,
    nats: Mapping[str, float],
    bare: Sequence[Mapping[str, float]],
    unit: Callable[[str], int] = n_bytes,
) -> dict[str, float]:
    """Return the score of each choice: less its log-likelihood behind bare prompts, the log of the
    mean of its probabilities; without these, per unit of its text.
    """
    found = {}
    for choice, written in zip(query.choices, query.continuations, strict=True):
        if not bare:
            found[choice] = nats[choice] / unit(written)
        elif nats[choice] == -math.inf:  # also where nothing is taken off
            found[choice] = -math.inf
        else:
            found[choice] = nats[choice] - _log_mean([told[choice] for told in bare])
    return found


def _log_mean(nats: Sequence[float]) -> float:
    """Return the log of the mean of probabilities."""
    most = max(nats)
    if most == -math.inf:
        return most
    return most + math.log(sum(math.exp(one - most) for one in nats) / len(nats))
