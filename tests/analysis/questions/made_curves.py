"""Curves of which the truth is known, with errors of a known covariance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd

from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.lines import Line, in_angles

SHOTS = np.array([0.0, 1, 2, 4, 8, 16, 32, 64])
SHARE = (0.0, 1.0)


def learning(middle: float, start: float = 0.3, end: float = 0.95, steep: float = 1.2) -> Callable:
    """A curve that rises half the way at `middle` doublings."""

    def value(shots):
        return start + (end - start) / (1 + np.exp(-steep * (np.log2(1 + shots) - middle)))

    return value


def where(curve: Callable, level: float = 0.0) -> float:
    """Where a rising curve truly reaches a level, in shots."""
    shots = np.exp2(np.linspace(0, 14, 140_001)) - 1
    return float(shots[np.argmax(curve(shots) >= level)])


def made(
    curves: Mapping[str, np.ndarray | Callable],
    rng: np.random.Generator | None = None,
    *,
    se: float = 0.02,
    together: float = 0.5,
    shots: np.ndarray = SHOTS,
    limits: tuple[float, float] = SHARE,
    metric: str = "accuracy",
    covers: str = "queries and draws",
    df: float = 200.0,
) -> Joint:
    """Points of curves named `MODEL MODE [VARIANT]`, measured with errors where there is an `rng`.

    `se` is that of a share of .5, and that of any value without limits; `together` the correlation
    of all errors.
    """
    rows = []
    for name, curve in curves.items():
        model, mode, variant = [*name.split(), "default"][:3]
        values = curve(shots) if callable(curve) else curve
        for count, value in zip(shots, values, strict=False):
            of = {"task": "made", "model": model, "mode": mode, "variant": variant}
            rows.append({**of, "shots": int(count), "shots_used": count, "value": value})
    points = pd.DataFrame(rows).assign(
        format="text", queries_per_request=1, metric=metric, n_draws=3, n_queries=500,
        ci_covers=covers,
    )  # fmt: skip
    true = points["value"].to_numpy(dtype=float)
    shape = (1 - together) * np.eye(len(true)) + together
    is_share = np.isfinite(limits[1] - limits[0])
    if rng is not None:
        errors = rng.multivariate_normal(np.zeros(len(true)), shape, method="cholesky")
        points["value"] = np.clip(true + errors * _se(true, se, is_share), *limits)
    size = _se(points["value"].to_numpy(dtype=float), se, is_share)
    covariance = shape * np.outer(size, size)
    points["ci_low"] = np.maximum(points["value"] - 1.96 * size, limits[0])
    points["ci_high"] = np.minimum(points["value"] + 1.96 * size, limits[1])
    return Joint(
        points=points,
        covariance=covariance,
        of_draws=covariance / 2,
        df=np.full(len(true), df),
        df_units=np.full(len(true), 499.0),
        limits=limits,
    )


def differences(
    a: np.ndarray | Callable, b: np.ndarray | Callable, n: int, *, se: float = 0.02, seed: int = 0
) -> Iterator[Line]:
    """`n` times measured, how far b is ahead of a, in angles. All errors go together by .5."""
    rng = np.random.default_rng(seed)
    true = np.concatenate([one(SHOTS) if callable(one) else one for one in (a, b)])
    shape = 0.5 * np.eye(16) + 0.5
    for errors in rng.multivariate_normal(np.zeros(16), shape, n, method="cholesky"):
        values = np.clip(true + errors * _se(true, se, True), 0, 1)
        size = _se(values, se, True)
        points = Line(
            shots=np.tile(SHOTS, 2),
            values=values,
            covariance=shape * np.outer(size, size),
            of_draws=shape * np.outer(size, size) / 2,
            df=np.full(16, 200.0),
            df_units=np.full(16, 499.0),
        )
        weights = np.hstack([-np.eye(8), np.eye(8)])
        yield in_angles(points, SHARE, np.full(16, 500.0)).weighted(SHOTS, weights)


def _se(values: np.ndarray, se: float, is_share: bool) -> np.ndarray:
    if not is_share:
        return np.full(len(values), se)
    inside = np.clip(values, 0.002, 0.998)
    return 2 * se * np.sqrt(inside * (1 - inside))
