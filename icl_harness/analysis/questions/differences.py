"""How far one curve is ahead of another, point by point.

In: points of two curves. Out: the line of their differences, in angles for tests and places, as it
is for tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from icl_harness.analysis.joint import Joint
from icl_harness.analysis.questions.lines import Line
from icl_harness.analysis.questions.pairs import Curve, difference
from icl_harness.analysis.questions.signs import sure_signs
from icl_harness.analysis.questions.words import is_one_draw

if TYPE_CHECKING:
    import pandas as pd

Names = tuple[str, str]
LEAST_SE = 1e-6  # with less, both curves hold the same prompts there, and the same answers


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What the second curve is ahead by, at shot counts where their prompts differ."""

    even: Line
    plain: Line
    one_draw: bool = False

    @classmethod
    def of(cls, joint: Joint, a: Curve, b: Curve) -> Differences:
        """Return those of two curves; of no points where they have no shot counts in common."""
        even, plain = (difference(joint, a, b, even=is_even) for is_even in (True, False))
        differ = np.flatnonzero(plain.points.se > LEAST_SE)
        return cls(
            even=even.only(differ),
            plain=plain.only(differ),
            one_draw=is_one_draw(joint, a, b),
        )

    def table(self, names: Names) -> pd.DataFrame:
        """Return a row a shot count: how far the second is ahead, with limits (each for itself),
        and which is ahead for sure, all shot counts together. One draw gives no p-value.
        """
        import pandas as pd

        low, high = self.plain.points.limits()
        p_values = self.even.points.p_values
        ahead = {1: names[1], -1: names[0], 0: ""}
        return pd.DataFrame(
            {
                "shots": self.plain.shots,
                "a": names[0],
                "b": names[1],
                "b_ahead_by": self.plain.values,
                "ci_low": low,
                "ci_high": high,
                "p_value": np.nan if self.one_draw else p_values,
                "surely_ahead": [ahead[int(sign)] for sign in sure_signs(self.even.points)],
            }
        )
