"""How the errors of a curve's points go together."""

import numpy as np
import pandas as pd
import pytest

from icl_harness.analysis.curves import curves
from icl_harness.analysis.joint import Joint, joints
from icl_harness.store.totals import MEANS
from icl_harness.tasks.metrics import METRICS

SHOTS = (1, 4, 16, 64)


def records(right: np.ndarray, **columns: object) -> pd.DataFrame:
    """Records of answers that are right or wrong: shot counts, draws, queries."""
    k, draw, query = (axis.ravel() for axis in np.indices(right.shape))
    shots = np.asarray(SHOTS)[k]
    table = {
        "task": "t", "model": "m", "mode": "supervised", "variant": "default", "format": "text",
        "queries_per_request": 1, "shots": shots, "shots_used": shots.astype(float), "draw": draw,
        "query_id": [f"q{i}" for i in query], "sample": 0, "metric": "accuracy", "status": "ok",
        "score": right.ravel().astype(float), "parsed": "x", "node": None, "reused": False,
    }  # fmt: skip
    return pd.DataFrame({**table, **columns})


def answers(
    seed: int, *, n_draws: int = 3, n_queries: int = 60, draw_sd: float = 0.5, query_sd: float = 1.0
) -> np.ndarray:
    """Answers of a curve whose draws differ alike at all shot counts, as its queries do."""
    rng = np.random.default_rng(seed)
    logits = draw_sd * rng.standard_normal((1, n_draws, 1))
    logits = logits + query_sd * rng.standard_normal((1, 1, n_queries))
    shape = (len(SHOTS), n_draws, n_queries)
    found: np.ndarray = rng.random(shape) < 1 / (1 + np.exp(-logits))
    return found


def only(table: pd.DataFrame) -> Joint:
    (found,) = joints(table)
    return found


def is_sound(joint: Joint) -> bool:
    for matrix in (joint.covariance, joint.of_draws, joint.covariance - joint.of_draws):
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        if values.min() < -1e-9 * max(values.max(), 1e-9):
            return False
    return bool(np.isfinite(joint.covariance).all())


def missing(table: pd.DataFrame) -> pd.DataFrame:
    failed = np.random.default_rng(0).random(len(table)) < 0.3
    return table.assign(status=np.where(failed, "failed", "ok"))


def own_queries(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(query_id=table["query_id"] + "-" + table["draw"].astype(str))


def copied(table: pd.DataFrame) -> pd.DataFrame:
    """The answers without shots are sent once and stand in every draw."""
    first = table[table["shots"] == 1].drop_duplicates(["query_id", "shots"])
    zero = [
        first.assign(shots=0, shots_used=0.0, draw=draw, node="n", reused=draw > 0)
        for draw in sorted(table["draw"].unique())
    ]
    return pd.concat([*zero, table[table["shots"] > 1]], ignore_index=True)


def two_modes(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.assign(mode="unsupervised")], ignore_index=True)


def other_draws(table: pd.DataFrame) -> pd.DataFrame:
    other = table.assign(mode="unsupervised", draw=table["draw"] + 1)
    return pd.concat([table, other], ignore_index=True)


