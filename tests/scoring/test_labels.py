"""Labels in answers: one of a fixed set, however it is dressed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.examples import Example
from icl_harness.scoring import Score, label_match

INTENTS = ("card_arrival", "card", "top_up", "top_up_failed", "reverted_card_payment?", "Refund_not_showing_up")
MOODS = ("negative", "neutral", "positive")


def scored(answer: str, target: str, choices: tuple[str, ...]) -> Score:
    return label_match(answer, Example(id="q", input="?", target=target, choices=choices))


@given(
    st.sampled_from(INTENTS),
    st.sampled_from([str.upper, str.lower, str.title, str]),
    st.sampled_from(
        ["{}", " {}", "\n\n{}\n", '"{}"', "**{}**", "{}.", "Intent: {}", "The intent is {}.", "`{}`\nBecause"]
    ),
    st.sampled_from(["_", " ", "-"]),
)
def test_case_spaces_and_punctuation_do_not_matter(label: str, case: object, dress: str, space: str) -> None:
    answer = dress.format(case(label).replace("_", space))  # type: ignore[operator]
    assert scored(answer, label, INTENTS) == Score(label, 1.0)


@given(st.text(), st.sampled_from(INTENTS))
def test_any_text_is_scored_and_only_labels_are_parsed(text: str, target: str) -> None:
    score = scored(text, target, INTENTS)
    assert score.parsed in (*INTENTS, None)
    assert score.value == float(score.parsed == target)


@pytest.mark.parametrize("label", INTENTS)
@pytest.mark.parametrize("target", INTENTS)
def test_a_label_that_begins_another_is_not_taken_for_it(label: str, target: str) -> None:
    assert scored(f" {label}", target, INTENTS) == Score(label, float(label == target))


@pytest.mark.parametrize("answer", ["", "  \n ", "It is neutral or positive", "posit", "positively", "none of these"])
def test_no_label_or_several_is_unparsed(answer: str) -> None:
    assert scored(answer, "positive", MOODS) == Score(None, 0.0)


def test_the_label_an_answer_begins_with_counts_before_those_it_argues_about() -> None:
    assert scored("neutral, not positive", "neutral", MOODS) == Score("neutral", 1.0)


def test_only_the_first_line_counts() -> None:
    assert scored("negative\npositive", "positive", MOODS) == Score("negative", 0.0)
    assert scored("well\npositive", "positive", MOODS).parsed is None


def test_labels_that_differ_in_case_or_punctuation_alone_are_told_apart_by_exact_form() -> None:
    assert scored("C#", "C#", ("C", "C#")) == Score("C#", 1.0)
    assert scored("c", "C", ("C", "C#")).parsed is None
    assert scored("+", "+", ("+", "-")) == Score("+", 1.0)


def test_without_choices_the_target_alone_is_looked_for() -> None:
    example = Example(id="q", input="?", target="north")
    assert label_match("North.", example) == Score("north", 1.0)
    assert label_match("south", example) == Score(None, 0.0)
