"""What counts once, and what goes together: copies, clusters, requests, equal prompts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from icl_harness.analysis.compare import compare
from icl_harness.analysis.curves import curves
from icl_harness.analysis.units import joined, units_of
from icl_harness.cli.notes import curve_notes
from icl_harness.cli.tables import curve_tables, difference_notes, difference_tables
from tests.analysis.test_curves import record


def answers(n_draws=3, n_queries=40, right=0.6, seed=0, **fields):
    rng = np.random.default_rng(seed)
    return [
        record(draw=d, query_id=f"q{q:03}", score=float(rng.random() < right), **fields)
        for d in range(n_draws)
        for q in range(n_queries)
    ]


def zero_shot(n_draws=3, n_queries=40, **fields):
    """Answers at 0 shots: those of later draws are copies of the first one's."""
    first = pd.DataFrame(answers(1, n_queries, shots=0, shots_used=0, **fields))
    later = [first.assign(draw=d, reused=True) for d in range(1, n_draws)]
    return pd.concat([first.assign(reused=False), *later], ignore_index=True).assign(node=7)


def width(row) -> float:
    return row["ci_high"] - row["ci_low"]


def test_copies_of_zero_shot_answers_count_once():
    found = curves(zero_shot()).iloc[0]
    single = curves(zero_shot(n_draws=1)).iloc[0]
    assert (found["n_ok"], found["n_draws"], found["n_queries"]) == (40, 3, 40)
    assert list(found[["value", "ci_low", "ci_high"]]) == list(
        single[["value", "ci_low", "ci_high"]]
    )
    assert found["ci_covers"] == "queries"


def test_copies_that_could_not_be_parsed_or_were_cut_count_once():
    table = zero_shot().assign(cut=True)
    table["parsed"] = table["parsed"].mask(table["query_id"] < "q010")
    row = curves(table).iloc[0]
    assert (row["n_ok"], row["n_unparsed"], row["n_cut"]) == (40, 10, 40)


def test_a_mode_that_copied_all_its_answers_counts_each_once_too():
    other = zero_shot(mode="unsupervised").assign(reused=True)
    assert curves(pd.concat([zero_shot(), other]))["n_ok"].tolist() == [40, 40]


def test_answers_that_were_sent_again_are_each_counted():
    sampled = zero_shot().assign(reused=False)
    assert curves(sampled)["n_ok"].tolist() == [120]


def test_pairs_of_copies_count_once_and_pairs_with_a_new_answer_each():
    modes = pd.concat([zero_shot(), zero_shot(mode="unsupervised", seed=1).assign(node=8)])
    (row,) = compare(modes).to_dict("records")
    assert (row["n_pairs"], row["n_draws"], row["n_queries"]) == (40, 1, 40)
    assert 0 < row["p_value"] <= 1  # without shots there are no other draws
    few = pd.DataFrame(answers(seed=2)).assign(reused=False, node=9)
    (row,) = compare(pd.concat([zero_shot(), few]), by="shots").to_dict("records")
    assert (row["n_pairs"], row["n_draws"]) == (120, 3)


@pytest.mark.parametrize("seed", range(3))
def test_pairs_count_once_whichever_draw_was_answered_first(seed):
    """Requests of a draw may fail and be sent again later, so that another draw's is the first."""
    rng = np.random.default_rng(seed)
    modes = [zero_shot(), zero_shot(mode="unsupervised", seed=1).assign(node=8)]
    for table in modes:
        first = dict(zip(table["query_id"].unique(), rng.integers(0, 3, 40), strict=True))
        table["reused"] = table["draw"] != table["query_id"].map(first)
    (row,) = compare(pd.concat(modes)).to_dict("records")
    value = modes[1]["score"].mean() - modes[0]["score"].mean()
    assert (row["n_pairs"], row["b_minus_a"]) == (40, pytest.approx(value))


def test_pairs_of_copies_whose_first_answers_have_no_partner_are_counted():
    modes = pd.concat([zero_shot(), zero_shot(mode="unsupervised", seed=1).assign(node=8)])
    of_unsupervised = modes["mode"] == "unsupervised"
    first = of_unsupervised.astype(int)  # the draw that is sent
    modes["reused"] = modes["draw"] != first
    found = compare(modes[modes["draw"] != 1 - first])
    assert found["n_pairs"].tolist() == [40]


