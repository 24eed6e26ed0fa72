"""Which of the numbers of a sentence does it say?

In: a sentence in plain digits. Out: the result of its equation, the number in bold, the one that
the sentence begins with, or the one that it calls the total; None where two candidates are listed
("72 or 73", "70 to 80") or nothing tells which of several numbers is meant.
"""

from __future__ import annotations

import re
from fractions import Fraction

from icl_harness.tasks.scoring.equations import result_side
from icl_harness.tasks.scoring.number_forms import Number, numbers_in
from icl_harness.tasks.scoring.number_text import NOT_RATIONAL

# Of a side whose numbers are all written as 0: "0 clips + 0 clips", "0y + 0".
_CALCULATED = re.compile(
    r"0[^()0]{0,30}?(?:[+*×·÷]|\s-\s|\bx\b|\b(?:plus|minus|times|divided by)\b)[\s($€£-]*0"
)
_ALGEBRA = re.compile(r"\b\d*[A-Za-z]\s?[+*]\s?0|\d[a-z]\s-\s0|0\s?[+*]\s?\d*[A-Za-z]\b(?!\s*=)")
_ASSIGNED_TWICE = re.compile(
    r"\b[A-Za-z]\s*=[^=\n]{1,60}?(?:[,;]|\bor\b|\band\b)\s*(?:\w+\s)?[A-Za-z]\s*="
)
_ALTERNATIVE = re.compile(r"\b(?:or|to|between)\b|\d\s?[-–/]\s?\d", re.IGNORECASE)
_ANOTHER = re.compile(
    r"(?:\bor|\band|\botherwise|\belse)\s(?:then\s|maybe\s)?[$€£]?0"
    r"|[,;]\s\w+:\s?[$€£]?0|,\s0\s(?:if|for)\b"
)
_REASON = re.compile(r"(?<=\w),?\s(?:because|since|as|i\.e\.)\s")
_INEQUALITY = re.compile(r"[\w)]\s*[<>≥≤]=?\s?[-$]?\w|≠")
_BOUND = re.compile(r"\s*[<>≥≤]=?\s?[-$€£]?\d[\d.,]*(?!\S*\s?>)")  # ">72", while <72> is 72
DENIAL = re.compile(
    r"\b(?:not|cannot|never|neither|unknown|undefined|undetermined|impossible|unclear|infinit\w+)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
_DENIED_NUMBER = re.compile(
    r"[,(]?\s*\b(?:(?:and|but)\s+)?(?:not|rather than|instead of|never)\s+(?:just\s+|only\s+)?"
    r"[-$€£]*\d[\d,.]*(?:\s\w+)?(?=\s*(?:[,.;)]|but\b|$))|\binstead of\s[-$€£]*\d[\d,.]*",
    re.IGNORECASE,
)
# Words that may stand before the number that a sentence begins with.
_FILLER = re.compile(
    r"(?:[\s$*_\"'“”(\[<~≈=:>#,-]|\b(?:about|approximately|approx\.?|around|roughly|exactly|nearly"
    r"|almost|just|only|simply|therefore|thus|now|also|so|equal to|be|still|precisely|an?|total|of"
    r"|is|it|its|it's|that|which|she|he|they|there|are|will|would|[a-z]|the|amount|number|result"
    r"|value|grand|indeed|clearly|at least|at most|up to|actually)\b)*",
    re.IGNORECASE,
)
_INEXACT = re.compile(
    r"\b(?:(?:more|less|fewer|greater|higher|lower|larger|smaller) than|over|under|above|below"
    r"|between|from|either)\s*[$€£]?$",
    re.IGNORECASE,
)
# What stands between a number and another that is offered beside it: " clips or maybe ".
_UNIT_WORD = (
    r"(?!(?:or|and|to|for|in|on|at|per|of|by|after|from|with|over|than|plus|minus)\b)[^\W\d_]+\.?"
)
_LINK = r"(?:[,;/&|–±-]|\bor\b|\band\b|\bto\b|\bvs\b\.?|\bversus\b|\bthrough\b|\bremainder\b|\bR\b)"
_HEDGE = re.compile(
    rf"(?:\s?(?:%|°|{_UNIT_WORD})(?:\s{_UNIT_WORD})?)?(?:\s?\(?{_LINK}|\s(?=\d))+"
    r"\s?(?:(?:maybe|possibly|perhaps|even|about|another|or|alternatively|and|as much as)\b,?\s?)*"
    r"\(?\s?(?=[-+$€£.]{0,3}\d)",
    re.IGNORECASE,
)
_RELATIVE = re.compile(
    r"\s?(?:%|percent|\w+)?\s?(?:more|less|fewer|times|higher|lower|of|each|per)\b", re.IGNORECASE
)
_RESULT_BEFORE = re.compile(
    r"(?<!over )(?<!in )(?<!after )(?<!during )(?<!within )(?<!across )(?:\ba\s)?"
    r"\b(?:total(?:s|ling|ing|led|ed)?(?:\s(?:of|is|to|to be|comes to))?|sums?\s(?:of|to|is)"
    r"|makes?|making|gives?|giving|equals?|com(?:es|ing) (?:out )?to|amounts? to|adds? up to"
    r"|results? (?:in|is)|resulting in|leav(?:es|ing)(?: \w+ with)?|left with|yields?|in total,?"
    r"|altogether,?|in all,?|overall,?)[\s:]*(?:(?:about|exactly|approximately)\s)?[$€£]?$"
    r"|:\s?[$€£]?$",
    re.IGNORECASE,
)
_RESULT_AFTER = re.compile(
    r"(?:\s?%)?(?:\s(?!and\b|or\b)[^\W\d]+){0,2}?"
    r"\s(?:in total|total|altogether|in all|overall|combined|left)\b",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")


def said_number(plain: str, may_lead: bool = True) -> Fraction | None:
    """Return the number that a sentence says; with `may_lead` the one that it begins with may be
    the first of several.
    """
    if _ASSIGNED_TWICE.search(plain):
        return None
    side = result_side(plain)
    bold = _bold(plain)
    if bold is not None and bold != side:
        side = bold
    side = re.sub(r"\s+", " ", _DENIED_NUMBER.sub(" ", side).replace("**", " "))
    claimed = _REASON.split(side)[0]
    side = claimed if re.search(r"\d", claimed) else side
    numbers = list(numbers_in(side))
    if not numbers or NOT_RATIONAL in side:
        return None
    if _INEQUALITY.search(side) or _BOUND.match(side) or _ALGEBRA.search(_masked(side, numbers)):
        return None
    if DENIAL.search(side[: numbers[0].start]):
        return None
    return _chosen(side, numbers, may_lead)


def _chosen(side: str, numbers: list[Number], may_lead: bool) -> Fraction | None:
    """Return the number that one side of an equation says, of all that it holds."""
    first = numbers[0]
    before = side[: first.start]
    if _INEXACT.search(before.rstrip()):
        return None
    if _is_hedged(side, numbers):
        return _marked_result(side, numbers[2:], first.start)
    is_calculated = _CALCULATED.search(_masked(side, numbers)) is not None
    if len({number.value for number in numbers}) == 1:
        is_dozens = re.match(r"\s(?:dozen|score)\b", side[first.end :])
        return None if is_calculated or is_dozens else first.value
    is_open = is_calculated or _ANOTHER.search(_masked(side, numbers)) is not None
    compares = re.match(r"\s(?:more|less|fewer) than\b|\s(?:dozen|score)\b", side[first.end :])
    if may_lead and _FILLER.fullmatch(before) and not (first.is_ordinal or is_open or compares):
        return first.value
    marked = _marked_result(side, numbers, first.start)
    if marked is not None or is_calculated:
        return marked
    cardinal = {number.value for number in numbers if not number.is_ordinal}
    return cardinal.pop() if len(cardinal) == 1 else None


def _masked(side: str, numbers: list[Number]) -> str:
    """The side without what stands in parentheses, its numbers as 0."""
    for number in reversed(numbers):
        digits = re.search(r"[\d.]", side[number.start :])
        start = number.start + digits.start() if digits else number.start
        side = f"{side[:start]}0{side[number.end :]}"
    return re.sub(r"(?<=[\w%])\s?\([^()]*\)", " ", side)


def _marked_result(side: str, numbers: list[Number], start: int) -> Fraction | None:
    """Return the one number that the words around it call the result: "72 in total"."""
    marked = [number for number in numbers if _is_marked(side, number)]
    values = {number.value for number in marked}
    if len(values) != 1 or _ALTERNATIVE.search(side, start, marked[0].start):
        return None
    return values.pop()


def _is_hedged(side: str, numbers: list[Number]) -> bool:
    """Is the first number one of several that are listed: "72 or 73", "70-80", "72, 73"?"""
    first = numbers[0]
    hedge = _HEDGE.match(side, first.end)
    if hedge is None or len(numbers) == 1:
        # a dash between digits makes the second part of no number: "5-6"
        return bool(re.match(r"\s?[-–]\s?[$€£]?\d", side[first.end :]))
    second = numbers[1]
    if second.value == first.value:
        return False
    return not _RELATIVE.match(side, second.end)


def _is_marked(side: str, number: Number) -> bool:
    before, after = side[: number.start], side[number.end :]
    return bool(_RESULT_BEFORE.search(before[-60:]) or _RESULT_AFTER.match(after[:60]))


def _bold(plain: str) -> str | None:
    """Return what stands in bold, where it holds the same number throughout and others do not."""
    spans = [result_side(span) for span in _BOLD.findall(plain) if re.search(r"\d", span)]
    values = {number.value for number in numbers_in(" ; ".join(spans))}
    return spans[-1] if len(values) == 1 else None
