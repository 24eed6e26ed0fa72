"""The forms of one number, and its value as a fraction, exactly: 1,234.50 = 1234.5 = 2469/2.

In: a text in plain digits (number_text.py). Out: its numbers, each with its place and value. Units,
currency and percent signs are left out, as GSM8K's own targets leave them out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

MOST_DIGITS = 1000  # of a number, its marks included; Python converts no more than 4,300
_SCALE = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "lakh": 10**5, "crore": 10**7, "k": 10**3, "M": 10**6, "mn": 10**6, "B": 10**9, "bn": 10**9,
}  # fmt: skip
# Plain spaces part numbers too: they group only what is whole thousands. The look-behind keeps long
# lists linear.
_SPACED = r"(?<!\d\ )[1-9]\d{0,2}(?:\ \d{3})+(?!\ ?\d|\s?/)"
NUMBER = re.compile(
    rf"""(?<![\w.,/:^∞])(?<!\w-)                            # not the tail of a word or number
    (?P<sign>[-+]?\s?)  [$€£¥₹₩¢]?\s?  (?P<inner>-?)
    # thousands: 1,234,567, also the Indian 12,34,567
    (?P<whole>{_SPACED}|\d{{1,3}}(?:,\d{{2,3}})*,\d{{3}}(?!\d)|\d+)?
    (?P<decimals>\.\d+)?  (?(whole)|(?(decimals)|(?!)))     # at least one of the two
    (?P<exponent>[eE][-+]?\d{{1,2}}(?!\d|\.\d))?
    (?:\^(?P<power>-?\d{{1,3}})(?!\d))?
    (?:\s?[x×*·]\s?10\^(?P<ten>-?\d{{1,3}})(?!\d))?         # 3 * 10^4
    (?:(?P<mixed>\s\d+)?\s?/\s?(?P<below>\d+))?
    (?![,.:/]?\d)(?!\^|∞|\s∞|[yznijqruvw](?!\w)|x(?!\w|\s?[\d(]))
    # 3,5 and 5:30 and 1.2.3 and 2y are none
    (?:\s?(?P<scale>thousand|million|billion|trillion|hundred|lakh|crore)s?\b
      |\s?(?P<short>[kKMB]|bn|mn)(?![\w]))?
    (?P<ordinal>(?:st|nd|rd|th)\b)?""",
    re.VERBOSE,
)
_O_CLOCK = re.compile(r"\b(\d{1,2}):00(?=\s?[ap]\.?m\b)", re.IGNORECASE)
_CENTS = re.compile(
    r"(?<![\d.,])(\d[\d,]*)\s?(?:dollars?|bucks|euros?|pounds?)?,?\s(?:and\s)?(\d{1,2})"
    r"\s?(?:cents?\b|pence\b|p\b|¢)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Number:
    start: int
    end: int
    value: Fraction
    is_ordinal: bool  # "72nd"


def numbers_in(text: str) -> Iterator[Number]:
    """Yield the numbers of a text in plain digits; one that has no value (3/0) is left out."""
    for match in NUMBER.finditer(text):
        number = as_number(match)
        if number is not None:
            yield number


def as_number(match: re.Match[str]) -> Number | None:
    """Return the number that a match of NUMBER is; None where it has no value."""
    value = _value(match)
    if value is None:
        return None
    lead = len(match[0]) - len(match[0].lstrip())
    return Number(match.start() + lead, match.end(), value, match["ordinal"] is not None)


def join_parts(text: str) -> str:
    """Return the text with "72 dollars and 50 cents" as 72.50 and "3:00 PM" as "3 PM"."""
    text = _O_CLOCK.sub(r"\1", text)
    return _CENTS.sub(lambda m: f"{m[1]}.{m[2]:0>2}", text)


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


def _value(match: re.Match[str]) -> Fraction | None:
    if match.end() - match.start() > MOST_DIGITS:
        return None
    power = int(match["power"] or 1)
    if abs(power) * len(match[0]) > MOST_DIGITS:
        return None
    whole = re.sub(r"\D", "", match["whole"] or "0")
    try:
        value = Fraction(f"{whole}{match['decimals'] or ''}{match['exponent'] or ''}")
        value **= power
        if match["ten"]:
            value *= Fraction(10) ** int(match["ten"])
        if match["below"]:
            below = int(match["below"])
            mixed = match["mixed"]
            value = value + Fraction(int(mixed), below) if mixed else value / below
    except ZeroDivisionError:  # a fraction over 0
        return None
    short = match["short"] or ""
    value *= _SCALE.get(match["scale"] or short.replace("K", "k"), 1)
    return -value if "-" in (match["sign"] + match["inner"]) else value
