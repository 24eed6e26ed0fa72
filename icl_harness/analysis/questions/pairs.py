"""Which curves are set beside which, and the line of their difference.

In: points of curves on one task. Out: pairs of curves that differ in one thing alone (the model,
the mode, the variant, the format), and their differences at every shot count that either has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from icl_harness.analysis.crossed import Codes, Floats
from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.lines import Line, doublings, in_angles, weights_at
from icl_harness.errors import SpecError, nearest
from icl_harness.prompts.variants import DEFAULT
from icl_harness.tasks.metrics import LESS_IS_BETTER

CURVE = ["model", "mode", "variant", "format", "queries_per_request"]
USUAL: Mapping[str, Any] = {"variant": DEFAULT, "format": "text", "queries_per_request": 1}
SAME = 1e-6  # shots: points of a curve this close hold the same prompts
NEAR = 0.05  # doublings: points of two curves this close are compared once
REFERENCE = "baseline/"  # models that learn exactly the shots of the prompt


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One curve: what it is called, and where its points stand among all, by shots used."""

    names: Mapping[str, Any]  # of `CURVE`
    rows: Codes
    shots: Floats

    @property
    def is_reference(self) -> bool:
        """Return whether it is a baseline's."""
        return str(self.names["model"]).startswith(REFERENCE)

    def label(self, of: Sequence[str]) -> str:
        """Return what is said of it where `of` is what tells curves apart."""
        return " ".join(str(self.names[name]) for name in of)


def curves_in(joint: Joint) -> list[Curve]:
    """Return the curves, in the order of the table. A point whose prompts held no more shots than
    one with fewer does is left out: it is the same prompt.
    """
    table = joint.points.reset_index(drop=True)
    table = table[table["value"].notna()]
    found = []
    for names, part in table.groupby(CURVE, sort=False, dropna=False):
        ordered = part.sort_values(["shots_used", "shots"], kind="stable")
        shots = ordered["shots_used"].to_numpy(dtype=float)
        new = np.diff(shots, prepend=-1.0) > SAME
        rows = ordered.index.to_numpy(dtype=np.intp)[new]
        found.append(Curve(names=dict(zip(CURVE, names, strict=True)), rows=rows, shots=shots[new]))
    return found


def line_of(joint: Joint, curve: Curve, *, even: bool) -> Line:
    """Return the line of a curve; `even`: in angles (lines.py)."""
    return lines_of(joint, [curve], even=even)


def lines_of(joint: Joint, curves: Sequence[Curve], *, even: bool) -> Line:
    """Return the points of curves, one after the other."""
    rows = np.concatenate([curve.rows for curve in curves])
    table = joint.points.iloc[rows]
    points = Line(
        shots=table["shots_used"].to_numpy(dtype=float),
        values=table["value"].to_numpy(dtype=float),
        covariance=joint.covariance[np.ix_(rows, rows)],
        of_draws=joint.of_draws[np.ix_(rows, rows)],
        df=joint.df[rows],
        df_units=joint.df_units[rows],
    )
    n = table["n_queries"].to_numpy(dtype=float)
    return in_angles(points, joint.limits, n) if even else points


def difference(joint: Joint, a: Curve, b: Curve, *, even: bool) -> Line:
    """Return the line of what b is better by than a, at every shot count of either within those of
    both.

    A curve of one point is a level: it holds at all shots. `even`: in angles (lines.py).
    """
    shots = _in_both(a.shots, b.shots)
    points = lines_of(joint, [a, b], even=even)
    weights = np.hstack([-weights_at(a.shots, shots), weights_at(b.shots, shots)])
    return points.weighted(shots, weights * direction(joint))


def direction(joint: Joint) -> float:
    """Return 1 where higher values are better, -1 where lower ones are."""
    return -1.0 if joint.points["metric"].iloc[0] in LESS_IS_BETTER else 1.0


def _in_both(a: Floats, b: Floats) -> Floats:
    """Return the shot counts of two curves that lie within those of both."""
    every = np.union1d(a, b)
    every = every[np.diff(doublings(every), prepend=-1.0) > NEAR]
    for shots in (a, b):
        if len(shots) > 1:
            every = every[(every > shots[0] - SAME) & (every < shots[-1] + SAME)]
    return every


def pairs(curves: Sequence[Curve]) -> Iterator[tuple[Curve, Curve]]:
    """Yield every two curves that differ in one thing alone. Baselines are left out, where there
    are others: they are what models are held against (`beside`).
    """
    asked = [curve for curve in curves if not curve.is_reference] or list(curves)
    for a, b in combinations(asked, 2):
        if len(told_apart(a, b)) == 1:
            yield a, b


def told_apart(a: Curve, b: Curve) -> list[str]:
    """Return the names that differ."""
    return [name for name in CURVE if a.names[name] != b.names[name]]


def beside(curves: Sequence[Curve], against: str | None) -> Iterator[tuple[Curve, Curve]]:
    """Yield curves, each with one that it is held against: a baseline's of the same mode, or one
    that `against` names.

    That is a model, a mode, a variant or a format, where all else is the same; or `MODEL MODE`, a
    curve for all others. So is the one curve of a model where it is like no other in all else.
    """
    if against is None:
        references = [curve for curve in curves if curve.is_reference]
        asked = [curve for curve in curves if not curve.is_reference]
        yield from (pair for pair in product(asked, references) if told_apart(*pair) == ["model"])
        return
    named = [curve for curve in curves if against in names_of(curve)]
    others = [curve for curve in curves if curve not in named]
    found = list(product([one for one in others if not one.is_reference] or others, named))
    alike = [pair for pair in found if len(told_apart(*pair)) == 1]
    is_for_all = len(named) == 1 and (against not in named[0].names.values() or not alike)
    yield from found if is_for_all else alike


def names_of(curve: Curve) -> list[str]:
    """Return what a curve may be called by: one of its names, or its model and its mode."""
    single = [str(curve.names[name]) for name in CURVE[:-1]]
    return [*single, f"{curve.names['model']} {curve.names['mode']}"]


def check_against(joints: Sequence[Joint], against: str | None) -> None:
    """Raise `SpecError` where no curve is called so."""
    if against is None:
        return
    names: dict[str, None] = {}
    for joint in joints:
        for curve in curves_in(joint):
            names.update(dict.fromkeys(names_of(curve)))
    if against not in names:
        shown = [name for name in names if name not in USUAL.values()]
        raise SpecError(
            f"--against {against!r} is no curve's model, mode or variant.{nearest(against, names)} "
            f"There are {', '.join(shown)}."
        )


def nothing_beside(joint: Joint, against: str | None) -> str:
    """Return why no curve is held against another."""
    task = joint.points["task"].iloc[0]
    if against is not None:
        return f"{task}: no curve differs from {against} in that alone."
    return (
        f"{task}: there is no baseline to hold curves against; run one on the same grid (--model "
        "baseline/knn, baseline/logreg), or name a curve with --against."
    )
