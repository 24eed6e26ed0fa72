"""Requests to a model, each with its answer.

In: a node and requests. Out: pairs of request and answer, as they come. Left out: what becomes of
them (asking.py, attempts.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from icl_harness.models.base import Answer, Model, Sampling
from icl_harness.prompts.tree import Node
from icl_harness.runner.groups import Key, Request

NO_ANSWER = "the back end gave no answer"
Responses = AsyncGenerator[list[tuple[Request, Answer]], None]


async def responses(
    model: Model, node: Node, requests: Sequence[Request], sampling: Sampling
) -> Responses:
    """Yield each request with the first answer to it, as they come; at the end those that were
    given none, as failed. Closing it early cancels what is in flight.
    """
    waiting = {request.key: request for request in requests}
    if not waiting:
        return
    queries = [request.query for request in requests]
    async with aclosing(model.answers(node, queries, sampling)) as stream:
        async for answers in stream:
            yield _first_answers(waiting, answers)
            await asyncio.sleep(0)  # a back end that never waits would not let Ctrl-C in
    if waiting:
        yield [(request, no_answer(request)) for request in waiting.values()]


def _first_answers(
    waiting: dict[Key, Request], answers: Sequence[Answer]
) -> list[tuple[Request, Answer]]:
    """Return the answers to requests that wait for one, and take these from `waiting`."""
    found = []
    for answer in answers:
        request = waiting.pop((answer.query_id, answer.sample), None)
        if request is not None:
            found.append((request, answer))
    return found


def no_answer(request: Request) -> Answer:
    """Return what stands for an answer that never came."""
    query = request.query
    return Answer(query_id=query.id, sample=query.sample, status="failed", error=NO_ANSWER)
