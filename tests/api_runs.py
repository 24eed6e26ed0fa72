"""What the tests of API runs under faults share: the wire formats, a toy with long shots, a model
that knows its task.

In: a loopback server. Out: runs against it, and its account in the terms of the records. Dollars
are reckoned by genai-prices from the server's bills, not by the harness.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import genai_prices
import pytest

from tests.models.api.apis import CLASSES, KEY
from tests.servers import Bill, LoopbackServer, Request
from tests.servers.misbehaviour import Misbehaviour

POEM = " and".join(
    f" {i}" for i in range(600)
)  # 1,200 words: two shots are worth a cache with every provider
TIMEOUT_S = 0.7


@dataclass(frozen=True)
class Wire:
    """A wire format, and the model that is asked through it."""

    provider: str
    model: str
    path: str  # of requests for answers, as a regular expression
    args: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.provider}/{self.model}"

    def is_ask(self, path: str) -> bool:
        """Whether a path is that of a request for an answer."""
        return re.search(self.path, path) is not None

    def model_args(self, **more: str) -> dict[str, str]:
        """Return the model's arguments: a price, a short timeout, those of the wire."""
        return {"priced_as": self.id, "timeout_s": str(TIMEOUT_S), **self.args, **more}

    def options(self, server: LoopbackServer, **more: str) -> list[str]:
        """Return the options of the command line that name the model at a server."""
        args = [
            part
            for pair in self.model_args(**more).items()
            for part in ("--model-arg", "=".join(pair))
        ]
        return ["--model", self.id, "--base-url", server.base_url(self.provider), *args]


WIRES = {
    "chat": Wire("openai", "gpt-5.6", r"/chat/completions$"),
    "responses": Wire("openai", "gpt-5.6", r"/responses$", {"api": "responses"}),
    "messages": Wire("anthropic", "claude-sonnet-4-5", r"/messages$", {"thinking_budget": "1024"}),
    "gemini": Wire("google", "gemini-2.5-flash", r":generateContent$"),
}
every_wire = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)


def plant_keys(monkeypatch: pytest.MonkeyPatch, key: str = KEY) -> None:
    """Set a key for every provider, and no base URL."""
    for cls in CLASSES.values():
        for name in (*cls.service.key_names, cls.service.base_url_name):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(cls.service.key_names[0], key)


def lengthen_shots(n_queries: int | None = None) -> None:
    """Make the toy's shots so long that two of them are worth a cache; keep so many queries."""
    train, test = Path("data/toy/train.jsonl"), Path("data/toy/test.jsonl")
    rows = [json.loads(line) for line in train.read_text().splitlines()]
    train.write_text(
        "".join(json.dumps({**row, "text": f"{POEM} {row['text']}"}) + "\n" for row in rows)
    )
    test.write_text("".join(test.read_text().splitlines(keepends=True)[:n_queries]))


class Parity:
    """A model that knows the toy task, and gives every answer that it makes a number of its own."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}  # answer -> the prompt that it was made for
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def __call__(self, prompt: str) -> str:
        number = int(re.findall(r"\bn (\d+) ->", prompt)[-1])
        with self._lock:
            answer = f"{('even', 'odd')[number % 2]} {next(self._numbers)}"
            self.made[answer] = prompt
        return answer


class Watched(Misbehaviour):
    """Misbehaviour that keeps which path met which fault; stalls more than `most_stalls` are
    answers lost at once.
    """

    def __init__(
        self, seed: int, share: float, kinds: tuple[str, ...], most_stalls: float = math.inf
    ) -> None:
        super().__init__(seed, share, kinds)
        self.most_stalls = most_stalls
        self.log: list[tuple[str, str]] = []

    def of_request(self, method: str, path: str, body: bytes) -> str | None:
        fault = super().of_request(method, path, body)
        if fault == "stall" and sum(kind == "stall" for _, kind in self.log) >= self.most_stalls:
            fault = "lost"
        if fault is not None:
            self.log.append((path, fault))
        return fault

    def met_at(self, wire: Wire, kinds: tuple[str, ...]) -> int:
        """Return how many requests for an answer met one of some faults."""
        return sum(wire.is_ask(path) and kind in kinds for path, kind in self.log)


def sent_asks(wire: Wire, server: LoopbackServer) -> list[Request]:
    """Return the requests for an answer that reached a server."""
    return [request for request in server.requests if wire.is_ask(request.path)]


def charged(wire: Wire, server: LoopbackServer) -> dict[str, Any]:
    """Return what a server charged in the records' terms: the answers that arrived, and Gemini's
    cached contents.
    """
    bills = [bill for bill in server.bill if bill.delivered or not wire.is_ask(bill.path)]
    written = sum(sum(bill.cache_write.values()) for bill in bills)
    return {
        "prompt_tokens": sum(bill.input + bill.cache_read for bill in bills) + written,
        "cached_tokens": sum(bill.cache_read for bill in bills),
        "cache_write_tokens": written,
        "completion_tokens": sum(bill.output for bill in bills),
        "reasoning_tokens": sum(bill.reasoning for bill in bills),
        "cost_usd": pytest.approx(sum(map(dollars, bills)), rel=1e-9),
    }


def dollars(bill: Bill) -> float:
    """Return the price of a bill by genai-prices."""
    written = sum(bill.cache_write.values())
    usage = genai_prices.Usage(
        input_tokens=bill.input + bill.cache_read + written, cache_read_tokens=bill.cache_read,
        cache_write_tokens=written, output_tokens=bill.output,
    )  # fmt: skip
    return float(genai_prices.calc_price(usage, bill.model, provider_id=bill.provider).total_price)
