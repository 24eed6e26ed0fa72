"""A run in batches, to be killed: `main(OUT, MODEL, URL, [STEP, [GRID]])`.

With a step, as RunStore.add, it kills itself the first time that it comes to it, and walks a grid
of one mode: PLAIN.
"""

import os
import signal
import sys

import pytest

import icl_harness
from icl_harness.cli import app
from icl_harness.models.anthropic.batch_api import AnthropicBatches
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.api.timing import Timing
from icl_harness.models.google.batch_api import GoogleBatches
from icl_harness.models.openai.batch_api import OpenAIBatches
from icl_harness.store.records import RunStore
from tests.quick import quicken_command_line

PLAIN = {"data": "data", "modes": ["supervised"], "shots": [0, 2, 5], "draws": 2}
BANKED = {**PLAIN, "modes": ["reinforced"], "bank_samples": 1}
TIMING = Timing(
    first_wait_s=0.01,
    longest_wait_s=0.05,
    settle_s=0.05,
    first_poll_s=0.02,
    longest_poll_s=0.05,
    batch_tries=100,
    unsure_batch_s=0.1,
)
GRID = {**BANKED, "modes": ["supervised", "reinforced"]}


def make_small() -> None:
    """Submit small batches."""
    for api in (OpenAIBatches, AnthropicBatches, GoogleBatches):
        api.most_requests = 9


def main(out: str, model: str, url: str, step: str = "", grid: str = "PLAIN") -> None:
    make_small()
    if step:
        owner, _, name = step.partition(".")
        setattr(
            {"RunStore": RunStore, "Ledger": Ledger}[owner],
            name,
            lambda *_: os.kill(os.getpid(), signal.SIGKILL),
        )
    go(out, model, url, {"PLAIN": PLAIN, "BANKED": BANKED}[grid] if step else GRID)


def run_command_line(*arguments: str) -> None:
    """Run the command line in small batches, without waits."""
    make_small()
    quicken_command_line(pytest.MonkeyPatch(), TIMING)
    sys.argv = ["icl", *arguments]
    app.main()


def go(out: str, model: str, url: str, grid: dict[str, object]) -> icl_harness.Run:
    args = {"priced_as": model, "timeout_s": "1", "max_retries": "100"}
    return icl_harness.run(
        "toy", model, out=out, base_url=url, model_args=args, batch=True, timing=TIMING, **grid
    )
