"""The loopback server: its options, what it keeps, and how an answer comes about.

In: requests that the handler read. Out: replies, bills, the log `requests`. Left out: HTTP
(handler.py), the wire formats (*_wire.py), files, batches and cached contents (*_desk.py).
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.servers import anthropic_desk, google_desk, openai_desk
from tests.servers.accounts import Bill, Ledger
from tests.servers.anthropic_wire import AnthropicWire
from tests.servers.batches import Batch, File
from tests.servers.decisions import DecisionsWire, GoogleDecisionsWire
from tests.servers.google_wire import CachedContent, GeminiWire
from tests.servers.handler import Call, Handler, HttpServer, rate_headers
from tests.servers.misbehaviour import KINDS, Misbehaviour
from tests.servers.openai_wire import CompletionsWire, OpenAIWire, ResponsesWire, hashed_logprob
from tests.servers.wire import (
    MALFORMED,
    STATUS,
    Json,
    Made,
    Refused,
    Reply,
    Request,
    count,
    majority_reply,
)

WIRES = (
    OpenAIWire, AnthropicWire, GeminiWire, ResponsesWire, CompletionsWire, DecisionsWire,
    GoogleDecisionsWire,
)  # fmt: skip
DESKS = {
    "openai": openai_desk.ROUTES,
    "anthropic": anthropic_desk.ROUTES,
    "google": google_desk.ROUTES,
}


def numerals(ids: list[int]) -> str:
    """Return token ids as a text of numerals."""
    return "".join(f" {i}" for i in ids)


class LoopbackServer:
    """The server; a context manager. What it may be told, beside `reply(prompt)`:

    - `delay_s`, its latency; `retry_after`, what a 429 of `fail_next` or `misbehave` says;
    `stall_s`, how long
      a slow answer is late, and a stall before it breaks off;
    - `count`, the tokens of a text; `clock`, in seconds; `cache_minimum`, in tokens, or by model; -
    `rpm` and `tpm`, requests and tokens a minute; `context_window`, in tokens; `max_string`, in
    characters (OpenAI); - `explicit_models`, those whose caches OpenAI writes at breakpoints only;
    - `decode`, the text of token ids; `logprob`, of a token after a text; - `batch_polls`, how
    often a batch is still in progress; `batch_bytes` and `batch_requests`, its limits; -
    `batch_fault`, what happens to an item by its name: failed, expired, duplicate or nothing; -
    `keep_bodies`, whether `requests` keeps them.
    """

    def __init__(
        self,
        reply: Callable[[str], str] = majority_reply,
        *,
        port: int = 0,
        delay_s: float = 0,
        retry_after: str = "0",
        stall_s: float = 5,
        count: Callable[[str], int] = count,
        clock: Callable[[], float] = time.time,
        cache_minimum: int | Callable[[str], int] = 1024,
        rpm: int | None = None,
        tpm: int | None = None,
        context_window: int | None = None,
        max_string: int = 10_485_760,
        explicit_models: str = r"gpt-(5\.[6-9]|[6-9])",
        decode: Callable[[list[int]], str] = numerals,
        logprob: Callable[[str, str], float] = hashed_logprob,
        batch_polls: int = 1,
        batch_bytes: int | None = None,
        batch_requests: int | None = None,
        batch_fault: Callable[[str], str | None] = lambda _: None,
        keep_bodies: bool = True,
    ) -> None:
        self.reply = reply
        self.delay_s = delay_s
        self.retry_after = retry_after
        self.stall_s = stall_s
        minimum = cache_minimum if callable(cache_minimum) else lambda _: cache_minimum
        self.ledger = Ledger(count, clock, minimum, rpm, tpm)
        self.context_window = context_window
        self.max_string = max_string
        self.explicit_models = re.compile(explicit_models)
        self.decode = decode
        self.logprob = logprob
        self.batch_polls = batch_polls
        self.batch_bytes = batch_bytes
        self.batch_requests = batch_requests
        self.batch_fault = batch_fault
        self.keep_bodies = keep_bodies
        self.n_cached = 0  # prompt tokens that every answer reports as cached, if not 0
        self.n_reasoning = 0  # tokens that every answer reports as thought
        self.requests: list[Request] = []
        self.files: dict[str, File] = {}
        self.fingerprints: dict[str, Json] = {}  # bodies that later ones may be compared with
        self.batches: dict[str, Batch] = {}
        self.cached_contents: dict[str, CachedContent] = {}
        self.misbehaviour: Misbehaviour | None = None
        self.in_flight = self.max_in_flight = 0
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self.wires = [cls(self) for cls in WIRES]
        self.desks = DESKS
        self._ids = itertools.count(1)
        self._faults: deque[str | None] = deque()
        self._always: str | None = None
        handler = type("BoundHandler", (Handler,), {"owner": self})
        self._http = HttpServer(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> LoopbackServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
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

    @property
    def bill(self) -> list[Bill]:
        """Return what was charged so far, one for each answer of the model."""
        return self.ledger.bill

    def new_id(self, prefix: str) -> str:
        """Return a name that no other object of the server has."""
        with self.lock:
            return f"{prefix}{next(self._ids):06d}"

    def fail_next(self, *faults: str | None) -> None:
        """Let the next requests meet these faults, one each; None is a good answer."""
        self._faults.extend(faults)

    def fail_always(self, fault: str | None) -> None:
        """Let every request meet this fault, after those of `fail_next`."""
        self._always = fault

    def misbehave(
        self, seed: int, share: float = 0.3, kinds: Sequence[str] = KINDS
    ) -> Misbehaviour:
        """Let a share of the requests meet one of these faults, and a share of the items of
        batches.
        """
        self.misbehaviour = Misbehaviour(seed, share, kinds)
        return self.misbehaviour

    def take_fault(self, method: str, path: str, body: bytes) -> str | None:
        """Return what is to happen to this request."""
        with self.lock:
            if self._faults:
                return self._faults.popleft()
        if self._always or self.misbehaviour is None:
            return self._always
        return self.misbehaviour.of_request(method, path, body)

    @contextlib.contextmanager
    def flight(self, request: Request) -> Iterator[None]:
        """Log a request and count it as being answered."""
        with self.lock:
            self.requests.append(
                request if self.keep_bodies else Request(request.provider, request.path, {}, {})
            )
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield
        finally:
            with self.lock:
                self.in_flight -= 1

    def wire_of(self, path: str, google: bool = False) -> Any:
        """Return the wire of a path at which a model answers; `google`: of two, Google's."""
        found = [wire for wire in self.wires if wire.path.fullmatch(path)]
        return next(
            (wire for wire in found if (wire.name == "google") == google),
            found[0] if found else None,
        )

    def prepare(self, wire: Any, path: str, headers: dict[str, str], body: Json) -> Request:
        """Read the prompt of a body; what cannot be read is refused when it is weighed."""
        request = Request(wire.name, path, headers, body)
        try:
            request.blocks, request.model = wire.blocks(body), wire.model(path, body)
        except Refused as refused:
            request.refusal = refused
        except MALFORMED as error:
            request.refusal = Refused(
                "invalid", f"Malformed request: {type(error).__name__} {error}"
            )
        return request

    def counted(self, wire: Any, call: Call) -> int:
        """Return the tokens of a prompt that no model is asked."""
        request = self.prepare(wire, call.path, call.headers, call.json)
        if request.refusal:
            raise request.refusal
        return self.ledger.total(request.blocks)

    def weigh(self, wire: Any, request: Request) -> None:
        """Refuse what the provider refuses; plan what is read and written."""
        if request.refusal:
            raise request.refusal
        try:
            wire.check(request)
            request.plan = wire.plan(request)
        except MALFORMED as error:
            raise Refused("invalid", f"Malformed request: {type(error).__name__} {error}") from None
        n, window = request.plan.n_prompt, self.context_window
        if window is not None and n > window:
            raise Refused("overflow", wire.too_long(n, window))

    def admit(self, wire: Any, request: Request) -> None:
        """Refuse what is more than the minute allows. Anthropic does not count what is read from a
        cache.
        """
        assert request.plan is not None
        n = request.plan.n_prompt - (request.plan.n_read if wire.name == "anthropic" else 0)
        if wait := self.ledger.admit(wire.name, n):
            raise Refused("rate", wire.errors["rate"][1], rate_headers(wire.name, wait))

    def make(self, wire: Any, request: Request, fault: str | None) -> Made:
        """Answer as a model would: stopped at the stop strings, no longer than asked, thoughts
        included.
        """
        plan = request.plan
        assert plan is not None
        limit, stop = wire.limits(request.body)
        n_reasoning = min(limit, self.n_reasoning) if wire.thinks(request.body) else 0
        said = [
            self.say(wire, prompt, limit - n_reasoning, stop, fault)
            for prompt in wire.prompts(request)
        ]
        n_text = sum(self.ledger.count(text) for text, _ in said)
        text, finish = said[0]
        n_read = self.n_cached or plan.n_read
        return Made(text, finish, plan.n_prompt, n_read, n_reasoning, n_text, plan.writes, said)

    def say(
        self, wire: Any, prompt: str, room: int, stop: list[str], fault: str | None
    ) -> tuple[str, str]:
        """Return what the model says to a prompt, and why it ends."""
        if fault == "refused":
            return "" if wire.name == "google" else "I cannot help with that.", "refused"
        if fault in {"filtered", "length"} or room <= 0:
            return "", fault if fault == "filtered" else "length"
        text = self.reply(prompt)
        if found := [at for s in stop if (at := text.find(s)) >= 0]:
            return text[: min(found)], "stop"
        if self.ledger.count(text) > room:
            return " ".join(text.split()[:room]), "length"
        return text, "stop"

    def answered(
        self, wire: Any, request: Request, fault: str | None = None, batch: bool = False
    ) -> tuple[Json, Bill]:
        """Let the model answer, and charge it."""
        made = self.make(wire, request, fault)
        body = wire.answer(made, request.body)
        n_input = made.n_prompt - made.n_cached - sum(made.writes.values())
        n_out = made.n_text + made.n_reasoning
        bill = Bill(
            wire.name, request.model, request.path, n_input, made.n_cached, dict(made.writes),
            n_out, made.n_reasoning, batch,
        )  # fmt: skip
        return body, self.ledger.charge(bill)

    def generate(self, wire: Any, request: Request, fault: str | None) -> Reply:
        """Answer a request for a model: what it reads is settled now, what it writes when the
        answer begins.
        """
        if fault in STATUS:
            time.sleep(self.delay_s)
            raise Refused(str(fault), "")
        self.weigh(wire, request)
        self.admit(wire, request)
        time.sleep(self.delay_s)
        if fault == "slow":
            self.closing.wait(self.stall_s)
        body, bill = self.answered(wire, request, fault)
        assert request.plan is not None
        self.ledger.commit(request.plan)
        return Reply(body, bills=[bill])

    def cached_content(self, name: str) -> CachedContent:
        """Return a cached content that has not expired."""
        with self.lock:
            cached = self.cached_contents.get(name)
            if cached is None or cached.expires <= self.ledger.clock():
                raise Refused("cache", "CachedContent not found (or permission denied)")
            return cached
