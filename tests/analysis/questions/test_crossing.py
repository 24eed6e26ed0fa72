"""Where curves cross: the truth is found as often as is said, and what is not known is said."""

import numpy as np
import pytest

from icl_harness.analysis.questions.crossing import crossing
from icl_harness.analysis.questions.signs import crossings, furthest_beyond, sure_signs
from tests.analysis.questions.made_curves import SHOTS, differences, learning, made, where

SLOW_LEARNER = learning(3.5, 0.3, 0.9)
FAST_STARTER = learning(2.5, 0.5, 0.8, 1.0)


def said(joint, **options) -> list[str]:
    return [answer.sentence for answer in crossing(joint, **options)]


FLAT = np.full(len(SHOTS), 0.5)
N = 200


@pytest.mark.parametrize("se", [0.02, 0.03])
def test_limits_of_a_crossing_hold_the_truth_in_95_of_100_cases(se):
    truth = where(lambda shots: SLOW_LEARNER(shots) - FAST_STARTER(shots))
    held = []
    for even in differences(FAST_STARTER, SLOW_LEARNER, N, se=se, seed=7):
        for one in crossings(even, sure_signs(even.points)):
            held.append(one.low <= truth <= one.high)
            assert one.rises
    assert len(held) > 0.8 * N
    assert 0.92 <= np.mean(held) <= 0.98


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_equal_curves_are_hardly_ever_said_to_cross_or_to_differ(level):
    signs = [
        sure_signs(even.points) for even in differences(FLAT - 0.5 + level, FLAT - 0.5 + level, N)
    ]
    assert np.mean([one.any() for one in signs]) <= 0.08
    assert np.mean([(one > 0).any() and (one < 0).any() for one in signs]) <= 0.03


@pytest.mark.parametrize("gap", [0.0, 0.01, 0.03])
def test_curves_that_meet_are_said_to_cross_in_at_most_5_of_100_cases(gap):
    """A crossing takes both signs; where one of them is sure, the other must not come by chance."""
    ahead = np.array([0.7, 0.7, 0.7, 0.7, 0.5, 0.5, 0.5, 0.5]) + gap
    found = [crossings(one, sure_signs(one.points)) for one in differences(ahead, FLAT, N, seed=5)]
    assert np.mean([bool(one) for one in found]) <= 0.06


def test_a_curve_said_to_stay_ahead_truly_does():
    """One point is level: that the other is ahead at all must be said in at most 5 of 100 cases."""
    ahead = np.array([0.9, 0.9, 0.9, 0.5, 0.9, 0.9, 0.9, 0.9])
    found = [(one.points.p_above < 0.05).all() for one in differences(FLAT, ahead, N, seed=6)]
    assert 0.02 <= np.mean(found) <= 0.08


def test_the_bound_on_a_reversal_holds():
    found = [furthest_beyond(one.points, -1) for one in differences(FLAT, FLAT + 0.02, N, seed=9)]
    truth = np.arcsin(np.sqrt(0.52)) - np.arcsin(np.sqrt(0.5))
    assert np.mean(np.array(found) < truth) <= 0.06


