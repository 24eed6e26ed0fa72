"""The variance of paired differences by source, as a pilot run has it or as it is stated.

In: the pairs of a comparison, or an accuracy and standard deviations in logits. Out: what draws,
queries and the rest add to the variance of one pair's difference, so that other numbers of draws
and queries can be foreseen (power.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from icl_harness.analysis.compare import Pair
from icl_harness.analysis.crossed import Codes, Floats
from icl_harness.analysis.curves import POINT
from icl_harness.analysis.estimates import Estimate, means_of, width_of
from icl_harness.analysis.families import with_holm
from icl_harness.analysis.intervals import Flags, difference_limits
from icl_harness.analysis.shares import paired_components

LEVEL = 0.95
LEAST, MOST = 1e-3, 0.9  # an accuracy; a difference
TINY = 1e-12
FEW_DRAWS = 5  # of a pilot that tells half of how differences go together


@dataclass(frozen=True, kw_only=True)
class Family:
    """Paired differences that tell together how much draws vary: the variance of one pair's
    difference by source, on the scale where sides lie between 0 and 1, if they have a range.
    """

    draw: Floats
    query: Floats
    rest: Floats
    sides: Floats  # one more axis: the mean of each side; NaN where there is no range
    scale: Floats  # one more axis: the sides; as in `Means`
    doublings: Floats  # one more axis: the sides
    loads: Floats  # one more axis: what each draw effect adds, squares summing to 1
    draws_matter: Flags
    n_tests: Codes  # in the family of Holm's that each belongs to
    nested: bool  # each draw has queries of its own
    is_bounded: bool
    units_per_query: float = 1.0  # less than 1 where clusters of queries are the units

    def at(self, difference: float, member: int) -> Family:
        """Return the family where one member has another difference, around the same mean. Draws
        and queries differ by as many logits then, so by less near 0 and 1.
        """
        if not self.is_bounded:
            return self
        half = min(difference, MOST) / 2
        centre = np.clip(self.sides[member].mean(), half, 1 - half)
        sides = np.clip(np.array([centre - half, centre + half]), LEAST, 1 - LEAST)
        before, now = (p * (1 - p) for p in (self.sides[member], sides))
        holds_draw = self.scale[member] > 0
        of_draws = max(float((before**2 * holds_draw).sum()), LEAST**3)
        draw = self.draw[member] * (now**2 * holds_draw).sum() / of_draws
        draw = min(draw, now.sum())
        query, rest = (part[member] * now.sum() / before.sum() for part in (self.query, self.rest))
        # Answers that are right or wrong cannot differ on average and not vary.
        rest = max(rest, 2 * half * (1 - 2 * half) - draw - query)
        return replace(
            self,
            draw=_with(self.draw, member, draw),
            query=_with(self.query, member, query),
            rest=_with(self.rest, member, rest),
            sides=_with(self.sides, member, sides),
            scale=_with(self.scale, member, np.where(holds_draw, now**2, 0.0)),
        )

    def se(self, n_draws: float, n_queries: float) -> Floats:
        """Return the standard error of each difference."""
        units = n_queries * self.units_per_query
        query = self.query / units / (n_draws if self.nested else 1)
        draw = np.where(self.draws_matter, self.draw, 0.0)
        found: Floats = np.sqrt((draw + self.rest / units) / n_draws + query)
        return found


def _with(values: Floats, place: int, value: Floats | float) -> Floats:
    found = values.copy()
    found[place] = value
    return found


def measured_family(pairs: Sequence[Pair], by: str) -> Family | None:
    """Return the variances of pairs as a comparison finds them; None where draws cannot be told
    from it: one draw, or none that matters.
    """
    known = [(row, one) for row, one in pairs if is_tested(row, one)]
    if not any(one.covers_draws for _, one in known):
        return None
    estimates = [one for _, one in known]
    means = means_of(estimates)
    width = np.array([width_of(one) for one in estimates])
    is_bounded = math.isfinite(width_of(estimates[0], math.inf))
    squares = np.array([one.mean_square for one in estimates]) / width**2
    limits, _ = difference_limits(means, squares, LEVEL, is_bounded=is_bounded)
    of_query = np.maximum(means.query - means.rest, 0.0)
    of_draw = (limits.se**2 - of_query - means.rest) / means.per_draw
    per_query = np.array([one.spread.per_query for one in estimates])
    per_cell = np.array([one.spread.per_cell for one in estimates])
    rows = [row for row, _ in known]
    n_queries = sum(row["n_queries"] for row in rows)
    return Family(
        draw=np.where(means.df_draw > 0, np.maximum(of_draw, 0.0), 0.0),
        query=of_query / per_query,
        rest=means.rest / per_cell,
        sides=_sides(estimates),
        scale=means.scale,
        doublings=means.doublings,
        loads=_loads(_points(rows, by), means.by_draw),
        draws_matter=means.df_draw > 0,
        n_tests=_n_tests(rows, by),
        nested=bool(means.nested.any()),
        is_bounded=is_bounded,
        units_per_query=float(means.n_units.sum() / n_queries),
    )


def is_tested(row: dict[str, Any], one: Estimate) -> bool:
    """Return whether a comparison gives a pair a p-value."""
    is_new = not row["same_prompts"] and one.spread.n_units > 1
    return is_new and (one.covers_draws or not one.draws_matter)


def _sides(estimates: Sequence[Estimate]) -> Floats:
    """Return the mean of each side; a side that is all right or all wrong counts as one answer
    less.
    """
    found = np.array([one.sides or (math.nan, math.nan) for one in estimates])
    n = np.array([one.spread.n_units for one in estimates])[:, None]
    inside: Floats = (found * n + 1) / (n + 2)
    return inside


def _n_tests(rows: Sequence[dict[str, Any]], by: str) -> Codes:
    """Return over how many comparisons the p-value of each is adjusted."""
    import pandas as pd

    table = pd.DataFrame(rows).assign(p_value=1.0)
    found: Codes = with_holm(table, by, "shots")["n_family"].to_numpy()
    return found


def _points(rows: Sequence[dict[str, Any]], by: str) -> Codes:
    """Return the number of the point on each side of pairs."""
    rest = [name for name in POINT if name != by]
    numbers: dict[tuple[Any, ...], int] = {}
    found = []
    for row in rows:
        equal = [row[name] for name in rest]
        names = [(*equal, row[side]) for side in "ab"]
        found.append([numbers.setdefault(name, len(numbers)) for name in names])
    return np.array(found, dtype=np.intp)


def _loads(points: Codes, by_draw: Floats | None = None) -> Floats:
    """Return how differences go together: those that share a point share its draws, and those whose
    draws went together in a pilot do so again, as far as its number of draws can tell.
    """
    n = np.arange(len(points))
    shared = np.zeros((len(points), points.max() + 1))
    shared[n, points[:, 0]], shared[n, points[:, 1]] = -math.sqrt(0.5), math.sqrt(0.5)
    if by_draw is None:
        return shared
    there = ~np.isnan(by_draw)
    mean = np.nanmean(np.where(there.any(axis=1, keepdims=True), by_draw, 0.0), axis=1)
    centred = np.where(there, by_draw - mean[:, None], 0.0)
    size = np.sqrt(np.square(centred).sum(axis=1, keepdims=True))
    n_draws = by_draw.shape[1]
    weight = np.where(size > TINY, (n_draws - 1) / (n_draws - 1 + FEW_DRAWS), 0.0)
    seen = centred / np.maximum(size, TINY)
    return np.hstack([np.sqrt(weight) * seen, np.sqrt(1 - weight) * shared])


def stated_family(
    accuracy: float, draw_sd: float, query_sd: float, by: str, shots: Sequence[int]
) -> Family:
    """Return the variances of pairs whose sides have this accuracy, where draws and queries differ
    by so many logits (standard deviations): two modes at all shot counts, or all pairs of these.
    """
    one = paired_components(accuracy, draw_sd, query_sd)
    if by == "shots":
        points = np.array(list(combinations(range(len(shots)), 2)), dtype=np.intp)
        sides = np.array(shots, dtype=float)[points]
    else:
        points = np.arange(2 * len(shots), dtype=np.intp).reshape(-1, 2)
        sides = np.repeat(np.array(shots, dtype=float)[:, None], 2, axis=1)
    of_draws = (sides > 0).mean(axis=1)  # a zero-shot prompt holds no draw
    n = np.ones(len(points))
    return Family(
        draw=one.draw * of_draws,
        query=one.query * n,
        rest=one.residual * n,
        sides=np.full(sides.shape, accuracy),
        scale=np.where(sides > 0, (accuracy * (1 - accuracy)) ** 2, 0.0),
        doublings=np.log2(1 + sides),
        loads=_loads(points),
        draws_matter=of_draws > 0,
        n_tests=np.full(len(points), len(points)),
        nested=False,
        is_bounded=True,
    )
