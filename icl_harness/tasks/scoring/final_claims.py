r"""Where an answer that may reason first says its result.

In: an answer. Out: its claims, in order: what follows each "The final answer is", "Answer:",
"####", each content of `\boxed{}`, each correction ("Wait, no, 73") and what "is the answer". Text
after the first problem's end is left out: a model that runs on makes up the next problem.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST_CLAIMS = 50  # of an answer, its last ones; more would be a text that repeats itself
LONGEST_CLAIM = 4000


@dataclass(frozen=True, slots=True)
class Claim:
    text: str
    is_denied: bool = False  # "I don't think the answer is 72"; "\boxed{72} or \boxed{73}"


_NAME = r"(?:answers?|r[eé]ponse|respuesta|resposta|risposta|antwort|ответ)"
_IS = (
    r"(?:[:：=→]|\b(?:is|are|was|be|equals|becomes|comes (?:out )?to|es|est|ist)\b"
    r"(?:\s(?:therefore|thus|then|simply|now|hence|just|clearly|indeed|still|also|again))*\s?[:：]?)"
)
_ABOUT = r"(?:\s(?:to|for|of|in)\s[^.:=?!\n]{1,60}?)?"
_MARK = re.compile(
    rf"\bfinal[\s_*-]{{1,4}}{_NAME}{_ABOUT}[\"'*_`)\]\s]{{0,6}}(?:{_IS}|(?=[\s*_\n]*[-$€£\\]?\d)|\s[–—-]\s|$)"
    rf"|\b{_NAME}\b{_ABOUT}[\"'*_`)\]]{{0,4}}\s{{0,3}}(?:would |will |must |should )?{_IS}"
    rf"|^[#*_\s]{{1,12}}{_NAME}[*_:\s]{{0,6}}$"
    r"|(?:最终)?(?:答案|答え|答|正解|정답)\s?(?:是|为|為|は|은|[:：])"
    rf"|^\W{{0,4}}{_NAME}\s[–—-]\s"
    r"|^[ \t*]*(?:A|Ans)\s?[.:]|^\s*####(?!#)|<(?:final_?)?answer>",
    re.IGNORECASE | re.MULTILINE,
)
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?:(\{)|(?=[\d-]))")
_BOX_BEFORE = re.compile(r"\\(?:boxed|fbox)[^\n]{1,60}\}[\s$]*(?:or|and|,)[\s$]*$")
_IS_ANSWER = re.compile(
    rf"\b(?:is|was|are)\b(?:\s(?:therefore|thus|then|also))?\s(?:the|my|our)\s(?:\w+\s){{0,2}}?{_NAME}\b",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"\b(?:wait|no|actually|correction|sorry|oops|hmm|scratch that|I mean|rather|make that)\b"
    r"[\s,.:;!–—-]+(?:(?:wait|no|it|that|this|the|answer|should|must|is|be|it's|that's|I|mean|make"
    r"|actually|rather|sorry|correct|right|one|maybe|possibly|perhaps|alternatively|about)\b[\s,.:;!–—-]*){0,12}"
    r"(?=[*_`$€£\\]{0,4}[-−]?[$€£]?\d)",
    re.IGNORECASE,
)
_RETRACTION = re.compile(
    r"\b(?:wait,? no|no,? wait|scratch that|that(?:['’]s| is) (?:wrong|incorrect|not right)"
    r"|I made a mistake)\b",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(
    r"[.!?]\s+(?:or|alternatively|maybe|perhaps|possibly)\b[\s,]*(?:(?:maybe|perhaps|it|is|it's|the"
    r"|answer|could|be|possibly)\s)*(?=[*_`$€£\\]{0,4}-?\d)",
    re.IGNORECASE,
)
_NOT_BELIEVED = re.compile(
    r"(?:\bnot|n['’]t|\bnever|\bcannot)\s(?:\w+\s){0,2}(?:think|believe|say|know|see|mean|sure|certain)"
    r"(?:\s(?:that|if|whether|what))?\s(?:the|my)?\s?(?:final|correct)?\s?$",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:if|whether|unless|suppose|assuming|assume|until|wrong|incorrect|mistaken|tempting"
    r"|previous|intermediate|partial|initial|estimated|their|(?<!after )(?:check|verify)(?:ing)?|X)"
    r"\s(?:(?:that|if)\s)?(?:(?:the|our|my)\s)?(?:final\s|correct\s)?$",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"\W*(?:indeed |also |now |then )?(?:correct|right|verified|confirmed|reasonable|rounded"
    r"|given (?:by|above|below)|above|consistent|in (?:the|dollars|units?|cents|simplest|terms))\b"
    r"[^\d$\\]*$",
    re.IGNORECASE,
)
_NEXT_PROBLEM = re.compile(
    r"^[ \t>#*_]*(?:(?:next|new|another|second|similar|practice)\s)?"
    r"(?:question|problem|q|exercise|example|task|input|human|user|instruction|prompt|puzzle)\b"
    r"\s?\#?\d{0,3}[*_]{0,3}\s?[:.)：]"
    r"|^[ \t]*(?:-{3,}|={3,}|<\|(?:user|im_start)\|?>|\[INST\])"
    r"|^[ \t#*]*(?:question|problem|exercise|example)\s\#?\d{1,3}[*_ \t]*$"
    r"|^\#{1,6}\s(?:question|problem|exercise|example)[ \t]*$"
    r"|(?<=[.!?])\s(?:question|problem|q):|\s#{2,3} ?(?:instruction|question|problem|input|user)\b"
    r"|(?<=\n\n)(?:find|calculate|compute|evaluate|solve|simplify)\s",
    re.IGNORECASE | re.MULTILINE,
)
_QUESTION = re.compile(
    r"\n\s*(?:\d{1,3}[.)]\s)?(?:[A-Z][^\n]{0,600}?)?\b(?:[Hh]ow (?:many"
    r"|much|long|far|old|tall|often|fast)"
    r"|[Ww]hat (?:is|are|was|will|would|percent\w*))\b[^?\n]{3,300}\?"
)
_ONE_LINE = re.compile(r"\s*[^\n]{0,60}?\d[^\n]{0,60}\n")
_NUMBER_LINE = re.compile(r"\W{0,8}\d[\d,.]{0,20}\W{0,4}?\n")
_CHECKING = re.compile(r"\b(?:wait|check|verify|hold on|actually|let me|hmm|let's|recall)\b", re.I)


def first_problem(text: str) -> str:
    """Return the text up to the next problem, once a result was given."""
    starts = []
    line = _ONE_LINE.match(text)
    if line and not _NEXT_PROBLEM.match(text) and _NEXT_PROBLEM.match(text[line.end() :].lstrip()):
        starts = [line.end() - 1]
    number = _NUMBER_LINE.match(text)
    if number:
        starts.append(number.end() - 1)
    for pattern in (_MARK, _BOX):
        marks = pattern.finditer(text)
        starts += [m.end() for m in marks if re.search(r"\d", text[m.end() : m.end() + 200])][:1]
    if not starts:
        return text
    start = min(starts)
    ends = [_NEXT_PROBLEM.search(text, start), _next_question(text, start)]
    return text[: min((end.start() for end in ends if end), default=len(text))]


def _next_question(text: str, start: int) -> re.Match[str] | None:
    for question in _QUESTION.finditer(text, start):
        if not _CHECKING.search(text, start, question.end()):
            return question
    return None


def _is_offered(mark: re.Match[str], others: Sequence[re.Match[str]]) -> bool:
    """Return whether a mark stands within an alternative, which says so itself."""
    return any(other.start() < mark.start() <= other.end() for other in others)


def claims(text: str) -> list[Claim]:
    """Return what a text claims as its result, first to last."""
    marks = [*_MARK.finditer(text), *_IS_ANSWER.finditer(text), *_BOX.finditer(text)]
    marks.sort(key=lambda mark: mark.start())
    if marks:
        marks += _second_thoughts(text, marks[0].end())
        marks.sort(key=lambda mark: mark.start())
    others = [mark for mark in marks if mark.re is _ALTERNATIVE][:9]
    marks = [mark for mark in marks if not _is_offered(mark, others)][-MOST_CLAIMS:]
    found: list[Claim] = []
    for i, mark in enumerate(marks):
        end = marks[i + 1].start() if i + 1 < len(marks) else len(text)
        claim = _claim(text, mark, min(end, mark.end() + LONGEST_CLAIM))
        if claim is not None:
            found.append(claim)
    return found


def _second_thoughts(text: str, start: int) -> list[re.Match[str]]:
    """Return the corrections of a result, the other results offered, and what takes it back."""
    corrections = list(_CORRECTION.finditer(text, start))
    reached: set[int] = set()
    for mark in corrections:
        reached.update(range(mark.start(), mark.end() + 1))
    taken_back = [mark for mark in _RETRACTION.finditer(text, start) if mark.start() not in reached]
    return [*corrections, *taken_back, *_ALTERNATIVE.finditer(text, start)]


def _claim(text: str, mark: re.Match[str], end: int) -> Claim | None:
    line_start = text.rfind("\n", 0, mark.start()) + 1
    before = text[max(line_start, mark.start() - 200) : mark.start()]
    if mark.re in (_RETRACTION, _ALTERNATIVE):
        return Claim("", is_denied=True)
    if mark.re is _BOX:
        content = _braced(text, mark.end()) if mark[1] else text[mark.end() : end]
        is_second = bool(
            re.search(r"\\(?:boxed|fbox)[^\n]{1,60}\}[\s$]*(?:or|and|,)[\s$]*$", before)
        )
        return Claim(content, is_denied=is_second) if re.search(r"\w", content) else None
    if mark.re is _IS_ANSWER:
        said = re.split(r"(?:[.!?;]\s|\n)", before)[-1].strip()
        return Claim(said) if re.search(r"\d|\$|\\", said) or said.count(" ") < 2 else None
    if mark.re is _MARK and _SUPPOSED.search(before):
        return None
    said = _after(text[mark.end() : end])
    if not said or _NO_ANSWER.match(said):
        return None
    return Claim(said, is_denied=bool(_NOT_BELIEVED.search(before)))


def _after(rest: str) -> str:
    """Return what a mark is followed by; the next line with words where its own has none."""
    lines = rest.split("\n")
    for i, line in enumerate(lines[:8]):
        if re.search(r"\w", re.sub(r"\\(?:begin|end)\{\w+\*?\}", "", line)):
            return "\n".join(lines[i:]).strip(" \t:*_")
    return ""


def _braced(text: str, start: int) -> str:
    """Return the text up to the brace that closes the one before `start`, or to the line's end."""
    depth = 1
    for i in range(start, min(len(text), start + LONGEST_CLAIM)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[start:i]
        if text[i] == "\n" and text[i + 1 : i + 2] == "\n":
            return text[start:i]
    return text[start : start + LONGEST_CLAIM]
