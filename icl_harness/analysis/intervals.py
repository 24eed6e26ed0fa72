"""Confidence limits of means and of paired differences, those of a family together.

In: what the tables of a family say (`Means`, `Pairs`), as arrays. Out: limits, and p-values of
differences. Why it is done so is in docs/statistics.md, how well in benchmarks/RESULTS.md.

The variance between draws is moderated over the family (moderation.py) and still uncertain: errors
are mixtures of normals (mixtures.py). Limits of a value between 0 and 1 are those p at which the
value would not surprise, given the variance that a mean of p has. Arrays end in the members of one
family; axes before that are families of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from icl_harness.analysis.crossed import Floats
from icl_harness.analysis.logit_normal import logit, share_of_draws
from icl_harness.analysis.mixtures import inverse_chi2, margin, tail
from icl_harness.analysis.moderation import DrawVariances, moderate
from icl_harness.analysis.rare_answers import most_likely_sds

Flags = NDArray[np.bool_]
Members = slice | NDArray[np.intp]
WITH_ONE_MORE_AXIS = ("by_draw", "scale", "doublings")
ALL = slice(None)
N_DRAW_NODES, N_QUERY_NODES = 24, 16
LEAST_NOISE = 0.5  # of the noise that residuals give a draw's mean: the least that counts
N_STEPS = 25
TINY = 1e-12
NOTHING = 1e-100
FEW, PRIOR = 10.0, 2.0  # answers
RARE = 6.0  # answers a draw: with fewer, its logit says little


@dataclass(frozen=True, kw_only=True)
class Means:
    """Means of tables with their variances by source (crossed.py), one a member of a family.

    A mean has sides: itself, or the two that a difference is made of. `scale` is what the variance
    between draws is proportional to on each side, 0 where prompts hold no shots.
    """

    mean: Floats
    draw: Floats
    query: Floats
    rest: Floats
    df_draw: Floats  # 0 where draws are no source of variance, or there is one
    df_query: Floats
    per_draw: Floats
    n_units: Floats  # queries; answers where each draw has queries of its own
    nested: Flags
    by_draw: Floats  # one more axis: the means of the draws; NaN where a draw is missing
    scale: Floats  # one more axis: the sides
    doublings: Floats  # log2(1 + shots); one more axis: the sides

    def at(self, members: Members) -> Means:
        """Return some members of each family."""
        wide = {name: getattr(self, name)[..., members, :] for name in WITH_ONE_MORE_AXIS}
        names = (one.name for one in fields(self) if one.name not in wide)
        return Means(**wide, **{name: getattr(self, name)[..., members] for name in names})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Confidence limits, the standard error, and the degrees of freedom of the variance between
    draws: 0 without one. Of the squared standard error, `of_queries` and `of_noise` are what
    queries and residuals add; the rest is what draws do.
    """

    low: Floats
    high: Floats
    se: Floats
    df: Floats
    of_queries: Floats
    of_noise: Floats


@dataclass(frozen=True, kw_only=True)
class _Draws:
    """The moderated variance of a draw's mean, noise among it."""

    variance: Floats
    noise: Floats
    df: Floats

    def at(self, members: Members) -> _Draws:
        """Return those of some members."""
        variance, noise = self.variance[..., members], self.noise[..., members]
        return _Draws(variance=variance, noise=noise, df=self.df[..., members])

    def beyond_noise(self, times: Floats | float = 1.0) -> Floats:
        """Return the variance between draws, where the whole is `times` what it is found to be."""
        return np.maximum(self.variance * times - self.noise, 0.0)

    def noise_share(self, times: Floats | float = 1.0) -> Floats:
        """Return how much of the noise there is: draws may vary less than residuals have it."""
        ratio = self.variance * times / np.maximum(self.noise, TINY)
        return np.clip(ratio, LEAST_NOISE, 1.0)


def share_limits(means: Means, level: float | Floats) -> Limits:
    """Return the limits of means of values between 0 and 1.

    Those p are compatible with a mean m that lie within Jeffreys' limits of m n right answers out
    of n, where n = p (1 - p) / Var(mean of p), draws varying on the logit scale.
    """
    from scipy.special import betainc, ndtr

    mean = means.mean
    p = (mean * means.n_units + 1) / (means.n_units + 2)
    noise, query = _relative(means, p * (1 - p))
    draws = _not_under_counts(means, p, _between_logits(means, noise))
    sd, others = np.sqrt(draws.beyond_noise()), query + noise * draws.noise_share()
    central = share_of_draws(p, sd) * means.per_draw + others
    errors, weights = _share_errors(means, p, draws, noise, query)
    surprise = ndtr(-margin(errors, weights, level) / np.sqrt(central))

    def is_above(p: Floats, share: Floats) -> Flags:
        n = 1 / (share_of_draws(p, sd) * means.per_draw + others)
        found: Flags = betainc(n * mean + 0.5, n * (1 - mean) + 0.5, p) > share
        return found

    low = _crossing(lambda p: is_above(p, surprise), np.zeros_like(p), mean)
    high = _crossing(lambda p: is_above(p, 1 - surprise), mean, np.ones_like(p))
    return Limits(
        low=np.where(mean <= 0, 0.0, low),
        high=np.where(mean >= 1, 1.0, high),
        se=np.sqrt(central * p * (1 - p)),
        df=draws.df,
        of_queries=query * p * (1 - p),
        of_noise=noise * draws.noise_share() * p * (1 - p),
    )


