"""`icl power`, and the line of a run or a plan that sees too little."""

from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import icl_harness
from icl_harness.cli.app import app
from icl_harness.cli.execute import plan_run
from icl_harness.cli.power_costs import Costs
from icl_harness.errors import SpecError
from icl_harness.report.power import comparisons
from icl_harness.runner.execution import Execution
from icl_harness.runner.spec import Spec

RUN = ["run", "dialects", "--model", "baseline/bayes", "--modes", "supervised,unsupervised"]


def icl(*arguments: str) -> str:
    shown = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    return shown.output


@pytest.fixture(scope="module")
def pilot(tmp_path_factory):
    out = tmp_path_factory.mktemp("power") / "pilot"
    return icl_harness.run(
        "dialects", "baseline/bayes", modes=["supervised", "unsupervised"], shots=[0, 1, 4],
        draws=6, queries=12, out=out,
    )  # fmt: skip


def test_a_pilot_run_says_what_it_sees_and_what_it_takes(pilot):
    shown = icl("power", str(pilot.path), "--draws", "6,60", "--queries", "12,200")
    assert "dialects · baseline/bayes · accuracy: smallest difference by mode seen" in shown
    assert re.search(r"^this run, 6 draws x 12 queries: \d+ points", shown, re.MULTILINE)
    assert "80 % power, p (Holm) < .05 in a family of 3" in shown
    assert "to see 10 points" in shown


def test_stated_shares_need_no_run():
    shown = icl("power", "--accuracy", ".6", "--draw-sd", ".5", "--draws", "3,80", "--queries",
                "100", "--shots", "1,4")  # fmt: skip
    rows = [line.split() for line in shown.splitlines()]
    assert ["3", "no", "number", "is", "enough"] in rows
    (at_80,) = [row for row in rows if row[:1] == ["80"] and len(row) == 2]
    assert 10 < int(at_80[1]) < 1000


@pytest.mark.parametrize(
    ("draw_sd", "grid", "says"),
    [("1", ("3", "5000"), "more queries cannot show 10 points"),
     ("0", ("500", "20"), "more draws cannot show 10 points"), ("0.1", ("20", "500"), None)],
)  # fmt: skip
def test_more_of_what_cannot_help_is_named(draw_sd, grid, says):
    shown = icl("power", "--draw-sd", draw_sd, "--query-sd", "2", "--draws", grid[0], "--queries",
                grid[1], "--shots", "1,4,16")  # fmt: skip
    assert "planned, " in shown
    assert ("cannot show" in shown) == (says is not None)
    assert says is None or says in shown


def test_the_csv_and_python_give_the_same_table(pilot):
    text = icl("power", str(pilot.path), "--draws", "6,60", "--queries", "50", "--csv", "-")
    of_csv = pd.read_csv(io.StringIO(text))
    frame = icl_harness.power(pilot, draws=[6, 60], queries=[50])
    assert frame.columns.tolist() == [
        "task", "model", "metric", "by", "draws", "queries", "detectable", "detectable_alone",
        "detectable_hardest",
    ]  # fmt: skip
    assert frame[["draws", "queries"]].values.tolist() == [[6, 12], [6, 50], [60, 12], [60, 50]]
    np.testing.assert_allclose(of_csv["detectable"], frame["detectable"], atol=1e-5)
    assert (frame["detectable_alone"] <= frame["detectable"]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a pilot run"),
        (["--accuracy", "1.5"], "between 0 and 1"),
        (["--accuracy", "60"], "between 0 and 1"),
        (["--accuracy", "nan"], "between 0 and 1"),
        (["--draw-sd", "-1"], "0 to 10"),
        (["--query-sd", "inf"], "0 to 10"),
        (["--accuracy", ".5", "--difference", "0"], "above 0"),
        (["--accuracy", ".5", "--difference", "nan"], "above 0"),
        (["--accuracy", ".5", "--draws", "1"], "from 2"),
        (["--accuracy", ".5", "--draws", "three"], "from 2"),
        (["--accuracy", ".5", "--queries", "5,,6"], "from 2"),
        (["--accuracy", ".5", "--shots", "0"], "nothing to compare"),
        (["--accuracy", ".5", "--by", "shots", "--shots", "4"], "nothing to compare"),
        (["--accuracy", ".5", "--by", "format"], "not by 'format'"),
        (["--accuracy", ".5", "--metric", "chrf"], "--metric"),
        (["PILOT", "--accuracy", ".5"], "leave out"),
        (["PILOT", "--by", "models"], "cannot compare by"),
        (["PILOT", "--by", "model"], "needs 2"),
        (["PILOT", "--metric", "acuracy"], "accuracy"),
    ],
)
def test_what_cannot_be_said_is_one_line(arguments, words, pilot):
    named = [str(pilot.path) if one == "PILOT" else one for one in arguments]
    with pytest.raises(SpecError, match=re.escape(words)) as error:
        CliRunner().invoke(app, ["power", *named], catch_exceptions=False)
    assert "\n" not in str(error.value)


