"""Final answers as models really give them, and what a careful person reads in them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness.examples import Example
from icl_harness.tasks.scoring import final_match

TABLE = Path(__file__).with_name("final_cases.yaml")
OPTIONS = ("(A)", "(B)", "(C)", "(D)")
MARKS = (
    "{}", "{}.", "**{}**", "The answer is {}.", "The final answer is {}", "Final answer: {}",
    "**Final Answer:** {}", "### Final Answer\n\n{}", "Answer：{}",
    "We think.\nThe final answer is {}.",
    "We think.\n\n**Answer:** {}", "\\boxed{{{}}}", "So,\n$\\boxed{{{}}}$", "Let us see.\n#### {}",
    "<answer>{}</answer>", "{}\n\nProblem: foo\nSolution: The final answer is x.",
    "The final answer is {}.\n---\nProblem: foo\nThe final answer is x.",
    "The final answer is:\n\n{}", "The final answer is {}. This answer is correct.",
)  # fmt: skip
TARGETS = (
    ("(B)", OPTIONS), ("No", ("No", "Yes")), ("invalid", ("valid", "invalid")),
    ("True", ("False", "True")), ("] ] )", ()), ("> }", ()), ("> >", ()),
    ("above banana cherry", ()), ("it&t dot", ()),
)  # fmt: skip


class Case(NamedTuple):
    answer: str
    example: Example
    meant: str | None


def cases() -> list[Case]:
    found = []
    for entry in yaml.safe_load(TABLE.read_text(encoding="utf-8")):
        choices, text = tuple(entry.pop("choices")), entry.pop("input")
        targets = [heading.removeprefix("= ") for heading in entry if heading.startswith("= ")]
        for heading, answers in entry.items():
            is_right = heading.startswith("= ")
            target = heading.removeprefix("= ") if is_right else targets[0]
            example = Example(id="q", input=text, target=target, choices=choices)
            meant = None if heading == "unparsed" else heading
            found += [Case(answer, example, meant) for answer in answers]
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.answer[-40:]!r}")
def test_a_final_answer_is_read_as_a_careful_person_would(case: Case) -> None:
    score = final_match(case.answer, case.example)
    assert score.value == float(case.meant not in (None, "wrong"))
    assert (score.parsed is None) == (case.meant is None)


@settings(deadline=None)
@given(st.sampled_from(TARGETS), st.sampled_from(MARKS))
def test_a_right_answer_in_any_dress_is_right(
    target: tuple[str, tuple[str, ...]], mark: str
) -> None:
    answer, choices = target
    example = Example(id="q", input="?", target=answer, choices=choices)
    assert final_match(mark.format(answer), example).value == 1.0


@settings(deadline=None)
@given(
    st.sampled_from(MARKS), st.permutations(OPTIONS), st.sampled_from([" or ", "/", ", ", " and "])
)
def test_two_options_are_no_answer(mark: str, options: list[str], joint: str) -> None:
    answer = mark.format(joint.join(options[:2]))
    for target in OPTIONS:
        example = Example(id="q", input="?", target=target, choices=OPTIONS)
        assert final_match(answer, example).parsed is None


@settings(deadline=None)
@given(st.sampled_from(MARKS), st.sampled_from(TARGETS[:4]))
def test_another_choice_in_any_dress_is_wrong(
    mark: str, target: tuple[str, tuple[str, ...]]
) -> None:
    right, choices = target
    example = Example(id="q", input="?", target=right, choices=choices)
    for choice in choices:
        score = final_match(mark.format(choice), example)
        assert (score.parsed, score.value) == (choice, float(choice == right))