@pytest.mark.parametrize("size", [2, 5])
def test_answers_of_one_request_go_together(size):
    """One draw; the answers of a request are all right or all wrong."""
    rng = np.random.default_rng(3)
    right = np.repeat(rng.random(20) < 0.5, size).astype(float)
    rows = [
        record(query_id=f"q{q:03}", score=score, queries_per_request=size, shots=4)
        for q, score in enumerate(right)
    ]
    table = pd.DataFrame(rows)
    together = curves(table.assign(query_text=np.arange(len(rows)) // size)).iloc[0]
    apart = curves(table).iloc[0]
    assert width(together) > 0.9 * math.sqrt(size) * width(apart)
    one_each = curves(table.assign(query_text=np.arange(len(rows)))).iloc[0]
    assert width(one_each) == pytest.approx(width(apart))


def test_intervals_over_requests_cover_the_truth():
    rng, covered = np.random.default_rng(4), []
    for _ in range(25):
        shared = np.repeat(rng.normal(size=20), 5) * 3.0
        score = (rng.random(100) < 1 / (1 + np.exp(-shared))).astype(float)
        rows = pd.DataFrame([record(query_id=f"q{q}", queries_per_request=5) for q in range(100)])
        table = rows.assign(score=score, query_text=np.arange(100) // 5)
        row = curves(table).iloc[0]
        covered.append(row["ci_low"] <= 0.5 <= row["ci_high"])
    assert np.mean(covered) >= 0.84  # with queries as units: about .6


def test_queries_of_a_cluster_go_together():
    rng = np.random.default_rng(5)
    family = np.repeat(np.arange(10), 5)
    right = (rng.random(10) < 0.5).astype(float)[family]
    rows = [
        record(draw=d, query_id=f"q{q:03}", score=right[q]) for d in range(3) for q in range(50)
    ]
    table = pd.DataFrame(rows)
    named = table.assign(cluster=[f"document {family[q]}" for _ in range(3) for q in range(50)])
    together, apart = (curves(frame).iloc[0] for frame in (named, table))
    assert width(together) > 1.8 * width(apart)
    other = named.assign(mode="unsupervised", score=1 - named["score"])
    paired = compare(pd.concat([named, other])).iloc[0]
    assert width(paired) > 1.5 * width(compare(pd.concat([table, table.assign(
        mode="unsupervised", score=1 - table["score"])])).iloc[0])  # fmt: skip


def test_ties_join_what_they_share_and_all_that_hangs_together():
    units = np.array([0, 1, 2, 3, 4])
    assert joined(units, np.array([0, 0, -1, 1, 1])).tolist() == [0, 0, 1, 2, 2]
    chain = joined(joined(units, np.array([0, 0, 1, 1, 2])), np.array([0, 1, 1, 2, 3]))
    assert chain.tolist() == [0, 0, 0, 0, 1]
    table = pd.DataFrame({"query_id": ["b", "a", "b"], "cluster": [None, None, None]})
    assert units_of(table).tolist() == [1, 0, 1]


def test_shot_counts_that_hold_the_same_shots_are_not_compared():
    same = answers(seed=6, shots_used=83)
    frames = [pd.DataFrame([row | {"shots": k} for row in same]) for k in (96, 128)]
    few = pd.DataFrame(answers(seed=7, shots=16, shots_used=16))
    found = compare(pd.concat([few, *frames]), by="shots")
    assert found[["a", "b"]].values.tolist() == [[16, 96], [16, 128], [96, 128]]
    assert found["p_value"].isna().tolist() == [False, False, True]
    assert found["ci_low"].isna().tolist() == [False, False, True]
    # The family has two members: the third is no question.
    assert found["p_holm"].tolist()[0] <= 2 * found["p_value"].min() + 1e-12
    assert found["b_shots_used"].tolist() == [83, 83, 83]
    (table,) = difference_tables(found)
    first = list(next(iter(table.columns)).cells)
    assert first == ["96 (83 used) - 16", "128 (83 used) - 16", "128 (83 used) - 96 (83 used)"]
    assert list(difference_notes(found)) == [
        "banking77: 128 and 96 shots: both held 83 shots, not compared"
    ]


def test_one_draw_is_told_in_the_tables():
    one = pd.DataFrame(answers(1, shots=4))
    frame = curves(one)
    (table,) = curve_tables(frame, [])
    assert "over queries, not draws" in str(table.title)
    assert any("leave out what other draws" in note for note in curve_notes(frame))
    found = compare(pd.concat([one, pd.DataFrame(answers(1, shots=8, shots_used=8, seed=1))]),
                    by="shots")  # fmt: skip
    assert found["p_value"].isna().all()
    assert found["ci_low"].notna().all()
    (note,) = difference_notes(found)
    assert note.startswith("one draw: ")
    three = curves(pd.DataFrame(answers(3)))
    assert three["ci_covers"].tolist() == ["queries and draws"]
    assert not any("draws" in note for note in curve_notes(three))


@pytest.mark.parametrize("scores", [[0.4] * 30, [1.0] * 29 + [0.8], [0.0] * 29 + [0.01]])
def test_scores_with_a_range_have_a_width_inside_it(scores):
    from icl_harness.tasks.metrics import Metric

    rows = [record(query_id=f"q{i}", score=s, metric="f1") for i, s in enumerate(scores)]
    other = record(query_id="q0", score=0.5, metric="f1", shots=8)
    table = curves(pd.DataFrame([*rows, other]), metrics={"banking77": Metric(name="f1")})
    row = table.iloc[0]
    assert 0 <= row["ci_low"] < row["ci_high"] <= 1
    assert row["ci_low"] <= row["value"] <= row["ci_high"]
