"""Whole runs against servers that misbehave on a seed: every query is answered once, and the bill
is the records' sum.

The wire formats of all providers, with their caches; 30 % of the requests meet a fault.
"""

from __future__ import annotations

from collections import Counter

import pytest

import icl_harness
from icl_harness.models.api.timing import Timing
from tests.api_runs import (
    Parity,
    Watched,
    Wire,
    charged,
    every_wire,
    lengthen_shots,
    plant_keys,
    sent_asks,
)
from tests.quick import tries
from tests.servers import KINDS, LoopbackServer
from tests.servers.misbehaviour import AFTER

GRID = {"data": "data", "modes": ["supervised", "unsupervised"], "shots": [0, 2, 5], "draws": 2}
MAX_RETRIES = 8  # the default
TIMEOUT_S = (
    10  # longer than a busy machine takes: an answer given up in time for none would spoil the sums
)


@pytest.fixture(autouse=True)
def quick(toy, monkeypatch) -> None:
    lengthen_shots()
    plant_keys(monkeypatch)


@pytest.mark.slow
@every_wire
@pytest.mark.parametrize("seed", range(1, 1 + tries(2)))
def test_every_query_is_answered_once_and_the_bill_is_the_sum_of_the_records(
    wire: Wire, seed: int
) -> None:
    model = Parity()
    with LoopbackServer(model, stall_s=2 * TIMEOUT_S, cache_minimum=1024) as server:
        server.n_reasoning = 3
        server.misbehaviour = faults = Watched(seed, 0.3, KINDS, most_stalls=1)
        args = wire.model_args(timeout_s=str(TIMEOUT_S))
        run = icl_harness.run(
            "toy",
            wire.id,
            out="out",
            base_url=server.base_url(wire.provider),
            model_args=args,
            timing=Timing(first_wait_s=0.01, longest_wait_s=0.05),
            **GRID,
        )
    records = run.records()
    asked = records[~records["reused"]]
    assert set(faults.met) == {*KINDS} - {"duplicate", "failed", "expired"}, (
        "every kind of fault was met"
    )
    assert len(records) == 2 * 3 * 2 * 12
    assert set(records["status"]) == {"ok"}
    assert (records["score"] == 1).all()

    requests, bills = (
        sent_asks(wire, server),
        [bill for bill in server.bill if wire.is_ask(bill.path)],
    )
    assert len(asked) == len(set(asked["answer"])) == sum(bill.delivered for bill in bills)
    prompts = {model.made[answer.strip()] for answer in asked["answer"]}
    assert len(prompts) == len(asked), "no two queries share an answer, and none was answered twice"
    assert len(requests) == len(asked) + faults.met_at(wire, KINDS), (
        "one more request for each fault, not more"
    )
    attempts = Counter(request.prompt for request in requests)
    assert max(attempts.values()) <= MAX_RETRIES + 1
    assert attempts.keys() == prompts

    # Whether one that was reset was lost before or after it was answered, only the provider knows.
    n_lost = sum(not bill.delivered for bill in bills)
    assert n_lost == faults.met_at(wire, AFTER) > 0
    assert records["n_lost"].sum() == n_lost + faults.met_at(wire, ("reset",))

    told = charged(wire, server)
    assert {name: asked[name].sum() for name in told} == told
    assert told["cached_tokens"] > told["prompt_tokens"] / 2, "caching takes, faults or no faults"
    assert server.cached_contents == {}
