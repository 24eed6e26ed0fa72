"""Choices weighed through completions, where the server tells the log-probabilities of a prompt.

In: a node, and queries with choices. Out: for each choice the log-likelihood of its continuation. A
choice is one request, of the whole prompt with its continuation; the server gives back the prompt's
tokens (`echo`). All choices of a query are weighed from one place on, as by the local back ends:
where the first of them leaves the tokens that they have in common. With the model's tokenizer that
place is known exactly; without it, by the text of the tokens. vLLM computes the whole prompt of
each request, as its prefix cache tells no log-probabilities. So choices of one token each are first
looked for among the likeliest next tokens of the query, which is one request that the cache serves:
where ids are sent and the server names tokens by their ids. Left out: several choices in one
request otherwise.
"""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from icl_harness.errors import SpecError
from icl_harness.models.api.asks import Asks
from icl_harness.models.api.caching import Prefix, prefix_of
from icl_harness.models.api.fan_out import fan_out
from icl_harness.models.api.faults import Fault, Reply, one_line
from icl_harness.models.base import Answer, Sampling, Usage, sum_usage
from icl_harness.models.likeliest import likeliest, need_choices
from icl_harness.models.local.choices import Candidate, candidate
from icl_harness.models.local.tokens import Branch
from icl_harness.models.openai.chat import read_usage
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    from icl_harness.models.openai.completions import OpenAICompletionsModel

MOST_NEXT = 20  # likeliest next tokens: what vLLM tells unless it is started otherwise
REFUSED_ECHO = re.compile(r"echo|logprob", re.IGNORECASE)


class Echo:
    """How a prompt is asked for its tokens. A reply tells (text, nats) of each; the first has no
    nats.
    """

    def __init__(self, model: OpenAICompletionsModel) -> None:
        self.model = model

    def _request(self, prefix: Prefix, sampling: Sampling) -> Any:
        # Not every server lets the new tokens be none.
        params = {
            "model": self.model.name,
            "echo": True,
            "logprobs": 1,
            "max_tokens": 1,
            "temperature": 0,
        }
        return self.model.body(params, prefix.node)

    async def _before(self, request: Any) -> None:
        return None

    def _after(self, request: Any, answer: Answer) -> Answer:
        return answer

    async def _send(self, client: Any, request: Any, query: Query) -> Any:
        from openai.types import Completion

        try:
            return await self.model.post(
                client, self.model.path, request.fill(query.text), Completion
            )
        except Fault as fault:
            if fault.fate == "failed" and REFUSED_ECHO.search(str(fault)):
                raise self._no_echo(one_line(str(fault), self.model.key)) from None
            raise

    def _read(self, response: Any) -> Reply:
        usage, found = read_usage(response.usage), response.choices[0].logprobs
        texts, nats = (found.tokens or (), found.token_logprobs or ()) if found else ((), ())
        told = tuple(zip(texts, nats, strict=True))
        n = len(told) - (len(told) != usage.prompt_tokens)  # the new token, if it is shown
        if n < 1 or any(nat is None for _, nat in told[1:n]):
            raise self._no_echo("it gave none")
        if not all(
            isinstance(text, str) and (nat is None or math.isfinite(nat)) for text, nat in told
        ):
            raise ValueError("a log-probability is none")
        return Reply(text="", usage=usage, told=told[:n])

    def _no_echo(self, why: str) -> SpecError:
        return SpecError(
            f"{self.model.id}: this server does not tell the log-probabilities of a prompt ({why}). "
            "Use --scoring generate."
        )


class Next(Echo):
    """How a prompt is asked for its likeliest next tokens. A reply tells one mapping, id -> nats,
    or nothing.
    """

    def __init__(self, model: OpenAICompletionsModel) -> None:
        super().__init__(model)
        self.offered = model.tree is not None

    def _request(self, prefix: Prefix, sampling: Sampling) -> Any:
        params = {
            "model": self.model.name,
            "logprobs": MOST_NEXT,
            "max_tokens": 1,
            "temperature": 0,
        }
        return self.model.body({**params, "return_tokens_as_token_ids": True}, prefix.node)

    async def _send(self, client: Any, request: Any, query: Query) -> Any:
        from openai.types import Completion

        return await self.model.post(client, self.model.path, request.fill(query.text), Completion)

    def _read(self, response: Any) -> Reply:
        nats = _by_id(response.choices[0].logprobs)
        if not all(map(math.isfinite, nats.values())):
            raise ValueError("a log-probability is none")
        return Reply(text="", usage=read_usage(response.usage), told=(nats,) if nats else ())


def _by_id(found: Any) -> dict[int, float]:
    """Return id -> nats of the likeliest next tokens: vLLM names them token_id:ID, llama.cpp tells
    as a chat would.
    """
    if found and found.top_logprobs:
        named = (found.top_logprobs[0] or {}).items()
        return {int(name[9:]): nat for name, nat in named if re.fullmatch(r"token_id:\d+", name)}
    told = getattr(found, "content", None) or [{}]  # a field beside those of the SDK's class
    return {
        token["id"]: token["logprob"] for token in told[0].get("top_logprobs", ()) if "id" in token
    }


