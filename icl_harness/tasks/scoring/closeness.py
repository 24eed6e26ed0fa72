"""Numbers that may be off: how near is the answer's number to the target's?

In: an answer, whose number is read as `number_match` reads it. Out: 1 less the error relative to
the target, at least 0. For reading: a cell's value is RMSE or R² (metrics.py).
"""

from __future__ import annotations

from fractions import Fraction

from icl_harness.examples import Example
from icl_harness.tasks.scoring.base import UNPARSED, Score
from icl_harness.tasks.scoring.numbers import number_match, parse_number

LARGEST = 10**100  # beyond, a square is no number of the machine's


def number_close(answer: str, example: Example) -> Score:
    """Return 1 less the relative error of the answer's number; 0 for one that is off by its
    target's size or more.
    """
    parsed = number_match(answer, example).parsed
    said = None if parsed is None else number_of(parsed)
    gold = parse_number(example.target)
    if said is None or gold is None or abs(said) > LARGEST:
        return UNPARSED
    if said == gold:
        return Score(parsed, 1.0)
    error = abs(said - gold) / abs(gold) if gold else 1
    return Score(parsed, max(0.0, 1 - float(error)))


def number_of(text: str) -> Fraction | None:
    """Return the number of a parsed answer or a target."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return parse_number(text)
