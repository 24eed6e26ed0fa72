"""The providers' decision endpoints: many questions about one prefix in one request. Experimental.

In: a node, and queries with choices. Out: answers with the probability of each choice, as the
provider gives it. The prefix is the input, a query's text a question; questions bear numbers, as an
id might tell the answer. What a request took is shared out among its questions. That they stay as
independent as prompts of their own is the provider's word. Left out: predicates and scores; queries
of fewer than 2 choices or more than 255; a cache asked for.
"""

from __future__ import annotations

import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from icl_harness.models.api.asks import Asks
from icl_harness.models.api.backend import ApiModel
from icl_harness.models.api.caching import Prefix, prefix_of
from icl_harness.models.api.faults import Fault, Reply, one_line
from icl_harness.models.base import Answer, Sampling, share_usage, share_whole
from icl_harness.models.likeliest import likeliest, need_choices
from icl_harness.prompts.tree import Node, Query

MOST_QUESTIONS = 400  # in one request, by the openai SDK
FEWEST_CHOICES, MOST_CHOICES = 2, 255  # of a question, by both SDKs
LEAST_NATS = math.log(sys.float_info.min)  # of a probability of 0
NOTE = (
    "{id}: --scoring decisions is experimental. Up to {most} queries go into one request, and the provider's "
    "probabilities are not the likelihoods that --scoring choices weighs."
)


@dataclass(frozen=True, kw_only=True)
class Questions(Query):
    """Several queries as one request."""

    members: tuple[Query, ...]


class Decisions(ABC):
    """A provider's endpoint."""

    def __init__(self, model: ApiModel) -> None:
        self.model = model
        self.said = False  # that it is experimental

    @abstractmethod
    def _request(self, prefix: Prefix, sampling: Sampling) -> Any: ...

    @abstractmethod
    async def _ask(self, client: Any, request: Any, members: Sequence[Query]) -> Any:
        """Ask once and return the SDK's response. Raises `Fault`."""

    @abstractmethod
    def _told(self, response: Any, n: int) -> Reply:
        """Return what was said to `n` questions: choice -> probability of each, or None where it
        was declined.
        """

    async def _send(self, client: Any, request: Any, query: Query) -> Any:
        assert isinstance(query, Questions)
        return query.members, await self._ask(client, request, query.members)

    def _read(self, response: Any) -> Reply:
        members, answered = response
        reply = self._told(answered, len(members))
        if reply.text is not None:
            _check(reply.told, members)
        return reply

    async def _before(self, request: Any) -> None:
        return None

    def _after(self, request: Any, answer: Answer) -> Answer:
        return answer


async def decide(
    wire: Decisions, node: Node, queries: Sequence[Query], sampling: Sampling
) -> AsyncGenerator[list[Answer], None]:
    """Yield the likeliest choices, a request at a time. Raises `SpecError` where a query has no
    choices.
    """
    need_choices(queries, sampling)
    if not wire.said:
        wire.said = True
        wire.model.terms.say(NOTE.format(id=wire.model.id, most=MOST_QUESTIONS))
    if misfits := [_misfit(query) for query in queries if not _fits(query)]:
        yield misfits
    fitting = tuple(filter(_fits, queries))
    asks = Asks(wire.model, prefix_of(node, cached=False), sampling, wire)
    todo = [fitting[i : i + MOST_QUESTIONS] for i in range(0, len(fitting), MOST_QUESTIONS)]
    while todo:
        members = todo.pop(0)
        answers = await _decided(asks, members)
        if len(members) > 1 and all(answer.status == "overflow" for answer in answers):
            half = len(members) // 2  # all questions share the window with the input
            todo[:0] = [members[:half], members[half:]]
        else:
            yield answers


async def _decided(asks: Asks, members: tuple[Query, ...]) -> list[Answer]:
    """Ask one request."""
    start, lost = time.perf_counter(), [0]
    questions = Questions(
        id="questions", text="\n".join(query.text for query in members), members=members
    )
    try:
        answers = _answers(asks.model, members, await asks.ask(questions, lost))
    except Fault as fault:
        missing = asks.missing(questions, fault)
        answers = [replace(missing, query_id=query.id, sample=query.sample) for query in members]
    seconds = (time.perf_counter() - start) / len(members)
    shares = share_whole(lost[0], len(members))
    return [
        replace(answer, n_lost=n, latency_s=seconds)
        for answer, n in zip(answers, shares, strict=True)
    ]


def _answers(model: ApiModel, members: tuple[Query, ...], reply: Reply) -> list[Answer]:
    """Return the answers of a reply."""
    usages = share_usage(model.priced(reply), len(members))
    told: Sequence[Mapping[str, float] | None] = reply.told or [None] * len(members)
    why = one_line(reply.refused, model.key) if reply.text is None else "this question was declined"
    answers = []
    for query, usage, shares in zip(members, usages, told, strict=True):
        answer = Answer(
            query_id=query.id,
            sample=query.sample,
            status="refused",
            error=f"refused: {why}",
            usage=usage,
        )
        if shares is not None:
            nats = {
                choice: math.log(shares[choice]) if shares[choice] else LEAST_NATS
                for choice in query.choices
            }
            answer = replace(answer, status="ok", error=None, text=likeliest(nats), logprobs=nats)
        answers.append(answer)
    return answers


def _check(told: Sequence[Mapping[str, float] | None], asked: Sequence[Query]) -> None:
    """Raise `ValueError` or `LookupError` where a response says something else than probabilities
    of the choices.
    """
    if len(told) != len(asked):
        raise ValueError(f"{len(told)} answers to {len(asked)} questions")
    for shares, query in zip(told, asked, strict=True):
        if shares is not None and not all(0 <= shares[choice] <= 1 for choice in query.choices):
            raise ValueError("a probability is none")


def _fits(query: Query) -> bool:
    return FEWEST_CHOICES <= len(query.choices) <= MOST_CHOICES and bool(query.text.strip())


def _misfit(query: Query) -> Answer:
    error = f"a decision needs a text, and {FEWEST_CHOICES} to {MOST_CHOICES} choices; query {query.id} is not so"
    return Answer(query_id=query.id, sample=query.sample, status="failed", error=error)
