"""OpenAI's files, batches and counting of tokens.

In: calls. Out: what the official SDK reads. A file that is too large is refused when it comes; a
batch with too many requests, or one not well formed, fails when it is validated. Left out: expiry
of files, other purposes than batches.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

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
from tests.servers.wire import Json, Refused, Reply

if TYPE_CHECKING:
    from tests.servers.handler import Call, Route
    from tests.servers.server import LoopbackServer

MAX_BYTES, MAX_REQUESTS = 200_000_000, 50_000
ID = r"([^/:]+)"


def multipart(call: Call) -> dict[str, tuple[str, bytes]]:
    """Return the fields of a form: file name and data of each."""
    boundary = call.headers["content-type"].partition("boundary=")[2].strip('"').encode()
    fields = {}
    for part in (b"\r\n" + call.raw).split(b"\r\n--" + boundary)[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        names = dict(re.findall(rb'(name|filename)="([^"]*)"', head))
        fields[names[b"name"].decode()] = names.get(b"filename", b"").decode(), data
    return fields


def add_file(server: LoopbackServer, data: bytes, filename: str, purpose: str) -> File:
    """Keep a file."""
    file = File(server.new_id("file-"), data)
    created = int(server.ledger.clock())
    file.info = {
        "id": file.id, "object": "file", "bytes": len(data), "created_at": created,
        "filename": filename, "purpose": purpose, "status": "processed",
    }  # fmt: skip
    server.files[file.id] = file
    return file


def upload(server: LoopbackServer, call: Call) -> Reply:
    fields = multipart(call)
    filename, data = fields["file"]
    if len(data) > (server.batch_bytes or MAX_BYTES):
        raise Refused("too large", f"The file is too large: {len(data)} bytes.")
    return Reply(add_file(server, data, filename, fields["purpose"][1].decode()).info)


def get_file(server: LoopbackServer, call: Call) -> File:
    """Return the file that a path names."""
    if call.groups[0] not in server.files:
        raise Refused("missing", f"No such File object: {call.groups[0]}")
    return server.files[call.groups[0]]


def delete_file(server: LoopbackServer, call: Call) -> Reply:
    file = server.files.pop(get_file(server, call).id)
    return Reply({"id": file.id, "object": "file", "deleted": True})


def list_files(server: LoopbackServer, call: Call) -> Reply:
    files = [file for file in reversed(server.files.values()) if file.info.get("object") == "file"]
    return Reply(listing([file.info for file in files], call, 10_000))


def listing(things: list[Json], call: Call, limit: int) -> Json:
    """Return a page of a list."""
    names = [thing["id"] for thing in things]
    data, more = page(things, names, call.query.get("after"), int(call.query.get("limit", limit)))
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return {"object": "list", "data": data, "has_more": more, **ends}


def create_batch(server: LoopbackServer, call: Call) -> Reply:
    given = call.json
    if given["input_file_id"] not in server.files:
        raise Refused("missing", f"No such File object: {given['input_file_id']}")
    lines = server.files[given["input_file_id"]].data.splitlines()
    items, wrong = read_items(lines, given["endpoint"], server.batch_requests or MAX_REQUESTS)
    batch = open_batch(server, "openai", "batch_", items, {**given, "wrong": wrong})
    if wrong:
        batch.polls_left = -1
    return Reply(shown(batch))


def read_items(lines: list[bytes], endpoint: str, limit: int) -> tuple[list[Item], Json | None]:
    """Return the requests of a file, or the first thing that is wrong with it."""
    if len(lines) > limit:
        return [], {"code": "too_many_tasks", "message": f"At most {limit} requests.", "line": None}
    items: list[Item] = []
    names, models = set(), set()
    for at, line in enumerate(lines, 1):
        try:
            read = json.loads(line)
            item = Item(read["custom_id"], read["url"], read["body"])
            models.add(item.body["model"])
        except (ValueError, KeyError, TypeError):
            return [], {
                "code": "invalid_json_line",
                "message": "This line is no request.",
                "line": at,
            }
        if item.path != endpoint or read["method"] != "POST":
            return [], {
                "code": "mismatched_url",
                "message": "The URL is not the batch's.",
                "line": at,
            }
        if item.name in names or len(models) > 1:
            code = "duplicate_custom_id" if item.name in names else "mismatched_model"
            return [], {"code": code, "message": f"{code}.", "line": at}
        names.add(item.name)
        items.append(item)
    return items, None if items else {
        "code": "empty_file",
        "message": "The file is empty.",
        "line": None,
    }


def retrieve_batch(server: LoopbackServer, call: Call) -> Reply:
    batch = find_batch(server, "openai", call.groups[0])
    if batch.info["wrong"]:
        batch.state = "failed"
    if poll(server, "openai", batch.id).outcomes and "files" not in batch.info:
        batch.info["files"] = results(server, batch)
    return Reply(shown(batch))


def results(server: LoopbackServer, batch: Batch) -> Json:
    """Write the files of a batch that is done: what was answered, and what was not."""
    good = [line(o) for o in batch.outcomes if o.kind == "succeeded"]
    bad = [line(o) for o in batch.outcomes if o.kind not in {"succeeded", "canceled"}]
    ids = {}
    for name, lines in (("output_file_id", good), ("error_file_id", bad)):
        if lines:
            data = "".join(f"{json.dumps(entry)}\n" for entry in lines).encode()
            ids[name] = add_file(server, data, f"{batch.id}_{name}.jsonl", "batch_output").id
    return ids


def line(outcome: Outcome) -> Json:
    """Return a line of a result file."""
    head = {"id": f"batch_req_{outcome.item.name}", "custom_id": outcome.item.name}
    if outcome.kind == "expired":
        message = "This request could not be executed before the completion window expired."
        return {**head, "response": None, "error": {"code": "batch_expired", "message": message}}
    response = {
        "status_code": outcome.status,
        "request_id": f"req_{outcome.item.name}",
        "body": outcome.body,
    }
    return {**head, "response": response, "error": None}


def shown(batch: Batch) -> Json:
    """Return a batch as OpenAI shows it."""
    done = "expired" if batch.n("expired") else "completed"
    running = "in_progress" if batch.polls_left < 1 or batch.info["wrong"] else "validating"
    states = {
        "running": running,
        "canceling": "cancelling",
        "canceled": "cancelled",
        "done": done,
        "failed": "failed",
    }
    n_failed = batch.n("errored") + batch.n("expired")
    counts = {"total": len(batch.items), "completed": batch.n("succeeded"), "failed": n_failed}
    status, ended = states[batch.state], batch.ended and int(batch.ended)
    wrong = batch.info["wrong"] if batch.state == "failed" else None
    return {
        "id": batch.id, "object": "batch", "endpoint": batch.info["endpoint"], "status": status,
        "input_file_id": batch.info["input_file_id"],
        "completion_window": batch.info["completion_window"],
        "created_at": int(batch.created), "expires_at": int(batch.created) + 86_400,
        f"{status}_at": ended,
        "metadata": batch.info.get("metadata"), "request_counts": counts, "output_file_id": None,
        "error_file_id": None, "errors": {"object": "list", "data": [wrong]} if wrong else None,
        **batch.info.get("files", {}),
    }  # fmt: skip


def list_batches(server: LoopbackServer, call: Call) -> Reply:
    batches = [batch for batch in reversed(server.batches.values()) if batch.provider == "openai"]
    return Reply(listing([shown(batch) for batch in batches], call, 20))


def cancel_batch(server: LoopbackServer, call: Call) -> Reply:
    return Reply(shown(cancel(server, "openai", call.groups[0])))


def count_input(server: LoopbackServer, call: Call) -> Reply:
    n = server.counted(server.wire_of("/v1/responses"), call)
    return Reply({"object": "response.input_tokens", "input_tokens": n})


ROUTES: list[Route] = [
    ("POST", re.compile("/v1/files"), upload),
    ("GET", re.compile("/v1/files"), list_files),
    ("GET", re.compile(f"/v1/files/{ID}"), lambda server, call: Reply(get_file(server, call).info)),
    (
        "GET",
        re.compile(f"/v1/files/{ID}/content"),
        lambda server, call: Reply(get_file(server, call).data),
    ),
    ("DELETE", re.compile(f"/v1/files/{ID}"), delete_file),
    ("POST", re.compile("/v1/batches"), create_batch),
    ("GET", re.compile("/v1/batches"), list_batches),
    ("GET", re.compile(f"/v1/batches/{ID}"), retrieve_batch),
    ("POST", re.compile(f"/v1/batches/{ID}/cancel"), cancel_batch),
    ("POST", re.compile("/v1/responses/input_tokens"), count_input),
]