def _relative(means: Means, most: Floats) -> tuple[Floats, Floats]:
    """Return what residuals and what queries add to Var(mean), as shares of p (1 - p).

    Rare answers cannot tell how alike the answers to one query are. So these are moved towards
    those of the family, as if `FEW` answers told of them; and those of the family towards answers
    that are all right or all wrong for a query, which is also what counts where nothing varies.
    """
    n_answers = np.where(means.nested, means.n_units, means.n_units / means.per_draw)
    rare = n_answers * np.minimum(means.mean, 1 - means.mean)
    least = 1 / n_answers
    own = np.stack([means.rest, np.maximum(means.query - means.rest, 0.0)]) / most / least
    own = np.where(rare > 0, own, 0.0)
    alike = np.stack([np.ones_like(least), 1 / means.n_units / least - 1])
    weight = np.broadcast_to(rare, own.shape)
    total = weight.sum(axis=-1, keepdims=True)
    family = ((weight * own).sum(axis=-1, keepdims=True) + PRIOR * alike) / (total + PRIOR)
    noise, query = (weight * own + FEW * family) / (weight + FEW) * least
    return noise, np.where(means.nested, 0.0, query)


def _between_logits(means: Means, noise: Floats) -> _Draws:
    """Return the moderated variance of a draw's logit."""
    n = np.where(means.nested, means.n_units * means.per_draw, means.n_units)[..., None]
    inside = np.clip(means.by_draw, 0.0, 1.0)
    logits = logit((inside * n + 0.5) / (n + 1))
    # A logit's noise is that of 1 / (n y + 1), and no more than half where answers are rare.
    shrunk = np.clip((inside * n + 1) / (n + 2), 2 / (n + 2), n / (n + 2))
    there = ~np.isnan(means.by_draw)
    n_draws = np.maximum(there.sum(axis=-1), 1)
    worth = np.where(there, 1 / (shrunk * (1 - shrunk)), 0.0).sum(axis=-1) / n_draws
    centred = logits - (np.where(there, logits, 0.0).sum(axis=-1) / n_draws)[..., None]
    squares = np.where(there, centred, 0.0) ** 2
    observed = squares.sum(axis=-1) / np.maximum(n_draws - 1, 1)
    of_noise = np.maximum(noise / means.per_draw * worth, TINY)
    equal = np.where(means.scale > 0, np.ones_like(means.scale), 0.0)
    return _moderated(means, observed, of_noise, equal, logits)


def _not_under_counts(means: Means, p: Floats, draws: _Draws) -> _Draws:
    """Return the variance of a draw's logit, for rare answers at least the one that makes the
    counts of the family's draws most likely: most draws have none of what is rare, and their logits
    look alike.
    """
    n = np.where(means.nested, means.n_units * means.per_draw, means.n_units)
    is_rare = (n * np.minimum(p, 1 - p) < RARE) & (draws.df > 0) & (means.scale[..., 0] > 0)
    if not is_rare.any():
        return draws
    sd = most_likely_sds(means.by_draw, p, n, is_rare.astype(float))
    least = np.where(is_rare & (sd > 0), draws.noise + sd**2, 0.0)
    return replace(draws, variance=np.maximum(draws.variance, least))


def _moderated(
    means: Means, observed: Floats, noise: Floats, scale: Floats, by_draw: Floats
) -> _Draws:
    family = DrawVariances(
        observed=observed,
        noise=noise,
        df=means.df_draw,
        scale=scale,
        doublings=means.doublings,
        by_draw=by_draw,
    )
    variance, df = moderate(family)
    return _Draws(variance=np.where(df > 0, variance, noise), noise=noise, df=df)


def _share_errors(
    means: Means, p: Floats, draws: _Draws, noise: Floats, query: Floats
) -> tuple[Floats, Floats]:
    """Return the variances that the error of a mean may have, as shares of p (1 - p)."""
    times, of_draws = inverse_chi2(draws.df, N_DRAW_NODES)
    wide = _Draws(variance=draws.variance[..., None], noise=draws.noise[..., None], df=draws.df)
    sd = np.sqrt(wide.beyond_noise(times))
    of_draw = share_of_draws(p[..., None], sd) * means.per_draw[..., None]
    of_draw = of_draw + noise[..., None] * wide.noise_share(times)
    return _sums(of_draw, of_draws, query, means.df_query)


