"""Answers in the ways of many models and languages, written before looking at what is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from icl_harness.examples import Example
from icl_harness.tasks.scoring import Scorer, final_match, label_match, latex_match, number_match

CASES: list[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("blind_cases.yaml").read_text("utf-8")
)
SCORERS: dict[str, Scorer] = {
    "number": number_match, "label": label_match, "final": final_match, "latex": latex_match,
}  # fmt: skip
VERDICTS: dict[str, Callable[[float, str | None], bool]] = {
    "right": lambda value, parsed: value == 1.0,
    "wrong": lambda value, parsed: value == 0.0 and parsed is not None,
    "unparsed": lambda value, parsed: value == 0.0 and parsed is None,
}


@pytest.mark.parametrize(
    "scorer", ["number", "label", "final", pytest.param("latex", marks=pytest.mark.slow)]
)
def test_an_answer_is_scored_as_a_careful_person_would(scorer: str) -> None:
    misread = []
    for case in CASES:
        if case["scorer"] != scorer:
            continue
        choices = tuple(case.get("choices", ()))
        text = case.get("input", "?")
        example = Example(id="case", input=text, target=case["target"], choices=choices)
        for verdict, holds in VERDICTS.items():
            for answer in case.get(verdict, ()):
                score = SCORERS[scorer](answer, example)
                if not holds(score.value, score.parsed):
                    misread.append((verdict, answer, case["target"], score.parsed))
    assert not misread
