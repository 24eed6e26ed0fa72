"""Means and differences before their intervals: the spread of their records, and what is known of
them.

In: scores with their draws and queries. Out: estimates, and those of a family as arrays, on the
scale where their range is 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from icl_harness.analysis.crossed import Floats, Spread, spread_of
from icl_harness.analysis.intervals import Means

Range = tuple[float, float]
UNLIMITED: Range = (-math.inf, math.inf)
SHARE: Range = (0.0, 1.0)
TINY = 1e-12
LEAST_SCALE = 1e-3  # of a family's greatest


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean, or a mean difference, before its interval: the spread of its records.

    `limits` are those of the mean; values are theirs even where `spread` is of pseudo-values.
    `shots` are used on each side: one, or the two of a difference; 0 says that the prompts hold
    none, so that draws are no source of variance.
    """

    value: float
    spread: Spread
    limits: Range
    shots: tuple[float, ...] = (math.nan,)
    # of a difference: the mean of each side, where it has a least value
    sides: tuple[float, ...] = ()
    mean_square: float = field(default=math.nan)  # of a difference

    @property
    def draws_matter(self) -> bool:
        """Return whether other draws would give other answers."""
        return self.spread.nested or any(shots != 0 for shots in self.shots)

    @property
    def covers_draws(self) -> bool:
        """Return whether an interval can tell of other draws."""
        return self.spread.df_draw > 0 and self.draws_matter


def covers(one: Estimate) -> str:
    """Return which chance the interval of a mean is over."""
    if one.spread.n_units < 2:
        return ""
    if one.spread.df_query == 0:
        return "draws"
    return "queries and draws" if one.covers_draws else "queries"


def mean_estimate(
    values: ArrayLike,
    draws: ArrayLike,
    queries: ArrayLike,
    *,
    limits: Range,
    shots: float = math.nan,
) -> Estimate:
    """Return what the interval of a mean is made of."""
    spread = spread_of(values, draws, queries)
    return Estimate(value=spread.mean, spread=spread, limits=limits, shots=(shots,))


def unknown_estimate(value: float, limits: Range) -> Estimate:
    """Return an estimate of whose spread nothing is known."""
    return Estimate(value=value, spread=spread_of([0.0], [0], [0]), limits=limits)


def paired_estimate(
    a: ArrayLike,
    b: ArrayLike,
    draws: ArrayLike,
    queries: ArrayLike,
    *,
    limits: Range,
    shots: tuple[float, float] = (math.nan, math.nan),
    lowest: float = 0.0,
) -> Estimate:
    """Return what the interval of a paired difference is made of. `lowest` is the least that a side
    may be.
    """
    of_a, of_b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    spread = spread_of(of_b - of_a, draws, queries)
    width = (limits[1] - limits[0]) / 2
    sides: tuple[float, ...] = ()
    if math.isfinite(lowest):
        unit = width if math.isfinite(width) else 1.0
        sides = tuple(float((side.mean() - lowest) / unit) for side in (of_a, of_b))
    return Estimate(
        value=spread.mean,
        spread=spread,
        limits=limits,
        shots=shots,
        sides=sides,
        mean_square=float(np.square(of_b - of_a).mean()),
    )


def width_of(one: Estimate, unlimited: float = 1.0) -> float:
    """Return the width of the range of the mean, or of each side of a difference."""
    low, high = one.limits
    width = (high - low) / len(one.shots)
    return width if math.isfinite(width) else unlimited


def means_of(family: Sequence[Estimate]) -> Means:
    """Return estimates as arrays, on the scale where their range is 0 to 1."""
    width = np.array([width_of(one) for one in family])
    low = np.array([one.limits[0] if is_share(one) else 0.0 for one in family])
    spreads = [one.spread for one in family]

    def squared(name: str) -> Floats:
        found: Floats = np.array([getattr(spread, name) for spread in spreads]) / width**2
        return found

    # Where there is one query, draws are all the units that there are.
    one_query = np.array([spread.df_query == 0 for spread in spreads])
    df_draw = np.array(
        [s.df_draw * one.draws_matter for one, s in zip(family, spreads, strict=True)]
    )
    df_units = np.array([spread.df_query or spread.df_draw for spread in spreads])
    shots = np.array([one.shots for one in family], dtype=float)
    return Means(
        mean=(np.array([spread.mean for spread in spreads]) - low) / width,
        draw=squared("draw"),
        query=np.where(one_query, squared("draw"), squared("query")),
        rest=squared("rest"),
        df_draw=np.where(one_query, 0, df_draw).astype(float),
        df_query=df_units.astype(float),
        per_draw=np.array([spread.per_draw for spread in spreads]),
        n_units=df_units + 1.0,
        nested=np.array([spread.nested for spread in spreads]),
        by_draw=(by_draw(spreads) - low[:, None]) / width[:, None],
        scale=_scales(family),
        doublings=np.log2(1 + np.nan_to_num(shots)),
    )


def is_share(one: Estimate) -> bool:
    """Return whether a value has a least one, and is no difference."""
    return len(one.shots) == 1 and math.isfinite(one.limits[0])


def by_draw(spreads: Sequence[Spread]) -> Floats:
    """Return the means of all draws, a row each; NaN where a mean has not that draw."""
    names = np.unique(np.concatenate([spread.draws for spread in spreads]))
    table = np.full((len(spreads), len(names)), np.nan)
    for row, spread in zip(table, spreads, strict=True):
        row[np.searchsorted(names, spread.draws)] = spread.draw_means
    return table


def _scales(family: Sequence[Estimate]) -> Floats:
    """Return what the variance between draws is proportional to on each side of each member; 0
    where prompts hold no shots.
    """
    rows = []
    for one in family:
        matters = [shots != 0 or one.spread.nested for shots in one.shots]
        rows.append([_scale(one, side) if matters[side] else 0.0 for side in range(len(matters))])
    scale: Floats = np.array(rows)
    if math.isfinite(width_of(family[0], math.inf)):
        return scale
    least = LEAST_SCALE * scale.max()
    return np.where(scale > 0, np.maximum(scale, least), 0.0)


def _scale(one: Estimate, side: int) -> float:
    """Return (p (1 - p))^2 of a side where values lie between 0 and 1: the variance is equal in
    logits. Of values that are at least 0, such as errors, it is the value.
    """
    if not math.isfinite(width_of(one, math.inf)):
        values = (one.value - one.limits[0],) if is_share(one) else one.sides
        return max(values[side], TINY) if values else 1.0
    if not one.sides:
        return 1.0
    n = one.spread.n_units
    p = (one.sides[side] * n + 1) / (n + 2)
    return (p * (1 - p)) ** 2
