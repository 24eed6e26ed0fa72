"""What a limit on tokens cut is no answer where its end decides."""

import pytest

from icl_harness import Example, Task, label_match, number_match
from icl_harness.errors import SpecError
from icl_harness.runner.cut_answers import score_answer
from icl_harness.tasks.scoring import Score


def task_of(scorer) -> Task:
    return Task(
        prompts="solve", scorer=scorer, generate=lambda rng, variant, draw: ([], []), name="t"
    )


def score(scorer, answer: str, target: str, choices: tuple[str, ...] = (), *, is_cut: bool = True):
    example = Example(id="q", input="x", target=target, choices=choices)
    return score_answer(task_of(scorer), scorer, answer, example, is_cut=is_cut)


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        ("The final answer is 1", False),
        ("The final answer is 18", False),
        ("The final answer is 18.", True),
        ("The final answer is 18. It", True),
        ("The final answer is 18\n", True),
        ("The final answer is 18 dollars", True),
        ("#### 18", False),
        ("so it is \\boxed{18}", True),
        ("18", False),
        ("The final answer is -18", False),
        ("The final answer is 18/2", False),
    ],
)
def test_a_number_cut_right_behind_its_digits_is_no_answer(answer, whole):
    assert score(number_match, answer, "18", is_cut=False).parsed is not None
    assert (score(number_match, answer, "18").parsed is not None) is whole


def last_number(answer: str, example: Example) -> Score:
    """A scorer that takes the last number of a text, as some do."""
    words = [word.rstrip(".") for word in answer.split()]
    numbers = [word for word in words if word.isdigit()]
    return Score(numbers[-1], float(numbers[-1] == example.target)) if numbers else Score(None, 0.0)


@pytest.mark.parametrize(
    ("answer", "whole"),
    [("First 3 + 4 = 7 and then we", False), ("First 3 + 4 = 7. Then", False)],
)
def test_the_last_number_of_an_unfinished_text_is_no_answer(answer, whole):
    assert score(last_number, answer, "7", is_cut=False).value == 1
    assert (score(last_number, answer, "7").parsed is not None) is whole


@pytest.mark.parametrize(
    ("answer", "parsed"),
    [
        ("3 + 4 = 7.\n\nThe answer is 20.\n\nThe answer is 20.\n\nThe answer is 20", "20"),
        ("The answer is 18 feet.\n\nThe answer is 18 feet.\n\nThe answer is 1", "18"),
        ("The answer is 18.  The answer is 18. The an", "18"),
        ("The final answer is 18\nThe final answer is 18\nThe final answer is 1", "18"),
        ("The answer is 18.\nThe answer is 2", None),
        ("3 + 4 = 7\n3", None),
        ("Step 1: 3 + 4 = 7\nStep", None),
    ],
)
def test_a_broken_repetition_of_an_answer_takes_nothing_from_it(answer, parsed):
    assert score(number_match, answer, "18").parsed == parsed


LABELS = ("email_query", "email_querycontact", "1", "10", "positive", "negative")


@pytest.mark.parametrize(
    ("answer", "parsed"),
    [
        ("positive", "positive"),
        ("positive. The text", "positive"),
        ("negative, because it", "negative"),
        ("email_query", None),
        ("email_querycontact", "email_querycontact"),
        ("10", "10"),
        ("1", None),
        ("email_query\nThe", "email_query"),
        ("email_query\n", "email_query"),
    ],
)
def test_a_label_that_is_complete_is_an_answer_unless_it_begins_another(answer, parsed):
    assert score(label_match, answer, "positive", LABELS).parsed == parsed


def test_texts_that_are_no_numbers_keep_their_score():
    def exact(answer: str, example: Example) -> Score:
        return Score(answer, float(answer == example.target))

    assert score(exact, "born in 1984", "born in 1984").value == 1
    assert score(exact, "Paris is the", "Paris is the capital").parsed == "Paris is the"


def test_a_scorer_that_fails_is_named():
    def broken(answer: str, example: Example) -> Score:
        raise ValueError("no")

    with pytest.raises(SpecError, match="its scorer fails"):
        score(broken, "x", "x")
