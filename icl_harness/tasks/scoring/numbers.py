"""Numbers: do answer and target name the same number?

Numbers are compared as fractions, exactly: 1,234.50 = 1234.5 = 2469/2. Units, currency and percent
signs are left out, as GSM8K's own targets leave them out. Not read: number words, powers of ten
written as 10^3, decimal commas.

The first number of a text is meant, except in an equation: there it is that of the last side which
is not itself a calculation ("48/2 + 24 = 72", "72 = 6 * 12"). But a side that is one quantity with
its unit is only converted by the next: "64 dollars = 6400 cents" says 64. A calculation without a
result ("6 * 12") says no number.
"""

from __future__ import annotations

import re
from fractions import Fraction

from icl_harness.errors import DataError
from icl_harness.examples import Example
from icl_harness.tasks.scoring.base import UNPARSED, Score, final_answer, negated

_SCALE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# thousands: 1,234,567, also the Indian 12,34,567, also with no-break spaces
_GROUP = "[,\u00a0\u202f\u2009]"
# Plain spaces part numbers too: they group only what is whole thousands. The look-behind keeps long
# lists linear.
_SPACED = r"(?<!\d\ )[1-9]\d{0,2}(?:\ \d{3})+(?!\ ?\d|\s?/)"
_NUMBER = re.compile(
    rf"""(?<![\w.,/:])                                      # not the tail of a word or number
    (?P<sign>[-+]?\s?)  [$€£¥]?\s?  (?P<inner>-?)
    (?P<whole>{_SPACED}|\d{{1,3}}(?:{_GROUP}\d{{2,3}})*{_GROUP}\d{{3}}(?!\d)|\d+)?
    (?P<decimals>\.\d+)?  (?(whole)|(?(decimals)|(?!)))     # at least one of the two
    (?P<exponent>[eE][-+]?\d{{1,2}}(?![\d.]))?
    (?:(?P<mixed>\s\d+)?\s?/\s?(?P<below>\d+))?
    (?![,.:/]?\d)                                           # 3,5 and 5:30 and 1.2.3 are not numbers
    (?:\s(?P<scale>thousand|million|billion|trillion)s?\b)?""",
    re.VERBOSE,
)
MOST_DIGITS = 1000  # of a number, its marks included; Python converts no more than 4,300
_UNIT = re.compile(
    r"\s*(?:%|[{(]?[^\W\d_]{2,}[)}]?)\.?\s*"
)  # one word; two letters, or 3x = 15 would be a conversion
_OPERATOR = re.compile(r"\s*(?:[+*×·÷^x]|\s[-–]\s)\s*[-$€£¥(]*\s?\d")
_LATEX_FRACTION = re.compile(r"(\d?)\s*\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")


def number_match(answer: str, example: Example) -> Score:
    """Compare the answer's final number with the target's.

    The final number stands after the last "final answer is" (or "answer:", "####", in \\boxed{});
    an answer without such a mark counts where it is nothing but a number, else it is not parsed:
    the last number of an unfinished solution is no answer.
    """
    gold = parse_number(example.target)
    if gold is None:
        raise DataError(f"example {example.id}: the target {example.target[:40]!r} is no number.")
    found = _final_number(answer)
    return UNPARSED if found is None else Score(shown(found), float(found == gold))


def _final_number(answer: str) -> Fraction | None:
    marked = final_answer(answer)
    if marked is None:
        return only_number(answer)
    return None if _denied(marked) else parse_number(marked)


def parse_number(text: str) -> Fraction | None:
    """Return the number that `text` says (see above); None where it says none."""
    match = _NUMBER.search(_side(text))
    return _value(match) if match else None


def lone_number(text: str) -> Fraction | None:
    """The same, but None where there are several: the first number of a sentence need not be its
    result.
    """
    found = list(_NUMBER.finditer(_side(text)))
    return _value(found[0]) if len(found) == 1 else None


def only_number(text: str) -> Fraction | None:
    """Return the number of a text that holds no other letters or digits."""
    text = text.strip().rstrip(".").strip("*` ").replace("\u2212", "-")
    match = _NUMBER.fullmatch(text.rstrip("%").rstrip())
    return _value(match) if match else None


def shown(number: Fraction) -> str:
    """Return the form in which a number is recorded: 1234.5, or 1/3 where no decimal is exact."""
    if number.denominator == 1:
        return str(number.numerator)
    rest, places = number.denominator, 0
    for factor in (10, 5, 2):
        while rest % factor == 0:
            rest //= factor
            places += 1
    if rest != 1:
        return f"{number.numerator}/{number.denominator}"
    digits = str(abs(number.numerator) * 10**places // number.denominator).rjust(places + 1, "0")
    return f"{'-' * (number < 0)}{digits[:-places]}.{digits[-places:]}".rstrip("0")


def _side(text: str) -> str:
    """The side of an equation that says its number; all of a text that is none; "" of a calculation
    alone.
    """
    text = re.sub(r"\s{2,}", " ", text)  # long runs of spaces would take quadratic time below
    text = _LATEX_FRACTION.sub(
        r"\1 \2/\3", text.replace("\u2212", "-").replace("\\$", "$").replace("{,}", ",")
    )
    text = re.sub(r"\\times\b|\\cdot\b", "*", text)
    sides = re.sub(r"\*\*|`|\\[()\[\]!,;]|\\text\b", " ", text).split("=")
    while sides and _is_calculation(sides[-1]):
        sides.pop()
    while len(sides) > 1 and _is_quantity(sides[-2]):
        sides.pop()
    return sides[-1] if sides else ""


def _is_calculation(side: str) -> bool:
    number = _NUMBER.match(side := side.strip())
    return number is not None and _OPERATOR.match(side, number.end()) is not None


def _is_quantity(side: str) -> bool:
    number = _NUMBER.match(side := side.strip())
    if number is None:
        return False
    unit = side[number.end() :]
    return _UNIT.fullmatch(unit) is not None or (
        not unit and re.search("[$€£¥]", number[0]) is not None
    )


def _denied(marked: str) -> bool:
    """Is the number after the mark one that the answer is not? "The final answer is not 72"."""
    return negated(re.split(r"\d", marked, maxsplit=1)[0])


def _value(match: re.Match[str]) -> Fraction | None:
    if match.end() - match.start() > MOST_DIGITS:
        return None
    whole = re.sub(r"\D", "", match["whole"] or "0")
    try:
        value = Fraction(f"{whole}{match['decimals'] or ''}{match['exponent'] or ''}")
        if match["below"]:
            below = int(match["below"])
            value = (
                value + Fraction(int(match["mixed"]), below) if match["mixed"] else value / below
            )
    except ZeroDivisionError:  # a fraction over 0
        return None
    value *= _SCALE.get(match["scale"] or "", 1)
    return -value if "-" in (match["sign"] + match["inner"]) else value
