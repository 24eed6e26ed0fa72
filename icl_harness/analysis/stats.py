"""Intervals that count both sources of chance: which queries were asked and which shots were drawn.

In: one score per record with its draw and its query. Out: means, paired differences, their
intervals, and where the variance comes from. Means that belong together (a model's on a task) are
given together: three draws of one mean say little of how draws vary, those of a curve enough
(intervals.py). Left out: what other grids would see (power.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from icl_harness.analysis.crossed import spread_of
from icl_harness.analysis.estimates import (
    SHARE,
    UNLIMITED,
    Estimate,
    Range,
    is_share,
    mean_estimate,
    means_of,
    paired_estimate,
    width_of,
)
from icl_harness.analysis.intervals import Limits, difference_limits, share_limits, value_limits


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean with its confidence limits. `se` is the crossed standard error of its own records, NaN
    where one unit is all there is. `df` is that of the variance between draws, moderated; without
    draws, that of the queries. The limits stand on `variances`, moderated: what draws, queries and
    residuals add to the variance of the mean.
    """

    value: float
    low: float
    high: float
    se: float
    df: float
    variances: tuple[float, float, float] = (math.nan, math.nan, math.nan)

    @property
    def moderated_se(self) -> float:
        """Return the standard error that the limits stand on."""
        return math.sqrt(sum(self.variances))


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference(Interval):
    """A paired mean difference b - a; `p_value` is two-sided and below 1 - level just where the
    limits exclude 0. NaN where one draw was made of shots that differ: nothing is known of others.
    """

    p_value: float


def intervals(
    estimates: Sequence[Estimate], level: float | Sequence[float] = 0.95
) -> list[Interval]:
    """Return the intervals of means that belong together, all at one level or each at its own.

    Of values with a range each lies in it, and has a width even where nothing varies. Others get
    mean ± margin, and no limits where nothing varies.
    """
    found: list[Interval] = [_unknown(one) for one in estimates]
    levels = np.broadcast_to(np.asarray(level, dtype=float), len(estimates))
    for bounded, places in _families(estimates):
        family = [estimates[place] for place in places]
        means = means_of(family)
        limits_of = share_limits if bounded else value_limits
        limits = limits_of(means, levels[places])
        for i, place in enumerate(places):
            found[place] = _interval(family[i], limits, i)
    return found


def differences(estimates: Sequence[Estimate], level: float = 0.95) -> list[Difference]:
    """Return the intervals of paired differences that belong together, and their p-values."""
    found = [_as_difference(_unknown(one), math.nan) for one in estimates]
    for bounded, places in _families(estimates):
        family = [estimates[place] for place in places]
        squares = np.array([one.mean_square / width_of(one) ** 2 for one in family])
        means = means_of(family)
        limits, p_values = difference_limits(means, squares, level, is_bounded=bounded)
        for i, place in enumerate(places):
            leaves_out = family[i].draws_matter and not family[i].covers_draws
            p_value = math.nan if leaves_out else float(p_values[i])
            found[place] = _as_difference(_interval(family[i], limits, i), p_value)
    return found


def _families(estimates: Sequence[Estimate]) -> Iterator[tuple[bool, list[int]]]:
    """Yield the places of those with a range, and of those without, that have several units."""
    for bounded in (True, False):
        places = [
            i
            for i, one in enumerate(estimates)
            if one.spread.n_units > 1 and math.isfinite(width_of(one, math.inf)) == bounded
        ]
        if places:
            yield bounded, places


def _interval(one: Estimate, limits: Limits, i: int) -> Interval:
    width, (lowest, highest) = width_of(one), one.limits
    start = lowest if is_share(one) else 0.0
    low, high = (start + width * float(limit[i]) for limit in (limits.low, limits.high))
    se = math.sqrt(one.spread.variance)
    df = float(limits.df[i]) or float(one.spread.df_query or one.spread.df_draw)
    # Pseudo-values may lie a little off the value that they are of.
    low, high = max(min(low, one.value), lowest), min(max(high, one.value), highest)
    return Interval(
        value=one.value, low=low, high=high, se=se, df=df, variances=_variances(limits, i, width)
    )


