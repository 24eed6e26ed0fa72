"""The variance of a mean over draws and queries, by source.

In: one score per record with its draw and its query. Out: the mean and what draws, queries and the
rest each add to its variance. The model is the two-way random-effects one, score = mean + draw +
query + rest, estimated by mean squares (Searle, Casella & McCulloch, Variance Components, 1992,
ch. 4), written as cluster sums (Cameron, Gelbach & Miller 2011) so that records may be missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Variance of the mean by source, each as if it were alone: (cluster sum of squares) * n / (n -
    1).

    `rest` is that of the residuals. With complete tables these are MS_draw, MS_query and
    MS_residual over D * Q.
    """

    mean: float
    draw: float
    query: float
    rest: float
    df_draw: int
    df_query: int
    df_rest: int
    nested: bool
    per_draw: float  # sum of squared weights of the draws; 1 / D where the table is complete
    per_query: float
    per_cell: float
    draws: NDArray[Any]  # their names, with the mean of each
    draw_means: Floats

    @property
    def variance(self) -> float:
        """Var(mean) = max(draw, rest) + max(query, rest) - rest: no component of variance is taken
        below zero.
        """
        return max(self.draw, self.rest) + max(self.query, self.rest) - self.rest

    @property
    def n_units(self) -> int:
        """Return how many queries there are; draws where there is one query."""
        return 1 + (self.df_query or self.df_draw)


@dataclass(frozen=True, kw_only=True, slots=True)
class Effects:
    """What each draw, query and cell adds to the error of a mean: weighted sums, of which those of
    a source have the sum of squares that `Spread` has for it.
    """

    mean: float
    draws: NDArray[Any]  # the names of the draws, and of the queries
    queries: NDArray[Any]
    draw: Codes  # of each cell, with its query, weight and centred value
    query: Codes
    weight: Floats
    centred: Floats
    by_draw: Floats
    by_query: Floats
    by_cell: Floats
    df_rest: int
    nested: bool


def effects_of(values: ArrayLike, draws: ArrayLike, queries: ArrayLike) -> Effects:
    """Return what each draw, query and cell adds to the error of the mean of `values`. Raises
    `ValueError` where the three are not of one length.
    """
    y = np.asarray(values, dtype=float)
    draw_names, d = _codes(draws)
    query_names, q = _codes(queries)
    n_draws, n_queries = len(draw_names), len(query_names)
    if not (y.ndim == 1 and y.shape == d.shape == q.shape and y.size):
        raise ValueError(
            f"{y.size} values, {d.size} draws, {q.size} queries; the same number of each, 1 or more"
        )
    mean = float(y.mean())
    _, first, cell, count = np.unique(
        d * n_queries + q, return_index=True, return_inverse=True, return_counts=True
    )
    d, q = d[first], q[first]
    centred = np.bincount(cell, y - mean) / count  # one row a cell from here on
    weight = count / y.size
    n_cells = len(count)
    nested = n_cells == n_queries and n_draws > 1 and n_queries > 1
    if nested:
        residual = centred - (np.bincount(d, centred) / np.bincount(d))[d]
        df_rest = n_cells - n_draws
    else:
        residual, df_rest = _additive_residuals(centred, d, q, n_draws, n_queries)
    return Effects(
        mean=mean,
        draws=draw_names,
        queries=query_names,
        draw=d,
        query=q,
        weight=weight,
        centred=centred,
        by_draw=_cluster(weight * centred, d, n_draws),
        by_query=np.zeros(n_queries) if nested else _cluster(weight * centred, q, n_queries),
        by_cell=weight * residual * math.sqrt(n_cells / df_rest if df_rest else 0.0),
        df_rest=df_rest,
        nested=nested,
    )


def spread_of(values: ArrayLike, draws: ArrayLike, queries: ArrayLike) -> Spread:
    """Return the mean of `values` and its variance by source."""
    return spread_of_effects(effects_of(values, draws, queries))


def spread_of_effects(found: Effects) -> Spread:
    """Return the variance of a mean by source."""
    d, q, weight = found.draw, found.query, found.weight
    return Spread(
        mean=found.mean,
        draw=_squares(found.by_draw),
        query=_squares(found.by_query),
        rest=_squares(found.by_cell),
        df_draw=len(found.draws) - 1,
        df_query=len(found.queries) - 1,
        df_rest=found.df_rest,
        nested=found.nested,
        per_draw=float(np.sum(np.bincount(d, weight) ** 2)),
        per_query=float(np.sum(np.bincount(q, weight) ** 2)),
        per_cell=float(np.sum(weight**2)),
        draws=found.draws,
        draw_means=found.mean + np.bincount(d, weight * found.centred) / np.bincount(d, weight),
    )


def _codes(labels: ArrayLike) -> tuple[NDArray[Any], Codes]:
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    return names, codes.astype(np.intp)


def _cluster(weighted: Floats, codes: Codes, n: int) -> Floats:
    """Return the sum of each cluster, times the root of n / (n - 1); 0 where there is one."""
    times = math.sqrt(n / (n - 1) if n > 1 else 0.0)
    return np.asarray(np.bincount(codes, weighted) * times, dtype=float)


def _squares(sums: Floats) -> float:
    return float(np.sum(sums**2))


def _additive_residuals(
    y: Floats, d: Codes, q: Codes, n_draws: int, n_queries: int
) -> tuple[Floats, int]:
    """Return what a least-squares fit of draw + query effects leaves of `y`, and its degrees of
    freedom.

    The effects of the larger side are swept out, those of the smaller solved for (normal equations
    of a block design).
    """
    if n_draws > n_queries:
        return _additive_residuals(y, q, d, n_queries, n_draws)
    table = np.zeros((n_draws, n_queries))
    there = np.zeros((n_draws, n_queries))
    table[d, q], there[d, q] = y, 1.0
    per_query = there.sum(axis=0)
    normal = np.diag(there.sum(axis=1)) - (there / per_query) @ there.T
    right = table.sum(axis=1) - there @ (table.sum(axis=0) / per_query)
    draw_effect, _, rank, _ = np.linalg.lstsq(normal, right, rcond=1e-10)
    query_effect = (table.sum(axis=0) - draw_effect @ there) / per_query
    residual = y - draw_effect[d] - query_effect[q]
    residual[np.abs(residual) < 1e-12] = (
        0.0  # an exact fit leaves rounding, which must not count as variance
    )
    return residual, len(y) - n_queries - int(rank)
