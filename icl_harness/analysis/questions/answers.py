"""An answer to a question about curves: a sentence, and the table behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl_harness.analysis.joint import Joint

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is answered to `question` (as `--about` names it) `about` a curve or a pair."""

    question: str
    about: str
    sentence: str
    table: pd.DataFrame


def nothing_said(question: str, joint: Joint, why: str) -> Answer:
    """Return the answer that there is none, and why."""
    import pandas as pd

    task = str(joint.points["task"].iloc[0])
    return Answer(question=question, about=task, sentence=why, table=pd.DataFrame())
