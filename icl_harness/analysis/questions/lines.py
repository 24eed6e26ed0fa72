"""A curve as a line through its points, with how their errors go together.

In: points of curves. Out: values at any shot count between the points, differences of two curves,
and where a line may cross zero. Between points it is a cubic in log2(1 + shots), whose slope at
each is that of its neighbours (Catmull & Rom 1974): straight ones would cross zero at other shots
than the smooth curves that they stand for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from icl_harness.analysis.crossed import Codes, Floats
from icl_harness.analysis.estimates import Range
from icl_harness.analysis.mixtures import inverse_chi2, margin, tail

STEPS = 200  # between two points, where a line is looked at
LEVEL = 0.95
TINY = 1e-9
ANSCOMBE = 3 / 8
MANY = 1e6  # degrees of freedom: as good as all
N_NODES = 24


@dataclass(frozen=True, kw_only=True)
class Values:
    """Values of a line at shot counts, with the variance of each and the part of it that draws add,
    with `df` degrees of freedom; the rest has `df_units`.
    """

    shots: Floats
    values: Floats
    variance: Floats
    of_draws: Floats
    df: Floats
    df_units: Floats

    @property
    def se(self) -> Floats:
        """Return the standard error of each value."""
        found: Floats = np.sqrt(self.variance)
        return found

    @property
    def surprise(self) -> Floats:
        """Return how many standard errors each value lies above zero; 0 where nothing varies."""
        return np.divide(self.values, self.se, out=np.zeros_like(self.se), where=self.se > TINY)

    @property
    def p_values(self) -> Floats:
        """Return the two-sided p-value of each value being zero."""
        return tail(self.values, *self._mixture())

    @property
    def p_above(self) -> Floats:
        """Return the one-sided p-value of each value for being above zero; 1 - p is for below."""
        half = self.p_values / 2
        return np.where(self.values > 0, half, 1 - half)

    def margin(self, level: float = LEVEL) -> Floats:
        """Return the error that each value exceeds with probability 1 - `level`."""
        return margin(*self._mixture(), level)

    def limits(self, level: float = LEVEL) -> tuple[Floats, Floats]:
        """Return the confidence limits of each value."""
        half = self.margin(level)
        return self.values - half, self.values + half

    @property
    def df_together(self) -> Floats:
        """Return the degrees of freedom of the whole variance (Satterthwaite 1946)."""
        others = self.variance - self.of_draws
        parts = self.of_draws**2 / np.maximum(self.df, 1.0)
        parts = parts + others**2 / np.maximum(self.df_units, 1.0)
        found = np.divide(self.variance**2, parts, out=np.full_like(parts, MANY), where=parts > 0)
        return np.clip(found, 1.0, MANY)

    def _mixture(self) -> tuple[Floats, Floats]:
        """Return the variances that each value may have, with their weights (mixtures.py)."""
        others = self.variance - self.of_draws
        drawn_df = np.where(self.of_draws > 0, np.minimum(self.df, MANY), 0.0)
        units_df = np.where(others > 0, np.minimum(self.df_units, MANY), 0.0)
        drawn, of_drawn = inverse_chi2(drawn_df, N_NODES)
        rest, of_rest = inverse_chi2(units_df, N_NODES)
        both = (self.of_draws[:, None] * drawn)[:, :, None] + (others[:, None] * rest)[:, None, :]
        variances = both.reshape(len(both), math.prod(both.shape[1:]))
        return variances, np.outer(of_drawn, of_rest).ravel()


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points of a curve, or of several: shots used, values, and how their errors go together.

    `of_draws` is the part of the covariances that draws add, with `df` degrees of freedom; the rest
    has `df_units`.
    """

    shots: Floats
    values: Floats
    covariance: Floats
    of_draws: Floats
    df: Floats
    df_units: Floats

    @property
    def points(self) -> Values:
        """Return the values of its points."""
        return self.seen(self.shots, np.eye(len(self.values)))

    def seen(self, shots: Floats, weights: Floats) -> Values:
        """Return weighted sums of the values, one a row of `weights`."""
        variance, drawn = (
            np.maximum(np.einsum("ij,jk,ik->i", weights, part, weights, optimize=True), 0.0)
            for part in (self.covariance, self.of_draws)
        )
        df, df_units = self._least_df(weights)
        return Values(
            shots=shots,
            values=weights @ self.values,
            variance=variance,
            of_draws=np.minimum(drawn, variance),
            df=df,
            df_units=df_units,
        )

    def weighted(self, shots: Floats, weights: Floats) -> Line:
        """Return the line through weighted sums of the values: one a row of `weights`."""
        df, df_units = self._least_df(weights)
        return Line(
            shots=shots,
            values=weights @ self.values,
            covariance=weights @ self.covariance @ weights.T,
            of_draws=weights @ self.of_draws @ weights.T,
            df=df,
            df_units=df_units,
        )

    def only(self, places: Codes) -> Line:
        """Return the line through some of its points."""
        return self.weighted(self.shots[places], np.eye(len(self.values))[places])

    def finely(self, first: float = -math.inf, last: float = math.inf) -> Values:
        """Return values of the line from one shot count to another, many between two points."""
        inside = between_points(self.shots, first, last)
        return self.seen(inside, weights_at(self.shots, inside))

    def _least_df(self, weights: Floats) -> tuple[Floats, Floats]:
        there = weights != 0
        drawn = there & (np.diag(self.of_draws) > 0)
        df = np.where(drawn, self.df, np.inf).min(axis=1, initial=np.inf)
        return df, np.where(there, self.df_units, np.inf).min(axis=1, initial=np.inf)


