"""Normals whose variance is uncertain: their quantiles and tails.

In: variances with weights. Out: how far the mean may be off, and how likely it is to be that far.
A variance estimated with f degrees of freedom has, for what is to be inferred, the distribution of
the estimate times f / chi2(f); the mixture over it is Student's t. With several such variances in
sum it is the fiducial answer to the Behrens-Fisher problem, which needs no degrees of freedom of
the sum.
"""

from __future__ import annotations

import numpy as np

from icl_harness.analysis.crossed import Floats

N_STEPS = 45
MANY = 40  # degrees of freedom from which one value stands for all


def inverse_chi2(df: Floats, n: int) -> tuple[Floats, Floats]:
    """Return values of f / chi2(f) along a new last axis, and their weights; 1 where `df` is 0.

    Small chi2 make the tails of t, so the values stand closer there: t's tails are right to 1 % up
    to p = .001.
    """
    from scipy.special import gammaincinv

    if (df >= MANY).all():
        return (df / (df - 2))[..., None], np.ones(1)
    if not df.any():
        return np.ones((*df.shape, 1)), np.ones(1)
    middles = (np.arange(n) + 0.5) / n
    weights = middles**2
    of = np.where(df > 0, df, 1.0)[..., None]
    nodes = of / (2 * gammaincinv(of / 2, middles**3))
    return np.where(df[..., None] > 0, nodes, 1.0), weights / weights.sum()


def tail(distance: Floats, variances: Floats, weights: Floats) -> Floats:
    """Return the probability of an error of at least `distance`, in either direction."""
    from scipy.special import ndtr

    sd = np.sqrt(np.maximum(variances, 1e-300))
    found: Floats = (2 * ndtr(-np.abs(distance)[..., None] / sd)) @ weights
    return np.minimum(found, 1.0)


def margin(variances: Floats, weights: Floats, level: float | Floats) -> Floats:
    """Return the error that is exceeded with probability 1 - `level`, by bisection."""
    from scipy.special import ndtri

    sd = np.sqrt(variances)
    normal = ndtri((1 + level) / 2)
    low, high = normal * sd.min(axis=-1), normal * sd.max(axis=-1)
    for _ in range(N_STEPS):
        middle = (low + high) / 2
        short = tail(middle, variances, weights) > 1 - level
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.asarray(high, dtype=float)
