"""From which shot count on a curve is ahead of another: found as often as is said."""

import numpy as np
import pytest

from icl_harness.analysis.questions.pairs import check_against
from icl_harness.analysis.questions.passing import ahead_from, passed_at, passing
from icl_harness.errors import SpecError
from tests.analysis.questions.made_curves import SHOTS, differences, learning, made, where

LEARNER = learning(3.5, 0.3, 0.9)
NEIGHBOURS = learning(2.5, 0.5, 0.8, 1.0)
RISING = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
FLAT = np.full(len(SHOTS), 0.5)
N = 200


def said(joint, **options) -> list[str]:
    return [answer.sentence for answer in passing(joint, **options)]


def test_limits_of_a_passing_hold_the_truth_in_95_of_100_cases():
    truth = where(lambda shots: LEARNER(shots) - NEIGHBOURS(shots))
    held = []
    for even in differences(NEIGHBOURS, LEARNER, N, se=0.03, seed=8):
        ahead = ahead_from(even.points)
        if ahead:
            found = passed_at(even, ahead)
            held.append(found.low <= truth <= found.high)
    assert len(held) > 0.8 * N
    assert 0.92 <= np.mean(held) <= 0.98


def test_ahead_from_some_count_on_for_sure_is_wrong_in_at_most_5_of_100_cases():
    """The curve is level with the other up to 8 shots."""
    truth = np.where(SHOTS > 8, 0.65, 0.5)
    wrong = 0
    for even in differences(FLAT, truth, 300, seed=4):
        ahead = ahead_from(even.points)
        wrong += ahead is not None and SHOTS[ahead] <= 8
    assert wrong / 300 <= 0.08


CASES = {
    "passes": (
        RISING, np.full(8, 0.45),
        "passes baseline/knn at 5.6 shots [5.1, 6.3] and is ahead from 8 shots on for sure.",
    ),
    "is ahead": (
        RISING + 0.1, RISING,
        "is ahead of baseline/knn at every shot count from 0 to 64 for sure.",
    ),
    "is behind": (
        RISING, RISING + 0.1,
        "does not pass baseline/knn within 64 shots: there it is .100 behind [.087, .113].",
    ),
    "is level": (
        FLAT, FLAT,
        "is not ahead of baseline/knn for sure at 64 shots, its most: the difference there is "
        ".000 [-.018, .018].",
    ),
    "is level, then ahead": (
        np.where(SHOTS > 8, 0.8, 0.5), FLAT,
        "passes baseline/knn at 8.0 shots [at most 8.5] and is ahead from 16 shots on for sure.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_sentence_says_what_is_known(name):
    curve, other, sentence = CASES[name]
    joint = made({"m supervised": curve, "baseline/knn supervised": other}, se=0.0094)
    assert said(joint) == [f"made · supervised: m {sentence}"]


def test_each_curve_is_held_against_the_baselines_of_its_mode():
    names = ["m supervised", "m unsupervised", "baseline/knn supervised",
             "baseline/bayes supervised", "baseline/bayes unsupervised"]  # fmt: skip
    about = [answer.about for answer in passing(made(dict.fromkeys(names, FLAT)))]
    assert about == [
        "made · supervised: m against baseline/knn",
        "made · supervised: m against baseline/bayes",
        "made · unsupervised: m against baseline/bayes",
    ]


def test_without_baselines_the_answer_is_to_name_a_curve():
    joint = made({"m supervised": FLAT, "n supervised": FLAT})
    (one,) = said(joint)
    assert one.startswith("made: there is no baseline to hold curves against; run one")
    assert "m is not ahead of n" in said(joint, against="n")[0]


def test_a_model_of_one_point_is_a_level():
    joint = made({"m supervised": RISING, "tuned supervised": np.array([0.45])}, se=0.0094)
    (one,) = said(joint.at(range(9)), against="tuned")
    assert one == (
        "made · supervised: m passes tuned (its one point, at all shot counts) at 5.6 shots "
        "[5.0, 6.3] and is ahead from 8 shots on for sure."
    )


def test_a_baseline_of_another_mode_may_be_named():
    joint = made({"m unsupervised": RISING, "baseline/knn supervised": FLAT})
    assert "no baseline" in said(joint)[0]
    assert "m unsupervised passes baseline/knn supervised" in said(joint, against="baseline/knn")[0]


def test_no_shots_in_common_is_said():
    joint = made({"m supervised": RISING, "baseline/knn supervised": RISING})
    (one,) = said(joint.at([0, 1, 2, 3, 13, 14, 15]))
    assert "no shot counts in common" in one


def test_a_name_that_no_curve_has_is_refused_with_the_nearest():
    joint = made({"m supervised": FLAT, "baseline/knn supervised": FLAT})
    check_against([joint], "baseline/knn")
    check_against([joint], "m supervised")
    with pytest.raises(SpecError, match="Nearest: baseline/knn"):
        check_against([joint], "baseline/kn")
