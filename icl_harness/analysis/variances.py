"""What makes answers differ: the variance of one answer's score by source, with limits.

In: the answers to a task at one shot count. Out: the variances that the choice of shots (draws),
their order, the query and the sample at a temperature add to a score, and the rest: what a query
has with some shots and not with others. Estimates are of mean squares, each at least 0 (stats.py).

Limits are generalised confidence limits (Weerahandi 1993): each mean square is taken to be off by
what a chi-squared of its degrees of freedom may be. That of draws is moderated over the points that
belong together, as three draws alone say next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from icl_harness.analysis.crossed import Codes, Floats, Spread, spread_of
from icl_harness.analysis.estimates import Estimate, means_of, width_of
from icl_harness.analysis.moderation import DrawVariances, moderate

SOURCES = ("draws", "orders", "queries", "samples", "rest")
LIMITS = (0.025, 0.975)
N_SIMULATED = 4_000
SEED = 20261128
TINY = 1e-300


@dataclass(frozen=True, kw_only=True)
class Squares:
    """The mean squares of a point, as what each adds to the variance of its mean or of a score.

    `order` is what an order adds to a score, `within` what is left beside it; both are NaN where a
    draw has one order. `sample` is the variance of samples of one query, NaN where there is one.
    """

    spread: Spread
    order: float
    within: float
    df_order: int
    n_orders: float
    sample: float
    df_sample: int
    n_samples: float
    df_draw: float = 0.0  # moderated
    draw: float = 0.0


def squares_of(values: Floats, draws: Codes, orders: Codes, units: Codes) -> Squares:
    """Return the mean squares of answers with these values."""
    spread = spread_of(values, draws, units)
    sample, df_sample, n_items = _within_items(values, draws, orders, units)
    order, within, df_order, n_orders = _between_orders(values, draws, orders, units)
    return Squares(
        spread=spread,
        order=order,
        within=within,
        df_order=df_order,
        n_orders=n_orders,
        sample=sample,
        df_sample=df_sample,
        n_samples=len(values) / n_items,
    )


def _within_items(
    values: Floats, draws: Codes, orders: Codes, units: Codes
) -> tuple[float, int, int]:
    """Return the variance of answers to one prompt, its degrees of freedom, and how many prompts
    there are.
    """
    _, item = np.unique(np.stack([draws, orders, units]), axis=1, return_inverse=True)
    count = np.bincount(item)
    df = len(values) - len(count)
    if df == 0:
        return np.nan, 0, len(count)
    left = values - (np.bincount(item, values) / count)[item]
    return float(np.square(left).sum() / df), df, len(count)


def _between_orders(
    values: Floats, draws: Codes, orders: Codes, units: Codes
) -> tuple[float, float, int, float]:
    """Return the variance between orders of the shots of a draw, what is left beside it, its
    degrees of freedom, and the mean number of orders.
    """
    parts = []
    for draw in np.unique(draws):
        rows = draws == draw
        if len(np.unique(orders[rows])) > 1 and len(np.unique(units[rows])) > 1:
            parts.append(spread_of(values[rows], orders[rows], units[rows]))
    if not parts:
        return np.nan, np.nan, 0, 1.0
    between = np.mean([(one.draw - one.rest) / one.per_draw for one in parts])
    within = np.mean([one.rest / one.per_cell for one in parts])
    df = sum(one.df_draw for one in parts)
    return float(between), float(within), df, 1 + df / len(parts)


def order_sd(
    values: Floats, draws: Codes, orders: Codes, units: Codes
) -> tuple[float, float, float] | None:
    """Return by what SD the mean value differs between orders of a draw's shots, less what its
    queries alone make it differ by, with 95 % limits; None where a draw has one order.
    """
    between, within, df, _ = _between_orders(values, draws, orders, units)
    if not df:
        return None
    n_units = len(np.unique(units))
    noise = within / n_units
    rng = np.random.default_rng(SEED)
    times = _inverse(df, rng.random(N_SIMULATED))
    others = _inverse(df * (n_units - 1), rng.random(N_SIMULATED))
    simulated = np.sqrt(np.maximum((between + noise) * times - noise * others, 0.0))
    sd = float(np.sqrt(max(between, 0.0)))
    low, high = np.quantile(simulated, LIMITS)
    return sd, min(float(low), sd), max(float(high), sd)


def moderated(points: Sequence[tuple[Estimate, Squares]]) -> list[Squares]:
    """Return the squares of points with the variance between draws that all tell together."""
    means = means_of([estimate for estimate, _ in points])
    width = np.array([width_of(estimate) for estimate, _ in points])
    bounded = np.array([np.isfinite(estimate.limits[0]) for estimate, _ in points])
    p = (means.mean * means.n_units + 1) / (means.n_units + 2)
    scale = np.where(bounded, np.square(p * (1 - p)), 1.0)[:, None] * (means.scale > 0)
    variance, df = moderate(
        DrawVariances(
            observed=means.draw / means.per_draw,
            noise=means.rest / means.per_draw,
            df=means.df_draw,
            scale=scale,
            doublings=means.doublings,
            by_draw=means.by_draw,
        )
    )
    found = variance * means.per_draw * width**2
    return [
        replace(squares, draw=float(draw), df_draw=float(one_df))
        for (_, squares), draw, one_df in zip(points, found, df, strict=True)
    ]


def components_of(points: Sequence[Squares]) -> Floats:
    """Return the variance of a score by source: sources, points."""
    ones = {name: np.ones(1) for name in ("draw", "query", "rest", "order", "within", "sample")}
    return np.stack([_parts(one, ones, one.spread.draw)[:, 0] for one in points], axis=1)


def simulated_components(points: Sequence[Squares]) -> Floats:
    """Return variances as they may be: sources, points, simulations. All points of one simulation
    are off by as much, as they share draws and queries.
    """
    rng = np.random.default_rng(SEED)
    of_draws = rng.random(N_SIMULATED)
    of_queries, of_rest, of_orders, of_within, of_samples = rng.random((5, N_SIMULATED))
    found = []
    for one in points:
        spread = one.spread
        times = {
            "draw": _inverse(one.df_draw, of_draws),
            "query": _inverse(spread.df_query, of_queries),
            "rest": _inverse(spread.df_rest, of_rest),
            "order": _inverse(one.df_order, of_orders),
            "within": _inverse(one.df_order * spread.df_query, of_within),
            "sample": _inverse(one.df_sample, of_samples),
        }
        found.append(_parts(one, times, one.draw))
    return np.stack(found, axis=1)


def _inverse(df: float, quantiles: Floats) -> Floats:
    """Return what a mean square may have to be multiplied by: df / chi-squared."""
    from scipy.special import gammaincinv

    if df <= 0:
        return np.ones_like(quantiles)
    found: Floats = df / 2 / np.maximum(gammaincinv(df / 2, quantiles), TINY)
    return found


def _parts(one: Squares, times: dict[str, Floats], draw: float) -> Floats:
    """Return the variance of a score by source, where mean squares are `times` what is found."""
    spread = one.spread
    rest = spread.rest / spread.per_cell * times["rest"]
    noise = rest * spread.per_cell
    query = np.maximum(spread.query * times["query"] - noise, 0.0) / (spread.per_query or 1.0)
    if spread.nested:
        query, rest = rest, np.zeros_like(rest)  # a query is asked in one draw alone
    between = np.maximum(draw * times["draw"] - noise, 0.0) / spread.per_draw
    order, sample = np.zeros_like(rest), np.zeros_like(rest)
    if one.df_sample:
        sample = one.sample * times["sample"]
    if one.df_order:
        whole = (one.order + one.within / spread_units(one)) * times["order"]
        within = one.within * times["within"]
        order = np.maximum(whole - within / spread_units(one), 0.0)
        between = np.maximum(between - order / one.n_orders, 0.0)
        rest = np.maximum(rest - within / one.n_orders, 0.0) + within
    per_item = sample / one.n_samples
    if spread.nested:
        query = np.maximum(query - per_item, 0.0)
    rest = np.maximum(rest - per_item, 0.0)
    return np.stack([between, order, query, sample, rest])


def spread_units(one: Squares) -> int:
    """Return how many queries an order's mean is over."""
    return one.spread.df_query + 1
