"""Numbers that may be off: the score of one answer, RMSE and R² as scikit-learn has them; boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness import Example, ScoredAnswer, boxed_answer, number_close, r2, rmse
from icl_harness.analysis.influence import pseudo_values
from icl_harness.errors import DataError
from icl_harness.tasks.metrics import Metric

CLOSE = [
    ("79.99", " 79.99", "79.99", 1.0),
    ("80", "The answer is 72.", "72", 0.9),
    ("80", "88.0", "88", 0.9),
    ("80", "200", "200", 0.0),
    ("80", "-80", "-80", 0.0),
    ("-4", "-3", "-3", 0.75),
    ("0", "0.0", "0", 1.0),
    ("0", "0.1", "0.1", 0.0),
    ("3", "1/3", "1/3", 1 / 9),
    ("1,250", "1250", "1250", 1.0),
    ("80", "", None, 0.0),
    ("80", "about as strong as the last one", None, 0.0),
    ("80", "between 70 and 90", None, 0.0),
    ("80", "9" * 120, None, 0.0),
]


@pytest.mark.parametrize(("target", "answer", "parsed", "value"), CLOSE)
def test_a_number_scores_by_its_relative_error(
    target: str, answer: str, parsed: str | None, value: float
) -> None:
    score = number_close(answer, Example(id="q", input="x", target=target))
    assert score.parsed == parsed
    assert score.value == pytest.approx(value)


def test_a_target_that_is_no_number_is_an_error() -> None:
    with pytest.raises(DataError, match="the target 'tall' is no number"):
        number_close("3", Example(id="q", input="x", target="tall"))


def value_of(metric: Metric, said: list[float | None], gold: list[float]) -> float:
    answers = [
        ScoredAnswer(parsed=None if a is None else str(a), target=str(t), score=0.0, labels=())
        for a, t in zip(said, gold, strict=True)
    ]
    assert metric.statistic is not None
    rows = np.array([metric.statistic(answer) for answer in answers])
    zeros = np.zeros(len(rows), dtype=np.intp)
    return pseudo_values(metric, rows, zeros, np.arange(len(rows)))[0]


NUMBERS = st.floats(-1000, 1000).map(lambda number: round(number, 3))


@settings(deadline=None)  # the first one imports scikit-learn
@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.booleans()), min_size=3, max_size=40))
def test_rmse_and_r2_are_scikit_learn_s_an_unread_answer_counting_as_the_mean(
    answers: list[tuple[float, float, bool]],
) -> None:
    from sklearn.metrics import r2_score, root_mean_squared_error

    gold = [target for _, target, _ in answers]
    said = [None if lost else number for number, _, lost in answers]
    filled = [float(np.mean(gold)) if number is None else number for number in said]
    expected = root_mean_squared_error(gold, filled)
    assert value_of(rmse, said, gold) == pytest.approx(expected, rel=1e-6, abs=1e-4)
    if np.std(gold) > 0.1:
        assert value_of(r2, said, gold) == pytest.approx(r2_score(gold, filled), rel=1e-5, abs=1e-5)


def test_r2_has_no_value_where_all_targets_are_the_same() -> None:
    assert math.isnan(value_of(r2, [1.0, 2.0], [3.0, 3.0]))
    assert value_of(rmse, [1.0, 5.0], [3.0, 3.0]) == 2.0


BOXES = {
    r"so $\boxed{5}$.": "5",
    r"\boxed{\frac{\sqrt{3}}{2}}": r"\frac{\sqrt{3}}{2}",
    r"\boxed{\left\{1,2\right\}}": r"\left\{1,2\right\}",
    r"\boxed{1}, no: $\boxed{2}$": "2",
    r"\fbox{7}": "7",
    r"the answer is $\boxed 9$.": "9",
    r"\boxed{\boxed{5}}": "5",
    r"\boxed{}": None,
    r"\boxed{1": None,
    "5": None,
    "": None,
}


@pytest.mark.parametrize("solution", BOXES)
def test_a_solution_s_answer_is_in_its_last_box(solution: str) -> None:
    assert boxed_answer(solution) == BOXES[solution]
