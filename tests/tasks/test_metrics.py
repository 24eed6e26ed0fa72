"""Metrics: what a task may bring, and what is refused in one line."""

from __future__ import annotations

import math
from typing import Any

import pytest

from icl_harness import Example, Metric, ScoredAnswer, Task, accuracy, label_match, macro_f1
from icl_harness.errors import SpecError
from icl_harness.tasks.metrics import find_metric


def task(metric: Any) -> Task:
    def generate(rng, variant, draw):
        return [Example(id="p", input="a", target="x")], [Example(id="q", input="b", target="x")]

    return Task(prompts="toy", scorer=label_match, generate=generate, metric=metric)


def test_a_task_names_a_metric_or_brings_one() -> None:
    own = Metric(name="words", statistic=lambda answer: [len(answer.target)], range=(0, math.inf))
    assert task("macro_f1").metric is macro_f1
    assert task(accuracy).metric is accuracy
    assert task(own).metric is own


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (
            "macrof1",
            r"'macrof1'; it must be accuracy, macro_f1, .* or a Metric\(…\)\. Nearest: macro_f1",
        ),
        (len, r"built-in function len>; it must be accuracy"),
        (Metric(name="accuracy", range=(0, 2)), r"is called 'accuracy', as another one of the lib"),
    ],
)
def test_a_task_with_another_metric_is_refused_in_one_line(metric: Any, says: str) -> None:
    with pytest.raises(SpecError, match=f"^the task's metric is .*{says}|{says}") as caught:
        task(metric)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": " "}, "name is ' '; it must be a text"),
        ({"name": "m", "statistic": 3}, "its statistic is 3; it must be a function"),
        ({"name": "m", "aggregate": max}, "an aggregate needs a statistic"),
        ({"name": "m", "range": (1, 0)}, r"its range is \(1, 0\); it must be two numbers, the low"),
        ({"name": "m", "range": (0, math.nan)}, "it must be two numbers"),
        ({"name": "m", "range": "01"}, "it must be two numbers"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_in_one_line(fields: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        Metric(**fields)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    own = Metric(name="mean words")
    assert find_metric("mean words", [own]) is own
    with pytest.raises(
        SpecError, match=r"no metric 'mean word'\. Nearest: mean words\. Known: mean"
    ):
        find_metric("mean word", [own])


def test_macro_f1_is_refused_where_answers_are_free_texts() -> None:
    labels = tuple(f"answer {i}" for i in range(3000))
    answer = ScoredAnswer(parsed="answer 1", target="answer 2", score=0.0, labels=labels)
    assert macro_f1.statistic is not None
    with pytest.raises(SpecError, match=r"3,000 different labels .* fixed set"):
        macro_f1.statistic(answer)
