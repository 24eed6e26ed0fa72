"""The variance between draws, estimated from all means of a family together.

Three draws say next to nothing of how much draws differ: two degrees of freedom. A curve has many
shot counts, though, and a family of differences many pairs. What they have in common is estimated
from all of them, and each mean's own variance is moved towards it: the empirical Bayes of
microarrays (Smyth 2004, section 3, as in limma's `squeezeVar`), with limma's trend, here in the
shot count. In: mean squares. Out: moderated ones, with their degrees of freedom.

Arrays end in the members of one family; axes before that are families of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icl_harness.analysis.crossed import Floats

PRIOR_DFS = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 1e4])
# Log variance per doubling of the shots. That of published curves falls by about a fifth; the
# penalty is that of a normal prior with this SD, so that flat curves keep nearly all they share.
SLOPES = np.array([-0.6, -0.45, -0.3, -0.15, 0.0, 0.15])
SLOPE_SD = 0.15
OF_CORRELATIONS_AT_2_DRAWS = 0.1  # mean squared, of two members: 2 draws cannot show them
N_STEPS = 30
TINY = 1e-300


@dataclass(frozen=True, kw_only=True)
class DrawVariances:
    """What is observed of each member of a family.

    `observed` has the expectation noise + sum over its sides of scale * v, where v is the variance
    that draws have in common, and `df` degrees of freedom. `doublings` is log2(1 + shots) of each
    side. `by_draw` are the means of each draw; NaN where a draw is missing.
    """

    observed: Floats
    noise: Floats
    df: Floats
    scale: Floats  # one more axis at the end: the sides
    doublings: Floats
    by_draw: Floats  # one more axis at the end: the draws


def moderate(family: DrawVariances) -> tuple[Floats, Floats]:
    """Return the moderated variance of each member and its degrees of freedom.

    Members without degrees of freedom (one draw) tell nothing and are told nothing: NaN and 0.
    """
    known = family.df > 0
    if not known.any():
        return np.full_like(family.observed, np.nan), np.zeros_like(family.observed)
    df = np.where(known, family.df, 0.0)
    expected = np.maximum(_expected(family, df), TINY)
    prior = _prior_df(family.observed / expected, df)[..., None]
    variance = (prior * expected + df * family.observed) / (prior + df)
    most = _df_together(family, df, expected)[..., None]
    return np.where(known, variance, np.nan), np.where(known, np.minimum(prior + df, most), 0.0)


def _expected(family: DrawVariances, df: Floats) -> Floats:
    """Return the expectation of each `observed` at the most likely common variance and slope."""
    best = np.full((*family.observed.shape[:-1], 1), -np.inf)
    found: Floats = np.array(family.noise)
    is_one = np.ptp(family.doublings) == 0
    for slope in [0.0] if is_one else SLOPES:
        scale = np.sum(family.scale * np.exp(slope * family.doublings), axis=-1)
        expected = family.noise + scale * _common(family, df, scale)
        ratio = family.observed / np.maximum(expected, TINY)
        terms = df / 2 * (np.log(np.maximum(expected, TINY)) + ratio)
        likelihood = -terms.sum(axis=-1, keepdims=True) - (slope / SLOPE_SD) ** 2 / 2
        better = likelihood > best
        best = np.where(better, likelihood, best)
        found = np.where(better, expected, found)
    return found


def _common(family: DrawVariances, df: Floats, scale: Floats) -> Floats:
    """Return the variance v at which the quasi-likelihood of all members is greatest; 0 where they
    vary no more than noise.
    """

    def score(v: Floats) -> Floats:
        expected = np.maximum(family.noise + scale * v, TINY)
        excess = family.observed / expected - 1
        total: Floats = np.sum(df * scale / expected * excess, axis=-1, keepdims=True)
        return total

    most = np.where(scale > 0, family.observed / np.maximum(scale, TINY), 0.0)
    high = np.maximum(most.max(axis=-1, keepdims=True), TINY)
    low = np.zeros_like(high)
    for _ in range(N_STEPS):
        middle = (low + high) / 2
        below = score(middle) > 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(high, dtype=float)


def _prior_df(ratio: Floats, df: Floats) -> Floats:
    """Return the degrees of freedom of what a family has in common: few where its members differ.

    The ratios are F-distributed with `df` and these. Their inverse is averaged over what the
    ratios make of each value, as families are too small to tell one value from the next.
    """
    from scipy.special import betaln

    a, b = df[..., None] / 2, PRIOR_DFS / 2
    x = np.maximum(ratio, 1e-8)[..., None]
    safe = np.maximum(a, 0.5)
    log_f = safe * np.log(a / b + TINY) + (a - 1) * np.log(x) - betaln(safe, b)
    log_f = np.where(a > 0, log_f - (a + b) * np.log1p(a / b * x), 0.0)
    total = log_f.sum(axis=-2) * _few(df)[..., None]
    weight = np.exp(total - total.max(axis=-1, keepdims=True))
    inverse = (weight / PRIOR_DFS).sum(axis=-1) / weight.sum(axis=-1)
    found: Floats = 1 / inverse
    return found


def _few(df: Floats) -> Floats:
    """Return what each member's likelihood counts: pairs of 8 shot counts are 28, but 7 tell all
    there is.
    """
    n = np.maximum((df > 0).sum(axis=-1), 1)
    independent = np.where(n > 7, np.maximum(7, (np.sqrt(8 * n + 1) - 1) / 2), n)
    found: Floats = independent / n
    return found


def _df_together(family: DrawVariances, df: Floats, expected: Floats) -> Floats:
    """Return the degrees of freedom of all members together: those of each, less what correlated
    members tell twice.

    With n members, correlations R and nu degrees of freedom each it is nu n^2 / tr(R^2). The
    estimate of tr(R^2) is the unbiased one of Srivastava (2005).
    """
    means = family.by_draw
    there = ~np.isnan(means) & (df > 0)[..., None]
    n_draws = np.maximum(there.sum(axis=-1, keepdims=True), 1)
    filled = np.where(there, means, 0.0)
    centred = np.where(there, filled - filled.sum(axis=-1, keepdims=True) / n_draws, 0.0)
    size = np.sqrt(np.maximum(expected, TINY))[..., None]
    cross = (centred / size) @ np.swapaxes(centred / size, -1, -2)
    nu = df.max(axis=-1)
    n = np.maximum((df > 0).sum(axis=-1), 1)
    trace = np.maximum(np.trace(cross, axis1=-2, axis2=-1), 1e-100)
    squares = ((cross / trace[..., None, None]) ** 2).sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        unbiased = (squares - 1 / nu) / ((nu - 1) * (nu + 2)) * (n * nu) ** 2
    guess = n * (1 + (n - 1) * OF_CORRELATIONS_AT_2_DRAWS)
    of_squares = np.clip(np.where(nu > 1, unbiased, guess), n, n * n)
    found: Floats = df.sum(axis=-1) * n / of_squares
    return found
