"""Paired differences: who is compared with whom, on what, and what the numbers are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icl_harness.analysis.compare import compare
from icl_harness.analysis.stats import holm, paired_interval
from icl_harness.errors import SpecError


def records(p, *, n_draws=3, n_queries=40, seed=0, **fields):
    """Answers of one cell; `p` is the probability of a right one, harder for some queries than for
    others.
    """
    rng = np.random.default_rng(seed)
    draw, query = (a.ravel() for a in np.indices((n_draws, n_queries)))
    usual = {
        "task": "trec",
        "model": "demo",
        "mode": "supervised",
        "variant": "default",
        "format": "text",
        "queries_per_request": 1,
        "shots": 4,
        "metric": "accuracy",
    }
    return pd.DataFrame(
        {
            **usual,
            **fields,
            "draw": draw,
            "query_id": [f"q{q}" for q in query],
            "sample": 0,
            "status": "ok",
            "score": (rng.random(len(draw)) < p).astype(float),
        }
    )


def grid(**by_mode):
    return pd.concat(
        [
            records(p, mode=mode, shots=k, seed=k + len(mode))
            for mode, curve in by_mode.items()
            for k, p in curve.items()
        ]
    )


def test_differences_are_b_minus_a_on_the_same_draw_and_query():
    table = grid(supervised={4: 0.9, 16: 0.9}, unsupervised={4: 0.4, 16: 0.8})
    found = compare(table, by="mode")
    assert found[["a", "b", "shots"]].values.tolist() == [
        ["supervised", "unsupervised", 4],
        ["supervised", "unsupervised", 16],
    ]
    a, b = (
        table[(table["mode"] == m) & (table["shots"] == 4)] for m in ("supervised", "unsupervised")
    )
    alone = compare(table[table["shots"] == 4], by="mode").iloc[0]
    expected = paired_interval(a["score"], b["score"], a["draw"], a["query_id"], binary=True)
    assert (alone["b_minus_a"], alone["ci_low"], alone["ci_high"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    row = found.iloc[0]
    assert row["b_minus_a"] == alone["b_minus_a"]
    # Two differences together know more of how draws vary than one does.
    assert row["ci_high"] - row["ci_low"] < alone["ci_high"] - alone["ci_low"]
    assert row["b_minus_a"] < -0.3
    assert (row["n_pairs"], row["n_draws"], row["n_queries"]) == (120, 3, 40)
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p_value"].tolist()))


def test_what_is_compared_is_no_part_of_what_is_equal():
    found = compare(grid(supervised={4: 0.9}, reinforced={4: 0.8}), by="mode")
    assert "mode" not in found.columns
    assert {"task", "model", "variant", "shots", "metric"} < set(found.columns)


def test_a_pair_needs_both_sides_ok():
    table = grid(supervised={4: 0.9}, unsupervised={4: 0.4}).reset_index(drop=True)
    table.loc[[0, 1], ["status", "score"]] = ["failed", None]
    table.loc[125, ["status", "score"]] = ["overflow", None]
    table = table.drop(index=130)
    assert compare(table)["n_pairs"].tolist() == [120 - 4]


def test_cells_without_a_partner_give_no_row():
    table = grid(supervised={4: 0.9, 16: 0.9}, unsupervised={4: 0.4})
    assert compare(table)["shots"].tolist() == [4]
    other = records(0.5, mode="unsupervised", shots=16).assign(query_id="elsewhere")
    assert compare(pd.concat([table, other]))["shots"].tolist() == [4]


def test_shot_counts_are_compared_in_all_pairs_with_holm_over_them():
    found = compare(grid(supervised={0: 0.3, 4: 0.6, 64: 0.9}), by="shots")
    assert found[["a", "b"]].values.tolist() == [[0, 4], [0, 64], [4, 64]]
    assert "shots" not in found.columns
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p_value"].tolist()))
    assert (found["b_minus_a"] > 0).all()


def test_holm_is_over_the_shots_of_each_pair_alone():
    table = grid(
        supervised={4: 0.9, 16: 0.9}, unsupervised={4: 0.4, 16: 0.8}, reinforced={4: 0.7, 16: 0.9}
    )
    found = compare(table)
    for _, rows in found.groupby(["a", "b"]):
        assert rows["p_holm"].tolist() == pytest.approx(holm(rows["p_value"].tolist()))
    assert len(found) == 6


@pytest.mark.parametrize(
    ("by", "values"), [("model", ("demo", "hf/x")), ("variant", ("default", "bank"))]
)
def test_models_and_variants_are_compared_too(by, values):
    table = pd.concat(
        [records(p, **{by: value}) for p, value in zip((0.9, 0.5), values, strict=True)]
    )
    (row,) = compare(table, by=by).to_dict("records")
    assert (row["by"], row["a"], row["b"], row["mode"]) == (by, *values, "supervised")


def test_scores_of_other_metrics_are_compared_as_numbers():
    table = grid(supervised={4: 0.9}, unsupervised={4: 0.4}).assign(metric="chrF++")
    table["score"] = table["score"] * 30 + 0.5
    (row,) = compare(table).to_dict("records")
    assert row["ci_high"] - row["b_minus_a"] == pytest.approx(row["b_minus_a"] - row["ci_low"])
    assert row["b_minus_a"] < -1


def test_what_two_runs_both_asked_is_averaged():
    twice = pd.concat([grid(supervised={4: 0.9}, unsupervised={4: 0.4})] * 2)
    assert compare(twice)["n_pairs"].tolist() == [120]


def test_what_cannot_be_compared_is_one_line():
    table = records(0.5)
    with pytest.raises(
        SpecError,
        match=r"cannot compare by 'modes'; choose from mode, model, variant, shots, .*\. "
        r"Nearest: mode",
    ):
        compare(table, by="modes")
    with pytest.raises(SpecError, match=r"1 mode \(supervised\): a comparison by mode needs 2\.$"):
        compare(table)
    with pytest.raises(SpecError, match=r"needs 2\. Several there are by shots\.$"):
        compare(pd.concat([table, records(0.5, shots=8)]))


def test_no_partner_at_all_gives_an_empty_table():
    found = compare(pd.concat([records(0.5, shots=4), records(0.5, shots=8, mode="unsupervised")]))
    assert len(found) == 0
    assert "b_minus_a" in found.columns
    failed = grid(supervised={4: 0.9}, unsupervised={4: 0.4}).assign(status="failed", score=None)
    assert len(compare(failed)) == 0


def modes_and_shots():
    return grid(
        supervised={4: 0.9, 16: 0.9}, reinforced={4: 0.5, 16: 0.5}, unsupervised={4: 0.2, 16: 0.3}
    )


@pytest.mark.parametrize(
    ("by", "baseline", "pairs"),
    [
        ("mode", "unsupervised", {("unsupervised", "reinforced"), ("unsupervised", "supervised")}),
        ("mode", "supervised", {("supervised", "reinforced"), ("supervised", "unsupervised")}),
        ("shots", "16", {(16, 4)}),
        ("shots", 16, {(16, 4)}),
        ("shots", 4, {(4, 16)}),
    ],
)
def test_the_baseline_is_subtracted_from_all_others(by, baseline, pairs):
    table = modes_and_shots()
    found = compare(table, by=by, baseline=baseline)
    assert set(zip(found["a"], found["b"], strict=True)) == pairs
    means = table.groupby([by, *(name for name in ("mode", "shots") if name != by)])["score"].mean()
    for row in found.to_dict("records"):
        rest = row["shots"] if by == "mode" else row["mode"]
        expected = means[row["b"], rest] - means[row["a"], rest]
        assert row["b_minus_a"] == pytest.approx(expected)
    family = ["a", "b"] if by == "mode" else ["mode"]
    for _, rows in found.groupby(family):
        assert rows["p_holm"].tolist() == pytest.approx(holm(rows["p_value"].tolist()))


def test_differences_to_the_default_baseline_are_those_without_one_turned_round():
    table = modes_and_shots()
    table = table[table["mode"] != "reinforced"]
    turned = compare(table, by="mode", baseline="unsupervised")
    usual = compare(table, by="mode")
    assert turned["b_minus_a"].tolist() == pytest.approx((-usual["b_minus_a"]).tolist())
    assert turned["ci_low"].tolist() == pytest.approx((-usual["ci_high"]).tolist())
    assert turned["p_value"].tolist() == pytest.approx(usual["p_value"].tolist())


def test_the_baseline_of_variants_is_named_as_a_user_writes_it():
    table = pd.concat(records(0.5, variant=name) for name in ("default", "flipped+noise=0.2"))
    found = compare(table, by="variant", baseline="noise=.2+flipped")
    assert found[["a", "b"]].values.tolist() == [["flipped+noise=0.2", "default"]]


@pytest.mark.parametrize(
    ("by", "baseline", "words"),
    [
        ("mode", "supervized", "supervized: no mode of these records. Nearest: supervised"),
        ("mode", "16", "16: no mode of these records. There are reinforced, supervised, unsup"),
        ("shots", "8", "8: no shots of these records. There are 4, 16."),
        ("shots", "4.0", "4.0: no shots of these records."),
        ("mode", "", ": no mode of these records."),
    ],
)
def test_a_baseline_that_is_not_there_is_one_line_with_the_choices(by, baseline, words):
    with pytest.raises(SpecError, match=r"^--baseline") as caught:
        compare(modes_and_shots(), by=by, baseline=baseline)
    assert words in str(caught.value)
    assert "There are" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_where_the_baseline_has_no_answers_nothing_is_compared():
    table = modes_and_shots()
    table = table[(table["mode"] != "unsupervised") | (table["shots"] == 16)]
    assert set(compare(table, by="mode", baseline="unsupervised")["shots"]) == {16}


@pytest.mark.parametrize("n_queries", [20, 60, 200])
@pytest.mark.parametrize("p", [0.5, 0.9, 1.0])
def test_sides_that_agree_everywhere_have_a_narrow_interval_beside_pairs_that_differ(p, n_queries):
    same = [records(p, mode=mode, shots=16, n_queries=n_queries) for mode in "ab"]
    table = pd.concat([grid(a={1: 0.6, 2: 0.3}, b={1: 0.7, 2: 0.6}), *same])
    found = compare(table, by="mode").set_index("shots").loc[16]
    assert found["ci_high"] == -found["ci_low"]
    assert 0 < found["ci_high"] * n_queries <= 6
    assert found["p_value"] > 0.99
