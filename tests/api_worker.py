"""Runs to be killed, each a fork of this process: the first is here, and so has loaded what the
others need.

Usage: python -m tests.api_worker WIRE. For each line of input, a run's folder and its server, it
prints the id of the process and, once that is done, its exit code: negative where a signal ended
it.
"""

import os
import sys
import traceback

import icl_harness
from icl_harness.models.api.timing import Timing
from tests.api_runs import WIRES

GRID = {"data": "data", "modes": ["supervised", "unsupervised"], "shots": [0, 2, 5], "draws": 2}
CONCURRENCY = 4
TIMING = Timing(first_wait_s=0.01, longest_wait_s=0.05)


def run(name: str, out: str, url: str) -> int:
    """Run, or go on, and return the exit code."""
    wire = WIRES[name]
    args = wire.model_args(concurrency=str(CONCURRENCY), max_retries="20")
    try:
        icl_harness.run(
            "toy", wire.id, out=out, base_url=url, model_args=args, timing=TIMING, **GRID
        )
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        return 1
    return 0


def forked(*arguments: str) -> int:
    """Run in a fork and return the exit code."""
    process = os.fork()
    if not process:
        os._exit(run(*arguments))
    print(process, flush=True)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(name: str) -> None:
    carry_out = run
    for line in sys.stdin:
        print(carry_out(name, *line.split()), flush=True)
        carry_out = forked


if __name__ == "__main__":
    main(*sys.argv[1:])
