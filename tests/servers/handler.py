"""HTTP for the loopback server: reads a request, finds who answers it, and sends the reply or does
what a fault says.

In: bytes of any client. Out: bytes, or a connection that ends badly. Left out: what the reply is.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tests.servers.misbehaviour import AFTER
from tests.servers.wire import MALFORMED, STATUS, Json, Refused, Reply, Request

if TYPE_CHECKING:
    from tests.servers.server import LoopbackServer


@dataclass
class Call:
    """A request to an endpoint where no model answers at once; `groups` are what its path names."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes
    json: Json
    groups: tuple[str, ...]


Desk = Callable[["LoopbackServer", Call], Reply]
Route = tuple[str, re.Pattern[str], Desk]


def stamp(seconds: float) -> str:
    """Return a time as RFC 3339."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


def rate_headers(provider: str, wait_s: float) -> dict[str, str]:
    """Return a 429's headers with the time to wait; Gemini says it in the body (`refuse`)."""
    headers = {"retry-after": str(math.ceil(wait_s))}
    if provider == "openai":
        headers["retry-after-ms"] = str(math.ceil(wait_s * 1000))
    return headers


def limit_headers(
    provider: str, state: dict[str, tuple[int, int, float]], now: float
) -> dict[str, str]:
    """Return the provider's headers of what is left of the minute; Gemini has none."""
    headers = {}
    for unit, (size, left, full_s) in state.items():
        if provider == "openai":
            reset = f"{full_s:.3f}s"
            values = {f"limit-{unit}": size, f"remaining-{unit}": left, f"reset-{unit}": reset}
            headers.update({f"x-ratelimit-{name}": str(value) for name, value in values.items()})
        elif provider == "anthropic":
            for name in (unit, "input-tokens") if unit == "tokens" else (unit,):
                values = {"limit": size, "remaining": left, "reset": stamp(now + full_s)}
                headers.update(
                    {
                        f"anthropic-ratelimit-{name}-{key}": str(value)
                        for key, value in values.items()
                    }
                )
    return headers


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # the default of 5 drops connections of 16 clients that start together

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away: cancelled requests are part of the tests."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    owner: LoopbackServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        owner, raw = self.owner, self.read_body()
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        wire, desk, groups = self.find(path)
        if wire is None:
            return self.send(404, {"detail": "Not Found"})
        fault = owner.take_fault(self.command, path, raw)
        try:
            # A chunk of an upload to Gemini bears the content type of the request that began it.
            is_json = (
                "json" in headers.get("content-type", "") and "x-goog-upload-offset" not in headers
            )
            body = json.loads(raw) if raw and is_json else {}
        except ValueError:
            return self.send(400, wire.error("invalid"))
        call = Call(path, {k: v[0] for k, v in parse_qs(query).items()}, headers, raw, body, groups)
        request = (
            Request(wire.name, path, headers, body)
            if desk
            else owner.prepare(wire, path, headers, body)
        )
        del raw, body
        reply: Reply | Refused
        with owner.flight(request):
            try:
                reply = self.act(wire, call, request, desk, fault)
            except Refused as refused:
                reply = refused
        # Out of the count before a byte is sent: the client's next request must not overtake the
        # bookkeeping.
        if isinstance(reply, Refused):
            return self.refuse(wire, reply, headers)
        self.respond(wire, reply, fault)

    do_GET = do_PATCH = do_DELETE = do_POST  # noqa: N815

    def act(
        self, wire: Any, call: Call, request: Request, desk: Desk | None, fault: str | None
    ) -> Reply:
        """Do what is asked, unless the fault comes first."""
        if fault == "reset":
            return Reply(b"")
        if desk is None:
            return self.owner.generate(wire, request, fault)
        if fault in STATUS:
            raise Refused(str(fault), "")
        try:
            with self.owner.lock:
                return desk(self.owner, call)
        except MALFORMED as error:
            raise Refused("invalid", f"Malformed request: {type(error).__name__} {error}") from None

    def find(self, path: str) -> tuple[Any, Desk | None, tuple[str, ...]]:
        """Return the wire of a path, the desk that answers there unless a model does, and what the
        path names.
        """
        owner = self.owner
        # Some paths of OpenAI's and of Gemini's are the same: the key's header tells them apart.
        google = "x-goog-api-key" in self.headers
        if self.command == "POST" and (wire := owner.wire_of(path, google)):
            return wire, None, ()
        for provider in ("google",) if google else owner.desks:
            for method, pattern, desk in owner.desks[provider]:
                if method == self.command and (match := pattern.fullmatch(path)):
                    return (
                        next(wire for wire in owner.wires if wire.name == provider),
                        desk,
                        match.groups(),
                    )
        return None, None, ()

    def read_body(self) -> bytes:
        """Return the body, whole or in chunks."""
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        chunks = []
        while n := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(n))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def refuse(self, wire: Any, refused: Refused, headers: dict[str, str]) -> None:
        """Send an error as the provider words it."""
        fault = refused.fault
        status = 400 if (fault, wire.name) == ("quota", "anthropic") else STATUS[fault]
        body = wire.error(fault, refused.message) if refused.message else wire.error(fault)
        told = json.loads(json.dumps(body).replace("{key}", str(wire.key(headers))))
        waits = refused.headers or (
            {"retry-after": self.owner.retry_after} if status == 429 else {}
        )
        if wire.name == "google" and refused.headers:
            delay = f"{refused.headers['retry-after']}s"
            info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
            told["error"].setdefault("details", []).append(info)
        self.respond(wire, Reply(told, status, waits), None)

    def respond(self, wire: Any, reply: Reply, fault: str | None) -> None:
        """Send a reply, or do what the fault says."""
        lost = fault in AFTER or fault == "shapeless" or (bool(reply.bills) and self.gone())
        for bill in reply.bills:
            bill.delivered = not lost
        if fault in {"reset", "lost", "stall"}:
            if fault == "stall":
                self.owner.closing.wait(self.owner.stall_s)
            return self.reset()
        body = {"hello": "world"} if fault == "shapeless" else reply.payload
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        n = len(payload)
        if fault in {"garbage", "reset_after"}:
            payload = payload[: n // 2]
        n_promised = {"garbage": len(payload), "truncated": n + 10}.get(str(fault), n)
        clock = self.owner.ledger.clock()
        headers = limit_headers(wire.name, self.owner.ledger.state(wire.name), clock)
        try:
            self.send_bytes(reply.status, payload, {**headers, **reply.headers}, n_promised)
        except OSError:
            for bill in reply.bills:
                bill.delivered = False
            raise
        if fault == "reset_after":
            self.reset()

    def gone(self) -> bool:
        """Return whether the client has hung up: the stream ends where a request would start."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def reset(self) -> None:
        """End the connection with RST instead of FIN: linger 0."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def send(self, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
        """Send a JSON body."""
        payload = json.dumps(body).encode()
        self.send_bytes(status, payload, headers or {}, n_promised=len(payload))

    def send_bytes(
        self, status: int, payload: bytes, headers: dict[str, str], n_promised: int
    ) -> None:
        """Send a body; one shorter than promised ends the connection."""
        self.send_response(status)
        for name, value in {
            "content-type": "application/json",
            "content-length": str(n_promised),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)
        self.close_connection = self.close_connection or n_promised > len(payload)
