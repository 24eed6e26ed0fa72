"""Trend, gain, within and peak: what is said of curves whose truth is known, and how often it is
wrong.
"""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from icl_harness.analysis.joint import joints
from icl_harness.analysis.questions.peak import peak
from icl_harness.analysis.questions.trend import gain, trend
from icl_harness.analysis.questions.within import within
from icl_harness.errors import SpecError
from tests.analysis.questions.made_curves import SHOTS, made
from tests.analysis.test_joint import answers, records

FLAT = np.full(8, 0.5)
RISING = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
LEVELS = np.array([0.3, 0.4, 0.5, 0.6, 0.7, 0.78, 0.8, 0.8])  # within .05 of its best from 16 on
PEAKED = np.array([0.3, 0.4, 0.5, 0.7, 0.8, 0.7, 0.6, 0.5])
FALLING = RISING[::-1].copy()
BUMP = FLAT + 0.01 * (SHOTS == 4)
N = 60
QUESTIONS = {"trend": trend, "gain": gain, "within": within, "peak": peak}


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module(peak.__module__), "N_SAMPLES", 500)


def said(question, values, **options) -> str:
    metric = {name: options.pop(name) for name in ("metric", "limits", "covers") if name in options}
    shots = SHOTS[: len(values)]
    joint = made({"m supervised": np.asarray(values)}, shots=shots, se=0.01, **metric)
    (answer,) = question(joint, **options)
    assert answer.about == "made · m · supervised"
    assert answer.sentence.startswith(answer.about)
    return answer.sentence.removeprefix(answer.about).strip()


NLL = {"metric": "gold_nll", "limits": (0.0, np.inf)}
CASES = {
    "improves": (trend, RISING, {}, "improves with shots: +.118 [+.116, +.121] per doubling"),
    "gets worse": (trend, FALLING, {}, "gets worse with shots: -.118 [-.121, -.116]"),
    "flat": (trend, FLAT, {}, "has no sure trend with shots: +.000"),
    "less surprised": (trend, FALLING, NLL, "improves with shots: -.118"),
    "two points": (trend, RISING[:2], {}, "improves with shots: +.100"),
    "one point": (trend, RISING[:1], {}, "has one shot count: a trend needs two."),
    "gains": (gain, RISING, {}, "the last step, from 32 to 64 shots, brings +.102"),
    "a gain of two": (gain, RISING[:2], {}, "on average, from 0 to 1 shots."),
    "no gain": (gain, RISING[:1], {}, "has one shot count: a trend needs two."),
    "within": (within, LEVELS, {"within": 0.05}, "from 16 shots on (95 % sure that it is there"),
    "far": (within, RISING, {"within": 0.05}, "is within .050 of its best (at 64 shots) from 64"),
    "always": (within, FLAT, {"within": 0.05}, "(at 0 shots) from 0 shots on (95 % sure"),
    "usual distance": (within, RISING, {}, "is within .020 of its best"),
    "not at its end": (within, PEAKED, {}, "is not within .020 of its best (at 8 shots) at its la"),
    "smaller is better": (within, FALLING, {**NLL, "within": 0.05}, "(at 64 shots) from 64"),
    "no usual distance": (within, FALLING, NLL, "has no usual distance in gold_nll: give --within"),
    "one to be within": (within, RISING[:1], {}, "has one shot count: its best needs two."),
    "peaks": (peak, PEAKED, {}, "peaks at 8 shots [8, 8] and then declines: it is .300 [.2"),
    "falls": (peak, FALLING, {}, "declines: it is best at 0 shots [0, 0], maybe from the start"),
    "rises": (peak, RISING, {}, "does not decline: it is best at its last shot count, 64."),
    "a small one": (peak, BUMP, {}, "has no sure decline: it is best at 4 shots, .010 [-"),
    "a dip": (peak, RISING, NLL, "declines: it is best at 0 shots [0, 0], maybe from the start"),
    "too few": (peak, RISING[:2], {}, "has fewer than three shot counts: a peak needs three."),
}


@pytest.mark.parametrize("case", CASES)
def test_sentences_say_what_is_so(case: str, few_samples: None) -> None:
    question, values, options, sentence = CASES[case]
    assert sentence in said(question, values, **options)


