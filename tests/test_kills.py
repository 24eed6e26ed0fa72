"""A run killed with SIGKILL at 50 random instants ends with the records of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import icl_harness
from tests.quick import tries

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("interrupted_run.py")
N_KILLS = tries(50)
SEED = int(os.environ.get("ICL_KILL_SEED", "20261121"))  # printed with a failure, to replay it


def start(out: str, log: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(WORKER), out, log], stderr=subprocess.PIPE)


def records(out: str):
    frame = icl_harness.Run(out).records()
    return frame.drop(columns=["latency_s"])


def complaints(worker: subprocess.Popen[bytes]) -> list[bytes]:
    """What a run has written to standard error, but that guesses are often right: there are two
    labels.
    """
    return [line for line in worker.communicate()[1].splitlines() if b"by luck" not in line]


def asks(log: str) -> int:
    path = Path(log)
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.usefixtures("toy")
def test_many_kills_lose_nothing_and_ask_nothing_twice_but_what_was_in_flight() -> None:
    began = time.monotonic()
    worker = start("whole", "whole.log")
    assert complaints(worker) == []
    duration = time.monotonic() - began
    rng = random.Random(SEED)
    # Kills fall evenly over the asks of the run, so every phase is hit: start-up, bank, each mode,
    # the end.
    total, kills = asks("whole.log"), 0
    aims = sorted(rng.uniform(-0.1, 1.0) * total for _ in range(N_KILLS))
    for aim in aims:
        worker = start("killed", "killed.log")
        deadline = time.monotonic() + 10 * duration
        while worker.poll() is None and asks("killed.log") < aim and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        if worker.poll() is None:
            worker.send_signal(signal.SIGKILL)
            kills += 1
        worker.communicate()
    assert kills >= N_KILLS * 0.9, f"seed {SEED}: only {kills} kills hit a living run"
    assert complaints(start("killed", "killed.log")) == []
    assert records("killed").equals(records("whole")), f"seed {SEED}"
    banks = [sorted(Path(out).glob("banks/*.jsonl"))[0].read_bytes() for out in ("killed", "whole")]
    assert banks[0] == banks[1], f"seed {SEED}"
    repeated = Counter(Path("killed.log").read_text().splitlines())
    assert sum(n - 1 for n in repeated.values()) <= kills, (
        f"seed {SEED}: asked twice what was not in flight"
    )