CROSS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
CASES = {
    "cross": (CROSS, np.full(8, 0.45), "cross at 5.6 shots [5.1, 6.3], from where on a is ahead."),
    "cross twice": (
        np.array([0.2, 0.2, 0.4, 0.8, 0.8, 0.8, 0.4, 0.2]),
        np.full(8, 0.5),
        "cross at 2.4 shots [2.3, 2.5], from where on a is ahead, and at 27 shots [26, 28], from "
        "where on b is ahead.",
    ),
    "stay apart": (
        CROSS + 0.1, CROSS,
        "do not cross from 0 to 64 shots: a is ahead at every shot count (p < .001).",
    ),
    "partly": (
        np.array([0.5, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9]),
        np.array([0.5, 0.6, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9]),
        "are not seen to cross: a is ahead at 1 and 2 shots; at the others they cannot be told "
        "apart, and b is nowhere ahead by more than .026.",
    ),
    "equal": (
        np.full(8, 0.5), np.full(8, 0.5),
        "cannot be told apart at any of 8 shot counts, so that nothing is known of a crossing; "
        "they differ by at most .026.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_sentence_says_what_is_known(name):
    a, b, sentence = CASES[name]
    joint = made({"a supervised": a, "b supervised": b}, se=0.0094)
    assert said(joint) == [f"made · supervised: a and b {sentence}"]


def test_the_order_of_the_curves_makes_no_difference():
    a, b, _ = CASES["cross"]
    (one,) = said(made({"b supervised": b, "a supervised": a}, se=0.0094))
    assert one.endswith("cross at 5.6 shots [5.1, 6.3], from where on a is ahead.")


def test_one_draw_is_said_to_leave_draws_out_and_has_no_p_value():
    joint = made({"a supervised": CROSS + 0.1, "b supervised": CROSS}, covers="queries")
    (answer,) = crossing(joint)
    assert "at every shot count. One draw was made" in answer.sentence
    assert answer.table["p_value"].isna().all()


def test_points_at_which_both_hold_the_same_prompts_are_left_out():
    joint = made({"m supervised": CROSS + 0.1, "m unsupervised": CROSS})
    joint.points.loc[8, "value"] = joint.points["value"][0]  # zero-shot answers are the same
    for part in (joint.covariance, joint.of_draws):
        part[8, :] = part[0, :]
        part[:, 8] = part[:, 0]
    (answer,) = crossing(joint)
    assert "do not cross from 1 to 64 shots" in answer.sentence
    assert answer.table["shots"].tolist() == [1, 2, 4, 8, 16, 32, 64]


def test_curves_of_other_grids_are_compared_where_they_overlap():
    joint = made({"a supervised": CROSS, "b supervised": np.full(8, 0.45)}, se=0.0094)
    kept = [*range(8), 10, 12, 14]  # b at 2, 8 and 32 shots
    (answer,) = crossing(joint.at(kept))
    assert answer.table["shots"].tolist() == [2, 4, 8, 16, 32]
    assert "cross at 5.6 shots" in answer.sentence


def test_lower_errors_are_ahead():
    falling = 3 - 2 * CROSS
    joint = made(
        {"a supervised": falling, "b supervised": np.full(8, 2.1)}, se=0.02,
        metric="gold_nll", limits=(0.0, np.inf),
    )  # fmt: skip
    (one,) = said(joint)
    assert one.endswith("cross at 5.7 shots [5.0, 6.3], from where on a is ahead.")


def test_pairs_differ_in_one_thing_and_baselines_are_held_against_nothing_here():
    flat = np.full(8, 0.5)
    names = ["m supervised", "m unsupervised", "n supervised", "baseline/knn supervised",
             "m supervised flipped"]  # fmt: skip
    about = {answer.about for answer in crossing(made(dict.fromkeys(names, flat)))}
    assert about == {
        "made · m: supervised and unsupervised",
        "made · supervised: m and n",
        "made · m · supervised: default and flipped",
    }


def test_baselines_alone_are_compared_with_each_other():
    joint = made({"baseline/knn supervised": CROSS, "baseline/bayes supervised": CROSS + 0.1})
    assert len(said(joint)) == 1


@pytest.mark.parametrize(
    ("against", "about"),
    [
        ("n", ["made · supervised: m and n"]),
        ("unsupervised", ["made · m: supervised and unsupervised"]),
        ("flipped", ["made · m · supervised: default and flipped"]),
        (
            "m unsupervised",
            [
                "made · m: supervised and unsupervised",
                "made: n supervised and m unsupervised",
                "made · m: supervised flipped and unsupervised default",
            ],
        ),
    ],
)
def test_against_chooses_what_each_curve_is_held_against(against, about):
    flat = np.full(8, 0.5)
    names = ["m supervised", "m unsupervised", "n supervised", "m supervised flipped"]
    found = [one.about for one in crossing(made(dict.fromkeys(names, flat)), against=against)]
    assert found == about
