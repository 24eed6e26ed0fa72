"""Intervals that count both sources of chance: which queries were asked and which shots were drawn.

In: one score per record with its draw and its query. Out: means, paired differences, their
intervals, and where the variance comes from (crossed). Left out: bands that hold for a whole curve
at once, and power planning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from icl_harness.analysis.crossed import spread_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean with its confidence limits. `se` is NaN and `df` 0 where one unit is all there is."""

    value: float
    low: float
    high: float
    se: float
    df: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference(Interval):
    """A paired mean difference b - a; `p_value` is two-sided and below 1 - level just where the
    limits exclude 0.
    """

    p_value: float


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


Limits = tuple[float, float]
UNLIMITED: Limits = (-math.inf, math.inf)


def mean_interval(
    values: ArrayLike,
    draws: ArrayLike,
    queries: ArrayLike,
    *,
    binary: bool,
    level: float = 0.95,
    limits: Limits = UNLIMITED,
) -> Interval:
    """Return the mean of `values` with the interval that covers other queries and other draws.

    Several values of one (draw, query) are samples: they are averaged. Where every query occurs in
    one draw only, draws are the clusters. With one draw the interval covers other queries but not
    other draws; with one query, other draws only. Binary scores get Wilson's interval (1927) with n
    = p (1 - p) / Var(mean) and Student's t for z; where all scores are equal, n is the number of
    queries (nested: of draws). Other scores get mean ± t * se, inside `limits`. In simulation 95 %
    intervals cover 94 to 98 %; down to 80 % where few nested draws lie near 1 and differ by 2
    logits or more.
    """
    spread = spread_of(values, draws, queries)
    mean, df, n_units = spread.mean, spread.df, spread.n_units
    if n_units < 2:
        low, high = (0.0, 1.0) if binary else _known(limits)
        return Interval(value=mean, low=low, high=high, se=math.nan, df=0.0)
    se, t = math.sqrt(spread.variance), _t(level, df)
    if not binary:
        low, high = max(limits[0], mean - t * se), min(limits[1], mean + t * se)
        return Interval(value=mean, low=low, high=high, se=se, df=df)
    n = mean * (1 - mean) / se**2 if se else float(n_units)
    centre = (mean + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * math.sqrt(mean * (1 - mean) / n + t * t / (4 * n * n))
    low, high = max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))
    return Interval(value=mean, low=low, high=high, se=se, df=df)


def paired_interval(
    a: ArrayLike,
    b: ArrayLike,
    draws: ArrayLike,
    queries: ArrayLike,
    *,
    binary: bool,
    level: float = 0.95,
    limits: Limits = UNLIMITED,
) -> Difference:
    """Return the mean of b - a, where a[i] and b[i] are scores of the same draw and query.

    The variance is that of `mean_interval`, of the differences. Binary scores get the interval of
    Bonett & Price (2012) for paired proportions: one pair is added to either kind of disagreement.
    Its n is again what the crossed variance leaves of the sample, so it has a width even where a
    and b never differ. Other scores get mean ± t * se, inside `limits`.
    """
    differences = np.asarray(b, dtype=float) - np.asarray(a, dtype=float)
    spread = spread_of(differences, draws, queries)
    mean, df = spread.mean, spread.df
    if spread.n_units < 2:
        low, high = (-1.0, 1.0) if binary else _known(limits)
        return Difference(value=mean, low=low, high=high, se=math.nan, df=0.0, p_value=math.nan)
    centre = mean
    se = width = math.sqrt(spread.variance)
    if binary:
        differ = float(np.square(differences).mean())  # of scores: the share of pairs that differ
        n = (differ - mean**2) / se**2 if se else float(spread.n_units)
        centre = mean * n / (n + 2)
        width = math.sqrt(((differ * n + 2) / (n + 2) - centre**2) / (n + 2))
    half = _t(level, df) * width
    low, high = max(limits[0], centre - half), min(limits[1], centre + half)
    if binary:
        low, high = max(-1.0, min(mean, low)), min(1.0, max(mean, high))
    return Difference(
        value=mean, low=low, high=high, se=se, df=df, p_value=_p_value(centre, width, df)
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


def _known(limits: Limits) -> Limits:
    """Return all that one unit allows to say: the limits, or nothing where there are none."""
    low, high = (limit if math.isfinite(limit) else math.nan for limit in limits)
    return low, high


def _t(level: float, df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))


def _p_value(centre: float, width: float, df: float) -> float:
    from scipy.special import stdtr

    if not width:
        return 1.0 if centre == 0 else 0.0
    return float(2 * stdtr(df, -abs(centre) / width))
