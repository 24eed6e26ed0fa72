"""The requests of a batch, and the file in which they are submitted.

In: requests that wait, a provider's limits. Out: a file with as many of them as one batch takes.
The file is written request by request, and of all nodes one at a time is held as it is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import IO

from icl_harness.models.api.account import Account
from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.body import query_bytes
from icl_harness.models.api.endpoint import R, S
from icl_harness.models.api.prices import Tokens
from icl_harness.models.base import Answer, Sampling
from icl_harness.prompts.tree import Node, Query


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What the requests of a cell have in common."""

    node: Node
    sampling: Sampling
    n_queries: int


@dataclass(kw_only=True, eq=False)
class BatchRequest:
    """One request. `place`: the token of the batch that was the last to hold it, and its number
    there.
    """

    shared: Shared
    query: Query
    arrived: asyncio.Queue[BatchRequest]
    outcome: Answer | Exception | None = None
    place: tuple[str, int] | None = None
    n_tries: int = 1
    n_lost: int = 0
    wanted: bool = True

    @property
    def key(self) -> str:
        """Return a hash of all that decides the answer, the same in every run of a spec. At
        temperature 0 the seed is left out, so any draw's identical request matches: the draw that
        asked first may not be the first that resumes.
        """
        shared, query = self.shared, self.query
        seed = query.seed if shared.sampling.temperature else None
        parts = [shared.node.hash, query.text, query.sample, seed, asdict(shared.sampling)]
        parts += [[edge.role, edge.text] for edge in query.own]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def n_bytes(self) -> int:
        """Return the length of the prompt."""
        return self.shared.node.n_bytes + query_bytes(self.query)

    def end(self, outcome: Answer | Exception) -> None:
        """Give an outcome to who waits for it."""
        self.outcome = outcome
        self.arrived.put_nowait(self)


def fill_file(
    file: IO[bytes],
    token: str,
    waiting: deque[BatchRequest],
    api: BatchApi[R, S],
    most_bytes: int,
) -> tuple[list[BatchRequest], int, float]:
    """Move requests from those that wait into a file, as many as a batch may have; return them,
    bytes, dollars.
    """
    start, between, end = api.frame
    left_usd = _left_usd(api.account)
    taken, n_bytes, usd = list[BatchRequest](), file.write(start), 0.0
    shared: Shared | None = None
    while waiting:
        request = waiting[0]
        if request.wanted:
            if request.shared is not shared:
                shared, body = request.shared, _body(api, request.shared)
            line = api.line(f"{token}-{len(taken)}", body, request.query)
            if taken:
                line.insert(0, between)
            n_more, more_usd = sum(map(len, line)), most_usd(api.account, request)
            is_full = n_bytes + n_more + len(end) > most_bytes or len(taken) == api.most_requests
            if taken and (is_full or usd + more_usd > left_usd):
                break
            file.writelines(line)
            n_bytes, usd = n_bytes + n_more, usd + more_usd
            taken.append(request)
        waiting.popleft()
    n_bytes += file.write(end)
    file.flush()
    return taken, n_bytes, usd


def most_usd(account: Account, request: BatchRequest) -> float:
    """Return what a request costs at most, as far as its tokens are known."""
    if account.price is None:
        return 0.0
    prompt = round(request.n_bytes * account.tokens_per_byte)
    tokens = Tokens(prompt=prompt, completion=account.limit(request.shared.sampling))
    return account.price.cost_usd(tokens, batch=True) or 0.0


def _left_usd(account: Account) -> float:
    budget = account.terms.budget
    return float("inf") if budget is None else budget.most_usd - budget.spent_usd


def _body(api: BatchApi[R, S], shared: Shared) -> R:
    """Return what the requests of a cell share. Where writes to a cache are charged for none is
    asked for: the requests of a batch run at the same time, and each would write its own.
    """
    prefix = api.account.prefix(shared.node, shared.n_queries)
    if api.account.charges_writes:
        prefix = replace(prefix, cached=False)
    return api.request(prefix, shared.sampling)
