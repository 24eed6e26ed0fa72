"""How many times as many shots does one curve need as another to reach a level?

In: the lines of two curves whose errors go together. Out: the shots that each needs, and their
ratio with its limits: a ratio is possible where it is that of two shot counts at which both curves
may be at the level, as far as chance moves them. That holds however steep the curves are. There is
no upper limit where a curve may not reach the level at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from icl_harness.analysis.crossed import Codes, Floats
from icl_harness.analysis.questions.lines import (
    LEVEL,
    TINY,
    Line,
    between_points,
    critical,
    doublings,
    weights_at,
    zeros,
)

MOST_CORRELATED = 0.999
LEAST_SHOTS = 1e-3
FAR = 1e6


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Shots that a curve needs, over those of another: NaN where the measured curve does not get
    there. Limits of 0 and infinity are none.
    """

    shots: float
    others: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Return the ratio of the measured curves."""
        return self.shots / self.others if self.others > 0 else math.nan


@dataclass(frozen=True, kw_only=True)
class _Side:
    """Shot counts at which a curve may be at the level, and how far it is from it there, in
    standard errors. The first and the last stand for all below and above those measured: where it
    may be there already, or not yet, the distance is that of its end on the other side of the
    level; infinite where it may not.
    """

    at_least: Floats
    at_most: Floats
    weights: Floats
    surprise: Floats
    se: Floats


def shots_needed(line: Line) -> float:
    """Return at how many shots a line first reaches zero: its first point's where that has; NaN
    where none does.
    """
    there = np.flatnonzero(line.values >= 0)
    if not len(there):
        return math.nan
    first, last = (float(line.shots[max(there[0] - step, 0)]) for step in (1, 0))
    rising = [shots for shots, rises in zeros(line.finely(first, last)) if rises]
    return rising[0] if rising else last


def ratio_needed(points: Line, n_first: int, level: float = LEVEL) -> Ratio:
    """Return the ratio of shots at which the curve of the first `n_first` points and that of the
    others reach zero.
    """
    parts = [np.arange(n_first), np.arange(n_first, len(points.values))]
    one, other = (_side(points, rows, level) for rows in parts)
    possible = (
        _distance(points, one, other)
        <= float(critical(points.points.df_together.min(), level)) ** 2
    )
    rows, columns = np.nonzero(possible)
    with np.errstate(divide="ignore"):
        low = (one.at_least[rows] / other.at_most[columns]).min(initial=math.inf)
        high = (one.at_most[rows] / other.at_least[columns]).max(initial=0.0)
    shots, others = (shots_needed(_part(points, rows)) for rows in parts)
    return Ratio(shots=shots, others=others, low=float(low), high=float(high))


def _distance(points: Line, one: _Side, other: _Side) -> Floats:
    """Return how far both curves together are from the level, squared, at any two shot counts."""
    covariance = one.weights @ points.covariance @ other.weights.T
    most = MOST_CORRELATED
    together = np.clip(covariance / np.outer(one.se, other.se), -most, most)
    together = np.where(np.outer(one.surprise, other.surprise) == 0, 0.0, together)
    z, w = one.surprise[:, None], other.surprise[None, :]
    found: Floats = (z**2 - 2 * together * z * w + w**2) / (1 - together**2)
    return found


def _side(points: Line, rows: Codes, level: float) -> _Side:
    """Return where a curve may first be at the level: up to where it is above it for sure."""
    line = _part(points, rows)
    low, high = line.points.limits(level)
    above = np.flatnonzero(low > 0)
    last = float(line.shots[above[0]]) if len(above) else math.inf
    shots = between_points(line.shots, -math.inf, last)
    shots = shots[[0, *range(len(shots)), -1]]
    weights = np.zeros((len(shots), len(points.values)))
    weights[:, rows] = weights_at(line.shots, shots)
    here = points.seen(shots, weights)
    surprise = here.surprise.copy()
    surprise[0] = min(surprise[0], 0.0) if high[0] >= 0 else FAR
    surprise[-1] = FAR if len(above) else max(surprise[-1], 0.0)
    at_least, at_most = _cells(shots)
    near = np.abs(surprise) <= critical(points.points.df_together.min(), level)
    return _Side(
        at_least=at_least[near],
        at_most=at_most[near],
        weights=weights[near],
        surprise=surprise[near],
        se=np.maximum(here.se[near], TINY),
    )


def _cells(shots: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the stretch that each shot count stands for: half the way to the next."""
    places = doublings(shots)
    middles = np.exp2((places[1:] + places[:-1]) / 2) - 1
    at_least = np.concatenate([[0.0], middles])
    at_most = np.concatenate([middles, [math.inf]])
    return at_least, np.maximum(at_most, LEAST_SHOTS)


def _part(points: Line, rows: Codes) -> Line:
    weights = np.eye(len(points.values))[rows]
    return points.weighted(points.shots[rows], weights)
