"""Prompts that are too long for the provider, by its own word, under each policy and through every
wire format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd
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
from tests.quick import quicken_command_line
from tests.servers import KINDS, LoopbackServer
from tests.test_end_to_end import command_line

GRID = ("run", "toy", "--data", "data", "--shots", "0,2,6", "--draws", "2", "--out", "out")
N_QUERIES = 12
FITS = 4  # shots of 1,204 words each


@pytest.fixture
def icl(toy, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    lengthen_shots()
    plant_keys(monkeypatch)
    quicken_command_line(monkeypatch, Timing(first_wait_s=0.001, longest_wait_s=0.01))
    return command_line(toy, monkeypatch, capfd)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer(Parity(), cache_minimum=1024, context_window=5_500, stall_s=0) as one:
        yield one


def records() -> pd.DataFrame:
    frame = icl_harness.Run("out").records(shot_ids=True)
    assert len(frame) == 3 * 2 * N_QUERIES
    assert (frame[frame["status"] == "ok"]["score"] == 1).all()
    return frame


def n_answered(wire: Wire, server: LoopbackServer) -> int:
    return sum(bill.delivered for bill in server.bill if wire.is_ask(bill.path))


@pytest.mark.slow
@every_wire
@pytest.mark.parametrize("faults", [False, True])
def test_drop_asks_the_cell_with_the_most_shots_that_the_provider_takes(
    icl, server, wire: Wire, faults: bool
) -> None:
    if faults:
        server.misbehaviour = Watched(1, 0.3, KINDS)
    code, out, err = icl(*GRID, *wire.options(server, timeout_s="30"))
    assert (code, err) == (0, "")
    assert f"toy {wire.id} supervised default 6 shots: {FITS} shots used" in out
    frame = records()
    assert set(frame["status"]) == {"ok"}
    assert frame.groupby("shots")["shots_used"].unique().map(list).to_dict() == {
        0: [0],
        2: [2],
        6: [FITS],
    }
    assert all(
        len(shot_ids) == used
        for shot_ids, used in zip(frame["shot_ids"], frame["shots_used"], strict=True)
    )
    told = charged(wire, server)
    assert {name: frame[~frame["reused"]][name].sum() for name in told} == told, (
        "the search is in the records, too"
    )
    n_sent = len(server.requests)
    assert icl(*GRID, *wire.options(server, timeout_s="30"))[0] == 0
    assert len(server.requests) == n_sent, "nothing is asked again"


@pytest.mark.slow
@every_wire
def test_skip_leaves_the_cell_out_and_asks_for_it_once(icl, server, wire: Wire) -> None:
    code, out, err = icl(*GRID, "--on-overflow", "skip", *wire.options(server))
    assert (code, err) == (0, "")
    assert f"6 shots: {2 * N_QUERIES} prompts did not fit the context window and are missing" in out
    assert records().groupby("shots")["status"].unique().map(list).to_dict() == {
        0: ["ok"],
        2: ["ok"],
        6: ["overflow"],
    }
    assert n_answered(wire, server) == N_QUERIES + 2 * N_QUERIES
    assert len(sent_asks(wire, server)) - n_answered(wire, server) == 2, (
        "the longest query of each cell, alone"
    )


@every_wire
def test_error_stops_the_run_with_the_remedy(icl, server, wire: Wire) -> None:
    code, out, err = icl(*GRID, "--on-overflow", "error", *wire.options(server))
    assert (code, out.strip()) == (2, "")
    assert f"6 shots do not fit into the context window of {wire.id}. Ask for fewer" in err
    assert err.count("\n") == 1
    assert n_answered(wire, server) == 2 * N_QUERIES, "the cells before it are kept"
