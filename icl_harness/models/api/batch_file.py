"""The requests of a batch, and the file in which they are handed in.

In: requests that wait, a provider's limits. Out: a file with as many of them as one batch takes.
The file is written request by request, and of all nodes one at a time is held as it is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.prices import Tokens
from icl_harness.models.base import Answer, Sampling
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    from icl_harness.models.api.backend import ApiModel


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What the requests of a cell have in common."""

    node: Node
    sampling: Sampling
    n_queries: int


@dataclass(kw_only=True, eq=False)
class Request:
    """One request. `place`: the token of the batch that was the last to hold it, and its number
    there.
    """

    shared: Shared
    query: Query
    arrived: asyncio.Queue[Request]
    outcome: Answer | Exception | None = None
    place: tuple[str, int] | None = None
    n_tries: int = 1
    n_lost: int = 0
    wanted: bool = True

    @property
    def key(self) -> str:
        """Return a name for all that decides the answer, the same in every run of a spec. A greedy
        one is any draw's: the draw that asked first may not be the first that goes on.
        """
        shared, query = self.shared, self.query
        seed = query.seed if shared.sampling.temperature else None
        told = [shared.node.hash, query.text, query.sample, seed, asdict(shared.sampling)]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def n_bytes(self) -> int:
        """Return the length of the prompt."""
        return self.shared.node.n_bytes + len(self.query.text.encode())

    def end(self, outcome: Answer | Exception) -> None:
        """Tell who asks."""
        self.outcome = outcome
        self.arrived.put_nowait(self)


def fill_file(
    file: IO[bytes], token: str, waiting: deque[Request], api: BatchApi, most_bytes: int
) -> tuple[list[Request], int, float]:
    """Move requests from those that wait into a file, as many as a batch may have; return them,
    bytes, dollars.
    """
    start, between, end = api.frame
    budget = api.model.terms.budget
    left_usd = float("inf") if budget is None else budget.most_usd - budget.spent_usd
    taken, n_bytes, usd = list[Request](), file.write(start), 0.0
    shared = body = None
    while waiting:
        request = waiting[0]
        if request.wanted:
            if request.shared is not shared:
                shared, body = request.shared, _body(api, request.shared)
            line = [between] * bool(taken) + api.line(f"{token}-{len(taken)}", body, request.query)
            n_more, more_usd = sum(map(len, line)), most_usd(api.model, request)
            full = n_bytes + n_more + len(end) > most_bytes or len(taken) == api.most_requests
            if taken and (full or usd + more_usd > left_usd):
                break
            file.writelines(line)
            n_bytes, usd = n_bytes + n_more, usd + more_usd
            taken.append(request)
        waiting.popleft()
    n_bytes += file.write(end)
    file.flush()
    return taken, n_bytes, usd


def _body(api: BatchApi, shared: Shared) -> Any:
    model = api.model
    prefix = model.prefix(shared.node, shared.n_queries)
    return api.request(
        replace(prefix, cached=False) if model.charges_writes else prefix, shared.sampling
    )


def most_usd(model: ApiModel, request: Request) -> float:
    """Return what a request costs at most, as far as its tokens are known."""
    price, limit = model.price, model.limit(request.shared.sampling)
    tokens = Tokens(prompt=round(request.n_bytes * model.tokens_per_byte), completion=limit)
    return 0.0 if price is None else price.cost_usd(tokens, batch=True) or 0.0
