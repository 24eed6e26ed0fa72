"""A plan's range for answers of models that reason, and prices that are not known."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import genai_prices
import pytest
from typer.testing import CliRunner

from icl_harness.cli.app import app
from icl_harness.cli.plan_tables import plan_notes
from icl_harness.models import open_model
from icl_harness.models.api.prices import find_price
from icl_harness.models.api.terms import Terms
from icl_harness.plan.estimate import Plan, Planned

ROW = Planned(
    task="t", model="openai/gpt-5", mode="supervised", variant="default", shots=4, draw=0,
    requests=100, prompt_tokens=1000, cached_tokens=0, completion_tokens=100 * 9_000,
    usd_cached=1.0, usd_plain=2.0, usd_batch=1.0, usd_output=433.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "args", "usual"),
    [
        ("openai/gpt-5", {}, (200, 2500)),
        ("openai/o3", {"reasoning_effort": "high"}, (600, 6000)),
        ("openai/gpt-5", {"reasoning_effort": "minimal"}, (0, 200)),
        ("openai/gpt-5", {"reasoning_tokens": "1000"}, (200, 1000)),
        ("openai/gpt-4.1", {}, None),
        ("openai/gpt-5.1", {}, (0, 2500)),
        ("anthropic/claude-opus-5", {}, (200, 6000)),
        ("google/gemini-3-pro", {}, (200, 6000)),
        ("anthropic/claude-opus-5", {"effort": "low"}, (50, 800)),
        ("anthropic/claude-haiku-4-5", {}, None),
        ("google/gemini-2.5-flash", {}, (200, 2500)),
        ("google/gemini-2.5-flash", {"thinking_budget": "0"}, None),
    ],
)
def test_the_usual_reasoning_follows_family_effort_and_room(
    name: str, args: dict[str, str], usual: tuple[int, int] | None
) -> None:
    model = open_model(name, model_args=args, terms=Terms(keyless=True))
    assert model.usual_reasoning() == usual


def test_the_range_is_said_beside_the_most() -> None:
    row = replace(ROW, usd_usual_low=9.6, usd_usual_high=132.0)
    *_, line = plan_notes(Plan(rows=(row,)))
    assert line.startswith("answers: usually $9.60 to $132.00; at most $433")
    told = replace(row, usual_low_tokens=200, usual_high_tokens=2756, usual_source="by X")
    *_, line = plan_notes(Plan(rows=(told,)))
    assert line == "openai/gpt-5: 200–2,756 tokens an answer, by X"
    *_, line = plan_notes(Plan(rows=(ROW,)))
    assert line.startswith("answers: at most $433")


@pytest.mark.usefixtures("toy")
def test_an_answer_without_thoughts_is_not_planned_as_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    grid = "plan toy --model openai/gpt-5.1 --data data --shots 0 --draws 1 --queries 2"
    said = CliRunner().invoke(app, grid.split()).output
    assert "openai/gpt-5.1: 1–2,504 tokens an answer" in said


def test_what_has_no_price_is_named_and_not_counted_as_free() -> None:
    unknown = replace(
        ROW, model="openai/x", usd_cached=None, usd_plain=None, usd_batch=None, usd_output=None
    )
    lines = list(plan_notes(Plan(rows=(ROW, unknown), unpriced=("openai/x",))))
    assert any(line.endswith("in batch; not counted: openai/x") for line in lines)
    lines = list(plan_notes(Plan(rows=(unknown,), unpriced=("openai/x",))))
    assert not any("$" in line for line in lines)


@pytest.mark.parametrize("lacking", ["input_mtok", "output_mtok"])
def test_a_model_whose_table_lacks_a_price_has_none(
    monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    known = genai_prices.calc_price(genai_prices.Usage(), "gpt-4.1", provider_id="openai")
    price = copy.copy(known.model_price)
    setattr(price, lacking, None)

    def calc_price(*args: Any, **more: Any) -> Any:
        return SimpleNamespace(model=known.model, provider=known.provider, model_price=price)

    monkeypatch.setattr(genai_prices, "calc_price", calc_price)
    assert find_price.__wrapped__("openai", "gpt-4.1") is None
