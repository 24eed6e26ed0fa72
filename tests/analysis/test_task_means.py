"""Means over tasks: their values, their intervals, and that no task is left out in silence."""

from __future__ import annotations

import math
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from icl_harness.analysis.compare import compare
from icl_harness.analysis.curves import COLUMNS, curves
from icl_harness.analysis.estimates import mean_estimate
from icl_harness.analysis.stats import holm, intervals
from icl_harness.analysis.task_means import mean_of
from icl_harness.cli.notes import lacking_notes
from icl_harness.errors import SpecError
from icl_harness.report.plots import plot
from icl_harness.tasks.metrics import gold_nll
from tests.analysis.test_gold_nll import METRICS, records

RATES = {"easy": 0.8, "hard": 0.3, "odd": 0.5}


def task(name, rate, *, n_draws=3, n_queries=40, seed=0, **fields):
    table = records(task=name, n_draws=n_draws, n_queries=n_queries, seed=seed, **fields)
    rng = np.random.default_rng(seed + 99)
    table = table.assign(score=(rng.random(len(table)) < rate).astype(float))
    return table.assign(query_id=name + table["query_id"])


def grid(modes=("supervised", "unsupervised"), shots=(1, 4), **sizes):
    parts = []
    for i, (name, rate) in enumerate(RATES.items()):
        for j, mode in enumerate(modes):
            for k in shots:
                seed = 100 * i + 10 * j + k
                less = 0.15 * j
                parts.append(task(name, rate - less, mode=mode, shots=k, seed=seed, **sizes))
    return pd.concat(parts, ignore_index=True)


def test_every_task_counts_as_much_however_many_queries_it_has() -> None:
    table = pd.concat([task("big", 0.9, n_queries=200), task("small", 0.2, n_queries=10)])
    (row,) = curves(table, mean_over_tasks=True).to_dict("records")
    means = table.groupby("task")["score"].mean()
    assert row["task"] == "mean of 2 tasks"
    assert row["value"] == pytest.approx((means["big"] + means["small"]) / 2)
    assert row["value"] != pytest.approx(table["score"].mean(), abs=0.1)
    assert (row["n_tasks"], row["lacking"], row["n_draws"]) == (2, "", 3)
    assert (row["n_ok"], row["n_queries"]) == (630, 210)
    assert row["ci_covers"] == "queries and draws"


def test_variances_of_the_tasks_add_up() -> None:
    table = grid(n_draws=40, n_queries=40)  # so many that t's quantiles are the normal's
    found = curves(table, mean_over_tasks=True)
    each = curves(table)
    assert len(found) == 4
    assert list(found.columns) == [*COLUMNS, "n_tasks", "lacking"]
    for row in found.to_dict("records"):
        of = each[(each["mode"] == row["mode"]) & (each["shots"] == row["shots"])]
        halves = (of["ci_high"] - of["ci_low"]) / 2
        expected = math.sqrt((halves**2).sum()) / 3
        assert (row["ci_high"] - row["ci_low"]) / 2 == pytest.approx(expected, rel=0.02)


@settings(max_examples=50, deadline=None)
@given(
    value=st.floats(0, 1), below=st.floats(0.001, 0.3), above=st.floats(0.001, 0.3),
    times=st.floats(1.97, 12),
)  # fmt: skip
def test_the_mean_of_one_task_is_its_own_and_of_many_is_narrower(
    value: float, below: float, above: float, times: float
) -> None:
    def of(n: int):
        low, high = np.full(n, value - below), np.full(n, value + above)
        return mean_of(np.full(n, value), low, high, (high - low) / 2 / times, 0.95)

    one, four = of(1), of(4)
    assert (one.low, one.high) == pytest.approx((value - below, value + above), abs=1e-9)
    normal = 1.959964 / times
    for own, whole in ((below, four.value - four.low), (above, four.high - four.value)):
        assert own / 2 * normal <= whole + 1e-9
        assert whole <= own / 2 + 1e-9  # t of more degrees of freedom


def test_a_task_that_lacks_a_value_leaves_no_mean_and_is_named() -> None:
    table = grid()
    table = table[
        (table["task"] != "odd") | (table["shots"] == 1) | (table["mode"] == "supervised")
    ]
    found = curves(table, mean_over_tasks=True)
    gone = found[(found["mode"] == "unsupervised") & (found["shots"] == 4)].iloc[0]
    assert np.isnan([gone["value"], gone["ci_low"], gone["ci_high"]]).all()
    assert (gone["n_tasks"], gone["lacking"]) == (2, "odd")
    assert found["value"].notna().sum() == 3
    (note,) = lacking_notes(found)
    assert note == (
        "demo unsupervised default 4 shots: no mean over tasks, as there is no value of odd"
    )
    differences = compare(table, mean_over_tasks=True)
    assert differences["lacking"].tolist() == ["", "odd"]
    assert math.isnan(differences["b_minus_a"][1])


def test_a_task_that_failed_or_is_in_no_comparison_at_all_is_missed_too() -> None:
    table = grid()
    failed = table.assign(status=np.where(table["task"] == "odd", "failed", table["status"]))
    assert curves(failed, mean_over_tasks=True)["value"].isna().all()
    one_sided = table[(table["task"] != "odd") | (table["mode"] == "supervised")]
    found = compare(one_sided, mean_over_tasks=True)
    assert found["lacking"].tolist() == ["odd", "odd"]
    assert found["b_minus_a"].isna().all()


