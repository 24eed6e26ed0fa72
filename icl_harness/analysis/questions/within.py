"""From which shot count on is a curve within some distance of its best?

In: points of curves. Out: an answer for each curve, with a confidence interval on the shot grid.
Its upper end is where the claim is proved: the largest shot count is tested first, against all
others, then the next, until one fails. Its lower end is where the contrary is, from the smallest
up. In such a fixed order each test may use the whole 2.5 % (Maurer, Hothorn & Lehmacher 1995), so
nothing is lost to the search.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from icl_harness.analysis.crossed import Floats
from icl_harness.analysis.estimates import Range
from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.answers import Answer
from icl_harness.analysis.questions.pairs import direction
from icl_harness.analysis.questions.single import OneCurve, single_curves
from icl_harness.analysis.questions.words import number, shots
from icl_harness.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.025  # on either side
USUAL = 0.02  # of the metric's range


def within(joint: Joint, *, within: float | None = None) -> Iterator[Answer]:
    """Yield from which shot count on each curve is `within` a distance of its best: if none is
    given, 2 % of the metric's range. Raises `SpecError` where it is not above 0.
    """
    distance = within if within is not None else _usual(joint.limits)
    if distance is not None and not (math.isfinite(distance) and distance > 0):
        raise SpecError(f"--within {distance:g}: a distance from the best is above 0, as .02 is.")
    for curve in single_curves(joint):
        if distance is None:
            metric = curve.joint.points["metric"].iloc[0]
            yield curve.answer("within", f"has no usual distance in {metric}: give --within.")
        elif len(curve.shots) < 2:
            yield curve.answer("within", "has one shot count: its best needs two.")
        else:
            yield _answer(curve, distance)


def _usual(limits: Range) -> float | None:
    width = limits[1] - limits[0]
    return USUAL * width if math.isfinite(width) else None


def _answer(curve: OneCurve, distance: float) -> Answer:
    values = curve.joint.values * direction(curve.joint)
    short = values.max() - values
    further, nearer = _p_values(curve.joint, distance)
    first = _from_on(short <= distance)
    proved = _from_on(nearer < ALPHA)
    least = int(np.argmin([*(further < ALPHA), False]))  # the first that may be within
    told = _told(curve, distance, first, proved, least)
    return curve.answer("within", told, _table(curve, short, nearer, further))


def _p_values(joint: Joint, distance: float) -> tuple[Floats, Floats]:
    """Return for each shot count the p-values of its being within the distance of the best, and of
    its not being.

    It is not within where any other is better by more (Bonferroni); it is where none is.
    """
    n = len(joint.df)
    further, nearer = np.ones(n), np.zeros(n)
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            weights = np.zeros(n)
            weights[[i, j]] = -direction(joint), direction(joint)
            better = joint.contrast(weights, null=distance)
            is_more = better.value > distance
            above = better.p_value / 2 if is_more else 1 - better.p_value / 2
            further[i] = min(further[i], above * (n - 1))
            nearer[i] = max(nearer[i], 1 - above)
    return further, nearer


def _from_on(is_within: NDArray[np.bool_]) -> int:
    """Return the first place from which on all are, the number of places if the last is not."""
    outside = np.flatnonzero(~is_within)
    return int(outside[-1]) + 1 if len(outside) else 0


def _told(curve: OneCurve, distance: float, first: int, proved: int, least: int) -> str:
    n, places = len(curve.shots), curve.shots
    best = shots(places[int(np.argmax(curve.joint.values * direction(curve.joint)))])
    of_best = f"within {number(distance)} of its best"
    if first == n:
        told = f"is not {of_best} (at {best} shots) at its last shot count, {shots(places[-1])}"
    else:
        told = f"is {of_best} (at {best} shots) from {shots(places[first])} shots on"
    if proved == n:
        return f"{told}; from where on it is so for sure cannot be said from these data."
    if proved == least:
        return f"{told} (95 % sure that it is there, and not before)."
    return f"{told} [{shots(places[least])}, {shots(places[proved])}]."


def _table(curve: OneCurve, short: Floats, nearer: Floats, further: Floats) -> pd.DataFrame:
    named = ["value", "ci_low", "ci_high"]
    table = curve.joint.points[named].copy()
    table.insert(0, "shots", curve.shots)
    if curve.joint.one_draw:
        nearer, further = np.full(len(short), np.nan), np.full(len(short), np.nan)
    return table.assign(short_of_best=short, p_within=nearer, p_not_within=np.minimum(further, 1.0))
