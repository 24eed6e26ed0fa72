"""The likelihood of gold answers beside written ones.

In: a node and requests whose queries bring the text of their gold answer. Out: their answers, with
the log-likelihood of the gold one. A back end weighs it as a single choice behind the same prefix,
which it has computed already, so that it takes one request more for each query. Where no gold
answer is asked for, requests go to the model as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from icl_harness.examples import Example
from icl_harness.models.base import Answer, Model, Sampling, Usage, sum_usage
from icl_harness.prompts.tree import Node, Query
from icl_harness.runner.groups import Key, Request
from icl_harness.runner.responses import Responses, responses

GOLD = "gold"  # what the only choice is called
# Requests that are weighed before any of them is answered: what a stopped run has to weigh again.
AT_ONCE = 256


async def responses_with_gold(
    model: Model,
    node: Node,
    requests: Sequence[Request],
    sampling: Sampling,
    examples: Mapping[str, Example],
) -> Responses:
    """Yield each request with its answer, as `responses` does; where the request's query brings its
    gold answer, with the log-likelihood of that. Where this fails, so does the request.
    """
    if model.gold_likelihood != "weighed" or not any(request.query.gold for request in requests):
        async with aclosing(responses(model, node, requests, sampling)) as stream:
            async for answered in stream:
                yield answered
        return
    for start in range(0, len(requests), AT_ONCE):
        part = requests[start : start + AT_ONCE]
        weighed = await _weigh(model, node, part, sampling)
        lost = [(one, weighed[one.key]) for one in part if weighed[one.key].status != "ok"]
        if lost:
            yield lost
        rest = [one for one in part if weighed[one.key].status == "ok"]
        async with aclosing(responses(model, node, rest, sampling)) as stream:
            async for answered in stream:
                found = []
                for request, answer in answered:
                    target = examples[request.query.id].target
                    found.append((request, _together(answer, weighed[request.key], target)))
                yield found


async def _weigh(
    model: Model, node: Node, requests: Sequence[Request], sampling: Sampling
) -> dict[Key, Answer]:
    """Return for each request the likelihood of its gold answer, as that of the choice `GOLD`.
    Samples of a query are weighed once; the first of them has the usage.
    """
    firsts: dict[tuple[object, ...], Request] = {}
    for request in requests:
        firsts.setdefault(_wording(request.query), request)
    golds = [Request(query=gold, members=(gold,)) for gold in map(_as_choice, firsts.values())]
    by_key: dict[Key, Answer] = {}
    weighing = replace(sampling, scoring="choices", temperature=0.0)
    async with aclosing(responses(model, node, golds, weighing)) as stream:
        async for answered in stream:
            by_key |= {request.key: answer for request, answer in answered}
    found = {}
    for request in requests:
        first = firsts[_wording(request.query)]
        answer = by_key[first.key]
        if request is not first:
            answer = replace(answer, usage=_nothing(answer.usage), n_lost=0, training=None)
        query = request.query
        found[request.key] = replace(answer, query_id=query.id, sample=query.sample)
    return found


def _wording(query: Query) -> tuple[object, ...]:
    return query.own, query.text, query.gold


def _as_choice(request: Request) -> Query:
    query = request.query
    return replace(query, choices=(GOLD,), continuations=(query.gold,), ending="")


def _nothing(usage: Usage) -> Usage:
    """Return a usage of nothing, where something is known of the other."""
    return sum_usage([]) if usage.prompt_tokens is not None else usage


def _together(answer: Answer, weighed: Answer, target: str) -> Answer:
    """Return an answer with the likelihood of the gold one, and what both requests took."""
    nats = (weighed.logprobs or {}).get(GOLD)
    return replace(
        answer,
        logprobs=None if nats is None else {target: nats},
        usage=sum_usage([answer.usage, weighed.usage]),
        n_lost=answer.n_lost + weighed.n_lost,
        training=answer.training or weighed.training,
    )
