r"""Mathematical answers: are answer and target the same expression, set, interval or point?

`\dfrac12`, .5 and `\frac{1}{2}` are one answer, as are `\{1,2\}` and `\{2,1\}`. What is equal is
math-verify's to say (https://github.com/huggingface/Math-Verify); where it reads no expression, as
in "Evelyn", the words are compared.
"""

from __future__ import annotations

import re
import threading
from functools import lru_cache
from typing import Any

from icl_harness.examples import Example
from icl_harness.tasks.scoring.base import UNPARSED, Score, plain, spoken
from icl_harness.tasks.scoring.final_claims import claims, first_problem

_LONGEST = 1000  # characters of an expression; longer ones take sympy minutes
_SECONDS = 5  # for one expression
_OR = re.compile(r"\bor\b")
_MATHS = re.compile(r"\$|\\\(|\\\[")


def latex_match(answer: str, example: Example) -> Score:
    """Compare the answer's final expression with the target's, as math-verify does.

    The final expression stands in the last `\\boxed{}` or after the last "final answer is" (or
    "answer:", "####") of the first problem; without such a mark the answer has to be one line.
    """
    said = _final_expression(answer)
    if said is None or len(said) > _LONGEST:
        return UNPARSED
    if _OR.search(said) and not _OR.search(example.target):
        return UNPARSED  # two answers are none
    return Score(said, float(_same(example.target, said)))


def _final_expression(answer: str) -> str | None:
    text = first_problem(spoken(answer)).strip()
    found = claims(text)
    if found and found[-1].is_denied:
        return None
    said = found[-1].text if found else text
    if not found and ("\n" in said or "\\boxed" in said):
        return None
    lines = [line.strip() for line in said.split("\n") if re.search(r"\w|\\", line)]
    return lines[0].strip().rstrip(" .") or None if lines else None


def _same(target: str, said: str) -> bool:
    from math_verify import verify

    gold, found = _parsed(target), _parsed(said)
    if gold and found and bool(verify(list(gold), list(found), timeout_seconds=_limit())):
        return True
    return _words(target) == _words(said)


@lru_cache(maxsize=10_000)
def _parsed(text: str) -> tuple[Any, ...]:
    """Return math-verify's readings of an expression; none where it has none."""
    from math_verify import parse

    marked = text if _MATHS.search(text) else f"\\boxed{{{text}}}"
    return tuple(parse(marked, parsing_timeout=_limit()))


def _limit() -> int:
    """Return the seconds that math-verify may take; 0, no limit, off the main thread, as it uses
    signals.
    """
    return _SECONDS if threading.current_thread() is threading.main_thread() else 0


def _words(text: str) -> str:
    return re.sub(r"\s|\\(?:text|mathrm|textbf|left|right)\b|[{}]", "", plain(text))
