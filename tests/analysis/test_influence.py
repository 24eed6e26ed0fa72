"""Metrics over a grid: their values against scikit-learn, their intervals against other formulas
and against simulations that know the truth.
"""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from icl_harness import Metric, accuracy, macro_f1
from icl_harness.analysis.compare import compare
from icl_harness.analysis.curves import curves
from icl_harness.analysis.influence import metric_estimate, pseudo_values, statistics_of
from icl_harness.analysis.stats import intervals, mean_interval
from icl_harness.errors import SpecError
from tests.analysis.test_curves import record

LABELS = np.array(["cat", "dog", "emu", "fox"])


def metric_interval(*args, **kwargs):
    """Return the interval of a metric that has no family."""
    (found,) = intervals([metric_estimate(*args, **kwargs)])
    return found


def answers(
    rng: np.random.Generator, *, n_draws: int = 3, n_queries: int = 60, right: float = 0.7, **fields
) -> pd.DataFrame:
    """Records whose queries and draws differ in difficulty; one answer in twenty is not parsed."""
    draw, query = (a.ravel() for a in np.indices((n_draws, n_queries)))
    target = LABELS[rng.choice(4, n_queries, p=[0.4, 0.3, 0.2, 0.1])][query]
    ease = rng.normal(np.log(right / (1 - right)), 1.0, n_queries)[query]
    ease += rng.normal(0, 0.3, n_draws)[draw]
    is_right = rng.random(len(draw)) < 1 / (1 + np.exp(-ease))
    # A query that misleads does so in the same way in every draw.
    parsed = np.where(is_right, target, rng.choice(LABELS, n_queries)[query]).astype(object)
    parsed[rng.random(len(draw)) < 0.05] = None
    return pd.DataFrame([record()] * len(draw)).assign(
        draw=draw,
        query_id=[f"q{q}" for q in query],
        target=target,
        parsed=parsed,
        score=(parsed == target).astype(float),
        **fields,
    )


def by_sklearn(frame: pd.DataFrame) -> float:
    """Macro-F1 over the labels that occur, with an answer that was not parsed as no label."""
    predicted = frame["parsed"].fillna("(none)")
    labels = sorted({*frame["target"], *frame["parsed"].dropna()})
    return float(
        f1_score(frame["target"], predicted, average="macro", labels=labels, zero_division=0)
    )


def with_f1(frame: pd.DataFrame) -> pd.DataFrame:
    return curves(frame, metrics={"banking77": macro_f1})


