"""Free answers: letter for letter but for their dress."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import icl_harness.tasks.scoring as scoring
from icl_harness.examples import Example
from icl_harness.tasks.scoring import Score, exact_match, final_answer, final_match

OPTIONS = ("(A)", "(B)", "(C)")


def example(target: str, choices: tuple[str, ...] = ()) -> Example:
    return Example(id="q", input="?", target=target, choices=choices)


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        (" Odd Even\nInput: 1", "Odd Even"),
        ("odd  even.", "Odd Even"),
        ("Odd, Even", "Odd Even"),
        ("] ] >", "] ] >"),
        ("]]>", "] ] >"),
        ("-11,520", "-11520"),
        ("−50", "-50"),
        ("**alpha beta**", "alpha beta"),
        ("`x`", "x"),
        ('"a b".', "a b"),
        ("dearth wind & fire", "dearth, wind, & fire"),
        ("cre\u0300me bru\u0302le\u0301e", "cr\u00e8me br\u00fbl\u00e9e"),
        ("cr\u00e8me br\u00fbl\u00e9e", "cre\u0300me bru\u0302le\u0301e"),
    ],
)
def test_the_dress_of_an_answer_does_not_matter(answer: str, target: str) -> None:
    assert exact_match(answer, example(target)).value == 1.0
    assert final_match(f"I think.\nThe final answer is {answer}", example(target)).value == 1.0


@pytest.mark.parametrize(
    ("answer", "target"),
    [("Odd", "Odd Even"), ("Odd Even Odd", "Odd Even"), ("Even Odd", "Odd Even"), ("50", "-50"),
     ("] >", "] ] >"), ("1.5", "15"), ("beta alpha", "alpha beta"), ("1,2", "12")],
)  # fmt: skip
def test_another_answer_is_wrong(answer: str, target: str) -> None:
    score = exact_match(answer, example(target))
    assert score.parsed is not None
    assert score.value == 0.0


@pytest.mark.parametrize("answer", ["", " \n ", "."])
def test_an_empty_answer_is_unparsed(answer: str) -> None:
    assert exact_match(answer, example("x")) == Score(None, 0.0)
    assert final_match(answer, example("x")) == Score(None, 0.0)


@pytest.mark.parametrize(
    "said",
    [
        "(B)",
        "B",
        "b",
        "(b)",
        "B)",
        "B.",
        "(B).",
        "**(B)**",
        "(B) a robin",
        "option B",
        "(B): a robin",
        r"\text{(B)}",
    ],
)
def test_options_match_by_their_letter(said: str) -> None:
    for answer in (said, f" {said}\n", f"Either (A) or (C).\nThe final answer is {said}"):
        assert final_match(answer, example("(B)", OPTIONS)) == Score("(B)", 1.0), answer
        assert final_match(answer, example("(A)", OPTIONS)) == Score("(B)", 0.0)


@pytest.mark.parametrize(
    "answer", ["a robin", "The robin is (B), or so.\nLet me see", "Because\nof (B)", "?"]
)
def test_what_names_no_option_is_unparsed(answer: str) -> None:
    assert final_match(answer, example("(B)", OPTIONS)) == Score(None, 0.0)


@pytest.mark.parametrize("said", ["Yes", "yes.", "**Yes**", "Yes, she does."])
def test_other_choices_match_as_labels(said: str) -> None:
    assert final_match(
        f"No doubt.\nThe final answer is {said}", example("Yes", ("No", "Yes"))
    ) == Score("Yes", 1.0)
    assert final_match(said, example("No", ("No", "Yes"))) == Score("Yes", 0.0)


def test_the_longer_of_two_choices_is_meant() -> None:
    assert final_match("invalid", example("valid", ("valid", "invalid"))) == Score("invalid", 0.0)


def test_the_last_final_answer_counts() -> None:
    assert final_answer("The final answer is 1.\nThe final answer is 2.") == "2."
    assert final_answer("Answer:\n2") == "2"
    assert final_answer(r"\boxed{1} and \boxed{x_{2}}") == "x_{2}"
    assert final_answer("nothing of the kind") is None
    assert final_answer("The final answer is") is None


@given(st.text(), st.sampled_from(["(A)", "Yes", "x y", "] ]", "7"]))
def test_any_text_is_scored_without_an_error(text: str, target: str) -> None:
    for scorer in (exact_match, final_match):
        score = scorer(text, example(target))
        assert score.value in (0.0, 1.0)
        assert score.parsed is not None or score.value == 0.0


def test_all_names_of_the_package_exist() -> None:
    assert all(hasattr(scoring, name) for name in scoring.__all__)
    assert sorted(scoring.__all__) == sorted(set(scoring.__all__))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (r"So \boxed{64}. Wait." + "\nThe final answer is 65.", "65."),
        ("The final answer is 65.\nIn short: " + r"\boxed{64}", "64"),
        (r"The final answer is \boxed{64}.", "64"),
        ("### Final Answer\n\n64", "64"),
        ("### Final Answer:\n64", "64"),
        ("**Final Answer**\n\n64", "64"),
        ("#### Final answer\r\n64", "64"),
        ("## Answer\n64", "64"),
        ("The final answer\n\n64", "64"),
        ("### Final Answer\n\nThe final answer is 64.", "64."),
        ("### Final Answer\n\n" + r"$\boxed{64}$", "64"),
        ("My final answer depends on 3\n64", None),
        ("### Final Answer\n", None),
    ],
)
def test_the_mark_that_stands_last_wins(answer: str, said: str | None) -> None:
    assert final_answer(answer) == said


@pytest.mark.parametrize(
    ("said", "target"),
    [("8 fruits", "8"), ("8 fruits.", "8"), ("There are 8 fruits", "8"), ("-30.0", "-30"),
     ("= -30", "-30"), ("5 * -6 = -30", "-30"), ("−30", "-30"), ("1 000", "1000"),
     ("0.50", "1/2"), (r"5 \times 6 = 30", "30")],
)  # fmt: skip
def test_targets_that_are_numbers_compare_as_numbers(said: str, target: str) -> None:
    for answer in (said, f" {said}", f"We have 5 * 2.\nThe final answer is {said}"):
        assert final_match(answer, example(target)).value == 1.0, answer


@pytest.mark.parametrize("said", ["9 fruits", "-8", "8.5"])
def test_another_number_is_wrong(said: str) -> None:
    score = final_match(said, example("8"))
    assert (score.parsed, score.value) == (said.partition(" ")[0], 0.0)


@pytest.mark.parametrize(
    "answer", ["I see 3 pears and 5 plums, so 8", "eight or 9", "5 * -6", "8 or 9"]
)
def test_a_number_that_is_not_said_clearly_is_unparsed(answer: str) -> None:
    assert final_match(answer, example("8")) == Score(None, 0.0)


def test_a_choice_that_is_denied_is_its_negation_where_there_is_one() -> None:
    answer = "The final answer is not valid"
    assert final_match(answer, example("valid", ("valid", "invalid"))) == Score("invalid", 0.0)
    assert final_match(answer, example("valid", ("valid", "sound"))) == Score(None, 0.0)


@pytest.mark.parametrize(
    ("scorer", "answer"),
    [
        (exact_match, "." * 200_000 + "x"),
        (exact_match, " . " * 100_000 + "x"),
        (final_match, "(a " * 100_000),
        (final_match, "The final answer is " + "7" * 200_000),
        (final_match, "answer: 1" + " " * 100_000 + "\\frac"),
        (final_match, "answer: 6" + " " * 100_000 + "{"),
        (final_match, "1" + " " * 100_000 + "million"),
        (final_match, "final answer" + " " * 100_000 + "x"),
    ],
)
def test_endless_answers_are_scored_without_error(scorer, answer) -> None:
    # Quadratic matching would take minutes here: the test's own time limit is what fails.
    assert scorer(answer, Example(id="a", input="x", target="5")).value == 0.0