def test_one_draw_says_what_to_do(tmp_path):
    out = str(tmp_path / "one")
    shown = icl(*RUN, "--shots", "1,4", "--draws", "1", "--queries", "12", "--out", out)
    assert "one draw cannot show a difference of any size" in shown
    with pytest.raises(SpecError, match="icl extend"):
        CliRunner().invoke(app, ["power", out], catch_exceptions=False)


def test_a_run_that_cannot_see_10_points_says_so_at_its_end(tmp_path):
    out = str(tmp_path / "few")
    shown = icl(*RUN, "--shots", "1,2", "--draws", "3", "--queries", "12", "--out", out)
    (line,) = [line for line in shown.splitlines() if "10 points" in line]
    assert line.startswith("dialects · baseline/bayes: 3 draws x 12 queries cannot")
    assert line.endswith(f"icl power {out} tells what would")


def test_a_run_that_can_is_silent(tmp_path):
    shown = icl("run", "dialects", "--model", "baseline/bayes", "--shots", "8,64", "--draws", "25",
                "--queries", "12", "--out", str(tmp_path / "many"))  # fmt: skip
    assert "points" not in shown


@pytest.mark.parametrize(
    ("draws", "modes", "says"),
    [("2", "supervised,unsupervised", True), ("60", "supervised,unsupervised", False),
     ("2", "supervised", True)],
)  # fmt: skip
def test_a_plan_says_what_it_cannot_see_even_if_draws_do_not_differ(draws, modes, says, tmp_path):
    shown = icl("plan", "dialects", "--model", "baseline/bayes", "--shots", "1,4", "--modes", modes,
                "--draws", draws, "--queries", "12", "--out", str(tmp_path / "p"))  # fmt: skip
    assert ("even if draws do not differ" in shown) == says


def test_a_plan_with_answers_goes_by_them(pilot):
    shown = icl("plan", "dialects", "--model", "baseline/bayes", "--modes",
                "supervised,unsupervised", "--shots", "0,1,4", "--draws", "6", "--queries", "12",
                "--out", str(pilot.path))  # fmt: skip
    assert "by the answers so far" in shown
    assert "even if" not in shown


def test_costs_are_those_of_the_plan(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    fields = {"tasks": ["linear_classification:16"], "models": ["openai/gpt-4o-mini"],
              "shots": [0, 8, 32]}  # fmt: skip
    spec = Spec.from_dict({**fields, "draws": 5, "queries": 20}, "test")
    plan = plan_run(spec, tmp_path / "none", Execution(tpm=100_000))
    one = icl_harness.report.power.stated(accuracy=0.5)
    costs = Costs(None, one, Execution(tpm=100_000))
    costs._spec = spec.model_copy(update={"draws": 2, "queries": 7})
    found = costs.of(5, 20)
    assert found.requests == sum(row.requests for row in plan.rows)
    tokens = sum(row.prompt_tokens for row in plan.rows)
    assert found.prompt_tokens == pytest.approx(tokens, rel=0.05)
    assert found.usd == pytest.approx(plan.usd("usd_cached") + plan.usd("usd_output"), rel=0.05)
    assert found.seconds == pytest.approx(sum(row.seconds for row in plan.rows), rel=0.05)


def test_an_imported_run_is_a_pilot_too(tmp_path):
    rng = np.random.default_rng(0)
    k, draw, query = (part.ravel() for part in np.indices((3, 4, 60)))
    table = pd.DataFrame({"task": "t", "shots": 2**k, "draw": draw, "query": query,
                          "score": (rng.random(k.size) < 0.5).astype(int)})  # fmt: skip
    table.to_csv(tmp_path / "t.csv", index=False)
    out = str(tmp_path / "imported")
    icl("import", str(tmp_path / "t.csv"), "--model", "m", "--out", out)
    shown = icl("power", out, "--draws", "4", "--queries", "60")
    assert "difference between shot counts" in shown
    assert "of results that were imported" in shown
    (one,) = comparisons(icl_harness.Run(out))
    assert (one.n_draws, one.n_queries, one.by) == (4, 60, "shots")