def rows_of(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    statistics = statistics_of(frame, macro_f1)
    queries = pd.factorize(frame["query_id"])[0]
    return statistics.rows(np.arange(len(frame))), frame["draw"].to_numpy(), queries


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_is_scikit_learns(seed: int) -> None:
    frame = answers(np.random.default_rng(seed), n_queries=20, right=0.5)
    (row,) = with_f1(frame).to_dict("records")
    assert row["value"] == pytest.approx(by_sklearn(frame), abs=1e-12)
    assert row["metric"] == "macro_f1"
    assert 0 <= row["ci_low"] < row["value"] < row["ci_high"] <= 1


def test_labels_that_never_occur_in_a_cell_are_not_in_its_mean() -> None:
    rng = np.random.default_rng(0)
    few = answers(rng, n_draws=1, n_queries=5, right=0.9)
    many = answers(rng, shots=64)
    table = with_f1(pd.concat([few, many])).set_index("shots")
    assert len({*few["target"], *few["parsed"].dropna()}) < 4
    assert table.loc[4, "value"] == pytest.approx(by_sklearn(few), abs=1e-12)


def test_the_interval_of_a_mean_is_that_of_its_scores_to_the_last_digit() -> None:
    frame = answers(np.random.default_rng(1))
    scores = frame["score"].to_numpy()
    mean = Metric(name="mean", statistic=lambda a: [a.score], aggregate=lambda mean: mean[0])
    _, draws, queries = rows_of(frame)
    expected = mean_interval(scores, draws, queries, binary=True)
    plain = metric_interval(accuracy, scores[:, None], draws, queries, binary=True)
    assert plain == expected
    _, pseudo = pseudo_values(mean, scores[:, None], draws, queries)
    np.testing.assert_allclose(pseudo, scores, atol=1e-9)


def test_a_mean_keeps_its_scores_where_answers_are_missing_too() -> None:
    rng = np.random.default_rng(2)
    frame = answers(rng)
    frame = frame[rng.random(len(frame)) < 0.7]
    mean = Metric(name="mean", statistic=lambda a: [a.score], aggregate=lambda mean: mean[0])
    _, draws, queries = rows_of(frame)
    scores = frame["score"].to_numpy()
    _, pseudo = pseudo_values(mean, scores[:, None], draws, queries)
    np.testing.assert_allclose(pseudo, scores, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_in_one_draw_the_standard_error_is_the_delete_one_jackknifes(seed: int) -> None:
    frame = answers(np.random.default_rng(seed), n_draws=1, n_queries=80)
    rows, draws, queries = rows_of(frame)
    found = metric_interval(macro_f1, rows, draws, queries, binary=False)
    without = [by_sklearn(frame.drop(index=i)) for i in frame.index]
    n = len(frame)
    expected = math.sqrt((n - 1) / n * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert found.se == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_in_one_draw_the_standard_error_is_near_the_bootstraps(seed: int) -> None:
    frame = answers(np.random.default_rng(seed), n_draws=1, n_queries=200)
    rows, draws, queries = rows_of(frame)
    found = metric_interval(macro_f1, rows, draws, queries, binary=False)

    def value(chosen: np.ndarray) -> float:
        assert macro_f1.aggregate is not None
        return macro_f1.aggregate(rows[chosen.astype(int)].mean(axis=0))

    resampled = stats.bootstrap(
        (np.arange(len(rows)),), value, n_resamples=500, vectorized=False, method="percentile",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert found.se == pytest.approx(resampled.standard_error, rel=0.15)


@pytest.mark.slow
def test_95_percent_intervals_cover_macro_f1_about_that_often() -> None:
    """Queries and draws are drawn anew each time; the truth is the value of very many."""
    truth = np.mean(
        [by_sklearn(answers(np.random.default_rng(s), n_queries=20_000)) for s in range(2)]
    )
    covered = []
    for seed in range(200):
        frame = answers(np.random.default_rng(1000 + seed))
        rows, draws, queries = rows_of(frame)
        found = metric_interval(macro_f1, rows, draws, queries, binary=False)
        covered.append(found.low <= truth <= found.high)
    assert 0.90 <= np.mean(covered) <= 0.99


def test_where_all_answers_are_right_the_interval_has_a_width_and_ends_at_1() -> None:
    frame = answers(np.random.default_rng(3))
    frame = frame.assign(parsed=frame["target"], score=1.0)
    (row,) = with_f1(frame).to_dict("records")
    assert (row["value"], row["ci_high"]) == (1.0, 1.0)
    assert 0.9 < row["ci_low"] < 0.97  # 60 queries


def test_one_answer_alone_says_nothing_of_others() -> None:
    frame = answers(np.random.default_rng(4), n_draws=1, n_queries=1)
    (row,) = with_f1(frame).to_dict("records")
    assert (row["ci_low"], row["ci_high"]) == (0.0, 1.0)


def test_differences_of_macro_f1_are_paired() -> None:
    rng = np.random.default_rng(5)
    good = answers(rng, right=0.9)
    worse = good.assign(mode="unsupervised")
    spoiled = rng.random(len(worse)) < 0.2
    worse = worse.assign(
        parsed=np.where(spoiled, "cat", worse["parsed"]),
        score=np.where(spoiled, worse["target"] == "cat", worse["score"]).astype(float),
    )
    both = pd.concat([good, worse], ignore_index=True)
    (row,) = compare(both, metrics={"banking77": macro_f1}).to_dict("records")
    assert row["b_minus_a"] == pytest.approx(by_sklearn(worse) - by_sklearn(good), abs=1e-12)
    assert row["metric"] == "macro_f1"
    assert row["ci_low"] < row["b_minus_a"] < row["ci_high"] < 0
    assert row["p_value"] < 0.05  # three draws of one pair: t with 2 degrees of freedom


def test_equal_answers_differ_by_nothing_give_or_take() -> None:
    same = answers(np.random.default_rng(6))
    both = pd.concat([same, same.assign(mode="unsupervised")])
    (row,) = compare(both, metrics={"banking77": macro_f1}).to_dict("records")
    assert row["b_minus_a"] == 0
    assert row["ci_low"] < 0 < row["ci_high"]
    assert row["p_value"] == 1


def test_a_metric_of_ones_own_may_be_any_function_of_means() -> None:
    ratio = Metric(
        name="score per letter",
        statistic=lambda answer: [answer.score, len(answer.target)],
        aggregate=lambda mean: mean[0] / mean[1],
        range=(0, math.inf),
    )
    frame = answers(np.random.default_rng(7))
    (row,) = curves(frame, metrics={"banking77": ratio}).to_dict("records")
    letters = frame["target"].str.len()
    assert row["value"] == pytest.approx(frame["score"].sum() / letters.sum())
    assert 0 <= row["ci_low"] < row["value"] < row["ci_high"]


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (
            Metric(name="m", statistic=lambda a: [1 / a.score]),
            "m: its statistic failed: .*division",
        ),
        (Metric(name="m", statistic=lambda a: [1] * int(1 + a.score)), "gives 1 or 2 numbers; it"),
        (Metric(name="m", statistic=lambda a: [1, 2]), "gives 2 numbers, so it needs an aggregate"),
        (
            Metric(name="m", statistic=lambda a: [1, 2], aggregate=lambda mean: mean[2]),
            "m: its aggregate failed: .*out of bounds",
        ),
        (
            Metric(name="m", statistic=lambda a: [1, 2], aggregate=lambda mean: mean[1]),
            "m gives 2; its range is 0 to 1",
        ),
    ],
)
def test_a_metric_that_fails_is_one_line_in_its_name(metric: Metric, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        curves(answers(np.random.default_rng(8)), metrics={"banking77": metric})


def test_a_metric_without_a_value_where_an_answer_is_left_out_has_no_narrow_interval() -> None:
    def only_foxes(mean):
        return mean[0] / mean[1]

    metric = Metric(
        name="recall of fox",
        statistic=lambda a: [float(a.parsed == a.target == "fox"), float(a.target == "fox")],
        aggregate=only_foxes,
    )
    frame = answers(np.random.default_rng(9), n_draws=1, n_queries=10)
    frame["target"] = ["fox", *["cat"] * 9]
    (row,) = curves(frame, metrics={"banking77": metric}).to_dict("records")
    assert (row["ci_low"], row["ci_high"]) == (0, 1)


def test_records_without_targets_are_refused_with_the_remedy() -> None:
    frame = answers(np.random.default_rng(10)).drop(columns="target")
    with pytest.raises(
        SpecError, match=r"macro_f1 needs the target .* banking77 .*`icl rescore RUN`"
    ):
        with_f1(frame)


def test_77_labels_take_a_tenth_of_a_second_a_cell() -> None:
    rng = np.random.default_rng(11)
    names = np.array([f"label {i:02}" for i in range(77)])
    frame = answers(rng, n_queries=250)
    target = names[rng.integers(77, size=250)][np.tile(np.arange(250), 3)]
    parsed = np.where(rng.random(750) < 0.8, target, rng.choice(names, 750))
    frame = frame.assign(target=target, parsed=parsed, score=(target == parsed).astype(float))
    start = time.process_time()
    with_f1(frame)
    assert time.process_time() - start < 1.0  # 0.1 on a machine that is not busy
