"""How sentences of answers say numbers, shot counts and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.pairs import CURVE, USUAL, Curve

OVER_QUERIES = " One draw was made: this is over queries alone, and other shots may tell otherwise."


def number(value: float) -> str:
    """Return `.713`, as tables have it."""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def signed(value: float) -> str:
    """Return `+.713`; what rounds to 0 is `+.000`."""
    size = number(abs(value))
    return f"-{size}" if value < 0 and float(size) else f"+{size}"


def shots(count: float) -> str:
    """Return a shot count, as exact as it may be known: `5.3`, `64`."""
    if count >= 10 or count == round(count):
        return f"{count:,.0f}"
    return f"{count:.1f}" if count >= 1 else number(round(count, 2))


def times(ratio: float) -> str:
    """Return how many times as many: `1.07`, `.98`, `24`."""
    text = f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"
    return text.replace("0.", ".", 1) if ratio < 1 else text


def p_text(p: float) -> str:
    """Return `p = .012`."""
    if p > 0.999:
        return "p > .999"
    return "p < .001" if p < 0.001 else f"p = {number(p)}"


def listed(counts: Sequence[float]) -> str:
    """Return shot counts as a sentence has them: `1, 2 and 4 shots`."""
    texts = [shots(count) for count in counts]
    every = joined_names(texts)
    return f"{every} shot{'' if texts == ['1'] else 's'}"


def joined_names(names: Sequence[str]) -> str:
    """Return `a, b and c`."""
    start = ", ".join(names[:-1])
    return f"{start} and {names[-1]}" if start else names[-1]


def called(curve: Curve, of: Sequence[str]) -> str:
    """Return what a sentence calls a curve where names other than `of` are clear."""
    return " ".join(_worded(name, curve.names[name]) for name in of)


def common(joint: Joint, names: Mapping[str, Any], apart: Sequence[str] = ()) -> str:
    """Return what a sentence begins with: the task, and what curves have in common."""
    shown = [name for name in CURVE if name not in apart and names[name] != USUAL.get(name)]
    parts = [_worded(name, names[name]) for name in shown]
    return " · ".join([str(joint.points["task"].iloc[0]), *parts])


def metric_of(joint: Joint) -> str:
    """Return the metric's name."""
    return str(joint.points["metric"].iloc[0])


def caveat(joint: Joint, *curves: Curve) -> str:
    """Return what a sentence must add where one draw was made of shots."""
    return OVER_QUERIES if is_one_draw(joint, *curves) else ""


def is_one_draw(joint: Joint, *curves: Curve) -> bool:
    """Return whether one draw was made of shots: what others would give is left out."""
    return joint.at(np.concatenate([curve.rows for curve in curves])).one_draw


def limits(low: float, high: float, say: Any = number) -> str:
    """Return `[.680, .745]`; an end that is not known is said in words."""
    if not math.isfinite(high):
        return f"[at least {say(low)}]" if low > 0 else "[not known]"
    return f"[{say(low)}, {say(high)}]" if low > 0 else f"[at most {say(high)}]"


def _worded(name: str, value: Any) -> str:
    if name == "queries_per_request":
        return f"{value} queries a request"
    return str(value)
