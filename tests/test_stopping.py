"""Runs that are stopped by a signal, or whose requests are lost: what was sent is paid for once,
and counts towards --max-cost.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import icl_harness
from icl_harness.errors import BudgetSpent
from icl_harness.models.api.ledger import Ledger
from tests.api_runs import (
    WIRES,
    Parity,
    Wire,
    charged,
    dollars,
    every_wire,
    lengthen_shots,
    plant_keys,
    sent_asks,
)
from tests.forked import Forked, icl
from tests.quick import QUICK
from tests.servers import LoopbackServer

pytestmark = pytest.mark.slow

GRID = ["run", "toy", "--data", "data", "--shots", "0,2,5", "--draws", "2", "--out", "out"]
N_RECORDS = 3 * 2 * 12
CONCURRENCY = 4
SEED = int(os.environ.get("ICL_KILL_SEED", "20261128"))  # printed with a failure, to replay it


@pytest.fixture(autouse=True)
def quick(toy, monkeypatch) -> None:
    lengthen_shots()
    plant_keys(monkeypatch)


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Have runs hear signals also where a background job or nohup ignores them: what a process
    ignores, its children do.
    """
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {which: signal.signal(which, handler) for which, handler in handlers.items()}
    yield
    for which, handler in before.items():
        signal.signal(which, handler)


def start(wire: Wire, server: LoopbackServer, *more: str) -> Forked:
    args = wire.options(server, concurrency=str(CONCURRENCY), timeout_s="60")
    return Forked(icl, *GRID, *args, *more)


def wait_for(server: LoopbackServer, n: int, worker: Forked) -> None:
    while len(server.requests) < n:
        assert worker.poll() is None, worker.communicate()
        time.sleep(0.002)


def n_asked(wire: Wire, server: LoopbackServer) -> int:
    return sum(wire.is_ask(request.path) for request in server.requests)


def asks_of(wire: Wire, server: LoopbackServer) -> list[object]:
    return [bill for bill in server.bill if wire.is_ask(bill.path)]


@pytest.mark.parametrize(
    ("wire", "name"),
    [
        *((wire, "SIGINT") for wire in WIRES.values()),
        (WIRES["chat"], "SIGTERM"),
        (WIRES["chat"], "SIGHUP"),
    ],
    ids=[*(f"{name}-SIGINT" for name in WIRES), "chat-SIGTERM", "chat-SIGHUP"],
)
def test_a_run_that_is_stopped_lets_what_is_underway_come_back_and_pays_for_nothing_twice(
    wire: Wire, name: str
) -> None:
    rng = random.Random(f"{SEED} {name} {wire.path}")
    with LoopbackServer(Parity(), delay_s=0.2, cache_minimum=1024) as server:
        for _ in range(2):
            worker = start(wire, server)
            wait_for(server, len(server.requests) + rng.randint(3, 20), worker)
            worker.send_signal(getattr(signal, name))
            _, err = worker.communicate(timeout=60)
            assert worker.returncode == 130, err
            assert "All answers so far are kept" in err
            assert server.cached_contents == {}, f"seed {SEED}"
            records = icl_harness.Run("out").records()
            asked = records[~records["reused"]]
            assert len(asked) == len(asks_of(wire, server)), f"seed {SEED}"
        worker = start(wire, server)
        _, err = worker.communicate()
        assert worker.returncode == 0, err
        records = icl_harness.Run("out").records()
        asked = records[~records["reused"]]
        assert len(records) == N_RECORDS
        assert len(asked) == len(asks_of(wire, server)) == len(sent_asks(wire, server))
        assert records["n_lost"].sum() == 0
        if wire.provider != "google":  # whose caches are made anew after each stop
            assert asked["cost_usd"].sum() == charged(wire, server)["cost_usd"]


@every_wire
def test_a_line_says_what_is_waited_for_and_a_second_signal_gives_it_up_and_counts_it(
    wire: Wire,
) -> None:
    with LoopbackServer(Parity(), delay_s=3.0, cache_minimum=10**6) as server:
        worker = start(wire, server)
        wait_for(server, 3, worker)
        time.sleep(0.3)
        worker.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert worker.poll() is None, "it waits for what is underway"
        worker.send_signal(signal.SIGINT)
        start_s = time.monotonic()
        _, err = worker.communicate(timeout=60)
        assert time.monotonic() - start_s < 2
        assert worker.returncode == 130
        assert "underway, paid for in any case: about " in err
        assert "Ctrl-C again ends that." in err
        time.sleep(3)
        records = icl_harness.Run("out").records()
        n_bills = len(asks_of(wire, server))
        assert n_bills == len(server.requests) > 2
        assert records["n_lost"].sum() == n_bills
        assert set(records["status"]) == {"failed"}
        with Ledger_of("out") as ledger:
            assert ledger.unrecorded_usd() >= sum(map(dollars, server.bill))
        server.delay_s = 0.0
        worker = start(wire, server)
        worker.communicate()
        assert worker.returncode == 0
    records = icl_harness.Run("out").records()
    assert len(records) == N_RECORDS
    assert set(records["status"]) == {"ok"}
    assert records["n_lost"].sum() == n_bills


