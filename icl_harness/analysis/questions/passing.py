"""From which shot count on is a curve ahead of another model's, such as a nearest-neighbour
classifier's, logistic regression's, a fine-tuned model's, the exact Bayes learner's?

In: points of curves. Out: an answer for each curve and the one that it is held against: the shots
at which it passes, with limits, and the shot count from which on it is ahead for sure.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.answers import Answer, nothing_said
from icl_harness.analysis.questions.differences import Differences, Names
from icl_harness.analysis.questions.lines import Line, Values, undecided, zeros
from icl_harness.analysis.questions.pairs import beside, curves_in, nothing_beside, told_apart
from icl_harness.analysis.questions.signs import ALPHA, Crossing, sure_signs
from icl_harness.analysis.questions.words import called, caveat, common, number, shots

NAME = "passing"


def passing(joint: Joint, *, against: str | None = None) -> Iterator[Answer]:
    """Yield where curves pass the one that each is held `against`: baselines, if none is named."""
    found = list(beside(curves_in(joint), against))
    if not found:
        yield nothing_said(NAME, joint, nothing_beside(joint, against))
    for curve, other in found:
        apart = told_apart(curve, other)
        names = (called(other, apart), called(curve, apart))
        about = f"{common(joint, curve.names, apart)}: {names[1]}"
        lines = Differences.of(joint, other, curve)
        told = told_of_passing(lines, names, is_level=len(other.shots) == 1)
        yield Answer(
            question=NAME,
            about=f"{about} against {names[0]}",
            sentence=f"{about} {told}{caveat(joint, curve, other)}",
            table=lines.table(names),
        )


def told_of_passing(lines: Differences, names: Names, *, is_level: bool = False) -> str:
    """Return what is said of a curve and the one it is held against."""
    other = names[0]
    if is_level:
        other = f"{other} (its one point, at all shot counts)"
    if not len(lines.even.shots):
        return f"and {other} have no shot counts in common at which their prompts differ."
    first, last = (shots(lines.even.shots[i]) for i in (0, -1))
    ahead = ahead_from(lines.even.points)
    if ahead == 0:
        return f"is ahead of {other} at every shot count from {first} to {last} for sure."
    if ahead is None:
        return _not_passed(lines, other, last)
    found = passed_at(lines.even, ahead)
    start = f"passes {other} at {shots(found.shots)} shots"
    if found.low <= lines.even.shots[0]:
        range_ = f"[at most {shots(found.high)}]"
    else:
        range_ = f"[{shots(found.low)}, {shots(found.high)}]"
    sure = shots(lines.even.shots[ahead])
    return f"{start} {range_} and is ahead from {sure} shots on for sure."


def ahead_from(line: Values) -> int | None:
    """Return the point from which on all values are above zero for sure; None where the last is
    not.

    From the last point down each is tested at `ALPHA`, up to the first that fails: the chance that
    any point so found is not above zero is at most `ALPHA`, however many there are.
    """
    fails = np.flatnonzero(line.p_above >= ALPHA)
    if not len(fails):
        return 0
    place = int(fails[-1]) + 1
    return place if place < len(line.values) else None


def passed_at(line: Line, ahead: int) -> Crossing:
    """Return where a line crosses zero for the last time before point `ahead`, from which on it is
    above; its limits hold that place in 95 of 100 cases.

    It lies behind the last point that is below zero for sure. Where no point is, the lower limit
    is the first: the line may have been above zero from there on.
    """
    below = np.flatnonzero(sure_signs(line.points)[:ahead] < 0)
    start = int(below[-1]) if len(below) else 0
    stretch = line.finely(float(line.shots[start]), float(line.shots[ahead]))
    rising = [place for place, rises in zeros(stretch) if rises]
    maybe = undecided(stretch)
    where = rising[-1] if rising else float(line.shots[start])
    low, high = (float(maybe[0]), float(maybe[-1])) if len(maybe) else (where, where)
    return Crossing(shots=where, low=min(low, where), high=max(high, where), rises=True)


def _not_passed(lines: Differences, other: str, last: str) -> str:
    """Return what is known where a curve is not ahead for sure at its most shots."""
    low, high = (limit[-1] for limit in lines.plain.points.limits())
    value = lines.plain.values[-1]
    if lines.even.points.p_above[-1] > 1 - ALPHA:
        return (
            f"does not pass {other} within {last} shots: there it is {number(-value)} behind "
            f"[{number(-high)}, {number(-low)}]."
        )
    return (
        f"is not ahead of {other} for sure at {last} shots, its most: the difference there is "
        f"{number(value)} [{number(low)}, {number(high)}]."
    )
