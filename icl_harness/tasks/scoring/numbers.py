"""Numbers: do answer and target name the same number?

In: an answer. Out: the one number that it says. Of a sentence with several numbers it is the result
of its equation ("48/2 + 24 = 72", "72 = 6 * 12"), the one in bold, the one that the sentence begins
with ("72 for 3 days") or the one that it calls the total ("48 in April and 24 in May, 72 in all");
else none is read. A side of an equation that is one quantity with its unit is only converted by the
next: "64 dollars = 6400 cents" says 64. Two different candidates ("72 or 73", "70 to 80", "72, 73")
are no answer, nor is a calculation without a result ("6 * 12"), nor a number that is denied.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from icl_harness.errors import DataError
from icl_harness.examples import Example
from icl_harness.tasks.scoring.base import UNPARSED, Score, spoken
from icl_harness.tasks.scoring.final_claims import claims, first_problem
from icl_harness.tasks.scoring.number_choice import DENIAL, said_number
from icl_harness.tasks.scoring.number_forms import NUMBER, as_number, join_parts, numbers_in, shown
from icl_harness.tasks.scoring.number_text import NOT_RATIONAL, plain_numbers

LONGEST = 4000  # characters of a sentence that are read

_END_OF_SENTENCE = re.compile(
    r"(?<!\bapprox)(?<!\bRs)(?<!\bNo)(?<!\bca)(?<!\bi\.e)(?<!\be\.g)(?<![ap]\.m)[.!?。]+"
    r"[\s*_\"')]+(?=\S)|\n"
)
_EQUATION = re.compile(r"(?:[^A-Za-z]|\b[A-Za-z]\b)*(?:[A-Za-z]+\W*)?")  # and a unit at its end
_CONCLUSION = re.compile(r"\W*(?:therefore|thus|hence|so|in total|altogether)\b.*\.\W*$", re.I)
# "Total = $72", "So the total cost is 48 + 24 = 72".
_TOTAL = re.compile(
    r"\W{0,20}(?:(?:so|therefore|thus|hence)\b,? )?(?:(?:the|her|his|their|your|my|our) )?"
    r"(?:grand |final |overall )?(?:total|sum|result|final)(?: (?!of\b|for\b)[^\W\d]+){0,3}"
    r"\W{0,3}(?:=|:|\bis\b|\bare\b)",
    re.IGNORECASE,
)
_NAMED = re.compile(r"^\W*[^\W\d]{3,}(?: [^\W\d]+){0,3}\s?=(?=\s?[-$€£]{0,2}\d)")  # "Price = $12"
_TAKEN_BACK = re.compile(r"\b(?:wrong|incorrect|false|mistaken?|or|maybe|perhaps|guess)\b", re.I)
_NO_CLAIM = re.compile(
    r"^\W*(?:let|if|suppose|assum\w+|first|to find|given|since)\b"
    r"|\b(?:hope|guess|wonder|might|maybe|perhaps)\b",
    re.IGNORECASE,
)
_ABOUT_IT = re.compile(  # "This answer is in dollars.", "Answer: correct."
    r"(?<!\s)\s+\W{0,4}(?:(?:this|that|the|my) (?:final )?(?:answer|result) (?:is|was)\b"
    r"|answer\W{1,4}(?:correct|right)\b)[^\d\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_NO_AMOUNT = re.compile(
    r"\b\d+(?:\.\d+)?\s?(?:%|percent)\s(?:correct|sure|certain|confiden\w+|accurate|right)\b"
    r"|\bto\s(?:the nearest \w+|\d\s\w+\s?(?:places?|figures?|digits))"
    r"|\b\d\s(?:decimal|significant)\s\w+|\b(?:step|part|question|problem|line|equation|option"
    r"|exercise|case|page|example|day)\s#?\d+\b:?"
    r"|^\W*\(?[a-z]\)(?=\s*-?[$€£]?\d)|\((?:answer|rounded|exact|or)\)",
    re.IGNORECASE,
)


def number_match(answer: str, example: Example) -> Score:
    """Compare the answer's final number with the target's.

    The final number stands after the last "final answer is" (or "answer:", "####", in \\boxed{}) of
    the first problem; an answer without such a mark counts where it is one sentence, or where its
    first or last line is nothing but a number: the last number of an unfinished solution is no
    answer.
    """
    gold = _gold(example.target)
    if gold is None:
        raise DataError(f"example {example.id}: the target {example.target[:40]!r} is no number.")
    found = final_number(answer)
    return UNPARSED if found is None else Score(shown(found), float(found == gold))


@lru_cache(maxsize=10_000)
def _gold(target: str) -> Fraction | None:
    return parse_number(target)


def final_number(answer: str) -> Fraction | None:
    """Return the number that an answer gives as its result; None where it gives none, or two."""
    text = re.sub(r"[ \t]{2,}", " ", spoken(answer))  # long runs would be slow below
    text = first_problem(re.sub(r"\n\s*\n", "\n\n", text))
    for claim in reversed(claims(text)):
        if claim.is_denied:
            return None
        sentence = _first_sentence(claim.text)
        plain = _plain(sentence)
        if not re.search(r"\d", plain) and not (DENIAL.search(plain) or NOT_RATIONAL in plain):
            continue  # "The answer is correct." says no number: the claim before it counts
        return said_number(plain)
    return _unmarked(text)


def parse_number(text: str) -> Fraction | None:
    """Return the number that `text` says (see above); None where it says none, or several."""
    return said_number(_plain(text))


def lone_number(text: str) -> Fraction | None:
    """The same, but None where the number is only the first of several."""
    plain = _plain(text)
    return said_number(plain, may_lead=False)


def only_number(text: str) -> Fraction | None:
    """Return the number of a text that holds no other letters or digits."""
    plain = _plain(text)
    if re.search(r"\d[?!;:] ?\d", plain):
        return None  # "72? 73?"
    plain = re.sub(r"\*\*|[\"'“”<>\[\]();:!?≈~`*_]", " ", plain).strip()
    plain = plain.rstrip(".").rstrip("% $")
    match = NUMBER.fullmatch(re.sub(r"^=\s*", "", plain))
    number = as_number(match) if match else None
    return number.value if number else None


def _plain(text: str) -> str:
    plain = join_parts(plain_numbers(text[:LONGEST]))
    if len(text) > LONGEST:
        plain = plain.rpartition(" ")[0]
    return _NO_AMOUNT.sub(" ", plain)


def _first_sentence(text: str) -> str:
    """Return what stands before the first end of a sentence that follows a digit or word."""
    for end in _END_OF_SENTENCE.finditer(text, 1):
        if re.search(r"\w", text[: end.start()]):
            return text[: end.start()]
    return text


def _unmarked(text: str) -> Fraction | None:
    """Return the number of an answer without a mark."""
    text = _ABOUT_IT.sub("", text)
    lines = [line.strip() for line in text.split("\n") if re.search(r"\w", line)]
    if not lines:
        return None
    first, last = _without_remark(lines[0]), _without_remark(lines[-1])
    found = {only_number(first), only_number(last)} - {None}
    if len(lines) == 1 and not found:
        return _of_one_sentence(first)
    if not found and (_CONCLUSION.match(last) or _TOTAL.match(last)):
        return _of_one_sentence(last)
    return found.pop() if len(found) == 1 else None


def _ends_in_result(line: str) -> bool:
    """Return whether an equation's last side names one number: "… = 72, so she sold 72"."""
    sides = _plain(line).split("=")
    last_side = sides[-1]
    return len(sides) == 2 and len({number.value for number in numbers_in(last_side)}) == 1


def _without_remark(line: str) -> str:
    """Return the number of "72. Correct." and the like, whose remark names and denies none."""
    line = re.sub(r"(?<=[.!?])[*_]+$", "", line)
    number = _first_sentence(line)
    remark = line[len(number) :]
    if only_number(number) is None or re.search(r"\d", _plain(remark)):
        return line
    return line if DENIAL.search(remark) or _TAKEN_BACK.search(remark) else number


def _of_one_sentence(line: str) -> Fraction | None:
    """Return the number of a line that is one sentence with one number: "It is 72."."""
    if _first_sentence(line) != line or _NO_CLAIM.search(line):
        return None
    line = _NAMED.sub("", _TOTAL.sub("", line))
    if "=" in line and not _EQUATION.fullmatch(_plain(line)) and not _ends_in_result(line):
        return None  # one step of a solution
    return lone_number(line)
