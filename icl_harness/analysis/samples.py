"""What several samples of a query count as: their majority, or whether one of k is right.

In: answered records of one task, with samples. Out: one record a point, draw and query, whose score
is that of its samples together. Left out: the mean of the samples, which needs no joining: every
answer counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from icl_harness.analysis.best_of_n import best_of_n
from icl_harness.analysis.crossed import Codes, Floats
from icl_harness.errors import SpecError
from icl_harness.prompts.variants import DEFAULT, parse_variant
from icl_harness.store.cells import CELL
from icl_harness.tasks.metrics import YES, Metric

if TYPE_CHECKING:
    import pandas as pd

QUERY = [*CELL, "query_id"]


def nothing_known(lacking: Mapping[str, Metric]) -> str:
    """Return what to say where no answer has what a metric is of; `lacking`: that of each task."""
    tasks = ", ".join(sorted(lacking))
    metric = next(iter(lacking.values()))
    if metric.of == "gold_nll":
        return (
            f"gold_nll: no answer to {tasks} has the log-likelihood of its gold answer. "
            "A run with --scoring choices or with --gold-nll stores it."
        )
    if metric.samples == "best":
        return f"{metric.name}: of no problem of {tasks} are all solutions judged yet."
    of_yes = f", one of which is {YES}" if metric.of == "p_yes" else ""
    return (
        f"{metric.name}: no answer to {tasks} has the probabilities of its choices{of_yes}. Runs "
        "with --scoring choices (or decisions) store them, those of earlier versions did not."
    )


def joined_samples(answers: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Return the answers as `metric` counts them: each for itself, or the samples of a query as
    one, with what it takes for their score; those that lack it are left out. Raises `SpecError`
    where all queries have fewer samples than pass@k needs.
    """
    import pandas as pd

    if metric.of == "p_yes":
        answers = _of_yes(answers)
    if metric.samples == "best":
        return best_of_n(answers, metric.name)
    if metric.of != "score":
        answers = _known(answers, metric)
    if metric.samples == "each":
        return answers
    groups = answers.groupby(QUERY, sort=False, dropna=False, observed=True)
    query: Codes = groups.ngroup().to_numpy().astype(np.intp)
    scores = answers["score"].to_numpy(dtype=float)
    if metric.samples == "majority":
        vote: Codes = pd.factorize(answers["parsed"])[0].astype(np.intp)
        score = _majority(query, vote, scores)
    else:
        k = metric.samples
        n_samples = np.bincount(query)
        if n_samples.max() < k:
            raise SpecError(
                f"{metric.name} needs {k} answers to a query, and the records of "
                f"{answers['task'].iloc[0]} hold {n_samples.max()}: run with --samples {k} or more."
            )
        score = _pass_at(k, n_samples, np.bincount(query[scores >= 1.0], minlength=len(n_samples)))
    _, first = np.unique(query, return_index=True)
    found = answers.iloc[first].assign(score=score[query[first]], sample=0)
    return found[found["score"].notna()]


def _of_yes(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the answers of variants in which Yes means that a solution is right."""
    plain = {
        name: parse_variant(str(name)).labels == DEFAULT for name in answers["variant"].unique()
    }
    if all(plain.values()):
        return answers
    return answers[answers["variant"].astype(object).map(plain)].reset_index(drop=True)


def _known(answers: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Return the answers that have what a metric is of; their score, unless it has a statistic."""
    values = answers.get(metric.of, math.nan)
    answers = answers.assign(**{metric.of: values}).astype({metric.of: "float64"})
    answers = answers[answers[metric.of].notna()].reset_index(drop=True)
    return answers if metric.statistic else answers.assign(score=answers[metric.of])


def _majority(query: Codes, vote: Codes, scores: Floats) -> Floats:
    """Return the score of the answer that most samples gave, by query: self-consistency (Wang et
    al. 2022). Where several are as frequent it is their mean, which is what drawing one of them
    gives on average. Samples that could not be parsed (-1) have no vote; without any, it is wrong.
    """
    n_queries, n_votes = int(query.max()) + 1, int(vote.max()) + 2
    read = vote >= 0
    pairs = query[read] * n_votes + vote[read]
    answer, code, count = np.unique(pairs, return_inverse=True, return_counts=True)
    score = np.bincount(code, scores[read]) / count
    of = answer // n_votes
    most = np.zeros(n_queries, dtype=count.dtype)
    np.maximum.at(most, of, count)
    wins = count == most[of]
    total = np.bincount(of[wins], score[wins], minlength=n_queries)
    winners = np.bincount(of[wins], minlength=n_queries)
    majority: Floats = total / np.maximum(winners, 1)
    return majority


def _pass_at(k: int, n_samples: Codes, n_right: Codes) -> Floats:
    """Return the probability that one of `k` samples is right, by query: 1 - C(n - c, k) / C(n, k)
    for c right ones of n, which is unbiased (Chen et al. 2021, section 2.1); NaN where n < k.
    """
    n = np.where(n_samples < k, np.nan, n_samples)[:, None]
    i = np.arange(k)[None, :]
    all_wrong = np.clip((n - n_right[:, None] - i) / (n - i), 0.0, None).prod(axis=1)
    found: Floats = 1.0 - all_wrong
    return found