def _sums(
    of_draw: Floats, weights: Floats, query: Floats, df_query: Floats
) -> tuple[Floats, Floats]:
    """Return the sums of what draws and what queries add, each of either with each of the other."""
    times, of_queries = inverse_chi2(np.where(query > 0, df_query, 0.0), N_QUERY_NODES)
    both = of_draw[..., :, None] + (query[..., None] * times)[..., None, :]
    joint = weights[:, None] * of_queries
    return both.reshape((*both.shape[:-2], -1)), joint.ravel()


def _crossing(is_above: Callable[[Floats], Flags], low: Floats, high: Floats) -> Floats:
    """Return where a condition begins to hold between two bounds, by bisection."""
    for _ in range(N_STEPS):
        middle = (low + high) / 2
        above = is_above(middle)
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2


@dataclass(frozen=True, kw_only=True)
class _Errors:
    """What the error of each mean may be: the variance at its centre, and its mixture."""

    variance: Floats
    variances: Floats
    weights: Floats
    df: Floats
    of_queries: Floats
    of_noise: Floats


def _errors(means: Means, members: Members = ALL) -> _Errors:
    """Return the errors of means on the scale of their values: of differences, or of values that
    lie in no range. All members of a family tell how much draws vary.
    """
    noise = means.rest / means.per_draw
    draws = _moderated(means, means.draw / means.per_draw, noise, means.scale, means.by_draw)
    draws, means = draws.at(members), means.at(members)
    noise, query = draws.noise, np.maximum(means.query - means.rest, 0.0)
    times, weights = inverse_chi2(draws.df, N_DRAW_NODES)
    least = LEAST_NOISE * noise
    by_node = np.maximum(draws.variance[..., None] * times, least[..., None])
    of_draw = by_node * means.per_draw[..., None]
    variances, joint = _sums(of_draw, weights, query, means.df_query)
    variance = np.maximum(draws.variance, least) * means.per_draw + query
    return _Errors(
        variance=variance,
        variances=variances,
        weights=joint,
        df=draws.df,
        of_queries=query,
        of_noise=noise * draws.noise_share() * means.per_draw,
    )


def difference_limits(
    means: Means, mean_square: Floats, level: float, *, is_bounded: bool, members: Members = ALL
) -> tuple[Limits, Floats]:
    """Return the limits of paired differences and their two-sided p-values: of all members of a
    family, or of some.

    `mean_square` is that of the differences. Differences of values between 0 and 1 get the interval
    of Bonett & Price (2012): one pair is added to either kind of disagreement, n being what the
    variance leaves of the sample. So there is a width even where no pair differs.
    """
    found = _errors(means, members)
    means, mean_square = means.at(members), mean_square[..., members]
    centre, variance = means.mean, found.variance
    if is_bounded:
        n = _effective_pairs(means, mean_square, variance)
        centre = means.mean * n / (n + 2)
        variance = ((mean_square * n + 2) / (n + 2) - centre**2) / (n + 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = np.where(found.variance > TINY, variance / found.variance, np.nan)[..., None]
        variances = np.where(np.isnan(grown), variance[..., None], found.variances * grown)
    known = variance > NOTHING  # of values in no range, nothing is known where nothing varies
    half = np.where(known, margin(variances, found.weights, level), np.nan)
    p_value = np.where(known, tail(centre, variances, found.weights), np.nan)
    return _around(centre, half, found), p_value


def _around(centre: Floats, half: Floats, found: _Errors) -> Limits:
    """Return the limits at equal distances from the centre."""
    return Limits(
        low=centre - half,
        high=centre + half,
        se=np.sqrt(found.variance),
        df=found.df,
        of_queries=found.of_queries,
        of_noise=found.of_noise,
    )


def _effective_pairs(means: Means, mean_square: Floats, variance: Floats) -> Floats:
    """Return how many independent pairs the variance is worth. Where no pair differs, or one does,
    it is the family's, and is set against two pairs that differ.
    """
    spread = np.maximum(mean_square - means.mean**2, 0.0)
    safe = np.maximum(variance, TINY)
    least = np.minimum(2 / (means.n_units + 2) / safe, means.n_units)
    return np.where(variance > TINY, np.maximum(spread / safe, least), means.n_units)


def value_limits(means: Means, level: float | Floats) -> Limits:
    """Return the limits of means of values that lie in no range.

    Where nothing varies, a value is taken to vary as much as the most variable of the family; NaN
    where none does.
    """
    found = _errors(means)
    half = margin(found.variances, found.weights, level)
    most = np.max(half * np.sqrt(means.n_units), axis=-1, keepdims=True)
    half = np.where(found.variance > NOTHING, half, most / np.sqrt(means.n_units))
    half = np.where(half > NOTHING, half, np.nan)
    return _around(means.mean, half, found)