SHAPES = {
    "complete": lambda table: table,
    "missing": missing,
    "own queries": own_queries,
    "copies": copied,
    "two modes": two_modes,
    "draws that overlap": other_draws,
    "one draw": lambda table: table[table["draw"] == 0],
    "one query": lambda table: table[table["query_id"] == "q0"],
    "two shot counts": lambda table: table[table["shots"] < 16],
    "one point": lambda table: table[table["shots"] == 16],
    "all right": lambda table: table.assign(score=1.0),
    "several queries a request": lambda table: table.assign(
        queries_per_request=5, query_text=table["query_id"].str[:2]
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_points_are_those_of_the_curves_and_their_covariances_are_sound(shape: str) -> None:
    table = SHAPES[shape](records(answers(1)))
    joint = only(table)
    named = ["mode", "shots", "value", "ci_low", "ci_high", "n_draws", "n_queries", "ci_covers"]
    shown = curves(full(table))[named].reset_index(drop=True)
    pd.testing.assert_frame_equal(joint.points[named], shown, check_dtype=False)
    assert is_sound(joint)
    assert joint.one_draw == (shape == "one draw")


def full(table: pd.DataFrame) -> pd.DataFrame:
    """Records with what curves count, too."""
    return table.assign(**dict.fromkeys(MEANS, 0.0), cost_usd=0.0, n_lost=0).assign(
        shots_used=table["shots_used"]
    )


def test_the_diagonal_is_what_the_intervals_stand_on() -> None:
    # With many queries and draws a value's limits are about 1.96 standard errors to either side.
    joint = only(records(answers(2, n_draws=40, n_queries=400)))
    half = (joint.points["ci_high"] - joint.points["ci_low"]) / 2
    assert np.sqrt(np.diag(joint.covariance)) == pytest.approx(half / 1.98, rel=0.03)
    for place in range(len(SHOTS)):
        one = joint.contrast(np.arange(len(SHOTS)) == place)
        assert one.high - one.low == pytest.approx(2 * half[place], rel=0.02)


def test_covariances_are_those_of_an_independent_estimator() -> None:
    """Cov(i, j) = product of draws' means + product of queries' means - product of residuals."""
    y = answers(3, n_draws=30, n_queries=300).astype(float)
    joint = only(records(y))
    n_k, n_d, n_q = y.shape
    centred = y - y.mean(axis=(1, 2), keepdims=True)
    by_draw, by_query = centred.mean(axis=2), centred.mean(axis=1)
    rest = (centred - by_draw[:, :, None] - by_query[:, None, :]).reshape(n_k, -1)
    found = by_draw @ by_draw.T / n_d / (n_d - 1) + by_query @ by_query.T / n_q / (n_q - 1)
    found -= rest @ rest.T / (n_d * n_q) / ((n_d - 1) * (n_q - 1))
    np.testing.assert_allclose(joint.covariance, found, rtol=0.25)


def test_the_variance_of_a_difference_is_that_of_paired_scores() -> None:
    joint = only(records(answers(4, n_draws=30, n_queries=300)))
    apart = joint.covariance[0, 0] + joint.covariance[1, 1]
    paired = joint.contrast([1, -1, 0, 0]).se ** 2
    assert paired < 0.3 * apart  # queries and draws are good or bad at all shot counts


def test_points_without_common_queries_are_independent() -> None:
    table = two_modes(records(answers(5)))
    other = table["mode"] == "unsupervised"
    table["query_id"] = np.where(other, "z" + table["query_id"], table["query_id"])
    table["draw"] = np.where(other, table["draw"] + 10, table["draw"])
    joint = only(table)
    apart = joint.points["mode"].to_numpy()
    assert joint.covariance[apart == "supervised"][:, apart != "supervised"] == pytest.approx(0)


def test_equal_curves_do_not_differ_more_than_draws_leave_open() -> None:
    joint = only(two_modes(records(answers(6, draw_sd=0.0))))
    difference = joint.contrast([1, 0, 0, 0, -1, 0, 0, 0])
    assert difference.value == 0
    assert difference.se < 0.3 * np.sqrt(joint.covariance[0, 0])


def test_samples_are_within_their_intervals_in_95_of_100_cases() -> None:
    joint = only(records(answers(7)))
    values = joint.sampled(20_000, np.random.default_rng(0))
    low, high = (joint.points[name].to_numpy() for name in ("ci_low", "ci_high"))
    inside = ((values >= low) & (values <= high)).mean(axis=0)
    assert inside == pytest.approx(0.95, abs=0.01)
    correlation = np.corrcoef(values.T)
    sd = np.sqrt(np.diag(joint.covariance))
    np.testing.assert_allclose(correlation, joint.covariance / np.outer(sd, sd), atol=0.15)


def test_samples_stay_within_the_metrics_limits() -> None:
    joint = only(records(answers(8), score=1.0))
    values = joint.sampled(1000, np.random.default_rng(0))
    assert values.max() <= 1
    assert values.min() < 1


def test_other_metrics_have_covariances_too() -> None:
    right = answers(9)
    table = records(right, target="yes")
    table["parsed"] = np.where(table["score"] == 1, "yes", "no")
    table["target"] = np.where(np.arange(len(table)) % 2, "yes", "no")
    (joint,) = joints(table, {"t": METRICS["macro_f1"]})
    assert is_sound(joint)
    assert (np.diag(joint.covariance) > 0).all()


def test_chosen_points_keep_what_is_theirs() -> None:
    joint = only(records(answers(10)))
    some = joint.at([2, 0])
    assert list(some.points["shots"]) == [16, 1]
    assert some.covariance[0, 1] == joint.covariance[2, 0]
    assert list(joint.at(joint.points["shots"] > 4).points["shots"]) == [16, 64]


def test_the_order_of_records_makes_no_difference() -> None:
    table = two_modes(missing(records(answers(11))))
    shuffled = table.sample(frac=1, random_state=1)
    np.testing.assert_allclose(only(table).covariance, only(shuffled).covariance, rtol=1e-9)


def test_no_records_have_no_points() -> None:
    assert joints(records(answers(12)).iloc[:0]) == []
    assert joints(records(answers(12), status="failed")) == []