def test_differences_are_means_of_the_tasks_differences_and_p_goes_with_the_limits() -> None:
    table = grid()
    found, each = compare(table, mean_over_tasks=True), compare(table)
    assert found["task"].tolist() == ["mean of 3 tasks"] * 2
    for row in found.to_dict("records"):
        of = each[each["shots"] == row["shots"]]
        assert row["b_minus_a"] == pytest.approx(of["b_minus_a"].mean())
        assert row["ci_high"] - row["ci_low"] < (of["ci_high"] - of["ci_low"]).mean() * 0.8
        assert (row["p_value"] < 0.05) == (row["ci_low"] > 0 or row["ci_high"] < 0)
        assert row["n_pairs"] == 360
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p_value"].tolist()))
    null = compare(table.assign(score=table["score"].sample(frac=1, random_state=3).to_numpy()),
                   mean_over_tasks=True)  # fmt: skip
    for row in null.to_dict("records"):
        assert (row["p_value"] < 0.05) == (row["ci_low"] > 0 or row["ci_high"] < 0)


def test_one_draw_of_a_task_leaves_no_p_value() -> None:
    table = grid()
    table = table[(table["task"] != "odd") | (table["draw"] == 0)]
    assert compare(table, mean_over_tasks=True)["p_value"].isna().all()
    assert set(curves(table, mean_over_tasks=True)["ci_covers"]) == {"queries"}


def test_one_task_and_tasks_of_several_metrics_have_no_mean() -> None:
    with pytest.raises(SpecError, match="needs 2 of them; these records hold easy"):
        curves(task("easy", 0.5), mean_over_tasks=True)
    mixed = pd.concat([task("easy", 0.5), task("hard", 0.5, metric="chrF2++")])
    with pytest.raises(SpecError, match=r"measured by accuracy, chrF2\+\+, .* Give one --metric"):
        curves(mixed, mean_over_tasks=True)


def test_means_of_the_nll_over_tasks_have_intervals_too() -> None:
    table = pd.concat([records(task="trec"), records(2.0, task="other", seed=5)])
    metrics = {**METRICS, "other": gold_nll}
    (row,) = curves(table, metrics=metrics, mean_over_tasks=True).to_dict("records")
    assert row["value"] == pytest.approx(table.groupby("task")["gold_nll"].mean().mean())
    assert 0 < row["ci_low"] < row["value"] < row["ci_high"]


def test_the_picture_of_a_mean_has_one_panel_and_the_mean_chance() -> None:
    found = curves(grid(), mean_over_tasks=True)
    (ax,) = plot(found, {"easy": 0.5, "hard": 0.25, "odd": 0.3}).axes
    assert ax.get_title(loc="left") == "mean of 3 tasks"
    levels = [line.get_ydata()[0] for line in ax.lines if list(line.get_xdata()) == [0, 1]]
    assert levels == pytest.approx([35.0])
    (ax,) = plot(found, {"easy": 0.5, "hard": None, "odd": 0.3}).axes
    assert "chance" not in [text.get_text() for text in ax.texts]


def test_intervals_of_means_over_four_tasks_cover_what_they_should() -> None:
    rng = np.random.default_rng(4)
    middles, shots, n_draws, n_queries = (-1.5, -0.5, 0.5, 1.5), (1, 8, 64), 3, 40
    draw, query = (axis.ravel() for axis in np.indices((n_draws, n_queries)))
    wide = np.random.default_rng(1).normal(scale=math.sqrt(1.25), size=100_000)
    truth = np.mean([expit(middle + wide).mean() for middle in middles])
    covered = []
    for _ in range(40):
        found = []
        for middle in middles:
            estimates = []
            skill = rng.normal(size=n_queries)
            for k in shots:
                luck = rng.normal(scale=0.5, size=n_draws)
                chance = expit(middle + luck[:, None] + skill)
                right = (rng.random(chance.shape) < chance).astype(float).ravel()
                limits = (0.0, 1.0)
                estimates.append(mean_estimate(right, draw, query, limits=limits, shots=k))
            found.append(intervals(estimates))
        for i in range(len(shots)):
            names = ("value", "low", "high", "moderated_se")
            parts = (np.array([getattr(of[i], name) for of in found]) for name in names)
            mean = mean_of(*parts, 0.95)
            covered.append(mean.low <= truth <= mean.high)
    assert 0.88 <= np.mean(covered) <= 0.995


@pytest.mark.slow
def test_the_command_line_takes_the_mean(tmp_path, monkeypatch, capsys) -> None:
    from icl_harness.cli.app import main

    def icl(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icl", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    names = {"task": "task", "mode": "mode", "shots": "shots", "draw": "draw", "query": "query_id"}
    grid()[[*names.values(), "score"]].to_csv("scores.csv", index=False)
    columns = ",".join(f"{key}={name}" for key, name in names.items())
    icl("import", "scores.csv", "--columns", f"{columns},score=score", "--out", "run")
    code, out, _ = icl("curves", "run", "--mean-over-tasks")
    assert code == 0
    assert "mean of 3 tasks · scores · accuracy [95 % interval]" in out
    code, out, _ = icl("compare", "run", "--mean-over-tasks")
    assert code == 0
    assert "mean of 3 tasks · scores · accuracy: unsupervised - supervised" in out
    code, out, _ = icl("curves", "run", "--mean-over-tasks", "--format", "markdown")
    assert "**mean of 3 tasks" in out
    assert icl("plot", "run", "--mean-over-tasks", "--out", "mean.svg")[0] == 0
