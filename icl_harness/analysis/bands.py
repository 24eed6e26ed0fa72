"""Bands that hold for a whole curve at once: in 95 of 100 cases every point of it lies inside.

Intervals point by point cover all of 8 points in some 60 to 80 of 100 cases. In: the estimates of a
curve's points. Out: the level at which its points' intervals together make such a band.

That level is the one at which the largest of the points' errors, each over its own standard error,
stays within its limit (max-t; Hothorn, Bretz & Westfall 2008). The errors' correlations are those
of the draws, as prompts of a draw share their shots; three draws tell little of them, so they are
moved towards 0, where the level is Šidák's (1967). Points are taken to share no more than that:
shared queries make a band a little wider than it need be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from icl_harness.analysis.crossed import Floats
from icl_harness.analysis.estimates import Estimate, by_draw
from icl_harness.errors import SpecError, nearest

if TYPE_CHECKING:
    import pandas as pd

POINTWISE, SIMULTANEOUS = "pointwise", "simultaneous"
BANDS = (POINTWISE, SIMULTANEOUS)
LIMITS = ["band_low", "band_high"]
PRIOR_DF = 8.0  # of correlations: draws count as much as those that say 0 from 9 draws on
N_SIMULATED = 20_000
SEED = 20261128


def check_band(band: str) -> None:
    """Raise `SpecError` where there is no band of that name."""
    if band not in BANDS:
        raise SpecError(
            f"unknown band {band!r}; choose from {', '.join(BANDS)}.{nearest(band, BANDS)}"
        )


def limits_of(curves: pd.DataFrame) -> list[str]:
    """Return the columns of a table of curves that are to be shown: those of the band, if any."""
    return LIMITS if set(LIMITS) <= set(curves) else ["ci_low", "ci_high"]


def left_out(points: pd.DataFrame) -> str:
    """Return what to say of the chance that the limits of points leave out, if they do."""
    of_shots = points[(points["shots"] > 0) & (points["ci_covers"] != "")]
    is_one_draw = len(of_shots) and (of_shots["ci_covers"] == "queries").all()
    return " over queries, not draws" if is_one_draw else ""


def point_level(estimates: Sequence[Estimate], level: float = 0.95) -> float:
    """Return the level of the points' intervals at which they all hold with probability `level`.

    Points of which one unit is all there is have no limits that could fail.
    """
    known = [one for one in estimates if one.spread.n_units > 1]
    if len(known) < 2:
        return level
    correlation = _correlations(known)
    if np.array_equal(correlation, np.eye(len(known))):
        return float(level ** (1 / len(known)))
    return _level_of_largest(correlation, level)


def _level_of_largest(correlation: Floats, level: float) -> float:
    """Return the level of each of several correlated normals at which all are within their limits
    with probability `level`, by simulation with a fixed seed.
    """
    from scipy.special import ndtr

    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    root /= np.sqrt(np.square(root).sum(axis=1, keepdims=True))
    errors = np.random.default_rng(SEED).standard_normal((N_SIMULATED, len(correlation)))
    largest = np.abs(errors @ root.T).max(axis=1)
    return float(2 * ndtr(np.quantile(largest, level)) - 1)


def _correlations(estimates: Sequence[Estimate]) -> Floats:
    """Return the correlations of the errors of points, through the draws that they share."""
    means = by_draw([one.spread for one in estimates])
    there = ~np.isnan(means) & np.array([[one.covers_draws] for one in estimates])
    n_draws = np.maximum(there.sum(axis=1, keepdims=True), 1)
    filled = np.where(there, means, 0.0)
    centred = np.where(there, filled - filled.sum(axis=1, keepdims=True) / n_draws, 0.0)
    size = np.sqrt(np.square(centred).sum(axis=1))
    unit = centred / np.where(size > 0, size, 1.0)[:, None]
    both = there.astype(float) @ there.T
    df = np.maximum(both - 1, 0.0)
    of_draws = np.sqrt([_share_of_draws(one) for one in estimates])
    found: Floats = (unit @ unit.T) * df / (df + PRIOR_DF) * np.outer(of_draws, of_draws)
    np.fill_diagonal(found, 1.0)
    return found


def _share_of_draws(one: Estimate) -> float:
    """Return the share of the variance of a mean that is between draws, noise among it."""
    spread = one.spread
    draw = max(spread.draw, spread.rest)
    total = draw + max(spread.query - spread.rest, 0.0)
    return draw / total if total > 0 and one.covers_draws else 0.0
