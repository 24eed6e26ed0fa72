"""Scorers: functions of (answer, example) that return a `Score`. A new one is one function."""

from icl_harness.tasks.scoring.base import UNPARSED, Score, Scorer, first_line
from icl_harness.tasks.scoring.exact import exact_match, final_match
from icl_harness.tasks.scoring.final_text import final_answer
from icl_harness.tasks.scoring.labels import label_match
from icl_harness.tasks.scoring.latex import latex_match
from icl_harness.tasks.scoring.numbers import number_match, parse_number

__all__ = [
    "UNPARSED",
    "Score",
    "Scorer",
    "exact_match",
    "final_answer",
    "final_match",
    "first_line",
    "label_match",
    "latex_match",
    "number_match",
    "parse_number",
]
