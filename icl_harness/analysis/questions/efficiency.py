"""How many times as many shots does a model need to reach a target as the exact Bayes learner,
logistic regression, or another curve?

In: points of curves. Out: an answer for each curve and the one that it is held against: the shots
of both, and their ratio. Behind it stand targets from low to high, as models that learn from their
context need ever more than Bayes the higher the target is (Joo & Klabjan 2025, Technical debt in
in-context learning, arXiv 2502.04580).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from icl_harness.analysis.crossed import Floats
from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.answers import Answer, nothing_said
from icl_harness.analysis.questions.differences import Names
from icl_harness.analysis.questions.efficiency_ratio import Ratio, ratio_needed
from icl_harness.analysis.questions.lines import angles_of
from icl_harness.analysis.questions.pairs import (
    Curve,
    beside,
    curves_in,
    direction,
    line_of,
    lines_of,
    nothing_beside,
    told_apart,
)
from icl_harness.analysis.questions.words import (
    called,
    caveat,
    common,
    limits,
    metric_of,
    number,
    shots,
    times,
)
from icl_harness.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

NAME = "efficiency"
SHARES = (0.25, 0.5, 0.75, 0.9)  # of the way that both curves go: the targets of the table
USUAL_SHARE = 0.75
IN_WORDS = "three quarters of the way from where both start to what both reach"


def efficiency(
    joint: Joint, *, target: float | None = None, against: str | None = None
) -> Iterator[Answer]:
    """Yield the ratio of shots at which each curve and the one that it is held `against` reach a
    target: baselines, if none is named. Raises `SpecError` where the target is out of range.
    """
    low, high = joint.limits
    if target is not None and not low <= target <= high:
        raise SpecError(
            f"--target {target:g} is out of the range of {metric_of(joint)}, {low:g} to {high:g}."
        )
    found = list(beside(curves_in(joint), against))
    if not found:
        yield nothing_said(NAME, joint, nothing_beside(joint, against))
    for curve, other in found:
        apart = told_apart(curve, other)
        names = (called(other, apart), called(curve, apart))
        about = f"{common(joint, curve.names, apart)}: {names[1]}"
        targets, usual = _targets(joint, curve, other)
        at = usual if target is None else target
        known = {one for one in (*targets, at) if one is not None}
        of = {
            one: _needs(joint, curve, other, one)
            for one in sorted(known, reverse=direction(joint) < 0)
        }
        if at is None:
            told = (
                f"starts beyond what {names[0]} reaches, or the other way round: no target lies on "
                "the way of both. --target sets one."
            )
        else:
            why = f" ({IN_WORDS})" if target is None else ""
            told = _told(of[at], f"{metric_of(joint)} {number(at)}{why}", names[0])
        yield Answer(
            question=NAME,
            about=f"{about} against {names[0]}",
            sentence=f"{about} {told}{caveat(joint, curve, other)}",
            table=_table(of, names),
        )


@dataclass(frozen=True, kw_only=True)
class _Needs:
    """The shots that two curves need for a target, where the first and the last shot count of each
    are known too.
    """

    ratio: Ratio
    ends: tuple[Floats, Floats]

    @property
    def counts(self) -> tuple[float, float]:
        return self.ratio.shots, self.ratio.others

    @property
    def value(self) -> float:
        """Return the ratio; NaN where a curve does not get there, or is there from the start."""
        starts = [count <= ends[0] for count, ends in zip(self.counts, self.ends, strict=True)]
        return math.nan if any(starts) else self.ratio.value


def _targets(joint: Joint, curve: Curve, other: Curve) -> tuple[list[float], float | None]:
    """Return targets on the way that both curves go, and the usual one among them: none where one
    starts beyond what the other reaches.
    """
    sign = direction(joint)
    values = [sign * line_of(joint, one, even=False).values for one in (curve, other)]
    start = max(float(one[0]) for one in values)
    end = min(float(one.max()) for one in values)
    if not end > start:
        return [], None
    digits = max(0, 1 - math.floor(math.log10(end - start)))
    found = [round(sign * (start + share * (end - start)), digits) for share in SHARES]
    return found, found[SHARES.index(USUAL_SHARE)]


def _needs(joint: Joint, curve: Curve, other: Curve, target: float) -> _Needs:
    points = lines_of(joint, (curve, other), even=True)
    level = float(angles_of(np.array(target), joint.limits))
    beyond = replace(points, values=direction(joint) * (points.values - level))
    ratio = ratio_needed(beyond, len(curve.rows))
    return _Needs(ratio=ratio, ends=(curve.shots[[0, -1]], other.shots[[0, -1]]))


def _told(needs: _Needs, target: str, other: str) -> str:
    counts = [_count(count, ends) for count, ends in zip(needs.counts, needs.ends, strict=True)]
    ratio, value = needs.ratio, needs.value
    if not math.isnan(value):
        times_ = f"{times(value)} times as many {limits(ratio.low, ratio.high, times)}"
    elif ratio.low > 0:
        times_ = f"at least {times(ratio.low)} times as many"
    elif math.isfinite(ratio.high):
        times_ = f"at most {times(ratio.high)} times as many"
    else:
        times_ = "how many times as many is not known"
    return f"needs {counts[0]} shots for {target}, {other} {counts[1]}: {times_}."


def _count(count: float, ends: Floats) -> str:
    """Return how many shots a curve needs; in words where the measured ones do not tell."""
    first, last = ends
    if math.isnan(count):
        return f"more than {shots(last)}"
    if count <= first:
        return f"at most {shots(first)}" if first > 0 else "0"
    return shots(count)


def _table(of: dict[float, _Needs], names: Names) -> pd.DataFrame:
    """Return a row a target; shots are missing where a curve does not reach it."""
    import pandas as pd

    columns = ["target", "curve", "against", "shots", "against_shots", "ratio", "ci_low", "ci_high"]
    rows = [
        (target, names[1], names[0], *one.counts, one.value, one.ratio.low, one.ratio.high)
        for target, one in of.items()
    ]
    return pd.DataFrame(rows, columns=columns)
