"""Answers as models really give them, and what a careful person reads in them."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from icl_harness.examples import Example
from icl_harness.tasks.scoring import Score, final_match, label_match

TABLE = Path(__file__).with_name("label_cases.yaml")


class Case(NamedTuple):
    answer: str
    labels: tuple[str, ...]
    meant: str | None


def cases() -> list[Case]:
    """The table, a case for each answer; the heading "= x" means label x."""
    found = []
    for entry in yaml.safe_load(TABLE.read_text(encoding="utf-8")):
        labels = tuple(entry.pop("labels"))
        for heading, answers in entry.items():
            meant = None if heading == "unparsed" else heading.removeprefix("= ")
            found += [Case(answer, labels, meant) for answer in answers]
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.answer[:40]!r}")
def test_an_answer_is_read_as_a_careful_person_would(case: Case) -> None:
    for target in case.labels:
        example = Example(id="q", input="?", target=target, choices=case.labels)
        expected = Score(case.meant, float(case.meant == target))
        assert label_match(case.answer, example) == expected


def test_the_table_holds_every_kind_of_label_and_each_answer_once() -> None:
    table = cases()
    assert len(table) > 1100
    assert len({(case.answer, case.labels) for case in table}) == len(table)
    assert all(case.meant in (*case.labels, None) for case in table)


SETS = (
    ("negative", "neutral", "positive"), ("A", "B", "C", "D"), ("-1", "0", "1"), ("1", "5", "10"),
    ("toxic", "non-toxic"), ("entailment", "not_entailment"), ("valid", "invalid"),
    ("World", "Sports", "Business", "Sci/Tech"), ("DESC:def", "DESC:desc", "NUM:count"),
    ("email_query", "email_querycontact"), ("card_arrival", "reverted_card_payment?"),
    ("négatif", "positif"), ("正面", "负面"), ("Foo", "Bar"), ("No", "Yes"), ("False", "True"),
)  # fmt: skip
DRESSES = (
    "{}", " {}", "\n\n{}", "{}.", "{}\n", "**{}**", "`{}`", '"{}"', "“{}”", "({})", "[{}]", "<{}>",
    "- {}", "Label: {}", "label：{}", "**Label:** {}", "Answer: {}", "The answer is {}.",
    "The label is {}", "It is {}.", "I would say {}.", "Final answer: {}", "\\boxed{{{}}}",
    "$\\boxed{{\\text{{{}}}}}$", "<answer>{}</answer>", '{{"label": "{}"}}', "```\n{}\n```",
    "答案：{}", "Réponse : {}", "Die Antwort ist {}.", "{}</s>", "Sure! The label is {}.",
    "{}\n\nExplanation: as the text says.", "{}\nInput: x\nOutput: y", "So the answer is {}.",
    "I am not sure, but the answer is {}.", "Answer: {} (see above)", "{}, because it says so",
)  # fmt: skip
HEDGES = (
    "{} or {}", "{}/{}", "{}, {}", "{} and {}", "either {} or {}", "The answer is {} or {}.",
    "Answer: {} / {}", "both {} and {}", "neither {} nor {}", "[{}, {}]", "{}; {}", "{} | {}",
    "It could be {} or {}.", "**{}** or **{}**", "Label: {}, {}",
)  # fmt: skip
DENIED = ("not {}", "It is not {}.", "It isn't {}", "The answer is not {}.", "neither {}")


@settings(deadline=None)
@given(st.sampled_from(SETS), st.data(), st.sampled_from(DRESSES))
def test_a_label_in_any_dress_is_read(labels: tuple[str, ...], data, dress: str) -> None:
    label = data.draw(st.sampled_from(labels))
    for form in (label, unicodedata.normalize("NFD", label)):
        example = Example(id="q", input="?", target=label, choices=labels)
        assert label_match(dress.format(form), example) == Score(label, 1.0), dress.format(form)


@pytest.mark.parametrize("label", ["café", "über uns", "Ελλάδα", "が", "한국", "Việt Nam"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_read_however_labels_and_answers_write_them(label: str, form: str) -> None:
    label, other = unicodedata.normalize("NFD", label), unicodedata.normalize(form, label)
    example = Example(id="q", input="?", target=label, choices=(label, "x y"))
    for dress in DRESSES:
        assert label_match(dress.format(other), example) == Score(label, 1.0), dress


@settings(deadline=None)
@given(st.sampled_from(SETS), st.data(), st.sampled_from(HEDGES))
def test_two_labels_are_no_answer(labels: tuple[str, ...], data, hedge: str) -> None:
    two = data.draw(st.permutations(labels))[:2]
    answer = hedge.format(*two)
    for target in labels:
        example = Example(id="q", input="?", target=target, choices=labels)
        assert label_match(answer, example) == Score(None, 0.0), answer


@settings(deadline=None)
@given(st.sampled_from(SETS), st.data(), st.sampled_from(DENIED))
def test_a_denied_label_never_counts_as_it(labels: tuple[str, ...], data, denied: str) -> None:
    label = data.draw(st.sampled_from(labels))
    answer = denied.format(label)
    assume(answer not in labels and not label.startswith(("not", "non")))
    example = Example(id="q", input="?", target=label, choices=labels)
    assert label_match(answer, example).value == 0.0, answer


@pytest.mark.parametrize(
    "part",
    ["not ", "is a ", "is A, ", "(", "positive ", "positive or negative ", "- ", "\n", "```\n",
     "A. x\n", "the answer is not\n", " ", "_", "a_", "Sentence: positive ",
     "<answer>", "\\boxed{"],
)  # fmt: skip
@pytest.mark.slow
@pytest.mark.timeout(60)  # each takes a second or two; with the square of the length, minutes
def test_long_answers_take_no_long_time(part: str) -> None:
    text = part * (100_000 // len(part))
    for labels in (("A", "B"), ("negative", "positive"), ("-1", "1")):
        label_match(text, Example(id="q", input="?", target=labels[0], choices=labels))
        final_match(text, Example(id="q", input="?", target=labels[0], choices=labels))
    for target in ("] ]", "apple banana", "north"):
        final_match(text, Example(id="q", input="?", target=target))
