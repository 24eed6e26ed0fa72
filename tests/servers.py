"""A loopback server that speaks the wire formats of OpenAI, Anthropic and Gemini, for tests and for trying the CLI.

    python tests/servers.py --port 0        prints the base URLs and serves until Ctrl-C

In tests: `with LoopbackServer(reply) as server:` answers with `reply(prompt_text)`, keeps `server.requests`, counts
`server.max_in_flight`, and misbehaves where told by `server.fail_next(...)` or `server.fail_always(...)`. It refuses
what the providers refuse (a blank text block, too many stop strings). Left out: batches, caches, billing, streams.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

Json = dict[str, Any]
# Faults with a status; the others: reset, truncated, garbage, shapeless, refused, filtered, length, slow.
STATUS = {
    "overflow": 400, "invalid": 400, "auth": 401, "billing": 402, "forbidden": 403, "model": 404,
    "rate": 429, "quota": 429, "500": 500, "503": 503, "529": 529,
}  # fmt: skip


def majority_reply(prompt: str) -> str:
    """Return the commonest answer among the prompt's shots: of lines like the last one, what follows its marker."""
    lines = [line for line in prompt.splitlines() if line.strip()]
    match = re.search(r"(->|\w+:)\s*$", lines[-1]) if lines else None
    marker = match[1] if match else None
    answers = [line.rpartition(marker)[2].strip() for line in lines[:-1] if marker and marker in line]
    return Counter(filter(None, answers)).most_common(1)[0][0] if any(answers) else "unknown"


def count(text: str) -> int:
    """Return the tokens of a text: its words."""
    return len(text.split())


@dataclass
class Request:
    """One request as it came; `parts` are the texts of its one user message."""

    provider: str
    path: str
    headers: dict[str, str]
    body: Json
    parts: list[str]

    @property
    def prompt(self) -> str:
        """Return the whole prompt."""
        return "".join(self.parts)


@dataclass
class Made:
    """An answer before it is put into a provider's form. `finish` is stop, length, refused or filtered."""

    text: str
    finish: str
    n_prompt: int
    n_cached: int
    n_reasoning: int
    n_text: int


