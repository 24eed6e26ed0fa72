"""API runs killed with SIGKILL at random instants, while the server misbehaves, end with an
undisturbed run's records.

They pay twice for what was in flight at a kill, and for nothing else.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pandas as pd
import pytest

import icl_harness
from tests.api_runs import TIMEOUT_S, WIRES, Watched, charged, lengthen_shots, plant_keys, sent_asks
from tests.api_worker import CONCURRENCY
from tests.quick import tries
from tests.servers import KINDS, LoopbackServer
from tests.servers.misbehaviour import AFTER

pytestmark = pytest.mark.slow

N_KILLS = tries(30)
SEED = int(os.environ.get("ICL_KILL_SEED", "20261124"))  # printed with a failure, to replay it
# What depends on when a run was killed: on what was lost, and on what the provider had cached.
VARYING = ["latency_s", "n_lost", "cached_tokens", "cache_write_tokens", "cost_usd"]


def answer(prompt: str) -> str:
    """Return the number's parity, and a word that is the prompt's own."""
    number = int(re.findall(r"\bn (\d+) ->", prompt)[-1])
    return f"{('even', 'odd')[number % 2]} {hashlib.sha1(prompt.encode()).hexdigest()[:8]}"


@contextmanager
def worker_of(name: str) -> Iterator[subprocess.Popen[str]]:
    """Give a process that carries out the runs that its input names."""
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command, pipe = [sys.executable, "-m", "tests.api_worker", name], subprocess.PIPE
    with subprocess.Popen(
        command, env=where, stdin=pipe, stdout=pipe, text=True, bufsize=1
    ) as worker:
        yield worker  # the end of its input ends it


def start(worker: subprocess.Popen[str], out: str, server: LoopbackServer, name: str) -> IO[str]:
    """Start a run; return where the worker tells of it."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{out} {server.base_url(WIRES[name].provider)}\n")
    return worker.stdout


def kill_at(
    process: int, told: IO[str], server: LoopbackServer, n_requests: float, wait_s: float
) -> bool:
    """Kill a run a while after the server has got so many requests; return whether it was still
    going on.
    """
    codes: list[int] = []
    watcher = threading.Thread(target=lambda: codes.append(int(told.readline())))
    watcher.start()
    while watcher.is_alive() and len(server.requests) < n_requests:
        time.sleep(0.001)
    watcher.join(wait_s)
    if watcher.is_alive():
        os.kill(process, signal.SIGKILL)
    watcher.join()
    assert codes[0] in (0, -signal.SIGKILL)
    return codes[0] != 0


def records(out: str) -> pd.DataFrame:
    return icl_harness.Run(out).records()


@pytest.mark.parametrize("name", ["chat", "responses", "messages", "gemini"])
def test_a_run_killed_now_and_then_under_faults_ends_the_same_and_repays_only_requests_in_flight(
    toy: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lengthen_shots()
    plant_keys(monkeypatch)
    wire, rng, n_kills = WIRES[name], random.Random(f"{SEED} {name}"), 0
    with worker_of(name) as worker:
        with LoopbackServer(answer, cache_minimum=1024) as server:
            assert start(worker, "whole", server, name).readline() == "0\n"
            n_caches = sum(not wire.is_ask(bill.path) for bill in server.bill)
        whole = records("whole")
        n_requests = 1.4 * (~whole["reused"]).sum()  # 30 % of them meet a fault
        with LoopbackServer(
            answer, delay_s=0.02, stall_s=2 * TIMEOUT_S, cache_minimum=1024
        ) as server:
            server.misbehaviour = faults = Watched(SEED, 0.3, KINDS)
            for aim in sorted(rng.uniform(0, n_requests) for _ in range(N_KILLS)):
                told = start(worker, "killed", server, name)
                n_kills += kill_at(int(told.readline()), told, server, aim, rng.uniform(0, 0.05))
            told = start(worker, "killed", server, name)
            assert [told.readline(), told.readline()][1] == "0\n", (
                f"seed {SEED}"
            )  # its process, its exit code
    assert n_kills >= N_KILLS * 0.8, f"seed {SEED}: only {n_kills} kills hit a living run"
    killed = records("killed")
    # To Gemini's prompts belong those that were sent to be kept.
    varying = [*VARYING, *["prompt_tokens"] * (name == "gemini")]
    pd.testing.assert_frame_equal(killed.drop(columns=varying), whole.drop(columns=varying))

    asked, bills = (
        killed[~killed["reused"]],
        [bill for bill in server.bill if wire.is_ask(bill.path)],
    )
    n_by_kills = len(bills) - faults.met_at(wire, AFTER) - len(asked)
    assert 0 <= n_by_kills <= n_kills * CONCURRENCY, f"seed {SEED}"
    assert (
        len(sent_asks(wire, server))
        <= len(asked) + faults.met_at(wire, KINDS) + n_kills * CONCURRENCY
    )
    assert asked["cost_usd"].sum() <= charged(wire, server)["cost_usd"].expected * (1 + 1e-9)
    assert server.cached_contents == {}, f"seed {SEED}"
    assert len(server.bill) - len(bills) <= n_caches + n_kills, f"seed {SEED}"
