"""Choices weighed through completions, where the server returns the log-probabilities of a prompt.

In: a node, and queries with choices. Out: for each choice the log-likelihood of its continuation. A
choice is one request, of the whole prompt with its continuation; the server gives back the prompt's
tokens (`echo`). All choices of a query are weighed from one place on, as by the local back ends:
where the first of them leaves the tokens that they have in common. With the model's tokenizer that
place is known exactly; without it, by the text of the tokens. vLLM computes the whole prompt of
each request, as its prefix cache returns no log-probabilities. So choices of one token each are
first looked for among the likeliest next tokens of the query: one request, which the cache
serves: where ids are sent and the server names tokens by their ids. Left out: several choices in
one request otherwise.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

from icl_harness.errors import SpecError
from icl_harness.models.api.account import Account
from icl_harness.models.api.body import Filled, Json, TextBody
from icl_harness.models.api.bounds import answer_bytes
from icl_harness.models.api.caching import Prefix, prefix_of
from icl_harness.models.api.endpoint import Endpoint
from icl_harness.models.api.fan_out import fan_out
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.api.flights import Stopped
from icl_harness.models.api.requests import Requests, as_fault, missing_answer
from icl_harness.models.base import Answer, Sampling, Usage, sum_usage
from icl_harness.models.likeliest import likeliest, need_choices
from icl_harness.models.local.choices import Candidate, candidate
from icl_harness.models.local.tokens import Branch, TokenTree
from icl_harness.models.openai.ids_body import IdsBody
from icl_harness.models.openai.wire import read_usage
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    from openai.types import Completion
    from openai.types.completion_choice import Logprobs

MOST_NEXT = 20  # likeliest next tokens: vLLM's default limit
REFUSED_ECHO = re.compile(r"echo|logprob", re.IGNORECASE)


SomeBody = TextBody | IdsBody


@dataclass(frozen=True, kw_only=True)
class Completions:
    """A model's completions. `body` makes what the requests behind a node share of their
    parameters, of ids where there is a `tree`; `complete` sends one.
    """

    account: Account
    tree: TokenTree | None
    body: Callable[[Mapping[str, Json], Node], SomeBody]
    complete: Callable[[Filled], Awaitable[Completion]]


@dataclass(frozen=True, kw_only=True)
class EchoReply(Reply):
    """The tokens of a prompt, each with its nats; the first has none."""

    tokens: tuple[tuple[str, float | None], ...] = ()


@dataclass(frozen=True, kw_only=True)
class NextReply(Reply):
    """The likeliest next tokens, id -> nats; empty where the server does not tell them."""

    nats: Mapping[int, float] = field(default_factory=dict)


class Echo(Endpoint[SomeBody, "Completion", EchoReply]):
    """The log-probabilities of a prompt's tokens."""

    def __init__(self, served: Completions) -> None:
        self.served = served

    def request(self, prefix: Prefix, sampling: Sampling) -> SomeBody:
        """Return the body of a prefix."""
        # Not every server lets the new tokens be none.
        params: dict[str, Json] = {
            "model": self.served.account.name,
            "echo": True,
            "logprobs": 1,
            "max_tokens": 1,
            "temperature": 0,
        }
        return self.served.body(params, prefix.node)

    def most_bytes(self, limit: int, prompt_bytes: int) -> int:
        """Return the most bytes of a response: every token of the prompt may come back, with its
        log-probability. A token may be one byte.
        """
        return answer_bytes(prompt_bytes)

    async def send(self, request: SomeBody, query: Query) -> Completion:
        """Send one request. Raises `SpecError` where the server refuses to echo."""
        try:
            return await self.served.complete(request.fill(query))
        except Fault as fault:
            if fault.fate == "failed" and REFUSED_ECHO.search(str(fault)):
                raise self._no_echo(self.served.account.one_line(str(fault))) from None
            raise

    def read(self, response: Completion) -> EchoReply:
        """Return the prompt's tokens. Raises `SpecError` where there are none."""
        usage, found = read_usage(response.usage), response.choices[0].logprobs
        texts = (found.tokens if found else None) or ()
        nats = (found.token_logprobs if found else None) or ()
        tokens = tuple(zip(texts, nats, strict=True))
        n = len(tokens) - (len(tokens) != usage.prompt_tokens)  # the new token, if it is shown
        if n < 1 or any(nat is None for _, nat in tokens[1:n]):
            raise self._no_echo("it gave none")
        if not all(_is_sound(text, nat) for text, nat in tokens):
            raise ValueError("a log-probability is none")
        return EchoReply(text="", usage=usage, tokens=tokens[:n])

    def _no_echo(self, why: str) -> SpecError:
        return SpecError(
            f"{self.served.account.id}: this server does not tell the log-probabilities of a "
            f"prompt ({why}). Use --scoring generate, without --gold-nll."
        )


