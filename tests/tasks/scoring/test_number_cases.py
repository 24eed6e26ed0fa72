"""Numbers as models give them: a table of answers, and answers composed of dresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.examples import Example
from icl_harness.tasks.scoring import final_match, number_match

CASES: dict[str, Any] = yaml.safe_load(
    Path(__file__).with_name("number_cases.yaml").read_text("utf-8")
)
NAMED = [(kind, target) for kind, by_target in CASES["right"].items() for target in by_target]

BEFORE = [
    "", "The final answer is ", "Answer: ", "So the answer is: ", "**Final Answer**\n\n", "#### ",
    "48/2 = 24.\nThe final answer is ", "The final answer is:\n\n",
]  # fmt: skip
AFTER = [
    "", ".", ".\nThis answer is correct.", ". The answer is in dollars.", "\n\nAnswer: correct.",
    ".\n\nQuestion: What is 2 + 3?\nAnswer: 5", "</s>",
    ".\n---\nProblem: 2+3\nThe final answer is 5.",
]  # fmt: skip
DRESSES = [
    "{}", "**{}**", "${}", "{} clips", "{}%", "$\\boxed{{{}}}$", "$${}$$", "`{}`", "({})",
    "about {}", "\\(x = {}\\)", "{}.00", "= {}", '"{}"', "\\fbox{{{}}}", "\\text{{{}}}",
    "{} dollars",
]  # fmt: skip
MINUS = [
    "-", "\u2212", "\u2013", "\u2014", "\u2012", "\u2011", "\ufe63", "\uff0d", "minus ",
    "negative ",
]  # fmt: skip
HEDGES = [
    "{} or {}", "either {} or {}", "between {} and {}", "{}, {}", "{} and {}", "from {} to {}",
    "{} clips or {} clips", "{} or maybe {}", "**{}** or **{}**", "{} – {}", "{}/{}/7",
    "\\boxed{{{} \\text{{ or }} {}}}",
]  # fmt: skip


def example(target: str) -> Example:
    return Example(id="q", input="?", target=target)


@pytest.mark.parametrize(("kind", "target"), NAMED)
def test_the_number_is_read_as_a_careful_person_reads_it(kind: str, target: str) -> None:
    for answer in CASES["right"][kind][target]:
        score = number_match(answer, example(target))
        assert score.value == 1.0, (answer, score.parsed)


@pytest.mark.parametrize("target", CASES["wrong"])
def test_another_number_is_wrong_but_read(target: str) -> None:
    for answer in CASES["wrong"][target]:
        score = number_match(answer, example(target))
        assert score.parsed is not None, answer
        assert score.value == 0.0, (answer, score.parsed)


@pytest.mark.parametrize("kind", CASES["unparsed"])
def test_no_number_or_two_are_unparsed(kind: str) -> None:
    for answer in CASES["unparsed"][kind]:
        assert number_match(answer, example("72")).parsed is None, answer


def _written(n: int, minus: str, grouped: bool) -> str:
    digits = f"{abs(n):,}" if grouped else str(abs(n))
    return f"{minus}{digits}" if n < 0 else digits


@given(
    st.integers(-(10**9), 10**9), st.sampled_from(MINUS), st.booleans(), st.sampled_from(BEFORE),
    st.sampled_from(DRESSES), st.sampled_from(AFTER),
)  # fmt: skip
def test_the_right_number_is_right_in_any_dress_and_its_opposite_never(
    n: int, minus: str, grouped: bool, before: str, dress: str, after: str
) -> None:
    answer = before + dress.format(_written(n, minus, grouped)) + after
    for scorer in (number_match, final_match):
        assert scorer(answer, example(str(n))).value == 1.0, answer
        assert scorer(answer, example(str(-n))).value == float(n == 0), answer


@given(
    st.integers(-999, 10**6), st.integers(-999, 10**6), st.sampled_from(MINUS),
    st.sampled_from(BEFORE), st.sampled_from(HEDGES), st.sampled_from(["", ".", " clips."]),
)  # fmt: skip
def test_two_numbers_are_no_answer(
    a: int, b: int, minus: str, before: str, hedge: str, after: str
) -> None:
    if a == b:
        b += 1
    answer = before + hedge.format(_written(a, minus, False), _written(b, minus, False)) + after
    for target in (a, b):
        assert number_match(answer, example(str(target))).parsed is None, answer
        assert final_match(answer, example(str(target))).parsed is None, answer
