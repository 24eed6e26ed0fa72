"""From records to answers: two modes that share queries, of which the truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from icl_harness.analysis.joint import joints
from icl_harness.analysis.questions.crossing import crossing
from icl_harness.analysis.questions.efficiency import efficiency

SHOTS = np.array([0, 1, 2, 4, 8, 16, 32, 64])
LOGITS = {"slow": 1.2 * (np.log2(1 + SHOTS) - 3), "fast": 1.2 * (np.log2(1 + SHOTS) - 1.5)}


def records(rng, logits, n_draws=3, n_queries=100):
    """Answers of a mode per name; draws differ by .5 logits, queries by 1."""
    query, parts = rng.standard_normal(n_queries), []
    for mode, of_shots in logits.items():
        draw = 0.5 * rng.standard_normal((n_draws, 1, 1)) * (SHOTS > 0)[None, :, None]
        right = rng.random((n_draws, 8, n_queries)) < expit(of_shots[:, None] + draw + query)
        where = np.indices(right.shape).reshape(3, -1)
        of = {"draw": where[0], "shots": SHOTS[where[1]], "shots_used": SHOTS[where[1]]}
        names = [f"q{i}" for i in where[2]]
        parts.append(pd.DataFrame({**of, "query_id": names, "score": right.ravel() * 1.0}))
        parts[-1]["mode"] = mode
    return pd.concat(parts, ignore_index=True).assign(
        task="made", model="m", variant="default", format="text", queries_per_request=1,
        metric="accuracy", sample=0, status="ok",
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_answers_of_records_hold_the_truth(seed):
    (joint,) = joints(records(np.random.default_rng(seed), LOGITS))
    (crossed,) = crossing(joint)
    assert "fast is ahead at" in crossed.sentence
    (found,) = efficiency(joint, target=0.5, against="fast")
    row = found.table.set_index("target").loc[0.5]
    truth = (2**3 - 1) / (2**1.5 - 1)  # half of the answers are right at 0 logits
    assert row["ci_low"] <= truth <= row["ci_high"]
    assert row["ci_low"] > 1
