"""The curves of a task one at a time, for questions about a curve by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl_harness.analysis.crossed import Floats
from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.answers import Answer
from icl_harness.analysis.questions.pairs import curves_in
from icl_harness.analysis.questions.words import OVER_QUERIES, common

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class OneCurve:
    """The points of a curve, by shots used; `about` is what sentences call it."""

    joint: Joint
    shots: Floats
    about: str

    def answer(self, question: str, told: str, table: pd.DataFrame | None = None) -> Answer:
        """Return what is told of the curve as an answer, with which chance it leaves out."""
        import pandas as pd

        left_out = OVER_QUERIES if self.joint.one_draw and table is not None else ""
        return Answer(
            question=question,
            about=self.about,
            sentence=f"{self.about} {told}{left_out}",
            table=pd.DataFrame() if table is None else table,
        )


def single_curves(joint: Joint) -> Iterator[OneCurve]:
    """Yield each curve. Baselines are left out where there are others."""
    curves = curves_in(joint)
    for curve in [one for one in curves if not one.is_reference] or curves:
        about = common(joint, curve.names)
        yield OneCurve(joint=joint.at(curve.rows), shots=curve.shots, about=about)