class Ledger_of(Ledger):  # noqa: N801
    """The ledger of a run, closed at the end."""

    def __init__(self, folder: str) -> None:
        super().__init__(Path(folder))

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_a_run_that_waits_for_a_minute_to_pass_stops_at_once() -> None:
    wire = WIRES["chat"]
    with LoopbackServer(Parity(), retry_after="100") as server:
        server.fail_next(None, None)
        server.fail_always("rate")
        worker = start(wire, server)
        wait_for(server, 4, worker)
        time.sleep(0.5)
        worker.send_signal(signal.SIGINT)
        start_s = time.monotonic()
        worker.communicate(timeout=30)
        assert time.monotonic() - start_s < 3
        assert worker.returncode == 130


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_local_run_stops_at_the_first_signal(name: str) -> None:
    root = Path(__file__).parents[1]
    code = (
        "import icl_harness, time, sys\n"
        "def slow(prompt):\n    print('asked', flush=True); time.sleep(0.05); return 'even'\n"
        "model = icl_harness.ScriptedModel(slow)\n"
        "try:\n    icl_harness.run('toy', model, out='out', data='data', shots=[2])\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdout is not None
    worker.stdout.readline()
    worker.send_signal(getattr(signal, name))
    worker.communicate(timeout=20)
    assert worker.returncode == 130
    assert len(icl_harness.Run("out").records()) < N_RECORDS


@pytest.mark.parametrize(
    ("wire", "how"),
    [*((wire, "kill") for wire in WIRES.values()), (WIRES["chat"], "stop"), (WIRES["chat"], "cut")],
    ids=[*(f"{name}-kill" for name in WIRES), "chat-stop", "chat-cut"],
)
def test_max_cost_is_not_passed_by_resuming(wire: Wire, how: str) -> None:
    """Requests are lost on the wire, and by kills; the server's bill stays below the sum."""
    rng = random.Random(f"{SEED} {how} {wire.path}")
    with LoopbackServer(Parity(), cache_minimum=10**6, delay_s=0.03, stall_s=0.2) as server:
        whole_usd = 0.20
        server.misbehave(rng.randrange(1000), 0.4, ("lost", "reset_after", "truncated", "garbage"))
        for _ in range(3):
            worker = start(wire, server, "--max-cost", str(whole_usd))
            aim = n_asked(wire, server) + rng.randint(4, 12)
            while worker.poll() is None and n_asked(wire, server) < aim:
                time.sleep(0.002)
            if worker.poll() is None:
                worker.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
                if how == "cut":
                    time.sleep(0.02)
                    worker.send_signal(signal.SIGINT)
            worker.communicate(timeout=60)
            time.sleep(0.1)
            billed = sum(map(dollars, server.bill))
            assert billed <= whole_usd, f"seed {SEED}"
            with Ledger_of("out") as ledger:
                known = ledger.unrecorded_usd() + icl_harness.Run("out").records()["cost_usd"].sum()
            assert known >= billed, f"seed {SEED}: the run knows of less than it was billed"


def test_what_was_lost_is_counted_by_the_next_process_at_its_worst_price() -> None:
    wire = WIRES["chat"]
    args = wire.model_args(concurrency="1", max_retries="0")
    grid = {"data": "data", "modes": ["supervised"], "shots": [5], "draws": 1, "timing": QUICK}

    def go(server: LoopbackServer, usd: float) -> None:
        url = server.base_url("openai")
        icl_harness.run(
            "toy", wire.id, out="out", base_url=url, model_args=args, max_cost=usd, **grid
        )

    with LoopbackServer(Parity(), cache_minimum=10**6) as server:
        server.fail_always("lost")
        go(server, 10)
        billed = sum(map(dollars, server.bill))
        with Ledger_of("out") as ledger:
            lost = ledger.unrecorded_usd()
        assert lost >= billed > 0
        server.fail_always(None)
        n_bills = len(server.bill)
        with pytest.raises((BudgetSpent, icl_harness.errors.SpecError), match="spent"):
            go(server, lost * 1.02)
        assert len(server.bill) == n_bills
        go(server, 10)
        with Ledger_of("out") as ledger:
            assert ledger.unrecorded_usd() == pytest.approx(lost)
