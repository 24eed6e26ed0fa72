"""Equations: which side says the number?

In: a text in plain digits. Out: the side of its equation that names its result.
"""

from __future__ import annotations

import re

from icl_harness.tasks.scoring.number_forms import NUMBER

# One word; two letters, or 3x = 15 would be a conversion.
_UNIT = re.compile(r"\s*(?:%|[{(]?[^\W\d_]{2,}[)}]?)\.?\s*")
_OPERATOR = re.compile(r"\s*(?:[+*×·÷^x]|\s[-–]\s)\s*[-$€£¥(]*\s?\d")
_EQUALS = re.compile(r"(?<![<>])=|(?<=\d)\s?≈")


def result_side(plain: str) -> str:
    """The side of an equation that says its number; all of a text that is none; "" of a calculation
    alone.
    """
    sides = _EQUALS.split(plain)
    while sides and _is_calculation(sides[-1]):
        sides.pop()
    while len(sides) > 1 and _is_quantity(sides[-2]):
        sides.pop()
    return sides[-1] if sides else ""


def _is_calculation(side: str) -> bool:
    number = NUMBER.match(side := side.strip(" *$("))
    return number is not None and _OPERATOR.match(side, number.end()) is not None


def _is_quantity(side: str) -> bool:
    number = NUMBER.match(side := side.strip(" *"))
    if number is None:
        return False
    unit = side[number.end() :]
    is_money = not unit and re.search("[$€£¥]", number[0]) is not None
    return _UNIT.fullmatch(unit) is not None or is_money