def critical(df: ArrayLike, level: float) -> Floats:
    """Return how many standard errors an error exceeds with probability 1 - `level`."""
    from scipy.special import stdtrit

    found: Floats = np.asarray(stdtrit(df, (1 + level) / 2))
    return found


def doublings(shots: Floats) -> Floats:
    """Return where shot counts stand on the axis of lines."""
    found: Floats = np.log2(1 + shots)
    return found


def weights_at(shots: Floats, at: Floats) -> Floats:
    """Return the weights of points at `shots` (ascending) whose sums lie on the line at `at`,
    within its ends: a row for each of these. One point is a level.
    """
    from scipy.interpolate import CubicHermiteSpline

    if len(shots) == 1:
        return np.ones((len(at), 1))
    places, each = doublings(shots), np.eye(len(shots))
    slopes = np.gradient(each, places, axis=0)
    found: Floats = CubicHermiteSpline(places, each, slopes)(doublings(at))
    return found


def between_points(shots: Floats, first: float, last: float, steps: int = STEPS) -> Floats:
    """Return the shot counts at which a line is looked at: those of its points, and more between
    any two.
    """
    places = doublings(shots)
    n = (len(places) - 1) * steps + 1
    fine = np.interp(np.arange(n) / steps, np.arange(len(places)), places)
    found: Floats = np.exp2(fine) - 1
    return found[(found >= first - TINY) & (found <= last + TINY)]


def zeros(line: Values) -> list[tuple[float, bool]]:
    """Return where the line crosses zero, in shots, and whether it rises there."""
    found = []
    values, places = line.values, doublings(line.shots)
    known = np.flatnonzero(values != 0)
    for i, j in pairwise(known):
        if values[i] * values[j] < 0:
            share = values[i] / (values[i] - values[j])
            place = places[i] + share * (places[j] - places[i])
            found.append((float(np.exp2(place) - 1), bool(values[j] > 0)))
    return found


def undecided(line: Values, level: float = LEVEL) -> Floats:
    """Return the shot counts, finely, at which the line may be zero: whose limits hold it.

    The one where it is zero is among them with probability `level`, whatever its slope (Fieller
    1954).
    """
    return line.shots[line.p_values >= 1 - level]


def in_angles(line: Line, limits: Range, n: Floats) -> Line:
    """Return a line of shares through the arcsine of their root, where chance moves a share near 0
    or 1 as much as one in the middle; without a finite range, the line itself. `n` are the answers
    that each value is a mean of.

    Order, and so crossings, stay what they are, and tests hold near 0 and 1 too: each share counts
    as that of as many independent answers as its variance is worth, with Anscombe's (1948) three
    eighths of an answer more on either side.
    """
    lowest, highest = limits
    width = highest - lowest
    if not math.isfinite(width):
        return line
    share = np.clip((line.values - lowest) / width, 0.0, 1.0)
    inside = (share * n + 1) / (n + 2)
    variance = np.maximum(np.diag(line.covariance), TINY**2)
    worth = inside * (1 - inside) * width**2 / variance
    drawn_in = (share * worth + ANSCOMBE) / (worth + 2 * ANSCOMBE)
    factor = np.sqrt(1 / (4 * worth + 2) / variance)
    each = np.outer(factor, factor)
    return replace(
        line,
        values=np.arcsin(np.sqrt(drawn_in)),
        covariance=line.covariance * each,
        of_draws=line.of_draws * each,
    )


def angles_of(values: Floats, limits: Range) -> Floats:
    """Return where values stand on the scale of `in_angles`."""
    lowest, highest = limits
    if not math.isfinite(highest - lowest):
        return values
    share = np.clip((values - lowest) / (highest - lowest), 0.0, 1.0)
    found: Floats = np.arcsin(np.sqrt(share))
    return found


def from_angles(places: Floats, limits: Range) -> Floats:
    """Return the values that stand at places of the scale of `in_angles`."""
    lowest, highest = limits
    if not math.isfinite(highest - lowest):
        return places
    inside = np.clip(places, 0.0, math.pi / 2)
    found: Floats = lowest + (highest - lowest) * np.sin(inside) ** 2
    return found
