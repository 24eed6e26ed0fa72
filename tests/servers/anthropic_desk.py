"""Anthropic's batches of messages and counting of tokens.

In: calls. Out: what the official SDK reads; results come in an order of their own. Left out:
deleting and archiving.
"""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING

from tests.servers.batches import Batch, Item, Outcome, cancel, find_batch, open_batch, page, poll
from tests.servers.handler import stamp
from tests.servers.wire import Json, Refused, Reply

if TYPE_CHECKING:
    from tests.servers.handler import Call, Route
    from tests.servers.server import LoopbackServer

MAX_BYTES, MAX_REQUESTS = 256_000_000, 100_000
BATCHES = "/v1/messages/batches"
CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def create(server: LoopbackServer, call: Call) -> Reply:
    given = call.json["requests"]
    if len(call.raw) > (server.batch_bytes or MAX_BYTES):
        raise Refused("too large", "Request exceeds the maximum size")
    if not 1 <= len(given) <= (limit := server.batch_requests or MAX_REQUESTS):
        raise Refused("invalid", f"requests: from 1 to {limit} items, not {len(given)}")
    names = [request["custom_id"] for request in given]
    if len(set(names)) < len(names) or not all(map(CUSTOM_ID.fullmatch, names)):
        raise Refused(
            "invalid", "requests: custom_id must be unique, and match ^[a-zA-Z0-9_-]{1,64}$"
        )
    items = [Item(request["custom_id"], "/v1/messages", request["params"]) for request in given]
    return Reply(shown(server, open_batch(server, "anthropic", "msgbatch_", items, {})))


def shown(server: LoopbackServer, batch: Batch) -> Json:
    """Return a batch as Anthropic shows it."""
    ended = batch.ended is not None
    counts = {kind: batch.n(kind) for kind in ("succeeded", "errored", "canceled", "expired")}
    status = "ended" if ended else "canceling" if batch.state == "canceling" else "in_progress"
    return {
        "id": batch.id, "type": "message_batch", "processing_status": status,
        "request_counts": {**counts, "processing": 0 if ended else len(batch.items)},
        "created_at": stamp(batch.created), "expires_at": stamp(batch.created + 86_400),
        "archived_at": None,
        "cancel_initiated_at": stamp(batch.created) if batch.state.startswith("cancel") else None,
        "ended_at": stamp(batch.ended) if batch.ended is not None else None,
        "results_url": f"{server.url}{BATCHES}/{batch.id}/results" if ended else None,
    }  # fmt: skip


def list_batches(server: LoopbackServer, call: Call) -> Reply:
    batches = [
        batch for batch in reversed(server.batches.values()) if batch.provider == "anthropic"
    ]
    limit = int(call.query.get("limit", 20))
    data, more = page(batches, [batch.id for batch in batches], call.query.get("after_id"), limit)
    ends = {"first_id": data[0].id if data else None, "last_id": data[-1].id if data else None}
    return Reply({"data": [shown(server, batch) for batch in data], "has_more": more, **ends})


def retrieve(server: LoopbackServer, call: Call) -> Reply:
    return Reply(shown(server, poll(server, "anthropic", call.groups[0])))


def stop(server: LoopbackServer, call: Call) -> Reply:
    return Reply(shown(server, cancel(server, "anthropic", call.groups[0])))


def results(server: LoopbackServer, call: Call) -> Reply:
    batch = find_batch(server, "anthropic", call.groups[0])
    if batch.ended is None:
        raise Refused("missing", "The batch has no results yet.")
    lines = [f"{json.dumps(line(outcome))}\n" for outcome in batch.outcomes]
    random.Random(batch.id).shuffle(lines)
    return Reply("".join(lines).encode(), headers={"content-type": "application/x-jsonl"})


def line(outcome: Outcome) -> Json:
    """Return a line of the results."""
    result: Json = {"type": outcome.kind}
    if outcome.kind == "succeeded":
        result["message"] = outcome.body
    elif outcome.kind == "errored":
        result["error"] = outcome.body
    return {"custom_id": outcome.item.name, "result": result}


def count_tokens(server: LoopbackServer, call: Call) -> Reply:
    return Reply({"input_tokens": server.counted(server.wire_of("/v1/messages"), call)})


ROUTES: list[Route] = [
    ("POST", re.compile("/v1/messages/count_tokens"), count_tokens),
    ("POST", re.compile(BATCHES), create),
    ("GET", re.compile(BATCHES), list_batches),
    ("GET", re.compile(f"{BATCHES}/([^/]+)"), retrieve),
    ("GET", re.compile(f"{BATCHES}/([^/]+)/results"), results),
    ("POST", re.compile(f"{BATCHES}/([^/]+)/cancel"), stop),
]
