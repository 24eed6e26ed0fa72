"""Does a curve peak and then decline?

In: points of curves. Out: an answer for each curve. The highest of many points lies above the last
by chance alone: so the largest difference from the last, in standard errors, is held against what
the largest of all would be on a flat curve with these errors (max-t; Westfall & Young 1993). A
curve that rises all the way has smaller ones, so that false alarms are rarer still.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from icl_harness.analysis.crossed import Floats
from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.answers import Answer
from icl_harness.analysis.questions.pairs import direction
from icl_harness.analysis.questions.single import OneCurve, single_curves
from icl_harness.analysis.questions.words import number, p_text, shots

if TYPE_CHECKING:
    import pandas as pd

Flags = NDArray[np.bool_]
ALPHA = 0.05
N_SAMPLES = 20_000
SEED = 0
TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """Differences that are tested together: value, standard error, simultaneous margin, and the
    p-value of the difference being above 0, adjusted for the search.
    """

    values: Floats
    margin: Floats
    p_values: Floats


def peak(joint: Joint) -> Iterator[Answer]:
    """Yield whether each curve declines after its best shot count."""
    for curve in single_curves(joint):
        if len(curve.shots) < 3:
            yield curve.answer("peak", "has fewer than three shot counts: a peak needs three.")
            continue
        errors = curve.joint.errors(N_SAMPLES, np.random.default_rng(SEED))
        above_last = _tested(curve.joint, errors, len(curve.shots) - 1)
        may_be_best = _may_be_best(curve.joint, errors)
        told = _told(curve, above_last, may_be_best)
        yield curve.answer("peak", told, _table(curve, above_last, may_be_best))


def _tested(joint: Joint, errors: Floats, reference: int) -> _Tested:
    """Return how far all points are above one, which is told by its place. `errors` are those that
    the points may have.
    """
    n = len(joint.df)
    weights = np.eye(n)
    weights[:, reference] -= 1.0
    weights *= direction(joint)
    se = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", weights, joint.covariance, weights), 0.0))
    known = se > TINY
    size = np.where(known, se, 1.0)
    relative = errors @ weights.T / size
    highest = np.where(known, relative, -np.inf).max(axis=1)
    values = weights @ joint.values
    reached = np.where(known, values / size, -np.inf)
    above = (highest[:, None] >= reached[None, :]).mean(axis=0)
    margin = np.quantile(np.where(known, np.abs(relative), 0.0).max(axis=1), 1 - ALPHA) * se
    return _Tested(values=values, margin=margin, p_values=np.where(known, above, 1.0))


def _may_be_best(joint: Joint, errors: Floats) -> Flags:
    """Return which points may be the best: no other lies above them for sure."""
    places = range(len(joint.df))
    found = [_tested(joint, errors, place).p_values.min() >= ALPHA for place in places]
    return np.array(found)


def _told(curve: OneCurve, above_last: _Tested, may_be_best: Flags) -> str:
    joint, last = curve.joint, shots(curve.shots[-1])
    best = int(np.argmax(joint.values * direction(joint)))
    where = shots(curve.shots[best])
    if best == len(curve.shots) - 1:
        return f"does not decline: it is best at its last shot count, {last}."
    by, margin = above_last.values[best], above_last.margin[best]
    range_ = f"{number(by)} [{number(by - margin)}, {number(by + margin)}]"
    if joint.one_draw:
        return (
            f"is best at {where} shots, {range_} better than at {last}; whether it declines with "
            "other shots cannot be tested."
        )
    p_value = float(above_last.p_values[best])
    if p_value >= ALPHA:
        return (
            f"has no sure decline: it is best at {where} shots, {range_} better than at {last}, "
            f"which a flat curve may be by chance ({p_text(p_value)})."
        )
    places = np.flatnonzero(may_be_best)
    ends = f"[{shots(curve.shots[places[0]])}, {shots(curve.shots[places[-1]])}]"
    if places[0] == 0:
        return (
            f"declines: it is best at {where} shots {ends}, maybe from the start, and {range_} "
            f"better than at {last} ({p_text(p_value)})."
        )
    return (
        f"peaks at {where} shots {ends} and then declines: it is {range_} better there than at "
        f"{last} ({p_text(p_value)})."
    )


def _table(curve: OneCurve, above_last: _Tested, may_be_best: Flags) -> pd.DataFrame:
    import pandas as pd

    one_draw = curve.joint.one_draw
    return pd.DataFrame(
        {
            "shots": curve.shots,
            "value": curve.joint.values,
            "better_than_last": above_last.values,
            "ci_low": above_last.values - above_last.margin,
            "ci_high": above_last.values + above_last.margin,
            "p_value": np.nan if one_draw else above_last.p_values,
            "may_be_best": may_be_best,
        }
    )
