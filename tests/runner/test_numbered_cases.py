"""Replies to several queries in the ways of many models, with what a person finds in them."""

from __future__ import annotations

from pathlib import Path

import yaml

from icl_harness.runner.numbered_answers import parse_answers

CASES = yaml.safe_load(Path(__file__).with_name("numbered_cases.yaml").read_text("utf-8"))


def test_each_answer_is_found_under_its_number() -> None:
    misread = []
    for reply, answers in CASES:
        found = parse_answers(reply, len(answers))
        stripped = [None if answer is None else answer.strip() for answer in found]
        if stripped != answers:
            misread.append((reply, stripped))
    assert not misread
