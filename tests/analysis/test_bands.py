"""Bands of whole curves: that all points lie inside as often as is said."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm

from icl_harness.analysis.bands import point_level
from icl_harness.analysis.curves import COLUMNS, curves
from icl_harness.analysis.estimates import SHARE, mean_estimate
from icl_harness.analysis.stats import intervals
from icl_harness.errors import SpecError
from icl_harness.store.totals import MEANS
from tests.analysis.test_compare import records

OTHERS = {**dict.fromkeys(MEANS, 1.0), "cost_usd": 0.0, "n_lost": 0, "parsed": "a"}
SHOTS = (0, 1, 2, 4, 8, 16, 32, 64)


def estimates_of(answers, shots=SHOTS):
    """The estimates of a curve's points: answers by point, draw and query."""
    draw, query = (a.ravel() for a in np.indices(answers.shape[1:]))
    return [
        mean_estimate(of_point.ravel(), draw, query, limits=SHARE, shots=k)
        for of_point, k in zip(answers, shots, strict=True)
    ]


def simulated(rng, n_draws, n_queries, draw_sd, shots=SHOTS):
    """Answers of a curve that rises from .3 to .8; draws and queries differ in logits."""
    rise = np.linspace(-0.95, 1.6, len(shots))
    draw = draw_sd * rng.standard_normal((len(shots), n_draws, 1))
    query = rng.standard_normal(n_queries)
    return rng.random((len(shots), n_draws, n_queries)) < expit(rise[:, None, None] + draw + query)


def truth_of(draw_sd):
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    rise = np.linspace(-0.95, 1.6, len(SHOTS))
    return expit(rise[:, None] + math.hypot(draw_sd, 1.0) * points) @ (weights / weights.sum())


def test_bands_hold_for_whole_curves_where_intervals_of_points_do_not() -> None:
    rng = np.random.default_rng(4)
    pointwise, whole, n = 0, 0, 42
    for i in range(n):
        draw_sd, n_draws = ((0.5, 3), (0.5, 5), (0.0, 3))[i % 3]
        shots = (1, *SHOTS[1:])
        found = estimates_of(simulated(rng, n_draws, 100, draw_sd), shots)
        truth = truth_of(draw_sd)
        for level in (0.95, point_level(found)):
            limits = intervals(found, level)
            holds = all(one.low <= p <= one.high for one, p in zip(limits, truth, strict=True))
            pointwise += holds and level == 0.95
            whole += holds and level != 0.95
    assert pointwise / n < 0.87
    assert 0.9 <= whole / n <= 1


def test_points_that_share_no_draw_have_sidaks_level() -> None:
    answers = simulated(np.random.default_rng(1), 1, 50, 0.0)
    assert point_level(estimates_of(answers)) == pytest.approx(0.95 ** (1 / 8))
    assert point_level(estimates_of(answers), 0.9) == pytest.approx(0.9 ** (1 / 8))


@pytest.mark.parametrize("n_points", [2, 4, 8])
def test_points_that_are_one_need_no_more_than_one(n_points: int) -> None:
    """With many draws it is seen that they go together; with few it is not believed."""
    rng = np.random.default_rng(n_points)
    shots = SHOTS[1 : n_points + 1] if n_points < 8 else range(1, 9)

    def level(n_draws):
        draw = rng.normal(size=(n_draws, 1))
        one = (draw + 0.05 * rng.normal(size=(n_draws, 30)) > 0).astype(float)
        return point_level(estimates_of(np.broadcast_to(one, (n_points, *one.shape)), shots))

    sidak = 0.95 ** (1 / n_points)
    assert 0.95 <= level(400) < 0.95 + 0.5 * (sidak - 0.95)
    assert 0.95 + 0.7 * (sidak - 0.95) < level(3) <= sidak + 0.001


def test_the_level_is_that_of_the_largest_of_correlated_normals() -> None:
    """Against Dunnett's table of two-sided limits, equal correlations of .5 (1964, infinite df)."""
    from icl_harness.analysis.bands import _level_of_largest

    for n, limit in ((2, 2.21), (4, 2.44), (9, 2.69)):
        correlation = np.full((n, n), 0.5) + 0.5 * np.eye(n)
        found = norm.isf((1 - _level_of_largest(correlation, 0.95)) / 2)
        assert found == pytest.approx(limit, abs=0.03)


def test_a_curve_of_one_point_has_its_interval_as_band() -> None:
    assert point_level(estimates_of(simulated(np.random.default_rng(0), 3, 20, 0.5))[:1]) == 0.95
    lone = mean_estimate([1.0], [0], [0], limits=SHARE)
    assert point_level([lone, lone, lone]) == 0.95
    assert point_level([]) == 0.95


def table(**fields):
    return pd.concat(
        records(p, shots=k, seed=k, mode=mode, **fields)
        for mode in ("supervised", "unsupervised")
        for k, p in {0: 0.4, 4: 0.6, 16: 0.9, 64: 1.0}.items()
    ).assign(**OTHERS)


def test_the_band_has_columns_of_its_own_and_changes_no_other() -> None:
    pointwise, wide = curves(table()), curves(table(), band="simultaneous")
    assert list(pointwise) == COLUMNS
    assert list(wide) == [*COLUMNS, "band_low", "band_high"]
    pd.testing.assert_frame_equal(wide[COLUMNS], pointwise)
    assert (wide["band_low"] < wide["ci_low"]).all()
    assert (wide["band_high"] >= wide["ci_high"]).all()
    assert (wide[["band_low", "band_high"]].stack().between(0, 1)).all()
    assert (wide["band_high"] - wide["band_low"]).max() < 1
    shuffled = curves(table().sample(frac=1, random_state=1), band="simultaneous")
    pd.testing.assert_frame_equal(shuffled, wide)


def test_a_curve_of_one_shot_count_is_no_wider_in_a_band() -> None:
    (row,) = curves(records(0.6).assign(**OTHERS), band="simultaneous").to_dict("records")
    assert (row["band_low"], row["band_high"]) == (row["ci_low"], row["ci_high"])


def test_metrics_without_a_range_have_bands_too() -> None:
    scores = table(metric="chrF++")
    wide = curves(scores.assign(score=scores["score"] * 30 + 0.5), band="simultaneous")
    known = wide.dropna(subset="band_low")
    assert len(known) > 3
    assert (known["band_high"] - known["band_low"] > known["ci_high"] - known["ci_low"]).all()


@pytest.mark.parametrize("band", ["", "point", "Simultaneous", "95"])
def test_an_unknown_band_is_one_line_with_the_choices(band: str) -> None:
    for answers in (table(), table().iloc[:0]):
        with pytest.raises(SpecError, match="choose from pointwise, simultaneous"):
            curves(answers, band=band)