class Next(Endpoint[SomeBody, "Completion", NextReply]):
    """A prompt's likeliest next tokens. `offered`: until the server gives none."""

    def __init__(self, served: Completions) -> None:
        self.served = served
        self.offered = served.tree is not None

    def request(self, prefix: Prefix, sampling: Sampling) -> SomeBody:
        """Return the body of a prefix."""
        params: dict[str, Json] = {
            "model": self.served.account.name,
            "logprobs": MOST_NEXT,
            "max_tokens": 1,
            "temperature": 0,
            "return_tokens_as_token_ids": True,
        }
        return self.served.body(params, prefix.node)

    async def send(self, request: SomeBody, query: Query) -> Completion:
        """Send one request."""
        return await self.served.complete(request.fill(query))

    def read(self, response: Completion) -> NextReply:
        """Return the likeliest next tokens."""
        nats = _by_id(response.choices[0].logprobs)
        if not all(map(math.isfinite, nats.values())):
            raise ValueError("a log-probability is none")
        return NextReply(text="", usage=read_usage(response.usage), nats=nats)


def _is_sound(text: object, nat: float | None) -> bool:
    return isinstance(text, str) and (nat is None or math.isfinite(nat))


def _by_id(found: Logprobs | None) -> dict[int, float]:
    """Return id -> nats of the likeliest next tokens: vLLM names them token_id:ID, llama.cpp gives
    as a chat would.
    """
    if found and found.top_logprobs:
        named = (found.top_logprobs[0] or {}).items()
        return {int(name[9:]): nat for name, nat in named if re.fullmatch(r"token_id:\d+", name)}
    tokens = getattr(found, "content", None) or [{}]  # a field beside those of the SDK's class
    likeliest = [token for token in tokens[0].get("top_logprobs", ()) if "id" in token]
    return {token["id"]: token["logprob"] for token in likeliest}


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """What the queries of a node are weighed by: prompts echoed, next tokens."""

    served: Completions
    echoes: Requests[SomeBody, Completion, EchoReply]
    nexts: Requests[SomeBody, Completion, NextReply]
    next: Next


async def weigh(
    echo: Echo, next: Next, node: Node, queries: Sequence[Query], sampling: Sampling
) -> AsyncGenerator[list[Answer], None]:
    """Yield the likeliest choice of each query. Raises `SpecError` where one has none, or the
    server returns nothing.
    """
    need_choices(queries, sampling)
    account, prefix = echo.served.account, prefix_of(node, cached=False)
    weighing = Weighing(
        served=echo.served,
        echoes=Requests(account, echo, prefix, sampling),
        nexts=Requests(account, next, prefix, sampling),
        next=next,
    )
    stream = fan_out(partial(_answer, weighing), queries, account.args.concurrency)
    async with aclosing(stream):
        async for answered in stream:
            yield answered


async def _answer(weighing: Weighing, query: Query) -> Answer:
    """Weigh one query's choices, at once or one after the other."""
    start, lost, replies = time.perf_counter(), [0], list[Reply]()
    account = weighing.served.account
    try:
        nats = await _weights(weighing, query, replies, lost)
        found = Answer(query_id=query.id, sample=query.sample, text=likeliest(nats), logprobs=nats)
    except (Fault, Stopped) as error:
        if isinstance(error, Stopped) and not lost[0] and not replies:
            raise
        found = missing_answer(account, query, as_fault(error))
    except asyncio.CancelledError:
        account.terms.flights.lose(sum(account.priced(reply).cost_usd or 0 for reply in replies))
        raise
    except ValueError as error:
        text = f"query {query.id}: {error}"
        found = Answer(query_id=query.id, sample=query.sample, status="failed", error=text)
    usage = sum_usage([account.priced(reply) for reply in replies]) if replies else Usage()
    return replace(found, usage=usage, n_lost=lost[0], latency_s=time.perf_counter() - start)


