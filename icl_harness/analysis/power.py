"""Which differences a comparison would see, before it is made.

In: the variance of one pair's difference by source (paired_variances.py), and how many draws and
queries are planned. Out: the smallest difference that is found 8 times of 10, and how many queries
it takes to see a given one.

The test is that of `compare`: mean squares such as the planned grid would give are simulated
(normal effects, a fixed seed) and go through its own moderation and margins (intervals.py). Given
a margin, the chance that a difference exceeds it is the normal's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from icl_harness.analysis.crossed import Codes, Floats
from icl_harness.analysis.intervals import Means, difference_limits
from icl_harness.analysis.paired_variances import MOST, Family

POWER = 0.8
N_SIMULATED, MOST_SIMULATED = 100, 25_000  # families; draws of all families
SEED = 20261128
TINY = 1e-12
N_ROUNDS, N_STEPS, N_HALVINGS = 3, 40, 6
UNLIMITED_QUERIES = 1e12
TRIED_QUERIES = (15, 50, 150, 500, 2000, 1e4, 1e6)


def detectable(
    family: Family, n_draws: float, n_queries: float, members: Codes, *, alone: bool = False
) -> Floats:
    """Return the smallest difference that is found with a power of 80 %, of some members: after
    Holm over its family, all others being 0, or `alone`. Numbers may be infinite; NaN where one
    draw tells nothing of others, infinite where no difference is found.
    """
    if n_draws < 2:
        return np.where(family.draws_matter[members], np.nan, np.inf)
    found = []
    for member in members:
        n_tests = 1 if alone else int(family.n_tests[member])
        found.append(_detectable(family, n_draws, n_queries, int(member), 0.05 / n_tests))
    return np.array(found)


def _detectable(
    family: Family, n_draws: float, n_queries: float, member: int, alpha: float
) -> float:
    if math.isinf(n_draws):
        return _with_all_draws(family, n_queries, member, alpha)
    most = MOST if family.is_bounded else math.inf
    difference = min(4 * float(family.se(n_draws, n_queries)[member]), 0.5 * most)
    for _ in range(N_ROUNDS):
        before = max(difference, TINY)
        at = family.at(before, member)
        margins = _margins(at, int(n_draws), n_queries, before, member, alpha)
        difference = _exceeding(margins, float(at.se(n_draws, n_queries)[member]))
        if difference > most or abs(difference - before) < 0.05 * before:
            break
    return difference if difference <= most else math.inf


def _with_all_draws(family: Family, n_queries: float, member: int, alpha: float) -> float:
    """Return what queries alone leave to be seen."""
    from scipy.special import stdtrit

    se, df = family.se(math.inf, n_queries)[member], n_queries * family.units_per_query - 1
    return float(se * (stdtrit(df, 1 - alpha / 2) + stdtrit(df, POWER))) if se else 0.0


def _exceeding(margins: Floats, se: float) -> float:
    """Return the difference that exceeds the margins with a power of 80 %."""
    low, high = 0.0, float(margins.max()) + 2 * se
    for _ in range(N_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _power(middle, margins, se) < POWER else (low, middle)
    return high


def _power(difference: float, margins: Floats, se: float) -> float:
    from scipy.special import ndtr

    safe = max(se, TINY)
    sides = ndtr((difference - margins) / safe) + ndtr((-difference - margins) / safe)
    return float(sides.mean())


def _margins(
    family: Family, n_draws: int, n_queries: float, difference: float, member: int, alpha: float
) -> Floats:
    """Return how large a difference of a member must be found to be significant, by simulated
    family.
    """
    means = _simulated(family, n_draws, n_queries, difference)
    squares = np.broadcast_to(
        family.draw + family.query + family.rest + difference**2, means.mean.shape
    )
    limits, _ = difference_limits(
        means, squares, 1 - alpha, is_bounded=family.is_bounded, members=np.array([member])
    )
    centre = (limits.high + limits.low) / 2  # moved towards 0, where sides lie between 0 and 1
    found: Floats = ((limits.high - limits.low) / 2 * difference / centre)[:, 0]
    return found


def _simulated(family: Family, n_draws: int, n_queries: float, difference: float) -> Means:
    """Return what tables of such differences could say, a row a family. The mean is that at which
    margins are wanted, in all members alike.
    """
    rng = np.random.default_rng([SEED, n_draws])
    n, m = max(20, min(N_SIMULATED, MOST_SIMULATED // n_draws)), len(family.draw)
    units = min(n_queries, UNLIMITED_QUERIES) * family.units_per_query
    noise = (family.rest + family.query if family.nested else family.rest) / units
    of_draws = np.where(family.draws_matter, family.draw, 0.0) + noise
    effects = rng.standard_normal((n, n_draws, family.loads.shape[1])) @ family.loads.T
    by_draw = np.sqrt(of_draws)[:, None] * np.swapaxes(effects, 1, 2)
    one = np.ones((n, m))
    of_rest = _chi2(rng, (n_draws - 1) * (units - 1), (n, m)) * noise / n_draws
    of_query = (family.query + family.rest / n_draws) / units * _chi2(rng, units - 1, (n, m))
    n_units = units * (n_draws if family.nested else 1)
    return Means(
        mean=one * difference,
        draw=by_draw.var(axis=-1, ddof=1) / n_draws,
        query=0.0 * one if family.nested else of_query,
        rest=of_rest,
        df_draw=one * (n_draws - 1) * family.draws_matter,
        df_query=one * (n_units - 1),
        per_draw=one / n_draws,
        n_units=one * n_units,
        nested=np.full((n, m), family.nested),
        by_draw=by_draw,
        scale=np.broadcast_to(family.scale, (n, m, 2)),
        doublings=np.broadcast_to(family.doublings, (n, m, 2)),
    )


def _chi2(rng: np.random.Generator, df: float, shape: tuple[int, int]) -> Floats:
    """Return mean squares whose expectation is 1."""
    df = max(df, 1.0)
    return rng.chisquare(df, shape) / df


def queries_needed(
    family: Family, n_draws: int, difference: float, members: Codes, *, alone: bool = False
) -> float:
    """Return the fewest queries with which a difference is found at all of some members; infinite
    where no number of queries does.
    """

    def excess(log_queries: float) -> float:
        found = detectable(family, n_draws, math.exp(log_queries), members, alone=alone)
        return math.log(float(found.max()) / difference) if np.isfinite(found).all() else 10.0

    before = math.log(4 / family.units_per_query)
    if excess(before) <= 0:
        return math.ceil(math.exp(before))
    # Not by bisection of all: few draws of unlike pairs may tell less by more queries.
    for n_queries in TRIED_QUERIES:
        now = math.log(n_queries / family.units_per_query)
        if excess(now) <= 0:
            return math.ceil(math.exp(_crossing(excess, before, now)))
        before = now
    return math.inf


def _crossing(excess: Callable[[float], float], low: float, high: float) -> float:
    """Return where an excess is gone between two bounds, by bisection to some 2 %."""
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high
