"""Where one curve lies above another: at which shot counts for sure, and where they cross.

In: the line of their differences (lines.py). Out: signs, crossings with their limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from icl_harness.analysis.questions.lines import LEVEL, Line, Values, undecided, zeros

ALPHA = 0.05
Signs = NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where a line crosses zero: the estimate, and the limits that hold the truth in 95 of 100
    cases.
    """

    shots: float
    low: float
    high: float
    rises: bool


def sure_signs(line: Values, alpha: float = ALPHA) -> Signs:
    """Return the sign of each value that is not zero for sure, else 0.

    With a chance of at most `alpha` does any value get a sign that it does not have: each is tested
    on both sides at `alpha` over their number (Bonferroni).
    """
    least = alpha / 2 / max(len(line.values), 1)
    above = line.p_above < least
    below = 1 - line.p_above < least
    found: Signs = above.astype(np.int8) - below.astype(np.int8)
    return found


def crossings(line: Line, signs: Signs, level: float = LEVEL) -> list[Crossing]:
    """Return each crossing that is sure: between two points that differ from zero for sure, in
    opposite directions, with none such between them.

    That there is one takes both signs to be right: they are wrong together in at most 5 of 100
    cases where the line does not cross zero.
    """
    found = []
    for i, j in pairwise(np.flatnonzero(signs)):
        if signs[i] != signs[j]:
            first, last = float(line.shots[i]), float(line.shots[j])
            found.append(_crossing(line.finely(first, last), bool(signs[j] > 0), level))
    return found


def _crossing(stretch: Values, rises: bool, level: float) -> Crossing:
    """Return the crossing of a stretch whose ends have opposite signs. Where the measured line
    crosses zero several times in it, the middle one of these is the estimate.
    """
    places = [shots for shots, is_up in zeros(stretch) if is_up == rises]
    where = float(np.sort(places)[len(places) // 2])
    maybe = undecided(stretch, level)
    low, high = (float(maybe[0]), float(maybe[-1])) if len(maybe) else (where, where)
    return Crossing(shots=where, low=min(low, where), high=max(high, where), rises=rises)


def furthest_beyond(line: Values, sign: int) -> float:
    """Return how far a line may lie on the other side of zero than `sign` at any of its points, at
    most (Bonferroni).
    """
    margin = line.margin(1 - ALPHA / max(len(line.values), 1))
    return float(np.max(margin - sign * line.values, initial=0.0))
