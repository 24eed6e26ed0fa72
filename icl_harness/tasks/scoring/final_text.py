r"""The final answer of a text that may reason first.

In: an answer. Out: what its last mark marks, up to the next problem that the model makes up. Marks
are "The final answer is X", "Answer: X" (other languages' words too), "#### X", `\boxed{X}`,
`<answer>X</answer>`, and a heading or a line that only leads to what follows it. "The answer is
correct." and the like name no answer: the mark before it counts.
"""

from __future__ import annotations

import re

from icl_harness.tasks.scoring.base import first_line, spoken
from icl_harness.tasks.scoring.labels import NEXT_PROBLEM
from icl_harness.tasks.scoring.wording import any_of

_NAME = any_of(
    """answers?, solution, result, output, r[eé]ponse, respuesta, resposta, risposta, antwort,
    antwoord, ответ"""
)
_IS = r"(?:(?:is|are|est|es|ist|是|为|は|은)(?![^\W_])|[:：=]|->|→)"
_MARK = re.compile(
    rf"(?:\b{_NAME}|答案|答え|正解|정답)[*_\s\"']{{0,4}}{_IS}+[*_\s]{{0,4}}:?[*_]{{0,3}}"
    r"|\b(?:sorted|ordered|alphabetical(?:ly)?|order|list|sequence|brackets?)\b[^:.\n]{0,60}[:：]"
    r"|\b(?:sorted|ordered|alphabetical|brackets?)\b[^:.\n]{0,60}\b(?:is|are)\b"
    r"|^[ \t]{0,8}####(?!#)[ \t]*|\\(?:boxed|fbox)\s*(?=\{)|<(?:final_?)?answer>",
    re.IGNORECASE | re.MULTILINE,
)
_HEADING = re.compile(
    r"\W{0,8}(?:(?:the|my|so|final|correct)\s+){0,3}(?:answer|solution|result)[\s*_:#.`]{0,8}",
    re.IGNORECASE,
)
_ABOUT_IT = any_of(
    r"""correct, right, wrong, incorrect, verified, confirmed, given (?:in|by|as), above, below,
    in (?:the )?(?:form|format|dollars|units?|order|alphabetical), found, reasonable, consistent,
    clear, unique, final, complete, valid"""
)
_GOES_ON = any_of("and, because, as, since, by, to, for, with, if, in, from, with, of, when")
_NO_ANSWER = re.compile(
    rf"[\W_]*(?:(?:indeed|also|therefore|thus|now|then|clearly)\s+)?{_ABOUT_IT}"
    rf"(?:\W*$|\s+{_GOES_ON}\b)",
    re.IGNORECASE,
)
_LEADS_ON = re.compile(r"(?:[*_:`]|\\\[|\$\$|as follows)*", re.IGNORECASE)
_NEXT_SENTENCE = re.compile(r"[.!]\s+(?=(?:This|The|That|It|Thus|So|Therefore|Note|I|We|Let)\b)")
_ITEM = re.compile(r"\s*(?:[-*•]|\(?\d{1,3}[.):])\s*\S")
_FENCE = re.compile(r"^[ \t]*```\w*[ \t]*$", re.MULTILINE)
MOST_WORDS = 3  # of an item of a list
MOST_LINES = 200  # of a list


def final_answer(answer: str) -> str | None:
    """Return the line that the last mark of an answer marks; None where there is no mark, or
    nothing after it.
    """
    marked = final_text(spoken(answer))
    return None if marked is None else first_line(marked) or None


def final_text(answer: str, is_list: bool = False) -> str | None:
    """Return what the last mark of the first problem marks; None where there is no mark, or nothing
    behind it. A list may go on in the lines below.
    """
    found: str | None = None
    lines = first_problem(answer).split("\n")
    for i in range(len(lines)):
        marked = _marked(lines, i, is_list)
        if marked and not _NO_ANSWER.match(marked):
            found = marked
    return found


def first_problem(answer: str) -> str:
    """Return an answer up to the next problem that the model goes on with: behind a mark, or behind
    the only line before it.
    """
    lines = _FENCE.sub("", answer).strip().split("\n")
    n_lines = 0
    is_marked = False
    for i, line in enumerate(lines):
        if NEXT_PROBLEM.match(line) and (is_marked or n_lines == 1):
            return "\n".join(lines[:i]).strip()
        n_lines += bool(line.strip())
        is_marked = is_marked or _MARK.search(line) is not None or bool(_HEADING.fullmatch(line))
    return "\n".join(lines)


def _marked(lines: list[str], at: int, is_list: bool) -> str | None:
    """Return what the last mark in a line marks; where nothing follows it, the lines below."""
    line = lines[at]
    if _HEADING.fullmatch(line):
        return _below(lines, at)
    for mark in reversed(list(_MARK.finditer(line))):
        rest = _first_sentence(line[mark.end() :])
        if mark[0].lstrip().startswith("\\"):
            rest = rest.strip(" $.").removeprefix("{").removesuffix("}")
        if _LEADS_ON.fullmatch(rest):
            return _below(lines, at)
        if _NO_ANSWER.match(rest):
            continue
        below = _below(lines, at) if is_list and len(rest.split()) <= MOST_WORDS else None
        goes_on = below is not None and _is_item(lines[at + 1])
        return f"{rest}\n{below}" if goes_on else rest
    return None


def _first_sentence(text: str) -> str:
    text = re.sub(r"</\w{1,20}>", "", text).strip()
    return _NEXT_SENTENCE.split(text, maxsplit=1)[0]


def _is_item(line: str) -> bool:
    return bool(line.strip()) and (len(line.split()) <= MOST_WORDS or bool(_ITEM.match(line)))


def _below(lines: list[str], at: int) -> str | None:
    """Return the paragraph below a line, and the items of a list that has empty lines between."""
    found: list[str] = []
    for line in lines[at + 1 : at + 1 + MOST_LINES]:
        if found and _HEADING.fullmatch(line):
            break
        follows_a_gap = bool(found) and not found[-1]
        if follows_a_gap and line.strip() and not _ITEM.match(line):
            break
        if line.strip() or found:
            found.append(line.strip())
    return "\n".join(line for line in found if line) or None
