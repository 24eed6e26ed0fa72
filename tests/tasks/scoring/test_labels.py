"""Labels in answers: one of a fixed set, however it is dressed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.examples import Example
from icl_harness.tasks.scoring import Score, label_match

INTENTS = (
    "card_arrival",
    "card",
    "top_up",
    "top_up_failed",
    "reverted_card_payment?",
    "Refund_not_showing_up",
)
MOODS = ("negative", "neutral", "positive")


def scored(answer: str, target: str, choices: tuple[str, ...]) -> Score:
    return label_match(answer, Example(id="q", input="?", target=target, choices=choices))


@given(
    st.sampled_from(INTENTS),
    st.sampled_from([str.upper, str.lower, str.title, str]),
    st.sampled_from(
        [
            "{}",
            " {}",
            "\n\n{}\n",
            '"{}"',
            "**{}**",
            "{}.",
            "Intent: {}",
            "The intent is {}.",
            "`{}`\nBecause",
        ]
    ),
    st.sampled_from(["_", " ", "-"]),
)
def test_case_spaces_and_punctuation_do_not_matter(
    label: str, case: object, dress: str, space: str
) -> None:
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


@pytest.mark.parametrize(
    "answer", ["", "  \n ", "It is neutral or positive", "posit", "positively", "none of these"]
)
def test_no_label_or_several_is_unparsed(answer: str) -> None:
    assert scored(answer, "positive", MOODS) == Score(None, 0.0)


def test_the_label_an_answer_begins_with_counts_before_those_it_argues_about() -> None:
    assert scored("neutral, not positive", "neutral", MOODS) == Score("neutral", 1.0)


def test_the_first_line_counts_unless_it_says_nothing() -> None:
    assert scored("negative\npositive", "positive", MOODS) == Score("negative", 0.0)
    assert scored("well\npositive", "positive", MOODS) == Score("positive", 1.0)
    assert scored("unknown\nSentence: x\nSentiment: positive", "positive", MOODS).parsed is None


def test_labels_that_differ_in_case_or_punctuation_alone_are_told_apart_by_exact_form() -> None:
    assert scored("C#", "C#", ("C", "C#")) == Score("C#", 1.0)
    assert scored("c", "C", ("C", "C#")).parsed is None
    assert scored("+", "+", ("+", "-")) == Score("+", 1.0)


def test_without_choices_the_target_alone_is_looked_for() -> None:
    example = Example(id="q", input="?", target="north")
    assert label_match("North.", example) == Score("north", 1.0)
    assert label_match("south", example) == Score(None, 0.0)


ABC = ("A", "B", "C")


@pytest.mark.parametrize(
    "answer",
    ["B", " B.", "(B)", "**B**", "`B`\nBecause", "answer: B", "Sentiment: **B**", "It is a B.",
     "The label is B, I think.", "The answer is 'B'.", "It is option (B).",
     "I'd say the answer is: B",
     "Answer: B (neutral)", "Label = B"],
)  # fmt: skip
def test_a_label_of_one_letter_counts_as_the_whole_line_or_after_a_cue(answer: str) -> None:
    assert scored(answer, "B", ABC) == Score("B", 1.0)


@pytest.mark.parametrize(
    "answer",
    ["I cannot give a label", "A company grew.", "This is a good sign",
     "Sentiment: A mixed bag",
     "Grade A stock", "It is A or B", "Options: A, B, C", "It is not B.", "I don't think it is B.",
     "Answer: A-rated", "It is A's turn", "Vitamin C", "The answer is C++", "it is a"],
)  # fmt: skip
def test_an_article_or_a_mere_mention_is_no_label_of_one_letter(answer: str) -> None:
    assert scored(answer, "A", ABC) == Score(None, 0.0)


def test_letters_beside_words_are_told_apart() -> None:
    assert scored("It is a mixed one", "A", ("A", "mixed")) == Score("mixed", 0.0)
    assert scored("Answer: A, or mixed", "A", ("A", "mixed")).parsed is None


@pytest.mark.parametrize(
    "answer",
    ["not negative", "Not negative.", "It is not negative", "It isn't negative",
     "It isn’t negative", "neither negative", "I cannot call this negative",
     "neither negative nor positive", "Never negative",
     "I don't think it is negative"],
)  # fmt: skip
def test_a_label_that_is_denied_is_unparsed(answer: str) -> None:
    assert scored(answer, "negative", MOODS) == Score(None, 0.0)


def test_a_denial_of_something_else_takes_no_label_away() -> None:
    assert scored("It does not say much. Still, negative.", "negative", MOODS) == Score(
        "negative", 1.0
    )
    assert scored("negative, not that it matters", "negative", MOODS) == Score("negative", 1.0)
    labels = ("card_not_working", "working", "not_entailed", "entailed")
    assert scored("The intent: card not working", "card_not_working", labels).value == 1.0
    assert scored("It is not entailed", "not_entailed", labels).value == 1.0


@pytest.mark.slow
@pytest.mark.timeout(
    60
)  # they take a second; what grows with the square of the length takes minutes
@pytest.mark.parametrize(
    "text", ["not " * 80_000, "is a " * 80_000, "is A, " * 80_000, "is " + "(" * 200_000]
)
def test_long_lines_take_no_long_time(text: str) -> None:
    scored(text, "A", ABC)
    scored(text + " negative", "negative", MOODS)
