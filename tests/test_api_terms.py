"""Runs through APIs: an open model is asked on the run's terms and left as it was; a run stays with
its server.
"""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import icl_harness
from icl_harness import ScriptedModel
from icl_harness.cli import execute as runs
from icl_harness.errors import BudgetSpent, SpecError, StoreError
from icl_harness.models import open_model
from icl_harness.models.api import account
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.api.limiter import Rates, limiter_of
from icl_harness.report.run import load_runs
from tests.api_runs import Parity, lengthen_shots, plant_keys
from tests.quick import QUICK
from tests.servers import LoopbackServer

MODELS = ["openai/gpt-4.1", "anthropic/claude-sonnet-4-5", "google/gemini-2.5-flash"]
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True)
def _quick(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_keys(monkeypatch)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer(Parity(), cache_minimum=1024) as one:
        yield one


def given(name: str, server: LoopbackServer) -> Any:
    url = server.base_url(name.partition("/")[0])
    return open_model(name, base_url=url, model_args={"priced_as": name, "reasoning_tokens": "0"})


def go(model: Any, out: str = "out", **how: Any) -> icl_harness.Run:
    grid = {"data": "data", "modes": ["supervised"], "shots": [0, 2], "draws": 1, "timing": QUICK}
    return icl_harness.run("toy", model, out=out, **{**grid, **how})


@pytest.mark.slow
@every_model
def test_an_open_model_hands_in_batches_in_a_run_with_batches_and_in_no_other(
    name: str, server
) -> None:
    model, notes = given(name, server), []
    assert set(go(model, batch=True, say=notes.append).records()["status"]) == {"ok"}
    assert {bill.batch for bill in server.bill} == {True}
    assert {entry.state for entry in Ledger(Path("out")).batches()} == {"done"}
    assert any("submitted" in note for note in notes)
    server.bill.clear()
    assert set(go(model, "other").records()["status"]) == {"ok"}
    assert {bill.batch for bill in server.bill} == {False}


@pytest.mark.slow
@every_model
def test_an_open_model_is_paced_by_the_rates_of_the_run(
    name: str, server, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def noted(name: str, rates: Rates, most: int) -> Any:
        told.append(rates)
        return limiter_of(name, rates, most)

    monkeypatch.setattr(account, "limiter_of", noted)
    model = given(name, server)
    for rpm in (60_000.0, 90_000.0):
        go(model, f"{rpm}", rpm=rpm, tpm=1e9)
    assert told == [Rates(rpm=60_000.0, tpm=1e9), Rates(rpm=90_000.0, tpm=1e9)]


@every_model
def test_an_open_model_is_held_to_the_dollars_of_the_run(
    name: str, server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "refuse_cost", lambda *_, **__: None)  # the plan would see it before
    with pytest.raises(BudgetSpent, match="--max-cost"):
        go(given(name, server), max_cost=1e-5)
    assert len(icl_harness.Run("out").records()) < 5


@pytest.mark.slow
def test_what_an_open_model_keeps_at_the_provider_is_in_the_runs_ledger(server) -> None:
    lengthen_shots()
    go(given("google/gemini-2.5-flash", server))
    assert any(request.path.endswith("cachedContents") for request in server.requests)
    assert Path("out/ledger.db").exists()
    assert Ledger(Path("out")).caches() == []


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS[:2])  # whose SDKs are on aiohttp, which tells
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_no_connection_of_an_open_model_stays_behind_in_the_loop_of_a_run(
    name: str, server, caplog
) -> None:
    go(given(name, server))
    gc.collect()
    assert "Unclosed" not in caplog.text


def test_an_open_model_that_is_no_api_takes_no_batches() -> None:
    with pytest.raises(SpecError, match="takes no batches"):
        go(ScriptedModel(lambda prompt: "even"), batch=True)
    assert not Path("out").exists()


def forget_a_cell(folder: str) -> None:
    """Leave a run as if it had been stopped after its first cell."""
    with sqlite3.connect(f"{folder}/records.db") as db:
        db.execute("DELETE FROM records WHERE cell = (SELECT id FROM cells WHERE shots = 2)")
    db.close()


@pytest.mark.slow
@pytest.mark.parametrize("is_open", [False, True])
def test_a_run_does_not_go_on_at_another_server(
    server, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "openai/some-model"
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url("openai"))
    go(open_model(name) if is_open else name)
    forget_a_cell("out")
    with LoopbackServer(Parity()) as other:
        monkeypatch.setenv("OPENAI_BASE_URL", other.base_url("openai"))
        with pytest.raises(
            StoreError, match="a run of another server: openai/some-model is "
        ) as caught:
            go(open_model(name) if is_open else name)
        assert "\n" not in str(caught.value)
        assert not other.requests
        go(name, "other", shots=[4])
        with pytest.raises(StoreError, match=r"in different ways .*server of openai/some-model"):
            load_runs([Path("out"), Path("other")])
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url("openai"))
    assert set(go(name).records()["status"]) == {"ok"}
