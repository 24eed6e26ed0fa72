"""Laws fitted to a curve, and what they foretell.

In: the line of a curve, in angles where its values have a range. Out: fitted parameters, whether
the points could be chance about the law, and what it foretells at another shot count. Points count
by their standard errors. Their errors go together, as they share queries and draws: what follows
from a fit is worked out from all covariances, without inverting them, which those of few draws do
not bear. Left out: the laws themselves (scaling_laws.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from icl_harness.analysis.crossed import Floats
from icl_harness.analysis.estimates import Range
from icl_harness.analysis.questions.lines import Line, angles_of, from_angles
from icl_harness.analysis.questions.scaling_laws import Law

N_SIMULATED = 2000
SEED = 241016531
N_BEST = 3  # starts that a fit is made from
FLOOR = 1e-9
LEAST_SE = 1e-4
STEP = 1e-5  # of numerical derivatives


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a law is of: the limits of the values, and whether they are -log p."""

    limits: Range
    is_nll: bool = False

    def of_law(self, law: Law, shots: Floats, at: Floats) -> Floats:
        """Return a law's values as points have them: within limits, in angles."""
        values = at[0] + at[1] * law.shape(shots, at[2:].tolist())
        if law.is_probability and self.is_nll:
            values = -np.log(np.maximum(values, FLOOR))
        return angles_of(np.clip(values, *self.limits), self.limits)

    def straightened(self, law: Law, points: Floats) -> Floats:
        """Return values, given as points have them, as u + v times a shape."""
        values = from_angles(points, self.limits)
        return np.exp(-values) if law.is_probability and self.is_nll else values

    def bounds(self, law: Law) -> tuple[list[float], list[float]]:
        """Return the least and the greatest that each parameter may be: u and v first."""
        low, high = [-np.inf, -np.inf], [np.inf, np.inf]
        if law.is_probability:
            low, high = [0.0, 0.0], [1.0, 1.0]
        elif law.low:  # u is what the values end at
            low[0], high[0] = self.limits
        return [*low, *law.low], [*high, *law.high]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law fitted to the points of a line. `moves` says how its parameters move with errors of
    these, in standard errors.
    """

    law: Law
    scale: Scale
    points: Line
    parameters: Floats
    moves: Floats

    def at(self, shots: Floats) -> Floats:
        """Return the law's values, as points have them."""
        return self.scale.of_law(self.law, shots, self.parameters)

    def weights(self, shots: Floats) -> Floats:
        """Return how much the law's values move with each of its points: a row a shot count."""
        slopes = []
        for i, parameter in enumerate(self.parameters):
            step = np.zeros(len(self.parameters))
            step[i] = STEP * max(abs(parameter), 1.0)
            up = self.scale.of_law(self.law, shots, self.parameters + step)
            down = self.scale.of_law(self.law, shots, self.parameters - step)
            slopes.append((up - down) / (2 * step[i]))
        found: Floats = np.stack(slopes, axis=1) @ self.moves / _se(self.points)
        return found

    def p_value(self) -> float:
        """Return how likely it is that points lie as far off as these do, where the law holds."""
        se, n = _se(self.points), len(self.points.values)
        rng = np.random.default_rng(SEED)
        shape = self.points.covariance
        errors = rng.multivariate_normal(np.zeros(n), shape, N_SIMULATED, method="svd")
        df = np.full(N_SIMULATED, self.points.points.df_together.min())
        errors *= np.sqrt(df / rng.chisquare(df))[:, None]
        left = errors - errors @ self.weights(self.points.shots).T
        far = np.sum(((self.points.values - self.at(self.points.shots)) / se) ** 2)
        n_farther = int(np.sum(np.sum((left / se) ** 2, axis=1) >= far))
        return (n_farther + 1) / (N_SIMULATED + 1)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a law foretells of a point that it was not fitted to, as points have it: the limits
    between which a measured value lies in 95 of 100 cases, and the p-value of the one measured.
    """

    value: float
    low: float
    high: float
    p_value: float


def fit_law(law: Law, points: Line, scale: Scale) -> Fit:
    """Return a law fitted to points (least squares by their standard errors)."""
    from scipy.optimize import least_squares

    se, bounds = _se(points), scale.bounds(law)

    def residuals(at: Floats) -> Floats:
        found: Floats = (scale.of_law(law, points.shots, at) - points.values) / se
        return found

    starts = [_start(law, points, scale, own) for own in law.starts or ((),)]
    starts.sort(key=lambda at: float(np.sum(residuals(at) ** 2)))
    fits = [least_squares(residuals, at, bounds=bounds, x_scale="jac") for at in starts[:N_BEST]]
    best = min(fits, key=lambda fit: float(fit.cost))
    free = np.where(best.active_mask == 0, best.jac, 0.0)
    return Fit(
        law=law, scale=scale, points=points, parameters=best.x, moves=np.linalg.pinv(free, 1e-8)
    )


def foretold(fit: Fit, line: Line, new: int, level: float = 0.95) -> Forecast:
    """Return what a law foretells at point `new` of a line, fitted to the others before it."""
    shots = line.shots[new : new + 1]
    errors = np.append(fit.weights(shots)[0], -1.0)  # of what is foretold, less what is measured
    value = float(fit.at(shots)[0])
    error = line.only(np.arange(new + 1)).seen(shots, errors[None, :])
    error = replace(
        error,
        values=np.array([value - line.values[new]]),
        variance=np.maximum(error.variance, LEAST_SE**2),
    )
    margin, p_value = float(error.margin(level)[0]), float(error.p_values[0])
    return Forecast(value=value, low=value - margin, high=value + margin, p_value=p_value)


def _se(points: Line) -> Floats:
    return np.maximum(points.points.se, LEAST_SE)


def _start(law: Law, points: Line, scale: Scale, own: tuple[float, ...]) -> Floats:
    """Return parameters to start from: u and v that fit best with these of the shape."""
    shape = law.shape(points.shots, own)
    values = scale.straightened(law, points.values)
    sides = np.stack([np.ones_like(shape), shape], axis=1)
    best = np.linalg.lstsq(sides, values, rcond=None)[0]
    low, high = (np.array(bound) for bound in scale.bounds(law))
    start = np.clip(np.array([*best, *own]), low, high)
    inside = np.where(np.isfinite(high - low), 1e-3 * (high - low), 0.0)
    found: Floats = np.clip(start, low + inside, high - inside)
    return found
