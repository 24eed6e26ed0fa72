"""Answers as models really give them, and what a careful person reads in them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from icl_harness.examples import Example
from icl_harness.tasks.scoring import Score, label_match

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
