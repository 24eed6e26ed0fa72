"""How the errors that draws make go together: along a curve, and between curves.

In: what each draw adds to the error of each point, residuals among it. Out: covariances. Three
draws say little of correlations, so those along a curve are expected to be a + (1 - a) b^(doublings
between two shot counts): a draw may be good at all shot counts, and prompts of a draw are nested.
The likelihood of the draws' means (Wishart's) weighs each a and b, and the expectation is averaged
by it. What was observed counts beside it by its degrees of freedom (an inverse Wishart prior).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from icl_harness.analysis.crossed import Codes, Floats

ALWAYS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95)  # a
NEAR = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)  # b
SHAPE_DF = 4.0  # that the expected correlations count for
PRIOR_DF = 2.0  # of no correlation between two curves
RIDGE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Points of curves, and what each draw adds to the error of each."""

    by_draw: Floats  # (points, draws); the sum of squares of a point is its variance
    weight: Floats  # (points, draws): the share of each draw in the mean
    between: Floats  # the moderated variance of each point that draws add
    noise: Floats  # (points, points): the covariances that residuals add
    df: Floats  # draws less one
    curve: Codes  # the number of each point's curve
    doublings: Floats  # log2(1 + shots)


def draw_covariance(draws: Draws) -> Floats:
    """Return the covariances of the points' errors that draws and residuals make. The diagonal is
    what the variances of both add up to.
    """
    sd = np.sqrt(draws.between)
    size = np.sqrt(np.square(draws.weight).sum(axis=1))
    shared = (draws.weight @ draws.weight.T) / np.outer(size, size)
    gap = np.abs(draws.doublings[:, None] - draws.doublings[None, :])
    along = shared * _mean_correlation(draws, gap, shared)
    of_draws = np.outer(sd, sd) * along * _between_curves(draws, along)
    return _with_observed(draws, of_draws + draws.noise)


def _with_observed(draws: Draws, expected: Floats) -> Floats:
    """Return expected covariances moved towards the correlations that were observed."""
    total = np.sqrt(np.diag(expected))
    size = np.sqrt(np.square(draws.by_draw).sum(axis=1))
    rows = draws.by_draw * np.divide(total, size, out=np.zeros_like(size), where=size > 0)[:, None]
    share = np.where(size > 0, draws.df / (draws.df + SHAPE_DF), 0.0)
    # Each point's row is a mixture of its own, so that all together stay positive semidefinite.
    seen, kept = np.sqrt(share), np.sqrt(1 - share)
    found: Floats = np.outer(kept, kept) * expected + np.outer(seen, seen) * (rows @ rows.T)
    return found


def nearest_correlations(matrix: Floats) -> Floats:
    """Return correlations near those of a symmetric matrix that may not be positive semidefinite:
    negative eigenvalues are taken as 0.
    """
    values, vectors = np.linalg.eigh(matrix)
    if values.min() >= 0:
        return matrix
    found = (vectors * np.maximum(values, 0.0)) @ vectors.T
    size = np.sqrt(np.maximum(np.diag(found), 1e-12))
    found = found / np.outer(size, size)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found, dtype=float)


def _correlation(gap: Floats, always: float, near: float) -> Floats:
    found: Floats = always + (1 - always) * near**gap
    return found


def _mean_correlation(draws: Draws, gap: Floats, shared: Floats) -> Floats:
    """Return the correlations of points that share all draws, averaged over each a and b."""
    known = (draws.between > 0) & (draws.df > 0)
    curves = [np.flatnonzero(known & (draws.curve == one)) for one in np.unique(draws.curve)]
    curves = [points for points in curves if len(points) > 1]
    shapes = [_correlation(gap, *of) for of in product(ALWAYS, NEAR)]
    # Before any data, draws that are good at all shot counts are less likely than others: these
    # have differences of points vary more, which is the safe side.
    likelihood = np.array([3 * np.log(1 - always) for always, _ in product(ALWAYS, NEAR)])
    for points in curves:
        found = [_likelihood(draws, points, shape * shared) for shape in shapes]
        # Curves of the same draws tell partly the same.
        likelihood += np.array(found) / np.sqrt(len(curves))
    weights = np.exp(likelihood - likelihood.max())
    return np.asarray(np.tensordot(weights / weights.sum(), np.array(shapes), axes=1))


def _likelihood(draws: Draws, points: Codes, correlation: Floats) -> float:
    """Return the log-likelihood of what draws add to the points of a curve."""
    block = np.ix_(points, points)
    sd = np.sqrt(draws.between[points])
    expected = draws.noise[block] + np.outer(sd, sd) * correlation[block]
    expected[np.diag_indices_from(expected)] *= 1 + RIDGE
    _, log_size = np.linalg.slogdet(expected)
    rows = draws.by_draw[points]
    misfit = np.sum(rows * np.linalg.solve(expected, rows))
    return float(-draws.df[points].max() / 2 * (log_size + misfit))


def _between_curves(draws: Draws, along: Floats) -> Floats:
    """Return how far two curves go together, for each two points: 1 where they are of one."""
    names, curve = np.unique(draws.curve, return_inverse=True)
    sd = np.sqrt(draws.between)
    expected = np.outer(sd, sd) * along
    excess = draws.by_draw @ draws.by_draw.T - draws.noise
    member = (curve[:, None] == np.arange(len(names))).astype(float)
    found = member.T @ (excess * expected) @ member
    most = member.T @ expected**2 @ member
    df = np.array([draws.df[curve == one].max() for one in range(len(names))])
    shrunk = np.minimum.outer(df, df) / (np.minimum.outer(df, df) + PRIOR_DF)
    ratio = np.clip(shrunk * found / np.maximum(most, 1e-300), 0.0, 1.0)
    np.fill_diagonal(ratio, 1.0)
    return nearest_correlations(ratio)[np.ix_(curve, curve)]