async def _weights(
    weighing: Weighing, query: Query, replies: list[Reply], lost: list[int]
) -> dict[str, float]:
    """Return choice -> log-likelihood, or the mean of a token's; the replies that it took are added
    to `replies`. Raises `ValueError` where a choice has no tokens.
    """
    if weighing.next.offered:
        found = await _at_once(weighing, query, replies, lost)
        if found is not None:
            return found
    echoes = []
    for end in query.continuations:
        text = query.text + end + query.ending
        echoes.append(await weighing.echoes.reply(replace(query, text=text), lost))
        replies.append(echoes[-1])
    return _echoed(weighing, query, echoes)


async def _at_once(
    weighing: Weighing, query: Query, replies: list[Reply], lost: list[int]
) -> dict[str, float] | None:
    """Return choice -> log-likelihood out of the likeliest next tokens; None where not all of the
    choices are there.
    """
    row, branches = _tokens(weighing, query)
    are_single = all(len(branch) == len(branches[0]) + 1 for branch in branches[1:])
    if not are_single or len(row.reads[0]) != 1:
        return None
    nats: Mapping[int, float] = {}
    try:
        reply = await weighing.nexts.reply(query, lost)
        replies.append(reply)
        nats = reply.nats
    except Fault as fault:
        if fault.fate != "failed":
            raise
    weighing.next.offered = bool(nats)
    wanted = [row.reads[i][0][1] for i in range(len(query.choices))]
    if not nats or not nats.keys() >= set(wanted):
        return None
    return {choice: nats[token] for choice, token in zip(query.choices, wanted, strict=True)}


def _tokens(weighing: Weighing, query: Query) -> tuple[Candidate, list[Branch]]:
    """Return the tokens to weigh, and the branches of the query and of each choice. Raises
    `ValueError`.
    """
    body = weighing.echoes.request
    assert isinstance(body, IdsBody)
    texts = [query.tail + end for end in ("", *query.continuations)]
    endings = ["", *[query.ending] * len(query.continuations)]
    branches = body.tree.branches(body.node, texts, endings=endings)
    return candidate(0, body.ids, branches[0], branches[1:]), branches


def _echoed(weighing: Weighing, query: Query, echoes: Sequence[EchoReply]) -> dict[str, float]:
    """Return choice -> log-likelihood, or the mean of a token's. Raises `ValueError` where a choice
    has no tokens.
    """
    prompts = [reply.tokens for reply in echoes]
    if weighing.served.tree is not None:
        row, branches = _tokens(weighing, query)
        _check_counts(weighing, query, prompts)
        begin = len(branches[1]) - len(row.reads[0])
        ends = [len(branch) for branch in branches[1:]]
    else:
        begin, ends = _spans([list(map(itemgetter(0), tokens)) for tokens in prompts], query)
    sums = [_total(tokens[begin:end]) for tokens, end in zip(prompts, ends, strict=True)]
    if weighing.echoes.sampling.scoring == "choices-normalised":
        sums = [nats / (end - begin) for nats, end in zip(sums, ends, strict=True)]
    return dict(zip(query.choices, sums, strict=True))


def _check_counts(
    weighing: Weighing, query: Query, prompts: Sequence[Sequence[tuple[str, float | None]]]
) -> None:
    """Raise `ValueError` where a server gives back other tokens than it was sent."""
    body = weighing.echoes.request
    assert isinstance(body, IdsBody)
    texts = [query.tail + end + query.ending for end in query.continuations]
    sent = body.tree.branches(body.node, texts)
    if [len(tokens) for tokens in prompts] != [len(branch) for branch in sent]:
        raise ValueError("the server counts other tokens than were sent")


def _total(tokens: Sequence[tuple[str, float | None]]) -> float:
    return sum(nats or 0.0 for _, nats in tokens)


def _spans(prompts: Sequence[list[str]], query: Query) -> tuple[int, list[int]]:
    """Return from which token on choices are weighed, and up to which each is: from the first that
    reaches into one, or in which they differ; to the last, or the first of what ends it.
    """
    reached, ends = [], []
    for tokens, written in zip(prompts, query.continuations, strict=True):
        reached.append(_reached(tokens, query.tail, written + query.ending))
        end = len(tokens)
        if query.ending:
            end = _reached(tokens, query.tail + written, query.ending) + 1
        ends.append(end)
    same = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    begin = min(*reached, sum(1 for _ in same))
    if begin == 0 or any(end <= begin for end in ends):
        raise ValueError("a choice has no tokens of its own, or nothing stands before it")
    return begin, ends


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
            "the tokens that the server gives back do not spell the prompt; name "
            "--model-arg tokenizer"
        )
    return at
