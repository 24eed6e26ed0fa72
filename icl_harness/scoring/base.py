"""What a scorer returns, and the forms in which answers are compared (floor 1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from icl_harness.examples import Example


@dataclass(frozen=True)
class Score:
    """`parsed`: what was read from the answer, None where nothing could be; then `value`, 0 to 1, is 0."""

    parsed: str | None
    value: float


Scorer = Callable[[str, Example], Score]
UNPARSED = Score(None, 0.0)

# "The final answer is X", "**Final answer:** X", "Answer: X", "#### X"; the last one in the text counts.
_MARKS = re.compile(r"final answer\W{0,4}(?:is\b|[:=])|\banswer\W{0,4}(?:is\b|:)|^####", re.IGNORECASE | re.MULTILINE)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")


def first_line(answer: str) -> str:
    """Return the first line that is not blank, without outer spaces; "" where there is none."""
    return answer.strip().split("\n", 1)[0].strip()


def final_answer(answer: str) -> str | None:
    r"""Return what follows the last "final answer is", "answer:" or "####" on its line, or is in the last \boxed{}.

    None where the answer has no such mark, or nothing after it.
    """
    boxed = _BOXED.findall(answer)
    if boxed:
        return boxed[-1].strip() or None
    marks = list(_MARKS.finditer(answer))
    if not marks:
        return None
    rest = answer[marks[-1].end() :].lstrip(" \t:*_\n\r")  # "**Answer:**\n72" names it on the next line
    return first_line(rest) or None


def plain(text: str) -> str:
    """Return `text` without what the same answer may be dressed in: case, markdown, quotes, a final full stop."""
    text = text.casefold().replace("\u2212", "-")
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\$|\*\*|__|`|\\[()\[\]]", " ", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s*[.。]+$", "", text)
    return text.strip("\"'“”‘’ ")
