"""Scores of answers, of those too that a limit on tokens has cut.

In: an answer's text, its example, a task's scorer. Out: a score. What was cut off before its end is
no answer where the end decides: a number right behind whose digits it broke off, a label that
begins another one. A scorer knows nothing of cuts, so it is shown how the text might have gone on.
A last sentence that only begins an earlier one once more decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.tasks.scoring import Score, Scorer
from icl_harness.tasks.task import Task

MORE_DIGITS = "125"  # behind 1 and 1, and 1/ alike
NEXT_STEP = ("\nSo 3 + 7122 = ", "7125")
_NUMBER = re.compile(r"[-+]?[\d.,]*\d(?:/\d+)?")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*")
_UNENDED = re.compile(r"\d[,/'’]?\Z")


def score_answer(
    task: Task, scorer: Scorer, answer: str, example: Example, *, is_cut: bool = False
) -> Score:
    """Return the score of an answer; one that was cut where its end decides cannot be parsed."""
    if is_cut and (whole := _without_repeat(answer)):
        return score_answer(task, scorer, whole, example, is_cut=True)
    score = apply_scorer(task, scorer, answer, example)
    if not is_cut or score.parsed is None:
        return score
    for longer, last_number in _ways_on(answer, score.parsed, example):
        other = apply_scorer(task, scorer, longer, example).parsed
        if other != score.parsed and (last_number is None or other in (None, last_number)):
            return Score(parsed=None, value=0.0)
    return score


def _without_repeat(answer: str) -> str:
    """Return an answer without its last sentence, where that is the beginning of an earlier one
    once more: small models repeat their answer until the limit. Empty where it is not.
    """
    *whole, last = _SENTENCE_END.split(answer)
    if not last or not any(sentence.startswith(last) for sentence in whole):
        return ""
    return answer[: len(answer) - len(last)]


def _ways_on(answer: str, parsed: str, example: Example) -> Iterator[tuple[str, str | None]]:
    """Yield how an answer might have gone on, and what would then have to be read, if anything, to
    show that it lacks its end: anything else, where that is None.
    """
    choices = example.choices or ()
    if parsed in choices:
        for choice in choices:
            if choice != parsed and choice.startswith(parsed):
                yield answer + choice[len(parsed) :], choice
    elif _NUMBER.fullmatch(parsed):
        if _UNENDED.search(answer):
            yield answer + MORE_DIGITS, None
        yield answer + "".join(NEXT_STEP), NEXT_STEP[1]


def apply_scorer(task: Task, scorer: Scorer, answer: str, example: Example) -> Score:
    """Return the score of an answer. Raises `SpecError` in the task's name, as a scorer may be a
    user's code.
    """
    try:
        score = scorer(answer, example)
    except Exception as error:
        raise SpecError(
            f"task {task.name}: its scorer fails on the answer to {example.id} "
            f"({type(error).__name__}, {error})."
        ) from error
    if not isinstance(score, Score):
        raise SpecError(
            f"task {task.name}: its scorer returns a {type(score).__name__}, not a Score."
        )
    return score