async def weigh(
    echo: Echo, node: Node, queries: Sequence[Query], sampling: Sampling
) -> AsyncGenerator[list[Answer], None]:
    """Yield the likeliest choice of each query. Raises `SpecError` where one has none, or the
    server tells nothing.
    """
    need_choices(queries, sampling)
    model, prefix = echo.model, prefix_of(node, cached=False)
    asks, nexts = Asks(model, prefix, sampling, echo), Asks(model, prefix, sampling, model.next)
    async with aclosing(
        fan_out(partial(_answer, model, asks, nexts), queries, model.most)
    ) as stream:
        async for answered in stream:
            yield answered


async def _answer(model: OpenAICompletionsModel, asks: Asks, nexts: Asks, query: Query) -> Answer:
    """Weigh one query's choices, at once or one after the other."""
    start, lost, replies = time.perf_counter(), [0], list[Reply]()
    try:
        known = await _at_once(model, nexts, query, replies, lost) if model.next.offered else None
        if known is None:
            n_before = len(replies)
            for end in query.continuations:
                replies.append(await asks.ask(replace(query, text=query.text + end), lost))
            known = _weights(model, asks, query, replies[n_before:])
        found = Answer(
            query_id=query.id, sample=query.sample, text=likeliest(known), logprobs=known
        )
    except Fault as fault:
        found = asks.missing(query, fault)
    except ValueError as error:
        found = Answer(
            query_id=query.id,
            sample=query.sample,
            status="failed",
            error=f"query {query.id}: {error}",
        )
    usage = sum_usage([model.priced(reply) for reply in replies]) if replies else Usage()
    return replace(found, usage=usage, n_lost=lost[0], latency_s=time.perf_counter() - start)


async def _at_once(
    model: OpenAICompletionsModel, nexts: Asks, query: Query, replies: list[Reply], lost: list[int]
) -> dict[str, float] | None:
    """Return choice -> log-likelihood out of the likeliest next tokens; None where not all of the
    choices are there.
    """
    row, branches = _tokens(model, nexts, query)
    if (
        any(len(branch) != len(branches[0]) + 1 for branch in branches[1:])
        or len(row.reads[0]) != 1
    ):
        return None
    try:
        replies.append(await nexts.ask(query, lost))
    except Fault as fault:
        if fault.fate != "failed":
            raise
    told = replies[-1].told if replies else ()
    model.next.offered = bool(told)
    wanted = [row.reads[i][0][1] for i in range(len(query.choices))]
    if not told or not told[0].keys() >= set(wanted):
        return None
    return {choice: told[0][token] for choice, token in zip(query.choices, wanted, strict=True)}


def _tokens(
    model: OpenAICompletionsModel, asks: Asks, query: Query
) -> tuple[Candidate, list[Branch]]:
    """Return the tokens to weigh, and the branches of the query and of each choice. Raises
    `ValueError`.
    """
    assert model.tree is not None
    texts = [query.text + end for end in ("", *query.continuations)]
    branches = model.tree.branches(asks.prefix.node, texts)
    return candidate(0, asks.request.ids, branches[0], branches[1:]), branches


def _weights(
    model: OpenAICompletionsModel, asks: Asks, query: Query, replies: Sequence[Reply]
) -> dict[str, float]:
    """Return choice -> log-likelihood, or the mean of a token's. Raises `ValueError` where a choice
    has no tokens.
    """
    told = [reply.told for reply in replies]
    if model.tree is not None:
        row, branches = _tokens(model, asks, query)
        if [len(tokens) for tokens in told] != [len(branch) for branch in branches[1:]]:
            raise ValueError("the server counts other tokens than were sent")
        begin = len(branches[1]) - len(row.reads[0])
    else:
        begin = _begin([[text for text, _ in tokens] for tokens in told], query)
    sums = [sum(nats for _, nats in tokens[begin:]) for tokens in told]
    if asks.sampling.scoring == "choices-normalised":
        sums = [nats / (len(tokens) - begin) for nats, tokens in zip(sums, told, strict=True)]
    return dict(zip(query.choices, sums, strict=True))


def _begin(prompts: Sequence[list[str]], query: Query) -> int:
    """Return from which token on choices are weighed: the first that reaches into one, or in which
    they differ.
    """
    places = [
        _reached(tokens, query.text, end)
        for tokens, end in zip(prompts, query.continuations, strict=True)
    ]
    same = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    begin = min(*places, sum(1 for _ in same))
    if begin == 0 or any(len(tokens) <= begin for tokens in prompts):
        raise ValueError("a choice has no tokens of its own, or nothing stands before it")
    return begin


def _reached(tokens: Sequence[str], text: str, end: str) -> int:
    """Return the first token that reaches into a prompt's end, counted from its back: its front may
    hold specials.
    """
    at, tail = len(tokens), ""
    while at and len(tail) < len(end):
        at -= 1
        tail = tokens[at] + tail
    whole = text + end
    if not (whole.endswith(tail) or tail.endswith(whole)):
        raise ValueError(
            "the tokens that the server gives back do not spell the prompt; name --model-arg tokenizer"
        )
    return at
