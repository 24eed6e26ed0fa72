"""A server that answers in bytes of the test's own choice: what no HTTP library would send.

In: a function from a request's path and body to the pieces of its response. Out: those bytes; the
connection ends with them. Left out: all that a provider knows.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import Any

Answer = Callable[[str, bytes], Iterable[bytes]]


class _Handler(socketserver.StreamRequestHandler):
    owner: RawServer

    def handle(self) -> None:
        while request := self._read():
            path, headers, body = request
            with self.owner.lock:
                self.owner.requests.append((path, headers, body))
            with contextlib.suppress(OSError):
                for piece in self.owner.answer(path, body):
                    if self.owner.closing.is_set():
                        return
                    self.wfile.write(piece)
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
            return

    def _read(self) -> tuple[str, dict[str, str], bytes] | None:
        first = self.rfile.readline().decode("latin-1").split(" ")
        if len(first) < 2:
            return None
        headers = {}
        while line := self.rfile.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length") or 0))
        if "chunked" in headers.get("transfer-encoding", ""):
            while n := int(self.rfile.readline(), 16):
                body += self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
        return first[1], headers, body


class _Threads(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""


class RawServer:
    """The server; a context manager. `requests` holds path, headers and body of each."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()
        handler = type("BoundHandler", (_Handler,), {"owner": self})
        self._tcp = _Threads(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._tcp.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._tcp.shutdown()
        self._tcp.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._tcp.server_address[1]}"

    def base_url(self, provider: str) -> str:
        """Return the base URL for `openai`, `anthropic` or `google`."""
        return self.url + "/v1" * (provider == "openai")


def response(
    body: bytes, *headers: str, status: str = "200 OK", length: int | str | None = None
) -> bytes:
    """Return a whole response, with a length of its own if one is given."""
    n = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {n}",
             "connection: close"]  # fmt: skip
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body
