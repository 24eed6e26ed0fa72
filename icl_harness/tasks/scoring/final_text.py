r"""The final answer of a text that may reason first.

In: an answer. Out: the lines that its last mark marks, up to the next problem that the model makes
up. Marks are "The final answer is X", "Answer: X" (other languages' words too), "#### X",
`\boxed{X}`, `<answer>X</answer>`, and a heading or a line that only leads to what follows it. "The
answer is correct." and the like name no answer: the mark before it counts.
"""

from __future__ import annotations

import re

from icl_harness.tasks.scoring.labels import NEXT_PROBLEM

_NAME = (
    r"(?:answers?|solution|result|output|r[eé]ponse|respuesta|resposta|risposta|antwort|ответ|答案|答え"
    r"|正解|정답)"
)
_MARK = re.compile(
    rf"(?:\b{_NAME}|答案|答え|正解|정답)[*_\s\"']{{0,4}}"
    r"(?:(?:is|are|est|es|ist|是|为|は|은)(?![^\W_])|:|：|=|->|→)+[*_\s]{0,4}:?[*_]{0,3}"
    r"|\b(?:sorted|ordered|alphabetical(?:ly)?|order|list|sequence)\b[^:.\n]{0,60}:"
    r"|\b(?:sorted|ordered|alphabetical)[^:.\n]{0,60}\b(?:is|are)\b"
    r"|^\s*####(?!#)\s*|\\(?:boxed|fbox)\s*(?=\{)|<(?:final_?)?answer>",
    re.IGNORECASE | re.MULTILINE,
)
_HEADING = re.compile(
    r"\W{0,8}(?:(?:the|my|so|final|correct)\s+){0,3}(?:answer|solution|result)\W{0,8}",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"[\W_]*(?:(?:indeed|also|therefore|thus|now|then|clearly)\s+)?(?:correct|right|wrong|incorrect"
    r"|verified|confirmed|in (?:the )?(?:form|format|dollars|units?|order|alphabetical)"
    r"|given (?:in|by|as)|above|below|found|reasonable|consistent|clear|unique"
    r"|final|complete|valid\W*$)\b",
    re.IGNORECASE,
)
_ITEM = re.compile(r"\s*(?:[-*•]|\(?\d{1,3}[.):])\s+\S")


def final_text(answer: str) -> str | None:
    """Return what the last mark of the first problem marks, of one line or (a list) several; None
    where there is no mark, or nothing behind it.
    """
    found: str | None = None
    lines = answer.strip().split("\n")
    for i, line in enumerate(lines):
        if found is not None and NEXT_PROBLEM.match(line):
            break
        marked = _marked(lines, i)
        if marked and not _NO_ANSWER.match(marked):
            found = marked
    return found


def _marked(lines: list[str], at: int) -> str | None:
    """Return what the last mark in a line marks; where nothing follows it, the lines below."""
    line = lines[at]
    if _HEADING.fullmatch(line):
        return _below(lines, at)
    marks = list(_MARK.finditer(line))
    for mark in reversed(marks):
        rest = line[mark.end() :]
        if mark[0].lstrip().startswith("\\"):
            rest = rest.strip(" $.").removeprefix("{").removesuffix("}")
        rest = rest.strip()
        if re.fullmatch(r"(?:[*_:`]|\\\[|\$\$|as follows)*", rest):
            return _below(lines, at)
        if _NO_ANSWER.match(rest):
            continue
        is_list = _ITEM.match(rest) and at + 1 < len(lines) and _ITEM.match(lines[at + 1])
        return f"{rest}\n{_below(lines, at)}" if is_list else rest
    return None


def _below(lines: list[str], at: int) -> str | None:
    """Return the paragraph below a line, and the items of a list that has empty lines between."""
    found: list[str] = []
    for line in lines[at + 1 :]:
        if NEXT_PROBLEM.match(line) or (found and _HEADING.fullmatch(line)):
            break
        is_new_paragraph = bool(found) and not lines_adjacent(found)
        if not line.strip():
            found += [""] if found else []
        elif is_new_paragraph and not _ITEM.match(line):
            break
        else:
            found.append(line.strip())
    return "\n".join(line for line in found if line) or None


def lines_adjacent(found: list[str]) -> bool:
    """Return whether the last line that was taken is not an empty one."""
    return found[-1] != ""
