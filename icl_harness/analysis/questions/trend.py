"""Does a curve improve with shots, and by how much per doubling?

In: points of curves. Out: an answer for each curve. `trend` is the slope of the line that fits all
points best over log2(1 + shots); `gain` is what each step of the shot grid adds, per doubling.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from icl_harness.analysis.crossed import Floats
from icl_harness.analysis.joint import Contrast, Joint
from icl_harness.analysis.questions.answers import Answer
from icl_harness.analysis.questions.lines import doublings
from icl_harness.analysis.questions.pairs import direction
from icl_harness.analysis.questions.single import OneCurve, single_curves
from icl_harness.analysis.questions.words import p_text, shots, signed

TOO_FEW = "has one shot count: a trend needs two."


def trend(joint: Joint) -> Iterator[Answer]:
    """Yield whether each curve improves with shots: the slope of the least-squares line."""
    import pandas as pd

    for curve in single_curves(joint):
        if len(curve.shots) < 2:
            yield curve.answer("trend", TOO_FEW)
            continue
        centred = doublings(curve.shots) - doublings(curve.shots).mean()
        found = curve.joint.contrast(centred / np.sum(centred**2))
        row = {
            "first_shots": curve.shots[0],
            "last_shots": curve.shots[-1],
            "per_doubling": found.value,
            "ci_low": found.low,
            "ci_high": found.high,
            "p_value": np.nan if curve.joint.one_draw else found.p_value,
        }
        yield curve.answer("trend", _trend_told(curve, found), pd.DataFrame([row]))


def gain(joint: Joint) -> Iterator[Answer]:
    """Yield what each curve gains per doubling of the shots: on average, and step by step."""
    import pandas as pd

    for curve in single_curves(joint):
        n = len(curve.shots)
        if n < 2:
            yield curve.answer("gain", TOO_FEW)
            continue
        steps = [(i, j, _per_doubling(curve, i, j)) for i, j in pairwise(range(n))]
        whole = _per_doubling(curve, 0, n - 1)
        rows = [
            {
                "from_shots": curve.shots[i],
                "to_shots": curve.shots[j],
                "per_doubling": step.value,
                "ci_low": step.low,
                "ci_high": step.high,
            }
            for i, j, step in [*steps, (0, n - 1, whole)]
        ]
        yield curve.answer("gain", _gain_told(curve, whole, steps[-1][2]), pd.DataFrame(rows))


def _per_doubling(curve: OneCurve, i: int, j: int) -> Contrast:
    weights: Floats = np.zeros(len(curve.shots))
    places = doublings(curve.shots)
    weights[[i, j]] = np.array([-1.0, 1.0]) / (places[j] - places[i])
    return curve.joint.contrast(weights)


def _trend_told(curve: OneCurve, found: Contrast) -> str:
    if found.low > 0 or found.high < 0:
        is_better = found.value * direction(curve.joint) > 0
        which = "improves with shots" if is_better else "gets worse with shots"
    else:
        which = "has no sure trend with shots"
    p_value = "" if curve.joint.one_draw else f" ({p_text(found.p_value)})"
    return (
        f"{which}: {_range(found)} per doubling of 1 + shots, from {shots(curve.shots[0])} to "
        f"{shots(curve.shots[-1])} shots{p_value}."
    )


def _gain_told(curve: OneCurve, whole: Contrast, last: Contrast) -> str:
    ends = f"from {shots(curve.shots[0])} to {shots(curve.shots[-1])} shots"
    told = f"changes by {_range(whole)} per doubling of 1 + shots on average, {ends}"
    if len(curve.shots) == 2:
        return f"{told}."
    step = f"from {shots(curve.shots[-2])} to {shots(curve.shots[-1])} shots"
    return f"{told}; the last step, {step}, brings {_range(last)} per doubling."


def _range(found: Contrast) -> str:
    return f"{signed(found.value)} [{signed(found.low)}, {signed(found.high)}]"