class Wire:
    """One provider's form: its message's `parts`, the `refusal` of a request, its `limits`, an `answer`, an `error`."""

    name: str
    path: re.Pattern[str]
    errors: ClassVar[dict[str, tuple[str, str]]]  # fault -> its code or type, its message

    def key(self, headers: dict[str, str]) -> str | None:
        """Return the key that was sent."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" else None


class OpenAIWire(Wire):
    name = "openai"
    path = re.compile(r"/v1/chat/completions")
    errors: ClassVar = {
        "overflow": ("context_length_exceeded", "This model's maximum context length is 8192 tokens."),
        "invalid": ("invalid_value", "Invalid value."),
        "auth": ("invalid_api_key", "Incorrect API key provided: {key}."),
        "billing": ("billing_not_active", "Your account is not active."),
        "forbidden": ("unsupported_country_region_territory", "Country not supported."),
        "model": ("model_not_found", "The model `nosuch` does not exist."),
        "rate": ("rate_limit_exceeded", "Rate limit reached."),
        "quota": ("insufficient_quota", "You exceeded your current quota."),
    }

    def parts(self, body: Json) -> list[str]:
        [message] = body["messages"]
        return [message["content"]]

    def refusal(self, body: Json) -> str | None:
        reasoning = re.match(r"o\d|gpt-5", body["model"])
        for name in ("temperature", "stop", "max_tokens"):
            if reasoning and name in body:
                return f"Unsupported parameter: {name!r} is not supported with this model."
        return "At most 4 stop sequences." if len(body.get("stop", [])) > 4 else None

    def limits(self, body: Json) -> tuple[int, list[str]]:
        return body.get("max_completion_tokens") or body["max_tokens"], body.get("stop", [])

    def answer(self, made: Made, body: Json) -> Json:
        refused = made.finish == "refused"
        message = {"role": "assistant", "content": made.text or None, "refusal": None}
        if refused:
            message.update(content=None, refusal=made.text)
        finish = {"filtered": "content_filter", "refused": "stop"}.get(made.finish, made.finish)
        n_out = made.n_text + made.n_reasoning
        usage = {
            "prompt_tokens": made.n_prompt,
            "completion_tokens": n_out,
            "total_tokens": made.n_prompt + n_out,
            "prompt_tokens_details": {"cached_tokens": made.n_cached, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": made.n_reasoning},
        }
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": body["model"]}
        return {**head, "choices": [choice], "usage": usage}

    def error(self, fault: str, message: str | None = None) -> Json:
        code, text = self.errors.get(fault, ("server_error", "The server had an error."))
        return {"error": {"message": message or text, "type": "invalid_request_error", "param": None, "code": code}}


class AnthropicWire(Wire):
    name = "anthropic"
    path = re.compile(r"/v1/messages")
    errors: ClassVar = {
        "overflow": ("invalid_request_error", "prompt is too long: 213462 tokens > 200000 maximum"),
        "invalid": ("invalid_request_error", "messages: bad."),
        "auth": ("authentication_error", "invalid x-api-key {key}"),
        "billing": ("billing_error", "Payment required."),
        "forbidden": ("permission_error", "Your API key may not use this resource."),
        "model": ("not_found_error", "model: nosuch"),
        "rate": ("rate_limit_error", "Rate limited."),
        "quota": ("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
        "529": ("overloaded_error", "Overloaded"),
    }

    def parts(self, body: Json) -> list[str]:
        [message] = body["messages"]
        return [block["text"] for block in message["content"]]

    def refusal(self, body: Json) -> str | None:
        if not all(part.strip() for part in self.parts(body)):
            return "messages: text content blocks must contain non-whitespace text"
        if not all(stop.strip() for stop in body.get("stop_sequences", [])):
            return "stop_sequences: each stop sequence must contain non-whitespace"
        return None

    def limits(self, body: Json) -> tuple[int, list[str]]:
        return body["max_tokens"], body.get("stop_sequences", [])

    def answer(self, made: Made, body: Json) -> Json:
        finish = {"stop": "end_turn", "length": "max_tokens"}.get(made.finish, "refusal")
        usage = {
            "input_tokens": made.n_prompt - made.n_cached,
            "cache_read_input_tokens": made.n_cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": made.n_text + made.n_reasoning,
        }
        content = [{"type": "text", "text": made.text}] if made.text else []
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"]}
        return {**head, "content": content, "stop_reason": finish, "stop_sequence": None, "usage": usage}

    def error(self, fault: str, message: str | None = None) -> Json:
        kind, text = self.errors.get(fault, ("api_error", "Internal server error"))
        return {"type": "error", "error": {"type": kind, "message": message or text}}


class GeminiWire(Wire):
    name = "google"
    path = re.compile(r"/v1(?:beta)?/models/[^/]+:generateContent")
    errors: ClassVar = {
        "overflow": ("INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
        "invalid": ("INVALID_ARGUMENT", "Request contains an invalid argument."),
        "auth": ("UNAUTHENTICATED", "Request had invalid credentials {key}."),
        "billing": ("FAILED_PRECONDITION", "Billing is not enabled."),
        "forbidden": ("PERMISSION_DENIED", "Permission denied."),
        "model": ("NOT_FOUND", "models/nosuch is not found."),
        "rate": ("RESOURCE_EXHAUSTED", "You exceeded your current quota."),
        "quota": ("RESOURCE_EXHAUSTED", "You exceeded your current quota."),
        "503": ("UNAVAILABLE", "The model is overloaded."),
    }

    def key(self, headers: dict[str, str]) -> str | None:
        return headers.get("x-goog-api-key")

    def parts(self, body: Json) -> list[str]:
        [content] = body["contents"]
        return [part["text"] for part in content["parts"]]

    def refusal(self, body: Json) -> str | None:
        return "At most 5 stop sequences." if len(self.limits(body)[1]) > 5 else None

    def limits(self, body: Json) -> tuple[int, list[str]]:
        config = body["generationConfig"]
        return config["maxOutputTokens"], config.get("stopSequences", [])

    def answer(self, made: Made, body: Json) -> Json:
        usage = {
            "promptTokenCount": made.n_prompt,
            "cachedContentTokenCount": made.n_cached,
            "candidatesTokenCount": made.n_text,
            "thoughtsTokenCount": made.n_reasoning,
            "totalTokenCount": made.n_prompt + made.n_text + made.n_reasoning,
        }
        if made.finish == "filtered":
            return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage}
        finish = {"stop": "STOP", "length": "MAX_TOKENS", "refused": "SAFETY"}[made.finish]
        parts = [{"text": made.text}] if made.text else []
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "loopback"}

    def error(self, fault: str, message: str | None = None) -> Json:
        status, text = self.errors.get(fault, ("INTERNAL", "Internal error."))
        return {"error": {"code": STATUS.get(fault, 400), "message": message or text, "status": status}}


WIRES: list[Any] = [OpenAIWire(), AnthropicWire(), GeminiWire()]


class LoopbackServer:
    """The server; a context manager. `delay_s` is its latency, `retry_after` what a 429 says."""

    def __init__(
        self, reply: Callable[[str], str] = majority_reply, *, port: int = 0, delay_s: float = 0, retry_after: str = "0"
    ) -> None:
        self.reply = reply
        self.delay_s = delay_s
        self.retry_after = retry_after
        self.n_cached = 0  # prompt tokens that every answer reports as cached
        self.n_reasoning = 0  # tokens that every answer reports as thought
        self.requests: list[Request] = []
        self.in_flight = self.max_in_flight = 0
        self.lock = threading.Lock()
        self._faults: deque[str | None] = deque()
        self._always: str | None = None
        handler = type("BoundHandler", (Handler,), {"owner": self})
        self._http = HttpServer(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> LoopbackServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Return the base URL for Anthropic and Gemini."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def base_url(self, provider: str) -> str:
        """Return the base URL for `openai`, `anthropic` or `google`."""
        return self.url + "/v1" * (provider == "openai")

    def fail_next(self, *faults: str | None) -> None:
        """Let the next requests meet these faults, one each; None is a good answer."""
        self._faults.extend(faults)

    def fail_always(self, fault: str | None) -> None:
        """Let every request meet this fault, after those of `fail_next`."""
        self._always = fault

    @contextlib.contextmanager
    def flight(self, request: Request) -> Iterator[None]:
        """Log a request and count it as being answered."""
        with self.lock:
            self.requests.append(request)
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield
        finally:
            with self.lock:
                self.in_flight -= 1

    def take_fault(self) -> str | None:
        """Return what is to happen to this request."""
        with self.lock:
            return self._faults.popleft() if self._faults else self._always

    def make(self, wire: Any, request: Request, fault: str | None) -> Made:
        """Answer as a model would: stopped at the stop strings, no longer than asked."""
        limit, stop = wire.limits(request.body)
        text, finish = "" if fault in {"filtered", "length"} else self.reply(request.prompt), "stop"
        if fault == "refused":
            text, finish = "" if wire.name == "google" else "I cannot help with that.", "refused"
        elif fault in {"filtered", "length"}:
            finish = fault
        elif found := [at for s in stop if (at := text.find(s)) >= 0]:
            text = text[: min(found)]
        elif count(text) > limit:
            text, finish = " ".join(text.split()[:limit]), "length"
        return Made(text, finish, count(request.prompt), self.n_cached, self.n_reasoning, count(text))


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # the default of 5 drops connections of 16 clients that start together

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away: cancelled requests are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    owner: LoopbackServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        owner = self.owner
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        path = self.path.partition("?")[0]
        wire = next((wire for wire in WIRES if wire.path.fullmatch(path)), None)
        if wire is None:
            return self.send(404, {"detail": "Not Found"})
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(wire.name, path, headers, body, wire.parts(body))
        with owner.flight(request):
            fault = owner.take_fault()
            time.sleep(owner.delay_s + 1.0 * (fault == "slow"))
            refusal = wire.refusal(body)
            made = None if refusal or fault in STATUS else owner.make(wire, request, fault)
        # Out of the count before a byte is sent: the client's next request must not overtake the bookkeeping.
        if refusal:
            return self.send(400, wire.error("invalid", refusal))
        self.respond(wire, request, made, fault)

    def respond(self, wire: Any, request: Request, made: Made | None, fault: str | None) -> None:
        """Answer, or do what the fault says."""
        if fault in STATUS:
            status = 400 if (fault, wire.name) == ("quota", "anthropic") else STATUS[fault]
            told = json.dumps(wire.error(fault)).replace("{key}", str(wire.key(request.headers)))
            headers = {"retry-after": self.owner.retry_after} if status == 429 else {}
            return self.send(status, json.loads(told), headers)
        if fault == "reset":
            # Linger 0: closing sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return self.connection.close()
        if fault == "shapeless":
            return self.send(200, {"hello": "world"})
        payload = json.dumps(wire.answer(made, request.body)).encode()
        if fault == "garbage":
            payload = payload[: len(payload) // 2]
        return self.send_bytes(200, payload, {}, n_promised=len(payload) + 10 * (fault == "truncated"))

    def send(self, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
        """Send a JSON body."""
        payload = json.dumps(body).encode()
        self.send_bytes(status, payload, headers or {}, n_promised=len(payload))

    def send_bytes(self, status: int, payload: bytes, headers: dict[str, str], n_promised: int) -> None:
        """Send a body; one shorter than promised ends the connection."""
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(n_promised), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)
        self.close_connection = self.close_connection or n_promised > len(payload)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A loopback server of three providers that answers with the majority.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    args = parser.parse_args()
    with LoopbackServer(port=args.port, delay_s=args.delay_s) as server:
        for wire in WIRES:
            print(f"{wire.name:10} --base-url {server.base_url(wire.name)}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
