"""A run in batches, to be killed. Usage: python -m tests.batch_worker OUT MODEL URL."""

import sys

import icl_harness
from icl_harness.models.anthropic.batches import AnthropicBatches
from icl_harness.models.api import asks, batch_desk, batches
from icl_harness.models.google.batches import GoogleBatches
from icl_harness.models.openai.batches import OpenAIBatches

GRID = {"data": "data", "modes": ["supervised", "reinforced"], "shots": [0, 2, 5], "draws": 2, "bank_samples": 1}


def make_quick() -> None:
    """Wait as little as a loopback server needs, in small batches."""
    batches.SETTLE_S, batches.MOST_TRIES = 0.05, 100
    batch_desk.FIRST_POLL_S, batch_desk.LONGEST_POLL_S, batch_desk.UNSURE_S = 0.02, 0.05, 0.1
    asks.FIRST_WAIT_S, asks.LONGEST_WAIT_S = 0.01, 0.05
    for api in (OpenAIBatches, AnthropicBatches, GoogleBatches):
        api.most_requests = 9


def main(out: str, model: str, url: str) -> None:
    make_quick()
    args = {"priced_as": model, "timeout_s": "3", "max_retries": "100"}
    icl_harness.run("toy", model, out=out, base_url=url, model_args=args, batch=True, **GRID)


if __name__ == "__main__":
    main(*sys.argv[1:])
