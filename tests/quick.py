"""What keeps the tests quick: the waits that a loopback server needs, in the place of a provider's;
how often random faults are tried.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from icl_harness.models.api.terms import Terms
from icl_harness.models.api.timing import Timing
from icl_harness.runner.execution import Execution

QUICK = Timing(
    first_wait_s=0.005,
    longest_wait_s=0.02,
    settle_s=0.02,
    first_poll_s=0.005,
    longest_poll_s=0.02,
    unsure_batch_s=0.05,
)


def tries(most: int) -> int:
    """Return how many kills or damages a test tries: half of `most`, or that share of it which
    ICL_TRIES gives.
    """
    return round(most * float(os.environ.get("ICL_TRIES", "0.5")))


def quicken_command_line(monkeypatch: pytest.MonkeyPatch, timing: Timing = QUICK) -> None:
    """Let the command line, which has no options for it, wait as little as a test needs."""
    terms = Execution.terms

    def quick_terms(how: Execution) -> Terms:
        return replace(terms(how), timing=timing)

    monkeypatch.setattr(Execution, "terms", quick_terms)
