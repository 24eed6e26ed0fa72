"""Variances by source: that they are those of independent implementations, and what is said."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from icl_harness.analysis.estimates import SHARE, mean_estimate
from icl_harness.analysis.questions.variance import variance
from icl_harness.analysis.stats import components
from icl_harness.analysis.variances import (
    SOURCES,
    components_of,
    moderated,
    simulated_components,
    squares_of,
)
from tests.analysis.test_compare import records


def answers(rng, sds, n_draws=4, n_orders=1, n_queries=10, n_samples=1):
    """Scores and the codes of draw, order, query, with effects of these standard deviations."""
    shape = (n_draws, n_orders, n_queries, n_samples)
    sizes = {
        "draws": (n_draws, 1, 1, 1),
        "orders": (n_draws, n_orders, 1, 1),
        "queries": (1, 1, n_queries, 1),
        "rest": (n_draws, n_orders, n_queries, 1),
        "samples": shape,
    }
    y = sum(
        (sds.get(k, 0) * rng.standard_normal(size) for k, size in sizes.items()), np.zeros(shape)
    )
    draw, order, query, _ = (codes.ravel() for codes in np.indices(shape))
    return y.ravel(), draw, order, query


def shares_of(*data):
    return dict(zip(SOURCES, components_of([squares_of(*data)])[:, 0], strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_without_orders_and_samples_they_are_the_components_of_the_standard_error(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    y, draw, order, query = answers(rng, {"draws": 0.5, "queries": 1, "rest": 1})
    kept = rng.random(len(y)) < (1.0 if seed < 2 else 0.9)  # with holes too
    data = y[kept], draw[kept], order[kept], query[kept]
    found, expected = shares_of(*data), components(data[0], data[1], data[3])
    assert found["draws"] == pytest.approx(expected.draw)
    assert found["queries"] == pytest.approx(expected.query)
    assert found["rest"] == pytest.approx(expected.residual)
    assert found["orders"] == found["samples"] == 0


def test_queries_of_one_draw_alone_hold_the_rest() -> None:
    y, draw, order, query = answers(np.random.default_rng(3), {"draws": 1, "rest": 1})
    unit = query + 100 * draw
    found, expected = shares_of(y, draw, order, unit), components(y, draw, unit)
    assert (found["draws"], found["queries"]) == pytest.approx((expected.draw, expected.query))
    assert found["rest"] == 0


@pytest.mark.parametrize("seed", [8, 9])
def test_they_are_those_of_a_mixed_model_with_crossed_effects(seed: int) -> None:
    """REML's estimates of a complete table, none of them 0, are those of its mean squares."""
    formula = pytest.importorskip("statsmodels.formula.api")
    sds = {"draws": 1.0, "queries": 1.5, "rest": 1.0}
    y, draw, order, query = answers(np.random.default_rng(seed), sds, n_draws=5, n_queries=8)
    table = pd.DataFrame({"y": y, "draw": draw, "query": query, "all": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = formula.mixedlm(
            "y ~ 1",
            table,
            groups="all",
            vc_formula={"draw": "0 + C(draw)", "query": "0 + C(query)"},
        ).fit(reml=True, method=["powell"])
    found = shares_of(y, draw, order, query)
    by_name = dict(zip(fitted.model.exog_vc.names, fitted.vcomp, strict=True))
    assert found["draws"] == pytest.approx(by_name["draw"], rel=0.02)
    assert found["queries"] == pytest.approx(by_name["query"], rel=0.02)
    assert found["rest"] == pytest.approx(fitted.scale, rel=0.02)


@pytest.mark.parametrize(
    "sds",
    [
        {"draws": 1.0, "orders": 0.7, "queries": 1.2, "samples": 0.8, "rest": 0.6},
        {"draws": 0.0, "orders": 1.0, "queries": 0.5, "samples": 0.0, "rest": 1.0},
        {"draws": 1.0, "orders": 0.0, "queries": 1.0, "samples": 1.0, "rest": 0.0},
    ],
)
def test_all_five_sources_are_recovered_on_average(sds) -> None:
    rng = np.random.default_rng(11)
    found = pd.DataFrame(
        [
            shares_of(*answers(rng, sds, n_draws=8, n_orders=3, n_queries=20, n_samples=3))
            for _ in range(25)
        ]
    ).mean()
    for source, sd in sds.items():
        assert found[source] == pytest.approx(sd**2, abs=0.15, rel=0.2), source


def test_limits_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    n_right, n = 0, 16
    for i in range(n):
        sds = {"draws": (0.3, 1.0)[i % 2], "queries": 0.7, "rest": 1.0}
        truth = np.square([sds.get(source, 0.0) for source in SOURCES])
        points = []
        for _ in range(4):
            y, draw, order, query = answers(rng, sds, n_draws=3 + i % 3, n_queries=60)
            estimate = mean_estimate(y, draw, query, limits=(-np.inf, np.inf), shots=4)
            points.append((estimate, squares_of(y, draw, order, query)))
        simulated = simulated_components(moderated(points))
        low, high = np.quantile(simulated / simulated.sum(axis=0), (0.025, 0.975), axis=-1)
        share = (truth / truth.sum())[:, None]
        n_right += ((low <= share) & (share <= high))[[0, 2, 4]].mean()
    assert 0.9 <= n_right / n <= 0.99


def curve(n_draws=4, n_queries=30, **fields):
    return pd.concat(
        records(p, shots=k, seed=k, n_draws=n_draws, n_queries=n_queries, **fields)
        for k, p in {0: 0.3, 4: 0.5, 16: 0.8}.items()
    )


def said(table):
    (answer,) = variance(table)
    return answer


def test_shares_stand_in_a_sentence_and_a_table_by_shot_count() -> None:
    answer = said(curve())
    assert answer.sentence.startswith(
        "trec · demo · supervised: of the variance of one answer's score over all shot counts, "
    )
    assert "] is which shots were drawn, " in answer.sentence
    assert answer.table["where"].tolist() == ["4 shots", "16 shots", "all"]
    shares = answer.table[["draws", "queries", "rest"]]
    assert shares.sum(axis=1).tolist() == pytest.approx([1.0] * 3)
    for source in shares:
        low, high = answer.table[f"{source}_low"], answer.table[f"{source}_high"]
        assert (low <= answer.table[source]).all()
        assert (answer.table[source] <= high).all()
        assert low.min() >= 0
        assert high.max() <= 1
    assert not {"orders", "samples"} & set(answer.table)


def test_orders_of_the_shots_and_samples_are_sources_where_the_run_has_them() -> None:
    orders = pd.concat(curve(variant=name) for name in ("default", "order=1", "order=2"))
    answer = said(orders)
    assert "is the order of the shots" in answer.sentence
    assert "trec · demo · supervised: " in answer.sentence  # one curve, not three
    samples = pd.concat(curve().assign(sample=i) for i in range(3))
    assert "is the sample at this temperature" in said(samples).sentence
    names = ("flipped", "flipped+order=1")
    flipped = pd.concat([orders, *(curve(variant=name) for name in names)])
    assert [one.about for one in variance(flipped)] == [
        "trec · demo · supervised",
        "trec · demo · supervised · flipped",
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (curve(n_draws=1), "one draw or one query was asked"),
        (curve(n_queries=1), "one draw or one query was asked"),
        (curve().assign(score=1.0), "all answers score the same"),
        (records(0.5, shots=0), "no prompt holds shots"),
    ],
)
def test_what_cannot_be_told_is_said(table, words) -> None:
    answer = said(table)
    assert words in answer.sentence
    assert answer.table.empty


def test_no_answers_give_none() -> None:
    assert list(variance(curve().iloc[:0])) == []
    assert list(variance(curve().assign(status="failed", score=np.nan))) == []


def test_shares_of_right_and_wrong_answers_are_those_of_the_components() -> None:
    table = curve(n_draws=6)
    at = table[table["shots"] == 4]
    expected = components(at["score"], at["draw"], at["query_id"])
    total = expected.draw + expected.query + expected.residual
    row = said(table).table.iloc[0]
    assert row["variance"] == pytest.approx(total)
    assert row["queries"] == pytest.approx(expected.query / total)
    assert mean_estimate(at["score"], at["draw"], at["query_id"], limits=SHARE).value == (
        pytest.approx(at["score"].mean())
    )


def order_runs(rng, sd: float, n_draws: int) -> pd.DataFrame:
    """Records of right and wrong answers under 10 orders, whose accuracies differ by an SD."""
    parts = []
    for order in range(10):
        p = 0.5 + sd * rng.standard_normal((n_draws, 1))
        right = rng.random((n_draws, 200)) < p
        part = records(0.5, n_draws=n_draws, n_queries=200, shots=16)
        variant = f"order={order}" if order else "default"
        parts.append(part.assign(score=right.ravel().astype(float), variant=variant))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("n_draws", [1, 3])
def test_the_spread_of_orders_is_told_less_the_noise_of_queries(n_draws: int) -> None:
    rng = np.random.default_rng(5)
    found = {sd: [] for sd in (0.0, 0.1)}
    for sd, tables in found.items():
        for _ in range(6):
            [answer] = variance(order_runs(rng, sd, n_draws))
            row = answer.table[answer.table["where"] == "16 shots"].iloc[0]
            assert row["orders_sd_low"] <= row["orders_sd"] <= row["orders_sd_high"]
            assert "Between orders of the same shots, less the noise of queries" in answer.sentence
            tables.append(row["orders_sd"])
    assert np.mean(np.square(found[0.1])) == pytest.approx(0.01, rel=0.4)
    raw = 0.5 / np.sqrt(200)  # what 200 queries alone make accuracies differ by
    assert np.mean(found[0.0]) < raw / 2
