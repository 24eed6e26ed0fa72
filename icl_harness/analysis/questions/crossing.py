"""Where do two curves cross? Of two modes, models or variants, all else equal.

In: points of curves. Out: an answer for each pair: at how many shots, with limits; that they do not
cross within the measured range, and how sure that is; or which of it cannot be said.
"""

from __future__ import annotations

from collections.abc import Iterator

from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.answers import Answer, nothing_said
from icl_harness.analysis.questions.differences import Differences, Names
from icl_harness.analysis.questions.pairs import (
    beside,
    curves_in,
    nothing_beside,
    pairs,
    told_apart,
)
from icl_harness.analysis.questions.signs import (
    ALPHA,
    Crossing,
    Signs,
    crossings,
    furthest_beyond,
    sure_signs,
)
from icl_harness.analysis.questions.words import (
    called,
    caveat,
    common,
    limits,
    listed,
    number,
    p_text,
    shots,
)

NAME = "crossing"


def crossing(joint: Joint, *, against: str | None = None) -> Iterator[Answer]:
    """Yield where curves cross: every two modes, models or variants; or each and the one that it is
    held `against`.
    """
    curves = curves_in(joint)
    found = list(beside(curves, against) if against else pairs(curves))
    if not found:
        task = joint.points["task"].iloc[0]
        why = f"{task}: no two curves differ in one thing alone, so there is nothing to cross."
        yield nothing_said(NAME, joint, nothing_beside(joint, against) if against else why)
    for a, b in found:
        apart = told_apart(a, b)
        names = (called(a, apart), called(b, apart))
        about = f"{common(joint, a.names, apart)}: {names[0]} and {names[1]}"
        lines = Differences.of(joint, a, b)
        told = told_of_crossing(lines, names) + caveat(joint, a, b)
        yield Answer(
            question=NAME, about=about, sentence=f"{about} {told}", table=lines.table(names)
        )


def told_of_crossing(lines: Differences, names: Names) -> str:
    """Return what is said of two curves."""
    even = lines.even
    if not len(even.shots):
        return "have no shot counts in common at which their prompts differ."
    points = even.points
    signs = sure_signs(points)
    found = crossings(even, signs)
    if found:
        return _crossing_at(found, names)
    for sign, p_values in ((1, points.p_above), (-1, 1 - points.p_above)):
        p_value = float(p_values.max())
        if p_value < ALPHA:
            first, last = shots(even.shots[0]), shots(even.shots[-1])
            how_sure = "" if lines.one_draw else f" ({p_text(p_value)})"
            return (
                f"do not cross from {first} to {last} shots: {_leader(sign, names)} is ahead at "
                f"every shot count{how_sure}."
            )
    return _not_seen(lines, signs, names)


def _crossing_at(found: list[Crossing], names: Names) -> str:
    """Return where curves cross, and who is ahead from there on."""
    places = []
    for one in found:
        range_ = limits(one.low, one.high, shots)
        leader = _leader(1 if one.rises else -1, names)
        places.append(f"at {shots(one.shots)} shots {range_}, from where on {leader} is ahead")
    return f"cross {', and '.join(places)}."


def _not_seen(lines: Differences, signs: Signs, names: Names) -> str:
    """Return what is known where no crossing is sure, nor that there is none."""
    n = len(signs)
    if not signs.any():
        most = max(furthest_beyond(lines.plain.points, sign) for sign in (1, -1))
        return (
            f"cannot be told apart at any of {n} shot counts, so that nothing is known of a "
            f"crossing; they differ by at most {number(most)}."
        )
    sign = int(signs[signs != 0][0])
    leader, other = _leader(sign, names), _leader(-sign, names)
    most = furthest_beyond(lines.plain.points, sign)
    return (
        f"are not seen to cross: {leader} is ahead at {listed(lines.even.shots[signs != 0])}; "
        f"at the others they cannot be told apart, and {other} is nowhere ahead by more than "
        f"{number(most)}."
    )


def _leader(sign: int, names: Names) -> str:
    return names[1] if sign > 0 else names[0]
