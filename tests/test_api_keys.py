"""A key is where it must be and nowhere else: not in what a run wrote, not in what it printed,
however it failed.

The server quotes the key in all its errors.
"""

from __future__ import annotations

import base64
import logging
import sys
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icl_harness.cli.app import main
from icl_harness.models.api.requests import Requests
from icl_harness.models.api.timing import Timing
from tests.api_runs import Parity, Wire, every_wire, lengthen_shots, plant_keys
from tests.models.api.apis import CLASSES
from tests.quick import quicken_command_line
from tests.servers import LoopbackServer

KEY = "Zq7XwV3nLp9RtY2mKd84hBcG"
N_SHOWN = 8  # characters of it in a row that are too many
FAULTS = ("auth", "quota", "billing", "forbidden", "model", "overflow", "invalid", "rate", "500",
          "reset", "lost", "truncated", "garbage", "shapeless", "refused", "filtered")  # fmt: skip
RUN_COMMANDS = (
    ["batch", "out"], ["caches", "out"], ["caches", "out", "--delete"], ["export", "out"],
    ["export", "out", "--out", "records.jsonl"], ["curves", "out"],
    ["compare", "out", "--by", "shots"], ["show", "out", "--query", "test100", "--shots", "2"],
)  # fmt: skip


def traces(key: str) -> set[bytes]:
    """Return what would give a key away: pieces of it, and its base64 at each offset."""
    pieces = {key[at : at + N_SHOWN] for at in range(len(key) - N_SHOWN + 1)}
    coded = {base64.b64encode(b"x" * n + key.encode())[4:-4].decode() for n in range(3)}
    return {piece.encode() for piece in pieces | coded | {urllib.parse.quote(key), key[::-1]}}


class Watch:
    """Runs the command line and keeps all that it says: printed, logged, raised."""

    def __init__(self, folder: Path, monkeypatch, capfd, caplog) -> None:
        self.folder, self.monkeypatch, self.capfd, self.caplog = folder, monkeypatch, capfd, caplog
        self.said = ""

    def __call__(self, *arguments: str) -> int:
        self.monkeypatch.setattr(sys, "argv", ["icl", *arguments])
        code = 1
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)
        except Exception:  # noqa: BLE001
            self.said += traceback.format_exc()  # as --debug shows it
        self.said += "".join(self.capfd.readouterr()) + self.caplog.text
        self.caplog.clear()
        return code

    def check(self) -> None:
        """See that nothing gives the key away."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != ".env"]
        content = {str(path): path.read_bytes() for path in files} | {
            "what was said": self.said.encode()
        }
        found = {
            (name, trace)
            for name, text in content.items()
            for trace in traces(KEY)
            if trace in text
        }
        assert not found
        assert len(files) > 2


@pytest.fixture
def icl(toy, monkeypatch, capfd, caplog) -> Watch:
    lengthen_shots(n_queries=3)
    plant_keys(monkeypatch, KEY)
    quicken_command_line(monkeypatch, Timing(first_wait_s=0.001))
    caplog.set_level(logging.DEBUG)
    return Watch(toy, monkeypatch, capfd, caplog)


def plant_in_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the keys into `.env` instead."""
    names = [cls.service.key_names[0] for cls in CLASSES.values()]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    Path(".env").write_text("".join(f"{name}={KEY}\n" for name in names))


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """A server that ends every error with the key, and the header that it came in."""
    with LoopbackServer(Parity(), cache_minimum=1024) as one:
        for wire in one.wires:
            wire.error = talkative(wire.error)
        yield one


def talkative(error: Callable[..., dict]) -> Callable[..., dict]:
    def quoted(*about: str) -> dict:
        told = error(*about)
        told["error"]["message"] += (
            " (you sent Authorization: Bearer {key}, x-api-key={key}, '{key}')"
        )
        return told

    return quoted


def run(out: str, wire: Wire, server: LoopbackServer, **more: str) -> list[str]:
    grid = ["run", "toy", "--data", "data", "--shots", "0,2", "--draws", "1", "--out", out]
    return [*grid, *wire.options(server, **{"max_retries": "1", "timeout_s": "30", **more})]


@pytest.mark.slow
@every_wire
def test_no_way_to_fail_gives_the_key_away(icl, server, wire: Wire) -> None:
    for fault in FAULTS:
        server.fail_next(None)
        server.fail_always(fault)
        icl(*run(fault, wire, server), "--debug")  # says all that is said without it
        n_sent = len(server.requests)
        assert n_sent > 1
    sent = {
        name
        for request in server.requests
        for name, value in request.headers.items()
        if KEY in value
    }
    assert len(sent) == 1, "the key itself was there"
    icl.check()


@pytest.mark.slow
@every_wire
@pytest.mark.parametrize("in_file", [False, True])
def test_no_command_gives_the_key_away(icl, server, wire: Wire, in_file: bool, monkeypatch) -> None:
    if in_file:
        plant_in_file(monkeypatch)
    command = run("out", wire, server)
    server.fail_next(None, "invalid")
    icl(*command, "--debug")
    plan, batches = ["plan", *command[1:]], [*run("batches", wire, server), "--batch"]
    for others in (plan, *RUN_COMMANDS):
        assert icl(*others, "--debug") == 0, others
    assert any(KEY in str(request.headers) for request in server.requests)
    server.fail_always("auth")
    for others in (plan, command, batches, ["batch", "batches"]):
        icl(*others, "--debug")
        icl(*others)
    icl.check()


@pytest.mark.slow
@every_wire
@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
def test_no_broken_body_or_bug_gives_the_key_away(
    icl, server, wire: Wire, debug: tuple[str, ...], monkeypatch
) -> None:
    with monkeypatch.context() as bug:
        bug.setattr(Requests, "_learn", lambda *_: 1 / 0)
        assert icl(*run("bug", wire, server), *debug) == 1
        assert "ZeroDivisionError" in icl.said
    fields = (
        "choices",
        "content",
        "output",
        "candidates",
        "usage",
        "usageMetadata",
        "id",
        "status",
        "stop_reason",
    )
    for value in (KEY, [{"message": KEY, "type": KEY, "finishReason": "STOP"}]):
        for one in server.wires:
            one.answer = lambda made, body, value=value: dict.fromkeys(fields, value)
        assert icl(*run(f"broken-{type(value).__name__}", wire, server), *debug) == 1
    with LoopbackServer() as gone:
        pass
    assert icl(*run("unreached", wire, gone), *debug) == 1
    icl.check()
