"""The NLL of gold answers as a metric of curves and differences."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from icl_harness.analysis.compare import compare
from icl_harness.analysis.curves import curves
from icl_harness.analysis.stats import intervals, mean_estimate
from icl_harness.errors import SpecError
from icl_harness.report.metric_choice import chosen_metrics
from icl_harness.tasks.metrics import gold_nll

METRICS = {"trec": gold_nll}
UNKNOWN = {
    "n_lost": 0, "cost_usd": math.nan, "prompt_tokens": math.nan, "cached_tokens": math.nan,
    "cache_write_tokens": math.nan, "completion_tokens": math.nan, "reasoning_tokens": math.nan,
}  # fmt: skip


def records(mean=1.0, *, n_draws=3, n_queries=30, seed=0, **fields):
    """Answers of one cell, half of them right, with gamma-distributed NLLs."""
    rng = np.random.default_rng(seed)
    draw, query = (axis.ravel() for axis in np.indices((n_draws, n_queries)))
    usual = {
        "task": "trec", "model": "demo", "mode": "supervised", "variant": "default",
        "format": "text", "queries_per_request": 1, "shots": 4, "metric": "accuracy",
    }  # fmt: skip
    cell = {**usual, **fields}
    return pd.DataFrame(
        {
            **cell,
            **UNKNOWN,
            "draw": draw,
            "query_id": [f"q{number}" for number in query],
            "sample": 0,
            "status": "ok",
            "parsed": "x",
            "reused": False,
            "node": draw + 100 * cell["shots"],
            "shots_used": cell["shots"],
            "score": (rng.random(len(draw)) < 0.5).astype(float),
            "gold_nll": mean * rng.gamma(1.0, size=len(draw)),
        }
    )


def curve(**fields):
    means = {1: 1.5, 4: 0.9, 16: 0.4}
    return pd.concat(records(m, shots=k, seed=k, **fields) for k, m in means.items())


def test_a_point_is_the_mean_nll_with_the_interval_of_a_value_without_an_upper_limit() -> None:
    table = curve()
    found = curves(table, metrics=METRICS)
    assert set(found["metric"]) == {"gold_nll"}
    estimates = []
    for _, rows in table.groupby("shots"):
        codes = rows["query_id"].factorize()[0]
        limits = (0.0, math.inf)
        shots = float(rows["shots"].iloc[0])
        estimates.append(
            mean_estimate(rows["gold_nll"], rows["draw"], codes, limits=limits, shots=shots)
        )
    for row, expected in zip(found.to_dict("records"), intervals(estimates), strict=True):
        mean = table[table["shots"] == row["shots"]]["gold_nll"].mean()
        assert row["value"] == pytest.approx(mean)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.low, expected.high))
        assert 0 < row["ci_low"] < row["value"] < row["ci_high"] < 2 * row["value"]
        assert row["ci_covers"] == "queries and draws"


def test_what_the_answer_was_makes_no_difference() -> None:
    table = curve()
    other = table.assign(score=1 - table["score"], parsed=None)
    found, same = (curves(one, metrics=METRICS) for one in (table, other))
    assert found["value"].tolist() == same["value"].tolist()
    assert same["n_unparsed"].tolist() == [90, 90, 90]


def test_nlls_that_are_all_0_or_1_are_no_accuracy() -> None:
    table = records().assign(gold_nll=lambda rows: (rows.index % 2).astype(float), shots=1)
    more = curves(pd.concat([table, curve()]), metrics=METRICS)["ci_high"].iloc[0]
    (high,) = curves(table.assign(gold_nll=1.0), metrics=METRICS)["ci_high"]
    assert more > 0.5
    assert math.isnan(high) or high > 1  # nothing varies: nothing is known


def test_an_answer_that_draws_share_counts_once() -> None:
    first = records(n_draws=1, shots=0)
    copies = [first.assign(draw=draw, reused=True) for draw in (1, 2)]
    (row,) = curves(pd.concat([first, *copies]), metrics=METRICS).to_dict("records")
    (alone,) = curves(first, metrics=METRICS).to_dict("records")
    assert row["n_ok"] == 30
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((alone["ci_low"], alone["ci_high"]))


def test_answers_without_an_nll_are_missing_not_zero() -> None:
    table = curve()
    some = table.assign(gold_nll=table["gold_nll"].where(table["query_id"] != "q3"))
    kept = table[table["query_id"] != "q3"]
    found, expected = (curves(one, metrics=METRICS) for one in (some, kept))
    for name in ("value", "ci_low", "ci_high"):
        assert found[name].tolist() == pytest.approx(expected[name].tolist())
    both = pd.concat([table, records(model="other").assign(gold_nll=math.nan)])
    other = curves(both, metrics=METRICS).set_index("model").loc["other"]
    assert other[["value", "ci_low", "ci_high"]].isna().all()
    assert other["n_ok"] == 90


@pytest.mark.parametrize("make", [curves, lambda *a, **k: compare(*a, by="shots", **k)])
def test_records_without_any_nll_are_refused_with_the_remedy(make) -> None:
    for table in (curve().drop(columns="gold_nll"), curve().assign(gold_nll=None)):
        with pytest.raises(SpecError, match="--scoring choices or with --gold-nll") as caught:
            make(table, metrics=METRICS)
        assert "no answer to trec" in str(caught.value)


def test_differences_are_those_of_the_same_draw_and_query() -> None:
    table = pd.concat(
        [curve(), curve(mode="unsupervised").assign(gold_nll=lambda r: r.gold_nll + 1)]
    )
    found = compare(table, by="mode", metrics=METRICS)
    assert found["b_minus_a"].tolist() == pytest.approx([1.0, 1.0, 1.0])
    wide = compare(pd.concat([curve(), curve(mode="unsupervised")]), by="shots", metrics=METRICS)
    means = curve().groupby("shots")["gold_nll"].mean()
    row = wide[(wide["a"] == 1) & (wide["b"] == 16) & (wide["mode"] == "supervised")].iloc[0]
    assert row["b_minus_a"] == pytest.approx(means[16] - means[1])
    assert row["p_value"] < 0.01


def test_a_gold_answer_of_probability_0_makes_the_mean_infinite_without_an_interval() -> None:
    table = curve()
    at = (table["shots"] == 4) & (table["query_id"] == "q3") & (table["draw"] == 1)
    found = curves(table.assign(gold_nll=table["gold_nll"].mask(at, math.inf)), metrics=METRICS)
    usual = curves(table, metrics=METRICS)
    assert found["value"].tolist()[1] == math.inf
    assert math.isnan(found["ci_high"].tolist()[1])
    assert found["value"].tolist()[::2] == usual["value"].tolist()[::2]
    infinite = table.assign(gold_nll=table["gold_nll"].mask(at, math.inf))
    row = compare(infinite, by="shots", metrics=METRICS).iloc[0]
    assert (row["b_minus_a"], math.isnan(row["ci_low"])) == (math.inf, True)
    assert math.isnan(row["p_value"])


def header(scoring: str) -> dict[str, object]:
    return {"tasks": {"trec": {"metric": "accuracy"}}, "spec": {"scoring": scoring}}


@pytest.mark.parametrize(
    ("scorings", "metric", "says"),
    [
        (["choices"], "gold_nll", ""),
        (["generate", "choices"], "gold_nll", ""),
        (["choices-normalised"], "gold_nll_per_token", ""),
        (["choices-normalised"], "gold_nll", "in nats a token: give --metric gold_nll_per_token"),
        (["choices"], "gold_nll_per_token", "in nats: give --metric gold_nll,"),
        (["choices", "choices-normalised"], "gold_nll", "read no run with other scoring beside it"),
    ],
)
def test_sums_and_means_over_tokens_are_never_put_together(scorings, metric, says) -> None:
    headers = [header(scoring) for scoring in scorings]
    if not says:
        assert chosen_metrics(headers, metric)["trec"].name == metric
        return
    with pytest.raises(SpecError, match=says):
        chosen_metrics(headers, metric)
