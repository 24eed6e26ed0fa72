"""One value of a foreign table: a whole number, a name, a score, or that there is none.

In: what stands in a cell of the table, with its place. Out: the value, or a `DataError` that names
the row, the column and the rule.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

from icl_harness.errors import DataError
from icl_harness.prompts.modes import MODES
from icl_harness.tasks.rows import is_missing

NO_VALUE = {"", "nan", "na", "n/a", "none", "null", "<na>", "nat"}  # as tables write it
TRUTH = {"true": 1.0, "false": 0.0}
MOST = 2**53  # whole numbers up to it are exact as a float


def is_none(value: Any) -> bool:
    """Return whether a table says that there is no value."""
    if isinstance(value, str):
        return value.strip().casefold() in NO_VALUE
    return is_missing(value)


def whole(value: Any, where: str) -> int:
    """Return a whole number of 0 or more, which may be written as 4.0."""
    is_truth = isinstance(value, bool) or str(value).strip().casefold() in TRUTH
    number = None if is_truth else _number(value)
    if number is None or not 0 <= number < MOST or not number.is_integer():
        _refuse(value, where, "a whole number of 0 or more")
    return int(number)


def name(value: Any, where: str) -> str:
    """Return a text that is not empty and can be printed; 903.0 is 903."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else str(value).strip()
    if is_missing(value) or not text or not text.isprintable():
        _refuse(value, where, "a name: a text without line breaks that is not empty")
    return text


def mode(value: Any, where: str) -> str:
    """Return a prompting mode."""
    text = name(value, where)
    if text not in MODES:
        _refuse(value, where, f"{', '.join(MODES)}; name other columns with variant=COLUMN")
    return text


def text_or_none(value: Any) -> str | None:
    """Return a text as it is; None where there is none."""
    if is_missing(value) or (isinstance(value, str) and not value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def score(value: Any, where: str, limits: tuple[float, float], metric: str) -> float | None:
    """Return a score within `limits`, None where there is none."""
    if is_none(value):
        return None
    number = _number(value)
    if number is None or not math.isfinite(number):
        _refuse(value, where, "a number, or empty where there is none")
    low, high = limits
    if not low <= number <= high:
        percent = ""
        if metric == "accuracy" and 1 < number <= 100:
            percent = " If the scores are percentages, add --percent."
        raise DataError(
            f"{where} is {number:g}; {metric} lies between {low:g} and {high:g}. Correct it, or "
            f"name the metric and its limits, as in --metric chrf --range 0,100.{percent}"
        )
    return number


def _number(value: Any) -> float | None:
    """Return the number that a value is or that its text says; None where it is none."""
    if isinstance(value, str):
        text = value.strip()
        if text.casefold() in TRUTH:
            return TRUTH[text.casefold()]
        if "_" in text:  # Python reads 1_0 as 10
            return None
        value = text
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number


def _refuse(value: Any, where: str, rule: str) -> NoReturn:
    shown = "empty" if is_none(value) else repr(value)
    raise DataError(f"{where} is {shown}; it must be {rule}.")