@pytest.mark.parametrize("question", QUESTIONS)
def test_one_draw_is_said_and_has_no_p_value(question: str, few_samples: None) -> None:
    sentence = said(QUESTIONS[question], PEAKED, covers="queries")
    assert "One draw was made" in sentence
    assert "p =" not in sentence
    assert "p <" not in sentence


@pytest.mark.parametrize("distance", [0.0, -0.1, float("nan"), float("inf")])
def test_a_distance_is_above_0(distance: float) -> None:
    with pytest.raises(SpecError, match=f"--within {distance:g}: a distance"):
        list(within(made({"m supervised": RISING}), within=distance))


def measured(curve: np.ndarray, seed: int, n: int = N):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield made({"m supervised": curve}, rng)


@pytest.mark.slow
def test_a_flat_curve_has_a_peak_in_at_most_5_of_100_cases(few_samples: None) -> None:
    found = [next(peak(joint)).table["p_value"].min() < 0.05 for joint in measured(FLAT, 1)]
    assert np.mean(found) <= 0.11  # 5 % and two standard errors of 60 cases


@pytest.mark.slow
def test_a_rising_curve_has_a_peak_hardly_ever_and_a_peaked_one_nearly_always(
    few_samples: None,
) -> None:
    for curve, low, high in ((LEVELS, 0.0, 0.05), (PEAKED, 0.95, 1.0)):
        found = [next(peak(joint)).table["p_value"].min() < 0.05 for joint in measured(curve, 2)]
        assert low <= np.mean(found) <= high


@pytest.mark.slow
def test_the_place_of_a_peak_is_within_its_limits(few_samples: None) -> None:
    tables = [next(peak(joint)).table for joint in measured(PEAKED, 3)]
    assert np.mean([table["may_be_best"][4] for table in tables]) >= 0.9


@pytest.mark.slow
def test_slopes_are_within_their_limits_and_flat_curves_have_none() -> None:
    places = np.log2(1 + SHOTS)
    slope = np.polyfit(places, LEVELS, 1)[0]
    rows = [next(trend(joint)).table.iloc[0] for joint in measured(LEVELS, 4)]
    assert np.mean([row.ci_low <= slope <= row.ci_high for row in rows]) >= 0.9
    rows = [next(trend(joint)).table.iloc[0] for joint in measured(FLAT, 5)]
    assert np.mean([row.p_value < 0.05 for row in rows]) <= 0.11


@pytest.mark.slow
def test_the_shots_from_which_on_a_curve_is_near_its_best_are_within_their_limits() -> None:
    held, proved = [], []
    for joint in measured(LEVELS, 6, 20):
        table = next(within(joint, within=0.05)).table
        sure = (table["p_within"] < 0.025).to_numpy()
        first = int(np.flatnonzero(~sure).max(initial=-1)) + 1
        not_yet = int(np.argmin([*(table["p_not_within"] < 0.025), False]))
        held.append(not_yet <= 5 <= first)
        proved.append(first < 8)
    assert np.mean(held) >= 0.9
    assert np.mean(proved) > 0.5


@pytest.mark.parametrize("n_draws", [3, 5])
def test_flat_curves_of_answers_have_a_trend_in_at_most_5_of_100_cases(n_draws: int) -> None:
    rng = np.random.default_rng(n_draws)
    wrong = 0
    for _ in range(10):
        logits = 0.5 * rng.standard_normal((4, n_draws, 1)) + rng.standard_normal((1, 1, 60))
        right = rng.random((4, n_draws, 60)) < 1 / (1 + np.exp(-logits))
        (joint,) = joints(records(right))
        wrong += next(trend(joint)).table["p_value"].iloc[0] < 0.05
    assert wrong <= 2


def test_points_that_hold_the_same_prompts_are_one() -> None:
    table = records(answers(1))
    table["shots_used"] = table["shots_used"].clip(upper=16)
    (joint,) = joints(table)
    assert next(trend(joint)).table["last_shots"].iloc[0] == 16
    assert list(next(peak(joint)).table["shots"]) == [1, 4, 16]