def _variances(limits: Limits, i: int, width: float) -> tuple[float, float, float]:
    """Return what draws, queries and residuals add to the variance of a mean."""
    total, queries, noise = (
        width**2 * float(part[i]) for part in (limits.se**2, limits.of_queries, limits.of_noise)
    )
    return max(total - queries - noise, 0.0), queries, noise


def _unknown(one: Estimate) -> Interval:
    """Return all that one unit allows to say: the limits, or nothing where there are none."""
    low, high = (limit if math.isfinite(limit) else math.nan for limit in one.limits)
    return Interval(value=one.value, low=low, high=high, se=math.nan, df=0.0)


def _as_difference(one: Interval, p_value: float) -> Difference:
    return Difference(**asdict(one), p_value=p_value)


def mean_interval(
    values: ArrayLike,
    draws: ArrayLike,
    queries: ArrayLike,
    *,
    binary: bool,
    level: float = 0.95,
    limits: Range = UNLIMITED,
) -> Interval:
    """Return the mean of `values` with the interval that covers other queries and other draws.

    Several values of one (draw, query) are samples: they are averaged. Where every query occurs in
    one draw only, draws are the clusters. With one draw the interval covers other queries but not
    other draws; with one query, other draws only. A mean alone knows of the variance between draws
    what its own draws say.
    """
    (found,) = intervals(
        [mean_estimate(values, draws, queries, limits=SHARE if binary else limits)], level
    )
    return found


def paired_interval(
    a: ArrayLike,
    b: ArrayLike,
    draws: ArrayLike,
    queries: ArrayLike,
    *,
    binary: bool,
    level: float = 0.95,
    limits: Range = UNLIMITED,
) -> Difference:
    """Return the mean of b - a, where a[i] and b[i] are scores of the same draw and query.

    `limits` are those of the difference.
    """
    limits = (-1.0, 1.0) if binary else limits
    lowest = 0.0 if math.isfinite(limits[0]) else -math.inf
    of = paired_estimate(a, b, draws, queries, limits=limits, lowest=lowest)
    (found,) = differences([of], level)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Components:
    """Variances of one record's score; `draw` is NaN where one draw was made: nothing can be known
    of it.

    Where every query belongs to one draw only (`nested`), query and residual cannot be told apart:
    `query` is both.
    """

    draw: float
    query: float
    residual: float
    nested: bool = False

    def se(self, n_draws: int, n_queries: int) -> float:
        """Return the standard error that `n_draws` draws of `n_queries` queries would give (nested:
        queries a draw).
        """
        query = self.query / (n_draws if self.nested else 1)
        return math.sqrt(
            self.draw / n_draws + query / n_queries + self.residual / (n_draws * n_queries)
        )


def components(values: ArrayLike, draws: ArrayLike, queries: ArrayLike) -> Components:
    """Return the variance of a single record by source (method of moments, each at least 0)."""
    spread = spread_of(values, draws, queries)
    rest = spread.rest / spread.per_cell
    draw = max(0.0, spread.draw - spread.rest) / spread.per_draw if spread.df_draw else math.nan
    if spread.nested:
        return Components(draw=draw, query=rest, residual=0.0, nested=True)
    query = max(0.0, spread.query - spread.rest) / spread.per_query
    return Components(draw=draw, query=query, residual=rest)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) adjusted p-values, in the given order. NaN is left out of the family and
    stays NaN.
    """
    adjusted = [math.nan] * len(p_values)
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    so_far = 0.0
    for rank, (p, i) in enumerate(known):
        so_far = max(so_far, min(1.0, (len(known) - rank) * p))
        adjusted[i] = so_far
    return adjusted
