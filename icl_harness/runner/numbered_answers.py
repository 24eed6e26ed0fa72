"""The answers of several queries in one reply.

In: a reply, and how many queries it answers. Out: the answer under each number. Answers stand on
lines of their own behind a number ("1: x", "1. x", "(1) x", "1 - x", "Query 1: x", "| 1 | x |"),
one behind the other ("1: x, 2: y"), or in JSON (an object by number, or a list in order). Thoughts
are left out, and what stands before a heading "Answers:". Not read: answers without numbers.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

from icl_harness.models.answer_text import read_answer

_SPACE = r"[ \t]{0,8}"  # bounded, as long runs of it would take quadratic time
# The number that begins an answer's line: "1: x", "1. x", "(1) x", "**1**: x", "Answer 1: x",
# "### 1) x", "Answer to query 1: x", "1 - x".
_WORD = (
    r"(?P<word>(?:(?:the )?answer|query|question|problem|a|q|no\.?|item|input"
    r"|问题|問題|题目|答案|回答)"
    r"(?: (?:to|for|of))?(?: (?:the )?(?:query|question|problem|number))?"
    rf"{_SPACE}#?{_SPACE}[*_]*)?"
)
_LINE = re.compile(
    rf"^[#>*_\- \t]*{_WORD}[(\[（【\"]?(?P<number>\d+)[*_\"]*"
    r"(?:[ \t]?(?P<mark>[:：)\]）】=|])[:：.]?|\\?(?P<point>[.．、])(?!\d)"
    rf"|{_SPACE}(?P<dash>[-–—]|->|→)(?=[ \t])|[ \t](?:is|answer:)(?=[ \t])"
    rf"|(?P<alone>[:：]?){_SPACE}$)[*_]*[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_TABLE = re.compile(r"^[ \t]*\|[ \t]*(?P<number>\d+)[.:]?[ \t]*\|(?P<answer>[^|\n]*)\|", re.M)
# The same within a line, where separators stand between the answers.
_INLINE = re.compile(
    r"(?:^|(?<=[\s,;|/，；]))[(\[（*_#]{0,4}(?P<number>\d+)[*_]{0,2}"
    r"(?:[ \t]?(?P<mark>[:：)\]）=])|(?P<point>[.．、])(?=\s)|[ \t](?P<dash>[-–—]|->|→)(?=[ \t]))"
    r"[*_]{0,2}[ \t]*"
)
_HEADING = re.compile(
    r"^[#>*_ \t]{0,8}(?:(?:my|the|here are (?:my|the)|so|final) ){0,2}"
    r"answers?[ *_]{0,4}[:：]?[ *_]{0,4}$",
    re.IGNORECASE | re.MULTILINE,
)
_FENCED = re.compile(r"\A\s*(?:[^\n{\[]*\n)??\s*```\w*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_FENCE = re.compile(r"^```\w*[ \t]*$", re.MULTILINE)
_ANSWER_KEYS = ("answer", "final_answer", "label", "output", "result", "prediction", "response")
_NUMBER_KEYS = ("query", "number", "id", "index", "n", "question", "problem", "#", "no")


def parse_answers(reply: str, n: int) -> list[str | None]:
    """Return the answers 1 to n of a reply, each up to the next number; None where its number
    stands not once.

    A list inside an answer has numbers too. Where answers can be told apart only by the way in
    which the first of them is numbered ("1:", while the list has "1."), that way alone counts.
    """
    spoken = read_answer(reply).answer or reply
    answers = _from_json(spoken, n)
    if answers is not None:
        return answers
    behind = _FENCE.sub("", spoken[_last_heading(spoken, n) :])
    readings = [*_by_lines(behind, n), _by_table(behind, n)]
    best = max(readings, key=_n_found)  # of equals the first
    inline = _inline(behind, n)
    best = max(best, inline, key=_n_found)
    return best if _n_found(best) else _by_spaces(behind, n)


def _n_found(answers: Sequence[str | None]) -> int:
    return len(answers) - list(answers).count(None)


def _last_heading(reply: str, n: int) -> int:
    """Return where the last heading "Answers:" ends that numbers stand behind; 0 without one."""
    for heading in reversed(list(_HEADING.finditer(reply))):
        if any(_in_range(match, n) for match in _INLINE.finditer(reply, heading.end())):
            return heading.end()
    return 0


def _by_lines(reply: str, n: int) -> list[list[str | None]]:
    """Read by the numbers that begin lines: all of them, and those that look as the first does."""
    numbers = [match for match in _LINE.finditer(reply) if _is_number(match)]
    first = next((_way(match) for match in numbers if _in_range(match, n)), None)
    alike = [match for match in numbers if _way(match) == first]
    return [_between(reply, numbers, n), _between(reply, alike, n)]


def _is_number(match: re.Match[str]) -> bool:
    """A number alone on its line begins an answer only where a word says so: "Query 1"."""
    return match["alone"] is None or bool(match["word"])


def _way(match: re.Match[str]) -> tuple[bool, str]:
    mark = match["mark"] or match["point"] or match["dash"] or ""
    return bool(match["word"]), mark.replace("：", ":")


def _in_range(match: re.Match[str], n: int) -> bool:
    return len(match["number"]) < 10 and 1 <= int(match["number"]) <= n


def _between(reply: str, numbers: Sequence[re.Match[str]], n: int) -> list[str | None]:
    times = Counter(int(match["number"]) for match in numbers if _in_range(match, n))
    answers: list[str | None] = [None] * n
    ends = [match.start() for match in numbers[1:]] + [len(reply)]
    for match, end in zip(numbers, ends, strict=False):
        if _in_range(match, n) and times[int(match["number"])] == 1:
            answers[int(match["number"]) - 1] = reply[match.end() : end].strip()
    return answers


def _by_table(reply: str, n: int) -> list[str | None]:
    """Read the rows of a table: its first column has the numbers, its second the answers."""
    answers: list[str | None] = [None] * n
    rows = [row for row in _TABLE.finditer(reply) if _in_range(row, n)]
    if len({int(row["number"]) for row in rows}) == len(rows):
        for row in rows:
            answers[int(row["number"]) - 1] = row["answer"].strip()
    return answers


def _by_spaces(reply: str, n: int) -> list[str | None]:
    """Read "1 x" and "#1 x" lines, where they are all there is: from 1 to n, in order."""
    lines = [line.split(maxsplit=1) for line in reply.split("\n") if line.strip()]
    numbers = [line[0].removeprefix("#") for line in lines if len(line) == 2]
    if numbers != [str(number) for number in range(1, n + 1)] or len(lines) != n:
        return [None] * n
    return [line[1].strip() for line in lines]


def _inline(reply: str, n: int) -> list[str | None]:
    """Read "1: x, 2: y": numbers that look alike and count up from 1, each standing once."""
    numbers = [match for match in _INLINE.finditer(reply) if _in_range(match, n)]
    alike = [match for match in numbers if _inline_way(match) == _inline_way(numbers[0])]
    if [int(match["number"]) for match in alike] != list(range(1, len(alike) + 1)):
        return [None] * n
    found = _between(reply, alike, n)
    return [None if answer is None else answer.rstrip(" \t\n,;|/，；") for answer in found]


def _inline_way(match: re.Match[str]) -> str:
    return (match["mark"] or match["point"] or match["dash"]).replace("：", ":")


def _from_json(reply: str, n: int) -> list[str | None] | None:
    """Read an object by number, or a list of n answers; None where the reply is no such JSON."""
    fenced = _FENCED.match(reply)
    text = (fenced[1] if fenced else reply).strip()
    if not text.startswith(("{", "[")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and len(value) == 1:
        (inner,) = value.values()
        value = inner if isinstance(inner, dict | list) else value
    pairs = _numbered(value, n)
    if not pairs:
        return None
    answers: list[str | None] = [None] * n
    for number, answer in pairs:
        if 1 <= number <= n:
            answers[number - 1] = answer
    return answers if any(answer is not None for answer in answers) else None


def _numbered(value: object, n: int) -> list[tuple[int, str]]:
    """Return (number, answer) of what JSON gives."""
    if isinstance(value, dict):
        numbers = {key: re.search(r"\d{1,9}$", str(key)) for key in value}
        return [(int(found[0]), _text(value[key])) for key, found in numbers.items() if found]
    if not isinstance(value, list):
        return []
    numbers_given = [_number_of(item) for item in value]
    if all(number is not None for number in numbers_given):
        given = zip(numbers_given, value, strict=True)
        return [(number, _text(item)) for number, item in given if number is not None]
    if len(value) != n:
        return []
    return [(i, _text(item)) for i, item in enumerate(value, 1)]


def _number_of(item: object) -> int | None:
    if not isinstance(item, dict):
        return None
    for key in _NUMBER_KEYS:
        digits = re.fullmatch(r"\D*(\d{1,9})", str(item.get(key, "")))
        if digits:
            return int(digits[1])
    return None


def _text(item: object) -> str:
    """Return what an answer in JSON says: a text, a number, or the value named as the answer."""
    if isinstance(item, dict):
        for key in _ANSWER_KEYS:
            if key in item:
                return _text(item[key])
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
