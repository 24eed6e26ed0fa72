"""A run in batches, to be killed. Usage: python -m tests.batch_worker OUT MODEL URL [STEP [GRID]].

With a step, as RunStore.add, it kills itself the first time that it comes to it, and walks a grid
of one mode: PLAIN.
"""

import os
import signal
import sys

import icl_harness
from icl_harness.models.anthropic.batch_api import AnthropicBatches
from icl_harness.models.api import asks, batch_desk, batches
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.google.batch_api import GoogleBatches
from icl_harness.models.openai.batch_api import OpenAIBatches
from icl_harness.store.records import RunStore

PLAIN = {"data": "data", "modes": ["supervised"], "shots": [0, 2, 5], "draws": 2}
BANKED = {**PLAIN, "modes": ["reinforced"], "bank_samples": 1}
GRID = {**BANKED, "modes": ["supervised", "reinforced"]}


def make_quick() -> None:
    """Wait as little as a loopback server needs, in small batches."""
    batches.SETTLE_S, batches.MOST_TRIES = 0.05, 100
    batch_desk.FIRST_POLL_S, batch_desk.LONGEST_POLL_S, batch_desk.UNSURE_S = 0.02, 0.05, 0.1
    asks.FIRST_WAIT_S, asks.LONGEST_WAIT_S = 0.01, 0.05
    for api in (OpenAIBatches, AnthropicBatches, GoogleBatches):
        api.most_requests = 9


def main(out: str, model: str, url: str, step: str = "", grid: str = "PLAIN") -> None:
    make_quick()
    if step:
        owner, _, name = step.partition(".")
        setattr(
            {"RunStore": RunStore, "Ledger": Ledger}[owner],
            name,
            lambda *_: os.kill(os.getpid(), signal.SIGKILL),
        )
    go(out, model, url, {"PLAIN": PLAIN, "BANKED": BANKED}[grid] if step else GRID)


def go(out: str, model: str, url: str, grid: dict[str, object]) -> icl_harness.Run:
    args = {"priced_as": model, "timeout_s": "3", "max_retries": "100"}
    return icl_harness.run("toy", model, out=out, base_url=url, model_args=args, batch=True, **grid)


if __name__ == "__main__":
    main(*sys.argv[1:])
