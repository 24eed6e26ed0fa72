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
from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from icl_harness.models.api.account import Account
from icl_harness.models.api.bounds import answer_bytes
from icl_harness.models.api.caching import prefix_of
from icl_harness.models.api.endpoint import Endpoint, R, S
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.api.flights import Stopped
from icl_harness.models.api.requests import Requests, as_fault, missing_answer
from icl_harness.models.base import Answer, Sampling, share_usage, share_whole
from icl_harness.models.likeliest import likeliest, need_choices
from icl_harness.prompts.tree import Node, Query, join_turns

MOST_QUESTIONS = 400  # in one request, by the openai SDK
FEWEST_CHOICES, MOST_CHOICES = 2, 255  # of a question, by both SDKs
LEAST_NATS = math.log(sys.float_info.min)  # of a probability of 0
NOTE = (
    "{id}: --scoring decisions is experimental. Up to {most} queries go into one request, and the "
    "provider's probabilities are not the likelihoods that --scoring choices weighs."
)
Probabilities = Mapping[str, float]  # choice -> probability


@dataclass(frozen=True, kw_only=True)
class Questions(Query):
    """Several queries as one request."""

    members: tuple[Query, ...]


@dataclass(frozen=True, kw_only=True)
class Decided(Reply):
    """The probabilities of each question's choices; None for one that was declined."""

    decisions: tuple[Probabilities | None, ...] = ()


class Decisions(Endpoint[R, tuple[Sequence[Query], S], Decided], Generic[R, S]):
    """A provider's endpoint."""

    account: Account
    announced = False  # that it is experimental

    @abstractmethod
    async def ask(self, request: R, members: Sequence[Query]) -> S:
        """Ask once and return the SDK's response. Raises `Fault`."""

    @abstractmethod
    def decided(self, response: S, n: int) -> Decided:
        """Return what was said to `n` questions."""

    def keys(self, query: Query) -> list[tuple[str, int]]:
        """Return the id and sample of each question."""
        assert isinstance(query, Questions)
        return [(member.id, member.sample) for member in query.members]

    def most_bytes(self, limit: int, prompt_bytes: int) -> int:
        """Return the most bytes of a response: a probability for each choice of each question."""
        return answer_bytes(MOST_QUESTIONS * MOST_CHOICES)

    async def send(self, request: R, query: Query) -> tuple[Sequence[Query], S]:
        """Send the questions that a query stands for."""
        assert isinstance(query, Questions)
        return query.members, await self.ask(request, query.members)

    def read(self, response: tuple[Sequence[Query], S]) -> Decided:
        """Return what was said, checked against the choices."""
        members, answered = response
        reply = self.decided(answered, len(members))
        if reply.text is not None:
            _check(reply.decisions, members)
        return reply


async def decide(
    endpoint: Decisions[R, S], node: Node, queries: Sequence[Query], sampling: Sampling
) -> AsyncGenerator[list[Answer], None]:
    """Yield the likeliest choices, a request at a time. Raises `SpecError` where a query has no
    choices.
    """
    need_choices(queries, sampling)
    account = endpoint.account
    if not endpoint.announced:
        endpoint.announced = True
        account.terms.say(NOTE.format(id=account.id, most=MOST_QUESTIONS))
    if misfits := [_misfit(query) for query in queries if not _fits(query)]:
        yield misfits
    fitting = tuple(filter(_fits, queries))
    requests = Requests(account, endpoint, prefix_of(node, cached=False), sampling)
    todo = [fitting[i : i + MOST_QUESTIONS] for i in range(0, len(fitting), MOST_QUESTIONS)]
    while todo:
        members = todo.pop(0)
        answers = await _decided(requests, members)
        if len(members) > 1 and all(answer.status == "overflow" for answer in answers):
            half = len(members) // 2  # all questions share the window with the input
            todo[:0] = [members[:half], members[half:]]
        else:
            yield answers


def question(query: Query) -> str:
    """Return a query as a question: its own edges, then its text; turns under headings."""
    if not any(edge.role for edge in query.own):
        return query.tail
    return join_turns([*((edge.role, edge.text) for edge in query.own), ("user", query.text)])


async def _decided(
    requests: Requests[R, tuple[Sequence[Query], S], Decided], members: tuple[Query, ...]
) -> list[Answer]:
    """Return the answers to the questions of one request."""
    start, lost = time.perf_counter(), [0]
    text = "\n".join(question(query) for query in members)
    questions = Questions(id="questions", text=text, members=members)
    try:
        reply = await requests.reply(questions, lost)
        answers = _answers(requests.account, members, reply)
    except (Fault, Stopped) as error:
        if isinstance(error, Stopped) and not lost[0]:
            raise
        missing = missing_answer(requests.account, questions, as_fault(error))
        answers = [replace(missing, query_id=query.id, sample=query.sample) for query in members]
    seconds = (time.perf_counter() - start) / len(members)
    shares = share_whole(lost[0], len(members))
    return [
        replace(answer, n_lost=n, latency_s=seconds)
        for answer, n in zip(answers, shares, strict=True)
    ]


def _answers(account: Account, members: tuple[Query, ...], reply: Decided) -> list[Answer]:
    """Return the answers of a reply."""
    usages = share_usage(account.priced(reply), len(members))
    decisions = reply.decisions or [None] * len(members)
    why = account.one_line(reply.refused) if reply.text is None else "this question was declined"
    answers = []
    for query, usage, shares in zip(members, usages, decisions, strict=True):
        answer = Answer(
            query_id=query.id,
            sample=query.sample,
            status="refused",
            error=f"refused: {why}",
            usage=usage,
        )
        if shares is not None:
            nats = {choice: _nats(shares[choice]) for choice in query.choices}
            answer = replace(answer, status="ok", error=None, text=likeliest(nats), logprobs=nats)
        answers.append(answer)
    return answers


def _nats(probability: float) -> float:
    return math.log(probability) if probability else LEAST_NATS


def _check(decisions: Sequence[Probabilities | None], members: Sequence[Query]) -> None:
    """Raise `ValueError` or `LookupError` where a response says something else than probabilities
    of the choices.
    """
    if len(decisions) != len(members):
        raise ValueError(f"{len(decisions)} answers to {len(members)} questions")
    for shares, query in zip(decisions, members, strict=True):
        if shares is not None and not all(0 <= shares[choice] <= 1 for choice in query.choices):
            raise ValueError("a probability is none")


def _fits(query: Query) -> bool:
    has_text = bool(question(query).strip())
    return FEWEST_CHOICES <= len(query.choices) <= MOST_CHOICES and has_text


def _misfit(query: Query) -> Answer:
    error = (
        f"a decision needs a text, and {FEWEST_CHOICES} to {MOST_CHOICES} choices; "
        f"query {query.id} is not so"
    )
    return Answer(query_id=query.id, sample=query.sample, status="failed", error=error)
