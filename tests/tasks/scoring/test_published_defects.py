"""Scorers of other programs went wrong in these ways; ours must not.

GSM8K by an expression that drops signs, commas and decimals; MATH by equality of the boxed texts;
chrF of a corpus by its first answer (test_texts.py). MATH is held to math-verify itself.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from icl_harness import Example, latex_match, number_match

NUMBERS = ["-5", "1,234", "3.50", "-1,234.25", "0.5", "1000000", "-0.75", "12,345,678", "20"]
FORMS = ["The final answer is {}.", "So it is.\n#### {}", "\\boxed{{{}}}", "The answer is **{}**."]


@pytest.mark.parametrize("gold", NUMBERS)
@pytest.mark.parametrize("form", FORMS)
def test_a_number_keeps_its_sign_commas_and_decimals(gold: str, form: str) -> None:
    example = Example(id="q", input="?", target=gold)
    assert number_match(form.format(gold), example).value == 1.0
    without_commas = gold.replace(",", "")
    assert number_match(form.format(without_commas), example).value == 1.0
    flipped = gold.removeprefix("-") if gold.startswith("-") else f"-{gold}"
    shorter = re.split(r"[,.]", gold)[0]
    for wrong in {flipped, shorter} - {gold}:
        assert number_match(form.format(wrong), example).value == 0.0, wrong


def other_forms(answer: str) -> list[str]:
    """Return ways to write the same expression, and some that say another."""
    forms = [
        f"${answer}$",
        f"\\boxed{{{answer}}}",
        answer.replace("\\frac", "\\dfrac"),
        answer.replace("\\left", "").replace("\\right", ""),
        re.sub(r"\\frac\{(\w+)\}\{(\w+)\}", r"(\1)/(\2)", answer),
        re.sub(r"\s+", "", answer) if "\\" not in answer else answer.replace(" ", "  "),
        f"x = {answer}",
        f"-({answer})",
        f"{answer} + 1",
        answer.replace("2", "3"),
    ]
    return [form for form in dict.fromkeys(forms) if form != answer]


@pytest.mark.slow
def test_mathematics_is_equal_where_math_verify_says_so(shared_data: Path) -> None:
    from math_verify import parse, verify

    lines = (shared_data / "math500/test.jsonl").read_text(encoding="utf-8").split("\n")
    answers = dict.fromkeys(json.loads(line)["answer"] for line in lines if line)
    hard = [a for a in answers if "\\" in a and "text" not in a and "=" not in a and len(a) < 60]
    verdicts = []
    for gold in hard[:60]:
        reference = parse(f"\\boxed{{{gold}}}")
        for form in other_forms(gold):
            inner = form.removeprefix("\\boxed{").removesuffix("}") if "boxed" in form else form
            said = parse(form if "$" in form else f"\\boxed{{{inner}}}")
            expected = verify(reference, said)
            score = latex_match(f"So.\nThe final answer is {form}.", example(gold))
            assert (score.value == 1.0) == expected, (gold, form, score)
            verdicts.append(expected)
    assert len(verdicts) >= 200
    assert 60 < sum(verdicts) < len(verdicts) - 60


def example(target: str) -> Example:
    return Example(id="q", input="?", target=target)
