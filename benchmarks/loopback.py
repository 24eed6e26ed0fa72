"""A server on this machine that answers every chat with the same text, so cheaply that only its
clients are measured.

In: HTTP/1.1 requests with a content length, of OpenAI chat completions or Anthropic messages. Out:
after a delay, a constant body whose usage tells of a cached prefix; `GET /counts` gives the
requests and bytes so far. Left out: streams, chunked bodies, faults, prices. No body is parsed, or
even kept. It is no script; the benchmarks import it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import urllib.request
from collections.abc import Iterator
from multiprocessing.connection import Connection
from resource import RUSAGE_SELF, getrusage
from typing import Any

ANSWER = "harbour"
OPENAI = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "loopback",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    ],
    "usage": {
        "prompt_tokens": 100_000,
        "completion_tokens": 2,
        "total_tokens": 100_002,
        "prompt_tokens_details": {"cached_tokens": 99_750, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
}
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "loopback",
    "content": [{"type": "text", "text": ANSWER}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 250,
        "cache_read_input_tokens": 99_750,
        "cache_creation_input_tokens": 0,
        "output_tokens": 2,
    },
}


def response(body: dict[str, Any]) -> bytes:
    """Return a whole HTTP response around a JSON body."""
    content = json.dumps(body).encode()
    head = ["HTTP/1.1 200 OK", "content-type: application/json", f"content-length: {len(content)}"]
    return "\r\n".join([*head, "", ""]).encode() + content


RESPONSES = {b"messages": response(ANTHROPIC), b"chat/completions": response(OPENAI)}


class Counts:
    """What all connections received."""

    def __init__(self) -> None:
        self.requests = self.bytes = self.in_flight = self.most_in_flight = 0

    def read(self) -> dict[str, Any]:
        """Return the counts, and the CPU seconds of the server."""
        spent = getrusage(RUSAGE_SELF)
        return {**vars(self), "cpu_s": spent.ru_utime + spent.ru_stime}


class Chat(asyncio.BufferedProtocol):
    """One connection. Bodies are read over each other into one buffer, as only their length
    matters.
    """

    _buffer = bytearray(
        2**20
    )  # shared by all connections: what is read is done with before the next read

    def __init__(self, delay_s: float, counts: Counts) -> None:
        self._delay_s, self._counts = delay_s, counts
        self._head = b""  # of the request that is being read, as far as it came
        self._left = 0  # bytes of its body that are still to come
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return the buffer that the next bytes go to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of the bytes that came. A client waits for its answer, so nothing follows a
        request.
        """
        self._counts.bytes += nbytes
        if self._left:
            self._left -= nbytes
        else:
            self._head += bytes(self._buffer[:nbytes])
            if b"\r\n\r\n" not in self._head:
                return
            head, _, body = self._head.partition(b"\r\n\r\n")
            self._head = b""
            self._open(head.lower(), len(body))
        if not self._left:
            asyncio.get_running_loop().call_later(self._delay_s, self._send)

    def _open(self, head: bytes, n_body: int) -> None:
        """Read the head of a request, of whose body `n_body` bytes came with it."""
        line = head.partition(b"\r\n")[0]
        if line.startswith(b"get"):
            self._answer = response(self._counts.read())
        else:
            self._answer = next(answer for path, answer in RESPONSES.items() if path in line)
            self._counts.requests += 1
        self._counts.in_flight += 1
        self._counts.most_in_flight = max(self._counts.most_in_flight, self._counts.in_flight)
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        self._left = int(length or 0) - n_body

    def _send(self) -> None:
        self._counts.in_flight -= 1
        self._transport.write(self._answer)


@contextlib.contextmanager
def loopback(delay_s: float = 0.05) -> Iterator[str]:
    """Run the server in a process of its own and yield its URL, without a path."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, delay_s), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def counts(url: str) -> dict[str, Any]:
    """Return what the server counted so far; asking is no request of its own."""
    with urllib.request.urlopen(f"{url}/counts") as reply:
        found: dict[str, Any] = json.load(reply)
        return found


def _serve(pipe: Connection, delay_s: float) -> None:
    async def forever() -> None:
        total = Counts()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Chat(delay_s, total), "127.0.0.1", 0, backlog=1024
        )
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())
