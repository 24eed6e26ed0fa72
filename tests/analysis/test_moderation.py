"""Families of means: small simulations that know the truth, and formulas of others."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from icl_harness.analysis.estimates import SHARE, mean_estimate, paired_estimate
from icl_harness.analysis.logit_normal import share_of_draws
from icl_harness.analysis.mixtures import inverse_chi2, margin, tail
from icl_harness.analysis.stats import differences, holm, intervals
from tests.analysis.test_stats import bertsch, crossed, true_mean

SHOTS = (1, 2, 4, 8, 16, 32, 64, 128)


def curve(rng, n_draws, n_queries, sd_draw, sd_query=1.0, mean=0.0, n=8, nested=False):
    """Tables of right and wrong answers of a flat curve, a (draws, queries) table a shot count."""
    size = n_draws if nested else 1
    query = sd_query * rng.normal(size=(1, size, n_queries))
    logit = mean + sd_draw * rng.normal(size=(n, n_draws, 1)) + query
    return (rng.random(size=(n, n_draws, n_queries)) < 1 / (1 + np.exp(-logit))).astype(float)


def pairs(tables, which, shots=SHOTS):
    _, draws, queries = crossed(tables[0])
    return differences(
        [
            paired_estimate(
                tables[a].ravel(), tables[b].ravel(), draws, queries,
                limits=(-1.0, 1.0), shots=(shots[a], shots[b]),
            )
            for a, b in which
        ]
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("n_draws", [3, 5])
def test_holm_finds_nothing_in_flat_curves_more_than_5_times_of_100(n_draws):
    rng = np.random.default_rng(1)
    which, n_curves = list(combinations(range(8), 2)), 80
    found = [pairs(curve(rng, n_draws, 100, 0.5), which) for _ in range(n_curves)]
    p = np.array([[one.p_value for one in family] for family in found])
    wrong = [min(holm(family)) < 0.05 for family in p.tolist()]
    assert np.mean(wrong) <= 0.1  # .05 and 2 standard errors; before: .385 and .19
    assert (p < 0.001).mean() <= 0.005  # before: .02


def test_small_p_values_of_a_family_are_no_more_than_they_say():
    rng = np.random.default_rng(2)
    which = [(2 * i, 2 * i + 1) for i in range(8)]
    shots = [k for k in SHOTS for _ in (0, 1)]
    found = [pairs(curve(rng, 3, 60, 0.5, n=16), which, shots) for _ in range(60)]
    p = np.array([[one.p_value for one in family] for family in found])
    assert (p < 0.05).mean() < 0.08
    assert (p < 0.001).mean() < 0.006


@pytest.mark.parametrize(
    ("mean", "sd_draw", "nested"),
    [(0.0, 0.5, False), (2.5, 1.0, False), (-2.5, 0.5, False), (2.5, 1.0, True), (0.0, 2.0, True)],
)
def test_intervals_of_curves_with_3_draws_cover_the_truth(mean, sd_draw, nested):
    rng = np.random.default_rng(3)
    truth, covered, widths, means = true_mean(mean, sd_draw, 1.0), [], [], []
    for _ in range(50):
        tables = curve(rng, 3, 250, sd_draw, mean=mean, nested=nested)
        _, draws, queries = crossed(tables[0])
        units = np.arange(draws.size) if nested else queries
        family = [
            mean_estimate(table.ravel(), draws, units, limits=SHARE, shots=k)
            for table, k in zip(tables, SHOTS, strict=True)
        ]
        for one in intervals(family):
            covered.append(one.low <= truth <= one.high)
            widths.append(one.high - one.low)
            means.append(one.value)
    assert 0.9 <= np.mean(covered) <= 0.99
    assert np.mean(widths) / (2 * 1.96 * np.std(means)) < 1.3


def test_a_curve_tells_more_of_its_draws_than_a_point():
    tables = curve(np.random.default_rng(4), 3, 250, 0.4)
    _, draws, queries = crossed(tables[0])
    family = [mean_estimate(table.ravel(), draws, queries, limits=SHARE) for table in tables]
    together = intervals(family)
    alone = [intervals([one])[0] for one in family]
    width, width_alone = (np.mean([i.high - i.low for i in of]) for of in (together, alone))
    assert width < 0.85 * width_alone
    assert {one.df for one in alone} == {2.0}
    assert min(one.df for one in together) > 4


def test_prompts_without_shots_have_no_variance_between_draws():
    rng = np.random.default_rng(5)
    same = np.repeat(rng.random((1, 80)) < 0.6, 3, axis=0).astype(float)
    values, draws, queries = crossed(same)
    one = mean_estimate(values, draws, queries, limits=SHARE, shots=0)
    (found,) = intervals([one])
    first = draws == 0
    (single,) = intervals(
        [mean_estimate(values[first], draws[first], queries[first], limits=SHARE)]
    )
    assert (found.low, found.high) == pytest.approx((single.low, single.high), abs=1e-3)
    assert not one.covers_draws


def test_one_draw_has_an_interval_over_queries_and_no_p_value():
    tables = curve(np.random.default_rng(6), 1, 100, 0.5)
    for one in pairs(tables, [(0, 1), (2, 3)]):
        assert math.isnan(one.p_value)
        assert one.low < one.value < one.high
    (zero_shot,) = pairs(tables, [(0, 1)], shots=(0,) * 8)
    assert 0 <= zero_shot.p_value <= 1  # no shots, so no other draws


@pytest.mark.parametrize("df", [1, 2, 4, 16])
@pytest.mark.parametrize("p", [0.05, 0.01, 0.001])
def test_a_mixture_over_one_variance_is_students_t(df, p):
    from scipy.special import stdtrit

    nodes, weights = inverse_chi2(np.array([float(df)]), 24)
    t = np.array([stdtrit(df, 1 - p / 2)])
    assert tail(t, nodes, weights)[0] == pytest.approx(p, rel=0.01)
    assert margin(nodes, weights, 1 - p)[0] == pytest.approx(t[0], rel=0.01)


@pytest.mark.parametrize(("p", "sd"), [(0.5, 0.5), (0.02, 1.0), (0.9, 2.0), (0.3, 0.1)])
def test_the_variance_of_a_logit_normal_is_that_of_many_draws(p, sd):
    rng = np.random.default_rng(7)
    normal = sd * rng.normal(size=200_000)
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if (1 / (1 + np.exp(-middle - normal))).mean() < p else (low, middle)
        )
    expected = (1 / (1 + np.exp(-low - normal))).var() / (p * (1 - p))
    assert share_of_draws(np.array([p]), np.array([sd]))[0] == pytest.approx(expected, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "shots"), [("banking77", 2), ("nlu", 2)])
@pytest.mark.filterwarnings("ignore::Warning")  # the optimiser tells what it tries
def test_standard_errors_agree_with_a_mixed_model(dataset, shots):
    """statsmodels' restricted maximum likelihood, crossed random effects of draws and items."""
    import pandas as pd

    mixed_model = pytest.importorskip("statsmodels.formula.api").mixedlm
    values, draws, items = bertsch()[dataset, shots]
    some = items < np.unique(items)[60]  # its matrices grow with the square of the answers
    frame = pd.DataFrame({"y": values, "draw": draws, "item": items})[some]
    parts = {"draw": "0 + C(draw)", "item": "0 + C(item)"}
    fit = mixed_model("y ~ 1", frame, groups=np.ones(len(frame)), vc_formula=parts).fit()
    (found,) = intervals(
        [mean_estimate(frame["y"], frame["draw"], frame["item"], limits=SHARE, shots=shots)]
    )
    assert found.se == pytest.approx(float(fit.bse_fe.iloc[0]), rel=0.1)


def test_clusters_of_queries_have_the_standard_error_of_errorbars():
    cluster_robust_se = pytest.importorskip("errorbars").cluster_robust_se
    values, draws, items = bertsch()["nlu", 20]
    some = draws == 0
    groups = items[some] // 100
    one = mean_estimate(values[some], draws[some], groups, limits=SHARE)
    n = one.spread.n_units
    expected = cluster_robust_se(values[some], groups)
    expected = getattr(expected, "se", expected)
    assert one.spread.variance == pytest.approx(expected**2, rel=2 / n)
