"""Which law does a curve follow: log-linear, power, or the Bayesian one?

In: points of curves. Out: an answer for each curve: laws fitted to all shot counts but the largest,
and what they foretell there beside what was measured. A law is refused where points lie further
from it than chance puts them, or where it foretells the largest wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.answers import Answer
from icl_harness.analysis.questions.law_fits import Fit, Forecast, Scale, fit_law, foretold
from icl_harness.analysis.questions.lines import LEVEL, Line, from_angles
from icl_harness.analysis.questions.pairs import curves_in, line_of
from icl_harness.analysis.questions.scaling_laws import CONSTANT, LAWS, parameters_of
from icl_harness.analysis.questions.words import (
    common,
    is_one_draw,
    joined_names,
    metric_of,
    number,
    p_text,
    shots,
)
from icl_harness.tasks.metrics import gold_nll, nll_per_token

if TYPE_CHECKING:
    import pandas as pd

NLLS = {gold_nll.name, nll_per_token.name}
NAME = "laws"
ALPHA = 1 - LEVEL
ONE_DRAW = (
    " was measured in one draw, which does not tell how far from a law chance may put its points: "
    "--draws 3 does."
)
FEWEST = 4  # points: two parameters, one to spare, one to be judged at
FIRST = 1 - 1e-9  # shots: a prompt without any is of another kind


def laws(joint: Joint) -> Iterator[Answer]:
    """Yield which laws each curve follows. Baselines are left out where there are others."""
    curves = curves_in(joint)
    scale = Scale(limits=joint.limits, is_nll=metric_of(joint) in NLLS)
    for curve in [one for one in curves if not one.is_reference] or curves:
        about = common(joint, curve.names)
        every = line_of(joint, curve, even=True)
        line = every.only(np.flatnonzero(every.shots >= FIRST))
        last = joint.points.iloc[curve.rows[-1]]
        measured = Measured(*(float(last[name]) for name in Measured._fields))
        told = ONE_DRAW if is_one_draw(joint, curve) else _nothing_to_say(line, scale)
        judged = [] if told else list(_judged(line, scale))
        told = told or _told(judged, line, scale, measured)
        yield Answer(
            question=NAME,
            about=about,
            sentence=f"{about}{told}",
            table=_table(judged, line, scale, measured),
        )


class Measured(NamedTuple):
    """A point as the table of curves has it."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A law fitted to all points but the last, and what became of it there."""

    fit: Fit
    p_fit: float
    forecast: Forecast

    @property
    def holds(self) -> bool:
        return self.p_fit >= ALPHA and self.forecast.p_value >= ALPHA

    def foretells(self, scale: Scale) -> str:
        """Return what it says of the last point."""
        value, low, high = self.values(scale)
        return f"{number(value)} [{number(low)}, {number(high)}]"

    def values(self, scale: Scale) -> tuple[float, float, float]:
        """Return what it says of the last point, with limits."""
        one = self.forecast
        ends = np.clip(
            from_angles(np.array([one.value, one.low, one.high]), scale.limits), *scale.limits
        )
        value, low, high = ends.tolist()
        return value, low, high


def _judged(line: Line, scale: Scale) -> Iterator[_Judged]:
    """Yield laws that have fewer parameters than points to be fitted to."""
    last = len(line.shots) - 1
    for law in LAWS.values():
        is_meant = not law.is_probability or scale.is_nll or scale.limits == (0.0, 1.0)
        if last > law.n_parameters and is_meant:
            fit = fit_law(law, line.only(np.arange(last)), scale)
            yield _Judged(fit=fit, p_fit=fit.p_value(), forecast=foretold(fit, line, last))


def _nothing_to_say(line: Line, scale: Scale) -> str:
    """Return why there is nothing for a law to say of a curve, if there is not."""
    if len(line.shots) < FEWEST:
        counted = f"{len(line.shots)} shot counts from 1 on"
        return f" has {counted}; a law needs {FEWEST}, of which one is kept to judge it at."
    p_level = fit_law(CONSTANT, line, scale).p_value()
    if p_level < ALPHA:
        return ""
    return f" shows no sure change with shots ({p_text(p_level)}): a law has nothing to say of it."


def _told(judged: Sequence[_Judged], line: Line, scale: Scale, last_point: Measured) -> str:
    """Return which laws hold and what they foretold, and why others are refused."""
    first, last, new = (shots(line.shots[i]) for i in (0, -2, -1))
    value, low, high = last_point
    measured = f"{number(value)} [{number(low)}, {number(high)}] was measured"
    good = [one for one in judged if one.holds]
    refused = _refused(judged, scale)
    if not good:
        return f" follows no law from {first} to {new} shots: {refused}; at {new} {measured}."
    said = ", ".join(f"the {one.fit.law.name} law foretells {one.foretells(scale)}" for one in good)
    told = f": fitted to {first} to {last} shots, {said} at {new}; there {measured}."
    return f"{told} Refused: {refused}." if refused else told


def _refused(judged: Sequence[_Judged], scale: Scale) -> str:
    """Return why laws do not hold; nothing where all do."""
    off = [one for one in judged if one.p_fit < ALPHA]
    parts = []
    if off:
        names = joined_names([one.fit.law.name for one in off])
        p_value = max(one.p_fit for one in off)
        parts.append(f"{names}, as points lie too far off ({p_text(p_value)})")
    for one in judged:
        if one.p_fit >= ALPHA and not one.holds:
            parts.append(f"{one.fit.law.name}, which foretells {one.foretells(scale)}")
    return "; ".join(parts)


def _table(judged: Sequence[_Judged], line: Line, scale: Scale, measured: Measured) -> pd.DataFrame:
    """Return a row a law."""
    import pandas as pd

    columns = ["law", "formula", "parameters", "fitted_to", "p_fit", "shots", "foretold",
               "foretold_low", "foretold_high", "measured", "ci_low", "ci_high", "p_foretold",
               "holds"]  # fmt: skip
    rows = []
    for one in judged:
        law = one.fit.law
        texts = parameters_of(law, one.fit.parameters).items()
        parameters = ", ".join(f"{name} = {value:.4g}" for name, value in texts)
        counts = len(line.shots) - 1, one.p_fit, line.shots[-1]
        foretold_ = (*one.values(scale), *measured, one.forecast.p_value)
        rows.append((law.name, law.formula, parameters, *counts, *foretold_, one.holds))
    return pd.DataFrame(rows, columns=columns)
