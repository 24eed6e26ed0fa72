"""Power: what is promised is what a comparison does, and the numbers move as they must."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from icl_harness.analysis.compare import compare, paired_families
from icl_harness.analysis.paired_variances import measured_family, stated_family
from icl_harness.analysis.power import detectable, queries_needed
from icl_harness.analysis.shares import paired_components

SHOTS = (1, 4, 16, 64)
ALL = np.array([0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def answers(rng, logits, draw_sd, query_sd, n_draws, n_queries):
    """Records of two modes at some shot counts, whose logits are given; queries are as hard in all
    but for a fifth of what they differ by.
    """
    common = rng.standard_normal(n_queries) * math.sqrt(0.8)
    parts = []
    for (mode, shots), base in logits.items():
        own = rng.standard_normal(n_queries) * math.sqrt(0.2)
        draw = rng.standard_normal((n_draws, 1))
        p = sigmoid(base + draw_sd * draw + query_sd * (common + own))
        d, q = np.indices(p.shape)
        right = (rng.random(p.shape) < p).astype(float)
        parts.append(
            pd.DataFrame({
                "mode": mode, "shots": shots, "draw": d.ravel(), "query_id": q.ravel(),
                "score": right.ravel(),
            })
        )  # fmt: skip
    fixed = {
        "task": "trec", "model": "m", "variant": "default", "format": "text",
        "queries_per_request": 1, "metric": "accuracy", "sample": 0, "status": "ok",
    }  # fmt: skip
    return pd.concat(parts, ignore_index=True).assign(**fixed)


def flat(n_draws, n_queries, draw_sd=0.3, seed=0, p=0.6):
    rng = np.random.default_rng(seed)
    logits = dict.fromkeys(itertools.product("ab", SHOTS), math.log(p / (1 - p)))
    return answers(rng, logits, draw_sd, 1.0, n_draws, n_queries)


@pytest.mark.slow
def test_what_is_promised_is_what_compare_finds():
    family = stated_family(0.6, 0.25, 1.0, "mode", SHOTS)
    (difference,) = detectable(family, 5, 150, ALL)
    low, high = (math.log(p / (1 - p)) for p in (0.6 - difference / 2, 0.6 + difference / 2))
    stretch = 1.19  # of a logit, as queries differ by one
    rng, found = np.random.default_rng(1), []
    for _ in range(60):
        logits = dict.fromkeys(itertools.product("ab", SHOTS), 0.43)
        logits["a", 1], logits["b", 1] = low * stretch, high * stretch
        table = compare(answers(rng, logits, 0.25, 1.0, 5, 150), by="mode")
        found.append(table.loc[table["shots"] == 1, "p_holm"].item() < 0.05)
    assert 0.65 < np.mean(found) < 0.95  # 60 of them are 80 % give or take 10


def test_a_pilot_says_much_the_same_as_what_it_was_made_of():
    (pairs,) = paired_families(flat(40, 300), "mode", {})
    measured = measured_family(pairs, "mode")
    stated = stated_family(0.6, 0.3, 1.0, "mode", SHOTS)
    for grid in ((3, 100), (10, 100), (10, 1000), (40, 300)):
        of_pilot = np.median(detectable(measured, *grid, np.arange(4)))
        assert of_pilot == pytest.approx(detectable(stated, *grid, ALL)[0], rel=0.2)


@pytest.mark.parametrize("by", ["mode", "shots"])
@pytest.mark.parametrize("draw_sd", [0.0, 0.2, 0.5])
def test_more_draws_and_more_queries_show_smaller_differences(by, draw_sd):
    family = stated_family(0.5, draw_sd, 1.0, by, SHOTS)
    by_draws = [detectable(family, n, 200, ALL)[0] for n in (3, 5, 10, 30, math.inf)]
    by_queries = [detectable(family, 10, n, ALL)[0] for n in (30, 100, 300, 1000, math.inf)]
    assert by_draws == sorted(by_draws, reverse=True)
    assert by_queries == sorted(by_queries, reverse=True)


def test_a_larger_family_sees_less_and_one_draw_nothing():
    few, many = (stated_family(0.5, 0.2, 1.0, "shots", shots) for shots in ((1, 4), range(1, 8)))
    assert detectable(few, 5, 200, ALL) < detectable(many, 5, 200, ALL)
    assert detectable(many, 5, 200, ALL, alone=True) < detectable(many, 5, 200, ALL)
    assert np.isnan(detectable(few, 1, 200, ALL)).all()


@pytest.mark.parametrize("n_draws", [3, 20])
@pytest.mark.parametrize("difference", [0.05, 0.15])
def test_the_queries_needed_are_those_that_show_the_difference(n_draws, difference):
    family = stated_family(0.5, 0.15, 1.0, "mode", SHOTS)
    n = queries_needed(family, n_draws, difference, ALL)
    if math.isinf(n):
        assert detectable(family, n_draws, math.inf, ALL)[0] > difference * 0.98
    else:
        assert detectable(family, n_draws, n, ALL)[0] == pytest.approx(difference, rel=0.05)


def test_where_draws_differ_much_no_number_of_queries_is_enough():
    family = stated_family(0.5, 1.0, 1.0, "mode", SHOTS)
    assert math.isinf(queries_needed(family, 3, 0.1, ALL))
    assert math.isfinite(queries_needed(family, 300, 0.1, ALL))


def test_pairs_that_agree_everywhere_see_no_more_than_answers_can_tell():
    right = flat(5, 100, draw_sd=0.0).assign(score=1.0)
    (pairs,) = paired_families(right, "mode", {})
    found = detectable(measured_family(pairs, "mode"), 5, 100, np.arange(4))
    assert (found > 0.02).all()  # two answers of 100 tell little
    assert (found < 0.2).all()


def test_one_draw_gives_no_family():
    (pairs,) = paired_families(flat(1, 50), "mode", {})
    assert measured_family(pairs, "mode") is None


def test_clusters_count_as_one():
    table = flat(5, 200)
    whole = table.assign(cluster=table["query_id"] // 4)
    alone, tied = (
        measured_family(paired_families(records, "mode", {})[0], "mode")
        for records in (table, whole)
    )
    assert tied.units_per_query == pytest.approx(alone.units_per_query / 4)
    np.testing.assert_allclose(tied.se(5, 200), alone.se(5, 200), rtol=0.3)


@pytest.mark.parametrize("accuracy", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("draw_sd", "query_sd"), [(0.0, 1.0), (0.5, 1.0), (1.0, 0.0), (1.0, 2.0)])
def test_stated_shares_are_those_of_simulated_answers(accuracy, draw_sd, query_sd):
    found = paired_components(accuracy, draw_sd, query_sd)
    rng, n = np.random.default_rng(0), 400
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = math.hypot(draw_sd, query_sd)
    bases = np.linspace(-8, 8, 2001)
    means = sigmoid(bases[:, None] + spread * points) @ weights / weights.sum()
    base = np.interp(accuracy, means, bases)
    common = rng.standard_normal(n) * math.sqrt(0.8)
    sides = []
    for _ in range(2):
        own = rng.standard_normal(n) * math.sqrt(0.2)
        draw = draw_sd * rng.standard_normal((n, 1))
        sides.append(sigmoid(base + draw + query_sd * (common + own)))
    difference = sides[1] - sides[0]
    assert found.draw == pytest.approx(difference.mean(axis=1).var(ddof=1), rel=0.25, abs=1e-4)
    assert found.query == pytest.approx(difference.mean(axis=0).var(ddof=1), rel=0.25, abs=1e-4)
    total = found.draw + found.query + found.residual
    noise = sum((p * (1 - p)).mean() for p in sides)
    assert total == pytest.approx(difference.var() + noise, rel=0.1)
