"""Confidence, Brier score, ECE and P(Yes): held to scikit-learn and to plain loops."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss

from icl_harness.analysis.compare import compare
from icl_harness.analysis.curves import curves
from icl_harness.errors import SpecError
from icl_harness.store.choice_scores import brier, confidence, p_yes
from icl_harness.tasks.metrics import METRICS
from tests.analysis.test_gold_nll import records

LABELS = ("a", "b", "c", "d")


def packed(nats: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(nats)}d", *nats)


def softmax(nats: Sequence[float]) -> np.ndarray:
    weights = np.exp(np.array(nats) - max(nats))
    return weights / weights.sum()


def random_scores(n: int, n_labels: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return -rng.gamma(0.7, 20, size=(n, n_labels)) - rng.choice([0, 700])


@pytest.mark.parametrize("n_labels", [2, 3, 4])
def test_the_brier_score_is_scikit_learn_s_on_300_answers(n_labels: int) -> None:
    labels = LABELS[:n_labels]
    nats = random_scores(300, n_labels, seed=n_labels)
    targets = np.random.default_rng(5).choice(labels, 300)
    choices = json.dumps(labels)
    found = [brier(packed(one), choices, str(t)) for one, t in zip(nats, targets, strict=True)]
    shares = np.array([softmax(one) for one in nats])
    expected = brier_score_loss(targets, shares, labels=labels, scale_by_half=False)
    assert np.mean(np.array(found, dtype=float)) == pytest.approx(expected, rel=1e-12)
    most = [confidence(packed(one)) for one in nats]
    assert most == pytest.approx(shares.max(axis=1), rel=1e-12)


@pytest.mark.parametrize(
    ("nats", "expected"),
    [
        ([-3.0], 1.0),
        ([-math.inf, -5.0], 1.0),
        ([-1e4, -1e4], 0.5),
        ([math.nan, -1.0], None),
        ([math.inf, -1.0], None),
        ([-math.inf, -math.inf], None),
    ],
    ids=[
        "one choice",
        "an impossible one",
        "far below exp's range",
        "nan",
        "inf",
        "all impossible",
    ],
)
def test_unusual_scores_give_a_probability_or_none(
    nats: list[float], expected: float | None
) -> None:
    assert confidence(packed(nats)) == expected
    one = brier(packed(nats), json.dumps(LABELS[: len(nats)]), "a")
    assert (one is None) == (expected is None)


def test_p_yes_is_normalised_over_the_two_and_none_for_other_choices() -> None:
    assert p_yes(packed([-1.0, -2.0]), '["No", "Yes"]') == pytest.approx(1 / (1 + math.e))
    assert p_yes(packed([-1.0, -2.0]), '["a", "b"]') is None
    assert p_yes(None, None) is None
    assert brier(packed([-1.0, -2.0]), '["a", "b"]', "z") is None


def plain_ece(p: np.ndarray, right: np.ndarray, n_bins: int = 15) -> float:
    """Guo et al. 2017, equation 3, bin by bin: |accuracy - confidence| weighed by size."""
    total = 0.0
    for m in range(n_bins):
        inside = [i for i in range(len(p)) if m / n_bins < p[i] <= (m + 1) / n_bins]
        if inside:
            gap = np.mean([right[i] for i in inside]) - np.mean([p[i] for i in inside])
            total += len(inside) / len(p) * abs(gap)
    return total


def judged(p: np.ndarray, right: np.ndarray, **fields: object) -> pd.DataFrame:
    table = records(n_draws=1, n_queries=len(p), **fields)
    return table.assign(score=right.astype(float), confidence=p, target="x", choices=None)


def test_ece_is_that_of_a_plain_loop_on_400_answers_bins_upper_ends_among_them() -> None:
    rng = np.random.default_rng(1)
    p = np.concatenate([rng.random(300), np.arange(1, 16) / 16, rng.beta(9, 1, 84), [1.0]])
    right = rng.random(400) < p**2
    (row,) = curves(judged(p, right), metrics={"trec": METRICS["ece"]}).to_dict("records")
    assert row["value"] == pytest.approx(plain_ece(p, right), abs=1e-12)
    assert row["ci_low"] < row["value"] < row["ci_high"]
    certain = judged(np.full(8, 1.0), np.array([1] * 6 + [0] * 2))
    (row,) = curves(certain, metrics={"trec": METRICS["ece"]}).to_dict("records")
    assert row["value"] == pytest.approx(0.25)


def verdicts(**fields: object) -> pd.DataFrame:
    """Verdicts on 3 solutions of each of 40 problems in 2 draws, with ties."""
    table = records(n_draws=2, n_queries=120, **fields)
    number = table["query_id"].str[1:].astype(int)
    rng = np.random.default_rng(int(fields.get("shots", 4)))
    return table.assign(
        task="verifier", cluster="problem " + (number // 3).astype(str), cluster_size=3.0,
        target=np.where(rng.permutation(120)[number] < 50, "Yes", "No"), choices=None,
        parsed=rng.choice(["Yes", "No"], len(table)), p_yes=rng.integers(0, 4, len(table)) / 4,
    )  # fmt: skip


def plain_best(table: pd.DataFrame, p: str) -> dict[tuple[int, str], float]:
    found = {}
    for key, rows in table.groupby(["draw", "cluster"]):
        best = rows[rows[p] == rows[p].max()]
        found[key] = float((best["target"] == "Yes").mean())
    return found


BEST = {"verifier": METRICS["best_of_n"]}


def test_best_of_n_is_the_share_of_problems_whose_likeliest_solution_is_right() -> None:
    table = verdicts()
    (row,) = curves(table, metrics=BEST).to_dict("records")
    assert row["value"] == pytest.approx(np.mean(list(plain_best(table, "p_yes").values())))
    shuffled = table.sample(frac=1.0, random_state=3)
    (same,) = curves(shuffled, metrics=BEST).to_dict("records")
    assert (same["ci_low"], same["ci_high"]) == (row["ci_low"], row["ci_high"])


def test_a_problem_is_the_unit_of_best_of_n() -> None:
    table = verdicts()
    means = pd.Series(plain_best(table, "p_yes")).rename("score").reset_index()
    alone = records(n_draws=2, n_queries=40).sort_values(["draw", "query_id"], ignore_index=True)
    alone = alone.assign(query_id=means["level_1"], draw=means["level_0"], score=means["score"])
    (row,) = curves(table, metrics=BEST).to_dict("records")
    (expected,) = curves(alone).to_dict("records")
    assert row["value"] == pytest.approx(expected["value"])
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(
        (expected["ci_low"], expected["ci_high"])
    )


def test_without_probabilities_verdicts_count_and_equal_ones_share() -> None:
    table = verdicts().drop(columns="p_yes")
    table["parsed"] = table["parsed"].where(table["query_id"] != "q4")  # unparsed: no Yes
    as_numbers = table.assign(verdict=(table["parsed"] == "Yes").astype(float))
    (row,) = curves(table, metrics=BEST).to_dict("records")
    assert row["value"] == pytest.approx(np.mean(list(plain_best(as_numbers, "verdict").values())))
    samples = pd.concat([table, table.assign(sample=1, parsed="No")])
    (of_two,) = curves(samples, metrics=BEST).to_dict("records")
    assert of_two["value"] == row["value"]  # all P(Yes) are halved


def test_a_problem_with_a_solution_that_was_not_judged_is_missing() -> None:
    table = verdicts()
    lost = table.assign(status=table["status"].where(table["query_id"] != "q7", "failed"))
    unknown = table.assign(p_yes=table["p_yes"].where(table["query_id"] != "q7"))
    kept = table[table["cluster"] != "problem 2"]
    expected = curves(kept, metrics=BEST)["value"].tolist()
    for one in (lost, unknown):
        assert curves(one, metrics=BEST)["value"].tolist() == pytest.approx(expected)
    with pytest.raises(SpecError, match="of no problem of verifier are all solutions judged"):
        curves(table[table["query_id"].str.endswith("1")], metrics=BEST)
    with pytest.raises(SpecError, match="best_of_n needs solutions of problems as queries"):
        curves(table.drop(columns="cluster"), metrics=BEST)


def test_variants_in_which_yes_means_something_else_have_no_such_metric() -> None:
    table = verdicts()
    both = pd.concat([table, table.assign(variant="flipped+noise=0.2")])
    for name in ("best_of_n", "p_yes_gap"):
        metrics = {"verifier": METRICS[name]}
        found = curves(both, metrics=metrics).set_index("variant")["value"]
        assert math.isnan(found["flipped+noise=0.2"])
        assert found["default"] == curves(table, metrics=metrics)["value"].item()


def test_the_gap_is_mean_p_yes_of_right_less_that_of_wrong_solutions() -> None:
    table = pd.concat([verdicts(), verdicts(shots=16)])
    names = ("p_yes_right", "p_yes_wrong", "p_yes_gap")
    found = {name: curves(table, metrics={"verifier": METRICS[name]}) for name in names}
    for shots, rows in table.groupby("shots"):
        of_right = rows["p_yes"][rows["target"] == "Yes"].mean()
        of_wrong = rows["p_yes"][rows["target"] == "No"].mean()
        expected = (of_right, of_wrong, of_right - of_wrong)
        for name, value in zip(names, expected, strict=True):
            (row,) = found[name][found[name]["shots"] == shots].to_dict("records")
            assert row["value"] == pytest.approx(value)
            assert row["ci_low"] < value < row["ci_high"]
    table["target"] = "No"  # no right solution: no gap
    gap = curves(table, metrics={"verifier": METRICS["p_yes_gap"]})
    assert gap["value"].isna().all()


def test_shot_counts_are_compared_problem_by_problem() -> None:
    one, two = verdicts(), verdicts(shots=16)
    two["target"] = one["target"].to_numpy()
    (row,) = compare(pd.concat([one, two]), by="shots", metrics=BEST).to_dict("records")
    sides = [np.mean(list(plain_best(side, "p_yes").values())) for side in (one, two)]
    assert row["b_minus_a"] == pytest.approx(sides[1] - sides[0])
    assert (row["n_pairs"], row["n_queries"]) == (80, 40)


@pytest.mark.parametrize("name", ["confidence", "brier", "ece", "p_yes_gap"])
def test_records_without_probabilities_are_refused_in_one_line(name: str) -> None:
    table = verdicts().drop(columns="p_yes")
    metrics = {"verifier": METRICS[name]}
    with pytest.raises(SpecError, match="has the probabilities of its choices"):
        curves(table, metrics=metrics)
    both = pd.concat([table, table.assign(shots=16)])
    with pytest.raises(SpecError, match="--scoring choices"):
        compare(both, by="shots", metrics=metrics)
