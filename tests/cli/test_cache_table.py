"""`icl caches`: what a run that was killed still keeps at the provider, and the run that goes on
with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import icl_harness
from tests.models.api.apis import KEY
from tests.servers import LoopbackServer
from tests.test_end_to_end import command_line

pytestmark = pytest.mark.slow

ID = "google/gemini-2.5-flash"
POEM = " and".join(f" shot {i}" for i in range(1000))
N_ANSWERED = 5  # queries of the second cell before the kill


@pytest.fixture
def icl(toy, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    for name in ("GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    rows = [json.loads(line) for line in Path("data/toy/train.jsonl").read_text().splitlines()]
    long = [
        {**row, "text": row["text"] + POEM} for row in rows
    ]  # so that two shots are worth a cache
    Path("data/toy/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long))
    return command_line(Path.cwd(), monkeypatch, capfd)


def arguments(server: LoopbackServer) -> list[str]:
    base_url = server.base_url("google")
    grid = ["run", "toy", "--shots", "0,2,4", "--draws", "1", "--data", "data", "--out", "out"]
    return [*grid, "--model", ID, "--base-url", base_url, "--model-arg", f"priced_as={ID}"]


class Stopper:
    """Answers, until it has been asked so many times about the shots; then it holds what comes."""

    def __init__(self) -> None:
        self.n = 0
        self.full, self.go_on = threading.Event(), threading.Event()

    def __call__(self, prompt: str) -> str:
        if prompt.count("shot 999") == 2 and not self.go_on.is_set():
            self.n += 1
            if self.n > N_ANSWERED:
                self.full.set()
                self.go_on.wait(60)
        return "even"


@contextlib.contextmanager
def running(server: LoopbackServer, stopper: Stopper) -> Iterator[subprocess.Popen[bytes]]:
    """Give a run in a process of its own that is in the midst of the cell with two shots."""
    code = (
        # a background job ignores it
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from icl_harness.cli.app import main; main()"
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    worker = subprocess.Popen([sys.executable, "-c", code, *arguments(server)], **quiet)
    try:
        assert stopper.full.wait(60)
        yield worker
    finally:
        worker.kill()
        worker.wait()
        stopper.go_on.set()


@pytest.fixture
def stopper() -> Stopper:
    return Stopper()


@pytest.fixture
def server(stopper) -> Iterator[LoopbackServer]:
    with LoopbackServer(stopper, cache_minimum=2048) as one:
        yield one


def made(server: LoopbackServer) -> int:
    return sum("contents" in r.body for r in server.requests if r.path.endswith("cachedContents"))


def test_a_run_that_was_killed_goes_on_with_its_cache_and_pays_for_it_once(
    icl, server, stopper
) -> None:
    with running(server, stopper) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    assert len(server.cached_contents) == 1
    assert icl(*arguments(server))[0] == 0
    assert made(server) == 2  # of two shots and of four
    assert server.cached_contents == {}
    frame = icl_harness.Run("out").records()
    assert set(frame["status"]) == {"ok"}
    assert frame["cache_write_tokens"].sum() == sum(
        sum(bill.cache_write.values()) for bill in server.bill
    )


def test_the_caches_of_a_run_that_was_killed_are_listed_and_deleted(icl, server, stopper) -> None:
    with running(server, stopper) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    code, out, _ = icl("caches", "out")
    assert code == 0
    heading, row = out.splitlines()
    assert heading.split() == ["cache", "model", "shots", "tokens", "state"]
    assert re.fullmatch(rf"cachedContents/\w+  {ID} +2 +[\d,]+  until 20\S+ \S+", row)
    assert len(server.cached_contents) == 1
    code, out, _ = icl("caches", "out", "--delete")
    assert (code, out.split()[-1]) == (0, "deleted")
    assert server.cached_contents == {}
    assert (
        icl("caches", "out")
        == icl("caches", "out", "--delete")
        == (0, "out keeps no caches at a provider.\n", "")
    )


def test_a_run_that_goes_on_is_said_and_its_caches_are_not_deleted(icl, server, stopper) -> None:
    with running(server, stopper):
        code, out, _ = icl("caches", "out")
        assert (code, out.splitlines()[0]) == (
            0,
            "out: a run is going on, which deletes its caches itself.",
        )
        assert "until" in out.splitlines()[2]
        code, out, err = icl("caches", "out", "--delete")
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert "a run is going on" in err
        assert len(server.cached_contents) == 1


def test_ctrl_c_deletes_the_cache(icl, server, stopper) -> None:
    with running(server, stopper) as worker:
        worker.send_signal(signal.SIGINT)
        time.sleep(0.5)  # what is underway comes back only once the signal was heard
        stopper.go_on.set()
        assert worker.wait(60) == 130
    assert server.cached_contents == {}
    assert icl("caches", "out")[1] == "out keeps no caches at a provider.\n"


def test_one_that_has_ended_is_told_and_forgotten(icl, server, stopper) -> None:
    with running(server, stopper) as worker:
        worker.kill()
        worker.wait()
    server.cached_contents.clear()
    with sqlite3.connect("out/ledger.db") as db:
        db.execute("UPDATE caches SET expires = expires - 3600")
    db.close()
    assert "not there any more" in icl("caches", "out")[1]
    assert icl("caches", "out", "--delete")[0] == 0
    assert "no caches" in icl("caches", "out")[1]


@pytest.mark.parametrize("confirmed", [True, False])
def test_one_that_this_key_is_not_shown_is_told_and_not_forgotten(
    icl, server, stopper, confirmed: bool
) -> None:
    with running(server, stopper) as worker:
        worker.kill()
        worker.wait()
    if not confirmed:
        with sqlite3.connect("out/ledger.db") as db:
            db.execute("UPDATE caches SET name = NULL, tokens = NULL, expires = NULL")
        db.close()
    kept = dict(server.cached_contents)
    server.cached_contents.clear()  # as another key sees it
    for options in ((), ("--delete",), ()):
        code, out, _ = icl("caches", "out", *options)
        assert (code, out.count("\n")) == (0, 2)  # its heading and itself
        assert "not shown to this key by this server" in out
    server.cached_contents.update(kept)
    assert icl("caches", "out", "--delete")[1].split()[-1] == "deleted"
    assert server.cached_contents == {}


def test_a_provider_that_refuses_is_one_line(icl, server, stopper) -> None:
    with running(server, stopper) as worker:
        worker.kill()
        worker.wait()
    server.fail_always("auth")
    code, out, err = icl("caches", "out", "--delete")
    assert (code, out) == (1, "")
    assert err.startswith(f"icl: {ID}: 401")
    assert KEY not in err
    server.fail_always(None)
    assert "until" in icl("caches", "out")[1]


def test_a_folder_that_is_no_run_is_refused(icl) -> None:
    code, _, err = icl("caches", "data")
    assert code == 2
    assert "not a run folder" in err
