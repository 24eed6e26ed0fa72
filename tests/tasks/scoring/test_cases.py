"""Answers as models give them, each with the verdict of a careful person, through the scorers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icl_harness.examples import Example
from icl_harness.tasks.scoring import Scorer, final_match, label_match, number_match

CASES = Path(__file__).parents[3].parent / "shared" / "cases" / "answers.jsonl"
SCORERS: dict[str, Scorer] = {"number": number_match, "label": label_match, "final": final_match}


def cases(scorer: str) -> list[dict[str, Any]]:
    if not CASES.exists():
        pytest.skip(f"the judged answers are absent: {CASES} does not exist")
    judged = [json.loads(line) for line in CASES.read_text("utf-8").splitlines()]
    return [case for case in judged if case["scorer"] == scorer]


@pytest.mark.parametrize("scorer", SCORERS)
def test_every_judged_answer_is_scored_as_a_careful_person_would(scorer: str) -> None:
    wrong = []
    for case in cases(scorer):
        choices = tuple(case["choices"] or ())
        example = Example(id="case", input="?", target=case["target"], choices=choices)
        score = SCORERS[scorer](case["answer"], example)
        if score.value != case["right"]:
            wrong.append((case["answer"], case["target"], score.parsed))
    assert not wrong, f"{len(wrong)} judged otherwise"
