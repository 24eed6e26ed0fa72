"""Answers that would break a scorer or hold it up: any characters, endless runs, huge powers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness.examples import Example
from icl_harness.runner.numbered_answers import parse_answers
from icl_harness.tasks.scoring import (
    Score,
    Scorer,
    exact_match,
    final_match,
    label_match,
    latex_match,
    number_match,
)

OPTIONS = "Which?\nOptions:\n(A) a crow\n(B) a robin"


def example(target: str, *choices: str) -> Example:
    return Example(id="q", input=OPTIONS, target=target, choices=choices)


KINDS: dict[str, tuple[Scorer, Example]] = {
    "number": (number_match, example("72")),
    "label": (label_match, example("positive", "negative", "neutral", "positive")),
    "letter": (label_match, example("A", "A", "B", "C")),
    "digit": (label_match, example("1", "-1", "0", "1")),
    "option": (final_match, example("(A)", "(A)", "(B)")),
    "words": (final_match, example("apple banana cherry")),
    "brackets": (final_match, example("] ] )")),
    "exact": (exact_match, example("foo")),
    "expression": (latex_match, example("2")),
}
PIECES = [
    "72", "-", "–", "The answer is ", "Answer: ", "\\boxed{", "}", "positive", "not ", " or ",
    "(A)", "\n", "####", "<think>", "</think>", "\ud800", "\x00", "½", "9^", "1,", "{", "[",
    "\\frac", "$", "**", "1: ", "|", "apple ", "] ", "，", "答案：", "<br>", "Question: ",
]  # fmt: skip
RUNS = [  # the slowest of some hundred tried
    "1,", "\\boxed{", "A ", "wait ", "A\n", "\n1: ", "9 ", "\u00a0",
]  # fmt: skip
ENDLESS = 1_000_000  # characters
SECONDS = 30.0  # of CPU time for one of them, which takes half a second; a square takes minutes


@settings(deadline=None, max_examples=60)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=12).map("".join)))
def test_no_scorer_raises_on_any_text(answer: str) -> None:
    for kind, (scorer, asked) in KINDS.items():
        if kind != "expression":  # its worker takes longer
            assert scorer(answer, asked).value in (0.0, 1.0)
    parse_answers(answer, 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "numbered"])
def test_an_endless_answer_takes_no_longer_than_its_length_asks_for(kind: str) -> None:
    read = _reader(kind)
    for run in RUNS:
        answer = "The answer is 7" + run * (ENDLESS // len(run))
        start = time.process_time()
        read(answer)
        assert time.process_time() - start < SECONDS, run


def _reader(kind: str) -> Callable[[str], object]:
    if kind == "numbered":
        return lambda answer: parse_answers(answer, 8)
    scorer, asked = KINDS[kind]
    return lambda answer: scorer(answer, asked)


@pytest.mark.slow
@pytest.mark.parametrize(
    "expression", ["9^{9^{9^9}}", "2^{100000000}", "(" * 400 + "1" + ")" * 400]
)
def test_an_expression_that_takes_for_ever_is_no_answer_from_any_thread(expression: str) -> None:
    scores: list[Score] = []
    answers = [rf"\boxed{{{expression}}}", r"\boxed{\frac{4}{2}}"]
    thread = threading.Thread(
        target=lambda: scores.extend(latex_match(answer, example("2")) for answer in answers)
    )
    thread.start()
    thread.join(timeout=120)
    assert [score.value for score in scores] == [0.0, 1.0]


def test_an_expression_is_right_where_it_is_the_target_to_the_letter() -> None:
    assert latex_match(r"\boxed{9^{9^{9^9}}}", example("9^{9^{9^9}}")).value == 1.0
