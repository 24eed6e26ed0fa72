"""Gemini's cached contents, files, batches and counting of tokens.

In: calls. Out: what google-genai reads; the results of a batch are in the order of its requests.
Left out: the storage price of caches, expiry of files, batches of embeddings.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.servers.accounts import Bill
from tests.servers.batches import (
    Batch,
    File,
    Item,
    Outcome,
    cancel,
    find_batch,
    open_batch,
    page,
    poll,
)
from tests.servers.google_wire import V1, CachedContent, GeminiWire, contents_of, get
from tests.servers.handler import stamp
from tests.servers.wire import Json, Refused, Reply

if TYPE_CHECKING:
    from tests.servers.handler import Call, Route
    from tests.servers.server import LoopbackServer

MAX_INLINE, MAX_FILE = 20 * 2**20, 2 * 2**30
STATES = {
    "running": "RUNNING",
    "canceling": "RUNNING",
    "canceled": "CANCELLED",
    "done": "SUCCEEDED",
}


def seconds(ttl: str) -> float:
    """Return a duration in seconds, from 300s."""
    return float(ttl.removesuffix("s"))


def create_cache(server: LoopbackServer, call: Call) -> Reply:
    given, now = call.json, server.ledger.clock()
    model = given["model"].removeprefix("models/")
    blocks = contents_of(given)
    n, minimum = server.ledger.total(blocks), server.ledger.minimum(model)
    if n < minimum:
        message = (
            f"Cached content is too small. total_token_count={n}, min_total_token_count={minimum}"
        )
        raise Refused("invalid", message)
    if server.context_window is not None and n > server.context_window:
        raise Refused("overflow", GeminiWire.too_long(n, server.context_window))
    expires = now + seconds(get(given, "ttl", "3600s"))
    name = server.new_id("cachedContents/c")
    cached = CachedContent(name, model, blocks, n, now, expires, get(given, "displayName"))
    server.cached_contents[cached.name] = cached
    bill = server.ledger.charge(Bill("google", model, call.path, cache_write={"cached_content": n}))
    return Reply(shown_cache(cached), bills=[bill])


def shown_cache(cached: CachedContent) -> Json:
    """Return a cached content as Gemini shows it: without its contents."""
    return {
        "name": cached.name, "model": f"models/{cached.model}",
        "displayName": cached.display_name or "",
        "createTime": stamp(cached.created), "updateTime": stamp(cached.created),
        "expireTime": stamp(cached.expires), "usageMetadata": {"totalTokenCount": cached.n_tokens},
    }  # fmt: skip


def get_cache(server: LoopbackServer, call: Call) -> Reply:
    return Reply(shown_cache(server.cached_content(call.groups[0])))


def list_caches(server: LoopbackServer, call: Call) -> Reply:
    now = server.ledger.clock()
    alive = [cached for cached in server.cached_contents.values() if cached.expires > now]
    return Reply(listing("cachedContents", [shown_cache(cached) for cached in alive], call))


def patch_cache(server: LoopbackServer, call: Call) -> Reply:
    cached = server.cached_content(call.groups[0])
    cached.expires = server.ledger.clock() + seconds(call.json["ttl"])
    return Reply(shown_cache(cached))


def delete_cache(server: LoopbackServer, call: Call) -> Reply:
    del server.cached_contents[server.cached_content(call.groups[0]).name]
    return Reply({})


def listing(field: str, things: list[Json], call: Call) -> Json:
    """Return a page of a list; its token is the name of its last thing."""
    names = [thing["name"] for thing in things]
    data, more = page(
        things, names, call.query.get("pageToken"), int(call.query.get("pageSize", 50))
    )
    return {field: data, **({"nextPageToken": data[-1]["name"]} if more else {})}


def count_tokens(server: LoopbackServer, call: Call) -> Reply:
    given = get(call.json, "generateContentRequest") or call.json
    n = server.ledger.total(contents_of(given))
    return Reply({"totalTokens": n})


def upload(server: LoopbackServer, call: Call) -> Reply:
    """Begin an upload, or take a chunk of one; the last chunk ends it."""
    if call.headers.get("x-goog-upload-command") == "start":
        file = File(server.new_id("files/f"), b"", dict(call.json.get("file") or {}))
        server.files[file.id] = file
        url = f"{server.url}{call.path}?upload_id={file.id.removeprefix('files/')}"
        return Reply({}, headers={"x-goog-upload-url": url, "x-goog-upload-status": "active"})
    file = get_file(server, f"files/{call.query['upload_id']}")
    file.data = file.data[: int(call.headers["x-goog-upload-offset"])] + call.raw
    status = "final" if "finalize" in call.headers["x-goog-upload-command"] else "active"
    return Reply({"file": shown_file(server, file)}, headers={"x-goog-upload-status": status})


def get_file(server: LoopbackServer, name: str) -> File:
    """Return a file."""
    if name not in server.files:
        raise Refused("missing", "Requested entity was not found.")
    return server.files[name]


def shown_file(server: LoopbackServer, file: File, made: bool = False) -> Json:
    """Return a file as Gemini shows it."""
    mime = get(file.info, "mimeType", "application/jsonl")
    return {"name": file.id, "mimeType": mime, "sizeBytes": str(len(file.data)), "state": "ACTIVE",
            "source": "UPLOADED", "uri": f"{server.url}/v1beta/{file.id}"}  # fmt: skip


def delete_file(server: LoopbackServer, call: Call) -> Reply:
    del server.files[get_file(server, call.groups[0]).id]
    return Reply({})


def create_batch(server: LoopbackServer, call: Call) -> Reply:
    batch = call.json["batch"]
    source, path = (
        get(batch, "inputConfig"),
        call.path.replace(":batchGenerateContent", ":generateContent"),
    )
    by_file = get(source, "fileName")
    if by_file:
        data = get_file(server, by_file).data
        given = [json.loads(line) for line in data.splitlines()]
        too_large = len(data) > (server.batch_bytes or MAX_FILE)
    else:
        given = source["requests"]["requests"]
        too_large = len(call.raw) > (server.batch_bytes or MAX_INLINE)
    if too_large:
        raise Refused(
            "too large",
            f"Request payload size exceeds the limit: {server.batch_bytes or MAX_INLINE} bytes.",
        )
    if server.batch_requests and len(given) > server.batch_requests:
        raise Refused(
            "invalid", f"At most {server.batch_requests} requests in a batch, not {len(given)}."
        )
    items = [
        Item(str(r.get("key", at)), path, r["request"], r.get("metadata"))
        for at, r in enumerate(given)
    ]
    info = {
        "display_name": get(batch, "displayName", ""),
        "model": path.split("models/")[1].partition(":")[0],
    }
    return Reply(
        shown(open_batch(server, "google", "batches/b", items, {**info, "by_file": bool(by_file)}))
    )


def retrieve_batch(server: LoopbackServer, call: Call) -> Reply:
    batch = poll(server, "google", call.groups[0])
    if batch.state == "done" and "output" not in batch.info:
        batch.info["output"] = output(server, batch)
    return Reply(shown(batch))


def output(server: LoopbackServer, batch: Batch) -> Json:
    """Return the results of a batch as they came: in a file, or inline, where none comes twice."""
    if batch.info["by_file"]:
        lines = [
            f"{json.dumps({'key': outcome.item.name, **told(outcome)})}\n"
            for outcome in batch.outcomes
        ]
        file = File(server.new_id("files/batch-"), "".join(lines).encode())
        server.files[file.id] = file
        return {"responsesFile": file.id}
    once = {outcome.item.name: outcome for outcome in batch.outcomes}.values()
    answers = [
        {**told(o), **({"metadata": o.item.metadata} if o.item.metadata else {})} for o in once
    ]
    return {"inlinedResponses": {"inlinedResponses": answers}}


def told(outcome: Outcome) -> Json:
    """Return a response, or the error in its place."""
    if outcome.kind == "succeeded":
        return {"response": outcome.body}
    if outcome.kind == "expired":
        return {"error": {"code": 4, "message": "The request expired before it was processed."}}
    assert outcome.body is not None
    return {
        "error": {
            "code": 3 if outcome.status == 400 else 13,
            "message": outcome.body["error"]["message"],
        }
    }


def shown(batch: Batch) -> Json:
    """Return a batch as Gemini shows it: an operation."""
    state = "PENDING" if batch.state == "running" and batch.polls_left == 1 else STATES[batch.state]
    metadata: Json = {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "name": batch.id, "model": f"models/{batch.info['model']}",
        "displayName": batch.info["display_name"],
        "state": f"BATCH_STATE_{state}", "createTime": stamp(batch.created),
        "updateTime": stamp(batch.created),
    }  # fmt: skip
    if batch.ended is not None:
        metadata["endTime"] = stamp(batch.ended)
    answer: dict[str, Any] = {"name": batch.id, "metadata": metadata}
    if "output" in batch.info:
        metadata["output"] = batch.info["output"]
        answer.update(done=True, response=batch.info["output"])
    return answer


def list_batches(server: LoopbackServer, call: Call) -> Reply:
    batches = [batch for batch in reversed(server.batches.values()) if batch.provider == "google"]
    return Reply(listing("operations", [shown(batch) for batch in batches], call))


def cancel_batch(server: LoopbackServer, call: Call) -> Reply:
    cancel(server, "google", call.groups[0])
    return Reply({})


def delete_batch(server: LoopbackServer, call: Call) -> Reply:
    del server.batches[find_batch(server, "google", call.groups[0]).id]
    return Reply({})


CACHE, FILE, BATCH = f"{V1}(cachedContents/[^/:]+)", f"{V1}(files/[^/:]+)", f"{V1}(batches/[^/:]+)"
ROUTES: list[Route] = [
    ("POST", re.compile(f"{V1}models/[^/]+:countTokens"), count_tokens),
    ("POST", re.compile(f"{V1}cachedContents"), create_cache),
    ("GET", re.compile(f"{V1}cachedContents"), list_caches),
    ("GET", re.compile(CACHE), get_cache),
    ("PATCH", re.compile(CACHE), patch_cache),
    ("DELETE", re.compile(CACHE), delete_cache),
    ("POST", re.compile(f"/upload{V1}files"), upload),
    (
        "GET",
        re.compile(FILE),
        lambda server, call: Reply(shown_file(server, get_file(server, call.groups[0]))),
    ),
    (
        "GET",
        re.compile(f"{FILE}:download"),
        lambda server, call: Reply(get_file(server, call.groups[0]).data),
    ),
    ("DELETE", re.compile(FILE), delete_file),
    ("POST", re.compile(f"{V1}models/[^/]+:batchGenerateContent"), create_batch),
    ("GET", re.compile(f"{V1}batches"), list_batches),
    ("GET", re.compile(BATCH), retrieve_batch),
    ("POST", re.compile(f"{BATCH}:cancel"), cancel_batch),
    ("DELETE", re.compile(BATCH), delete_batch),
]
