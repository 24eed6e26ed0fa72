"""Files and batches, as all three providers keep them.

In: the items of a batch. Out: what became of each, once it was polled often enough. The items are
asked all at once: they read the caches as they stand when the batch is done, and write for those
who come later. Left out: the provider's form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tests.servers.wire import STATUS, Json, Refused

if TYPE_CHECKING:
    from tests.servers.server import LoopbackServer

T = TypeVar("T")


@dataclass
class File:
    """A file; `info` is what its provider tells of it."""

    id: str
    data: bytes
    info: Json = field(default_factory=dict)


@dataclass
class Item:
    """One request of a batch; `name` is its custom id or key, or its place."""

    name: str
    path: str
    body: Json
    metadata: Json | None = None


@dataclass
class Outcome:
    """What became of an item: succeeded, errored (with a status), expired or canceled."""

    item: Item
    kind: str
    body: Json | None = None
    status: int = 200


@dataclass
class Batch:
    """A batch; `state` is running, canceling, failed, done or canceled; `info` is what its provider
    tells of it.
    """

    id: str
    provider: str
    items: list[Item]
    created: float
    polls_left: int
    state: str = "running"
    outcomes: list[Outcome] = field(default_factory=list)
    ended: float | None = None
    info: Json = field(default_factory=dict)

    def n(self, kind: str) -> int:
        """Return how many items ended so; a line that comes twice counts once."""
        return len({outcome.item.name for outcome in self.outcomes if outcome.kind == kind})


def open_batch(
    server: LoopbackServer, provider: str, prefix: str, items: list[Item], info: Json
) -> Batch:
    """Take a batch in."""
    now = server.ledger.clock()
    batch = Batch(server.new_id(prefix), provider, items, now, server.batch_polls, info=info)
    server.batches[batch.id] = batch
    return batch


def poll(server: LoopbackServer, provider: str, name: str) -> Batch:
    """Return a batch after one more poll, which may be the one that finds it done."""
    batch = find_batch(server, provider, name)
    if batch.state == "running":
        if batch.polls_left <= 0:
            run(server, batch)
        batch.polls_left -= 1
    elif batch.state == "canceling":
        batch.state, batch.ended = "canceled", server.ledger.clock()
        batch.outcomes = [Outcome(item, "canceled") for item in batch.items]
    return batch


def find_batch(server: LoopbackServer, provider: str, name: str) -> Batch:
    """Return a batch as it stands."""
    batch = server.batches.get(name)
    if batch is None or batch.provider != provider:
        raise Refused("missing", f"No such batch: {name}")
    return batch


def cancel(server: LoopbackServer, provider: str, name: str) -> Batch:
    """Cancel a batch that is not done."""
    batch = find_batch(server, provider, name)
    if batch.state == "running":
        batch.state = "canceling"
    return batch


def run(server: LoopbackServer, batch: Batch) -> None:
    """Ask the model every item, and charge those that it answered."""
    plans = []
    for item in batch.items:
        fault = server.batch_fault(item.name)
        if fault is None and server.misbehaviour is not None:
            fault = server.misbehaviour.of_item(item.name)
        outcome, plan = ask(server, item, fault)
        batch.outcomes += [outcome] * (1 + (fault == "duplicate" and outcome.kind == "succeeded"))
        plans += [plan] if plan else []
    for plan in plans:
        server.ledger.commit(plan)
    batch.state, batch.ended = "done", server.ledger.clock()


def ask(server: LoopbackServer, item: Item, fault: str | None) -> tuple[Outcome, Any]:
    """Return what becomes of an item, and the plan of its caches if the model answered."""
    wire = server.wire_of(item.path)
    if fault == "expired":
        return Outcome(item, "expired"), None
    if fault == "failed":
        return Outcome(item, "errored", wire.error("500"), 500), None
    try:
        request = server.prepare(wire, item.path, {}, item.body)
        server.weigh(wire, request)
    except Refused as refused:
        return Outcome(
            item, "errored", wire.error(refused.fault, refused.message), STATUS[refused.fault]
        ), None
    body, _ = server.answered(wire, request, batch=True)
    return Outcome(item, "succeeded", body), request.plan


def page(things: list[T], names: list[str], after: str | None, limit: int) -> tuple[list[T], bool]:
    """Return the things after the one named, newest first, at most `limit`, and whether there are
    more.
    """
    start = names.index(after) + 1 if after in names else 0
    return things[start : start + limit], start + limit < len(things)
