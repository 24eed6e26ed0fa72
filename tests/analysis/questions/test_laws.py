"""Laws: those that are true are found true and foretell, others are refused."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from icl_harness.analysis.questions.law_fits import Scale, fit_law, foretold
from icl_harness.analysis.questions.laws import laws
from icl_harness.analysis.questions.lines import in_angles
from icl_harness.analysis.questions.pairs import curves_in, line_of
from icl_harness.analysis.questions.scaling_laws import LAWS, parameters_of
from tests.analysis.questions.made_curves import SHARE, made

SHOTS = np.array([1.0, 2, 4, 8, 16, 32, 64, 128])
FREE = (-np.inf, np.inf)


def bayesian(shots, right, wrong, prior, efficiency):
    """The law as the paper writes it: over topics, each with its probability of the answer."""
    topics = np.array([[prior, right], [1 - prior, wrong]])
    exponent = efficiency * np.asarray(shots)[:, None]
    evidence = topics[:, 0] * topics[:, 1] ** exponent
    return (evidence * topics[:, 1]).sum(axis=1) / evidence.sum(axis=1)


TRUTHS = {
    "log-linear": 0.35 + 0.06 * np.log2(SHOTS),
    "power": 0.95 - 0.6 * SHOTS**-0.4,
    "Bayesian": bayesian(SHOTS, 0.9, 0.35, 0.25, 0.15),
}


def line(values, rng=None, *, se=0.01, limits=SHARE):
    joint = made({"m supervised": values}, rng, se=se, shots=SHOTS, limits=limits)
    return line_of(joint, curves_in(joint)[0], even=True)


def fitted(name, points, limits=SHARE, **options):
    return fit_law(LAWS[name], points, Scale(limits=limits, **options))


@pytest.mark.parametrize("name", TRUTHS)
def test_a_law_is_found_again_and_foretells_what_comes(name):
    every = line(TRUTHS[name], se=0.003)
    fit = fitted(name, every.only(np.arange(7)))
    assert fit.p_value() > 0.9
    found = foretold(fit, every, 7)
    assert found.value == pytest.approx(every.values[7], abs=0.003)
    assert found.low < every.values[7] < found.high


def test_the_bayesian_law_is_the_papers_and_its_parameters_come_back():
    fit = fitted("Bayesian", line(TRUTHS["Bayesian"], se=0.001))
    found = parameters_of(LAWS["Bayesian"], fit.parameters)
    assert found == pytest.approx({"p_1": 0.9, "p_2": 0.35, "w_1": 0.25, "e": 0.15}, rel=0.02)
    other = bayesian(SHOTS, found["p_1"], found["p_2"], found["w_1"], found["e"])
    assert other == pytest.approx(TRUTHS["Bayesian"], abs=1e-4)


def test_under_gold_nll_the_bayesian_law_is_of_minus_log_p():
    nats, limits = -np.log(TRUTHS["Bayesian"]), (0.0, np.inf)
    fit = fitted("Bayesian", line(nats, se=0.001, limits=limits), limits, is_nll=True)
    found = parameters_of(LAWS["Bayesian"], fit.parameters)
    assert found == pytest.approx({"p_1": 0.9, "p_2": 0.35, "w_1": 0.25, "e": 0.15}, rel=0.02)


def test_fits_and_limits_are_those_of_curve_fit_where_errors_are_independent():
    values = np.array([0.36, 0.49, 0.62, 0.69, 0.74, 0.81, 0.83, 0.87])

    def power(shots, u, v, c):
        return u - v * shots**-c

    joint = made({"m supervised": values}, se=0.01, shots=SHOTS, limits=FREE, together=0.0, df=1e6)
    every = line_of(joint, curves_in(joint)[0], even=True)
    found = foretold(fit := fitted("power", every.only(np.arange(7)), FREE), every, 7)
    start = (0.9, 0.5, 0.5)
    best, spread = curve_fit(power, SHOTS[:7], values[:7], start, np.full(7, 0.01),
                             absolute_sigma=True)  # fmt: skip
    assert fit.parameters == pytest.approx(best, rel=1e-3)
    slopes = np.array([1, -(128 ** -best[2]), best[1] * 128 ** -best[2] * np.log(128)])
    se = np.sqrt(slopes @ spread @ slopes + 0.01**2)
    assert found.high - found.low == pytest.approx(2 * 1.965 * se, rel=0.01)


@pytest.mark.parametrize("name", TRUTHS)
def test_what_a_true_law_foretells_is_within_its_limits_in_95_of_100_cases(name):
    rng, within, points = np.random.default_rng(4), [], []
    for _ in range(30):
        every = line(TRUTHS[name], rng, se=0.03)
        fit = fitted(name, every.only(np.arange(7)))
        within.append(foretold(fit, every, 7).p_value >= 0.05)
        points.append(fit.p_value() >= 0.05)
    assert np.mean(within) >= 0.85
    assert np.mean(points) >= 0.85


def answer(values, **options):
    (found,) = laws(made({"m supervised": values}, **{"se": 0.01, "shots": SHOTS, **options}))
    return found


@pytest.mark.parametrize("name", TRUTHS)
def test_other_laws_are_refused(name):
    found = answer(TRUTHS[name], se=0.004).table.set_index("law")
    assert found["holds"].to_dict() == {law: law == name for law in LAWS}


@pytest.mark.parametrize(
    ("values", "n", "sentence"),
    [
        (TRUTHS["power"], 3, "has 3 shot counts from 1 on; a law needs 4, of which one is kept"),
        (np.full(8, 0.5), 8, "shows no sure change with shots (p > .999)"),
        (
            np.array([0.2, 0.8] * 4),
            8,
            "log-linear, power and Bayesian, as points lie too far off (p < .001); at 128 .800",
        ),
        (
            np.array([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.3]),
            8,
            "log-linear, which foretells .900 [.886, .913]; at 128 .300",
        ),
    ],
)
def test_where_no_law_holds_one_sentence_says_why(values, n, sentence):
    found = answer(values[:n], shots=SHOTS[:n])
    assert sentence in found.sentence
    assert not found.table["holds"].any()


def test_what_holds_is_said_with_its_limits_beside_what_was_measured():
    assert answer(TRUTHS["power"], se=0.006).sentence == (
        "made · m · supervised: fitted to 1 to 64 shots, the power law foretells .864 "
        "[.855, .873] at 128; there .864 [.856, .872] was measured. Refused: log-linear and "
        "Bayesian, as points lie too far off (p < .001)."
    )


def test_one_draw_judges_no_law():
    assert "one draw" in answer(TRUTHS["power"], covers="queries").sentence


def test_zero_shot_prompts_are_of_another_kind_and_left_out():
    values = np.append(0.9, TRUTHS["power"])
    found = answer(values, shots=np.append(0.0, SHOTS))
    assert found.table.set_index("law").loc["power", "holds"]


def test_laws_of_metrics_that_are_no_probabilities_leave_the_bayesian_one_out():
    found = answer(100 * TRUTHS["power"], se=0.3, limits=(0.0, 100.0), metric="chrF2++")
    assert found.table["law"].tolist() == ["log-linear", "power"]


def test_baselines_are_left_out_where_there_are_others():
    curves = {"m supervised": TRUTHS["power"], "baseline/knn supervised": TRUTHS["power"]}
    assert len(list(laws(made(curves, shots=SHOTS)))) == 1
    assert len(list(laws(made({"baseline/knn supervised": TRUTHS["power"]}, shots=SHOTS)))) == 1


def test_angles_keep_shares_and_their_errors_in_the_middle():
    joint = made({"m supervised": np.full(8, 0.5)}, se=0.01)
    plain = line_of(joint, curves_in(joint)[0], even=False)
    angles = in_angles(plain, SHARE, np.full(8, 500.0))
    assert angles.values == pytest.approx(np.full(8, np.pi / 4))
    assert angles.points.se == pytest.approx(plain.points.se, rel=1e-3)
