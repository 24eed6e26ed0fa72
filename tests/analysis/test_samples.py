"""Several answers to a query, counted together: against plain counting of them."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

import icl_harness
from icl_harness import ScriptedModel
from icl_harness.analysis.compare import compare
from icl_harness.analysis.curves import curves
from icl_harness.errors import SpecError
from icl_harness.tasks.metrics import find_metric
from tests.analysis.test_curves import record

TASK = record()["task"]


def answers(rng: np.random.Generator, n_samples: int = 5, **fields: object) -> pd.DataFrame:
    """Records of 2 draws, 12 queries, some samples each; one in eight is not parsed."""
    draw, query, sample = (axis.ravel() for axis in np.indices((2, 12, n_samples)))
    parsed = rng.choice(["a", "b", "c"], len(draw)).astype(object)
    parsed[rng.random(len(draw)) < 0.125] = None
    return pd.DataFrame([record()] * len(draw)).assign(
        draw=draw,
        query_id=[f"q{q}" for q in query],
        sample=sample,
        target="a",
        parsed=parsed,
        score=(parsed == "a").astype(float),
        **fields,
    )


def value(frame: pd.DataFrame, metric: str) -> float:
    return float(curves(frame, metrics={TASK: find_metric(metric)})["value"].iloc[0])


def majority(frame: pd.DataFrame) -> float:
    """What a vote gives, a tie being drawn: query by query, by hand."""
    found = []
    for _, samples in frame.groupby(["draw", "query_id"]):
        votes = Counter(samples["parsed"].dropna())
        most = max(votes.values(), default=0)
        winners = [answer for answer, n in votes.items() if n == most]
        found.append(sum(answer == "a" for answer in winners) / max(len(winners), 1))
    return float(np.mean(found))


def pass_at(frame: pd.DataFrame, k: int) -> float:
    """The share of sets of `k` samples that hold a right one: all sets, one after the other."""
    found = []
    for _, samples in frame.groupby(["draw", "query_id"]):
        sets = list(combinations(samples["score"], k))
        found.append(np.mean([max(chosen) for chosen in sets]))
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(5))
def test_a_majority_and_pass_at_k_are_those_of_plain_counting(seed: int) -> None:
    frame = answers(np.random.default_rng(seed))
    assert value(frame, "majority") == pytest.approx(majority(frame), abs=1e-12)
    for k in range(1, 6):
        assert value(frame, f"pass@{k}") == pytest.approx(pass_at(frame, k), abs=1e-12)
    assert value(frame, "pass@1") == pytest.approx(value(frame, "accuracy"), abs=1e-12)


def test_one_sample_is_its_own_majority_and_a_failed_one_has_no_vote() -> None:
    rng = np.random.default_rng(7)
    one = answers(rng, n_samples=1)
    assert value(one, "majority") == value(one, "accuracy")
    frame = answers(rng)
    lost = frame["sample"] == 3
    failed = frame.assign(status=np.where(lost, "failed", "ok"))
    failed.loc[lost, ["parsed", "score"]] = None
    assert value(failed, "majority") == pytest.approx(majority(frame[~lost]), abs=1e-12)


def test_a_query_with_fewer_samples_than_k_is_missing_and_too_few_of_all_are_refused() -> None:
    frame = answers(np.random.default_rng(8))
    some = frame[(frame["query_id"] != "q0") | (frame["sample"] < 3)]
    whole = some[some["query_id"] != "q0"]
    assert value(some, "pass@4") == pytest.approx(pass_at(whole, 4), abs=1e-12)
    with pytest.raises(SpecError, match=r"pass@6 needs 6 answers .* hold 5: run with --samples 6"):
        value(frame, "pass@6")


def test_majorities_of_two_modes_are_compared() -> None:
    rng = np.random.default_rng(9)
    one, other = answers(rng, mode="supervised"), answers(rng, mode="unsupervised")
    metrics = {TASK: find_metric("majority")}
    (row,) = compare(pd.concat([one, other]), metrics=metrics).to_dict("records")
    assert row["b_minus_a"] == pytest.approx(majority(other) - majority(one), abs=1e-12)
    assert row["n_pairs"] == 24


@pytest.mark.usefixtures("toy")
def test_a_run_is_counted_by_its_majority() -> None:
    def reply(prompt) -> str:
        return [" even", " odd", " even"][prompt.query.sample]

    run = icl_harness.run(
        "toy", ScriptedModel(reply), out="out", shots=[2], draws=2, data="data",
        temperature=1.0, samples=3,
    )  # fmt: skip
    share = (run.records()["target"] == "even").mean()
    assert run.curves("majority")["value"].iloc[0] == pytest.approx(share)
    assert run.curves("pass@3")["value"].iloc[0] == 1
    assert run.curves()["value"].iloc[0] == pytest.approx((1 + share) / 3)
