"""How many times as many shots: the ratio is found as often as is said, and its limits are open
where nothing bounds it.
"""

from dataclasses import replace

import numpy as np
import pytest

from icl_harness.analysis.questions.efficiency import efficiency
from icl_harness.analysis.questions.efficiency_ratio import ratio_needed, shots_needed
from icl_harness.analysis.questions.lines import angles_of
from icl_harness.analysis.questions.pairs import curves_in, lines_of
from icl_harness.errors import SpecError
from tests.analysis.questions.made_curves import SHARE, SHOTS, learning, made, where

RISING = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def ratio_of(joint, target):
    points = lines_of(joint, curves_in(joint), even=True)
    level = float(angles_of(np.array(target), SHARE))
    return ratio_needed(replace(points, values=points.values - level), len(SHOTS))


@pytest.mark.parametrize(
    ("slow", "fast", "target"), [(3.0, 2.5, 0.7), (4.0, 2.0, 0.8), (5.0, 3.0, 0.9)]
)
def test_limits_of_a_ratio_hold_the_truth_in_95_of_100_cases(slow, fast, target):
    """In the last case the slow curve does not reach the target within 64 shots."""
    curves = {"slow supervised": learning(slow), "fast supervised": learning(fast)}
    truth = where(learning(slow), target) / where(learning(fast), target)
    rng = np.random.default_rng(2)
    found = [ratio_of(made(curves, rng, se=0.03), target) for _ in range(40)]
    held = [one.low <= truth <= one.high for one in found]
    assert np.mean(held) >= 0.9
    assert np.isinf([one.high for one in found]).all() == (slow == 5.0)


def test_the_ratio_of_smooth_curves_is_that_of_their_shots():
    curves = {"slow supervised": learning(3.0), "fast supervised": learning(2.5)}
    found = ratio_of(made(curves, se=0.001), 0.7)
    assert found.shots == pytest.approx(where(learning(3.0), 0.7), rel=0.02)
    assert found.others == pytest.approx(where(learning(2.5), 0.7), rel=0.02)
    assert found.low < found.value < found.high < 1.1 * found.low


def test_its_limits_are_those_of_a_simulation_where_curves_are_steep():
    """Percentiles of the ratio over many measurements, as a bootstrap has them."""
    curves = {"slow supervised": learning(3.0), "fast supervised": learning(2.0)}
    joint, rng = made(curves, se=0.005), np.random.default_rng(1)
    points = lines_of(joint, curves_in(joint), even=False)
    ratios = []
    for values in rng.multivariate_normal(points.values, points.covariance, 300):
        one, other = (np.interp(0.6, part, np.log2(1 + SHOTS)) for part in np.split(values, 2))
        ratios.append((2**one - 1) / (2**other - 1))
    low, high = np.quantile(np.log(ratios), [0.025, 0.975])
    found = ratio_of(joint, 0.6)
    assert np.log(found.high / found.low) == pytest.approx(high - low, rel=0.2)


@pytest.mark.parametrize(
    ("values", "count"),
    [(RISING, 3.0), (RISING + 0.5, 0.0), (RISING - 0.6, np.nan), (RISING[::-1], 0.0)],
)
def test_shots_needed_are_where_a_curve_first_gets_there(values, count):
    joint = made({"m supervised": values}, limits=(-np.inf, np.inf))
    line = lines_of(joint, curves_in(joint), even=False)
    found = shots_needed(replace(line, values=line.values - 0.35))
    assert found == pytest.approx(count, rel=0.1, nan_ok=True)


def said(curve, other, **options) -> str:
    joint = made({"m supervised": curve, "baseline/bayes supervised": other}, se=0.0094)
    (answer,) = efficiency(joint, **options)
    return answer.sentence


SHIFTED = np.append(RISING[1:], 0.9)  # needs half the shots, and one less
CASES = {
    "both reach it": (
        (RISING, SHIFTED, 0.5),
        "m needs 8 shots for accuracy .500, baseline/bayes 4: 2.00 times as many [1.76, 2.27].",
    ),
    "usual target": (
        (RISING, SHIFTED, None),
        "m needs 23 shots for accuracy .650 (three quarters of the way from where both start to "
        "what both reach), baseline/bayes 11: 2.00 times as many [1.80, 2.21].",
    ),
    "one does not": (
        (RISING, SHIFTED, 0.85),
        "m needs more than 64 shots for accuracy .850, baseline/bayes 45: at least 1.33 times as "
        "many.",
    ),
    "neither does": (
        (RISING, SHIFTED, 0.97),
        "m needs more than 64 shots for accuracy .970, baseline/bayes more than 64: how many times "
        "as many is not known.",
    ),
    "both start there": (
        (RISING, SHIFTED, 0.05),
        "m needs 0 shots for accuracy .050, baseline/bayes 0: how many times as many is not known.",
    ),
    "no way in common": (
        (RISING[:1].repeat(8), SHIFTED, None),
        "m starts beyond what baseline/bayes reaches, or the other way round: no target lies on "
        "the way of both. --target sets one.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_sentence_says_what_is_known(name):
    (curve, other, target), sentence = CASES[name]
    assert said(curve, other, target=target) == f"made · supervised: {sentence}"


def test_lower_errors_are_better():
    joint = made(
        {"m supervised": 3 - RISING, "baseline/bayes supervised": 3 - SHIFTED},
        se=0.0094, metric="gold_nll", limits=(0.0, np.inf),
    )  # fmt: skip
    (answer,) = efficiency(joint, target=2.5)
    assert "needs 8 shots for gold_nll 2.500, baseline/bayes 4: 2.00 times" in answer.sentence
    assert answer.table["target"].is_monotonic_decreasing


@pytest.mark.parametrize("target", [-0.1, 1.01, 90])
def test_a_target_out_of_range_is_refused(target):
    with pytest.raises(SpecError, match="out of the range of accuracy, 0 to 1"):
        said(RISING, SHIFTED, target=target)


def test_the_table_has_targets_from_low_to_high():
    joint = made({"m supervised": RISING, "baseline/bayes supervised": SHIFTED}, se=0.0094)
    (answer,) = efficiency(joint, target=0.42)
    assert answer.table["target"].tolist() == [0.35, 0.42, 0.5, 0.65, 0.74]
    assert (answer.table["ci_low"] <= answer.table["ratio"]).all()
    assert (answer.table["ratio"] <= answer.table["ci_high"]).all()
