"""A metric's value and interval: records in, jackknife influence values inside, an interval out.

Each answer gets a pseudo-value: the metric's value plus what this answer does to it. Their mean is
the value, and their crossed variance (stats) is the metric's. What an answer, a query or a draw
does is what leaving it out changes (Efron & Stein 1981, The jackknife estimate of variance). For a
mean the pseudo-values are the scores themselves, so the numbers of accuracy stay what they are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_harness.analysis.crossed import Codes, Floats
from icl_harness.analysis.estimates import (
    SHARE,
    Estimate,
    Range,
    mean_estimate,
    paired_estimate,
    unknown_estimate,
)
from icl_harness.errors import SpecError
from icl_harness.tasks.authors_code import authors_code
from icl_harness.tasks.metrics import METRICS, Metric, ScoredAnswer

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-9
N_SWEEPS = 10  # over queries and draws in turn; a complete table needs one


@dataclass(frozen=True)
class Statistics:
    """A metric's statistics of the answers to one task: row i is `distinct[code[i]]`."""

    distinct: Floats
    code: Codes

    def rows(self, chosen: Codes) -> Floats:
        """Return the statistics of the answers `chosen`, one row each."""
        return self.distinct[self.code[chosen]]


def by_metric(
    answers: pd.DataFrame, metrics: Mapping[str, Metric]
) -> Iterator[tuple[Metric, pd.DataFrame]]:
    """Yield each task's metric and answers. A task that `metrics` lack has the library's metric of
    the records' name, else the mean score under that name.
    """
    for pair, of_task in answers.groupby(["task", "metric"], dropna=False, observed=True):
        task, name = (str(part) for part in pair)
        mean_score = Metric(name=name, range=(-math.inf, math.inf))
        yield metrics.get(task) or METRICS.get(name) or mean_score, of_task


def positions(table: pd.DataFrame, names: list[str]) -> Iterator[tuple[tuple[Any, ...], Codes]]:
    """Yield the values that `names` have together, each with where its rows stand in the table."""
    for values, rows in table.groupby(names, dropna=False, observed=True).indices.items():
        yield (values if isinstance(values, tuple) else (values,)), np.asarray(rows, dtype=np.intp)


def is_binary(answers: pd.DataFrame) -> bool:
    """Return whether all scores of these answers are 0 or 1."""
    return bool(answers["score"].isin((0.0, 1.0)).all())


def statistics_of(
    answers: pd.DataFrame, metric: Metric, labels: tuple[str, ...] | None = None
) -> Statistics:
    """Return the statistics of `answers` to a task: all there are, or some of those that have
    `labels`. Raises `SpecError` where they lack the target that the metric needs, or where its
    function fails.
    """
    if metric.statistic is None:
        scores, code = np.unique(answers["score"].to_numpy(dtype=float), return_inverse=True)
        return Statistics(scores[:, None], code)
    task = str(answers["task"].iloc[0])
    if "target" not in answers or answers["target"].isna().any():
        raise SpecError(
            f"metric {metric.name} needs the target of every answer, and the records of {task} "
            "lack some: an earlier version made them. `icl rescore RUN` adds them."
        )
    parsed = [None if value != value else value for value in answers["parsed"]]
    columns = [parsed, answers["target"], answers["score"], _probabilities(answers, metric)]
    keys = list(zip(*columns, strict=True))
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    if labels is None:
        labels = tuple(sorted(_labels(answers)))
    distinct = [
        ScoredAnswer(parsed=said, target=target, score=float(score), labels=labels, probability=p)
        for said, target, score, p in number
    ]
    code = np.array([number[key] for key in keys], dtype=np.intp)
    return Statistics(_matrix(metric, distinct), code)


def _probabilities(answers: pd.DataFrame, metric: Metric) -> list[float]:
    """Return the probability of each answer that a metric is of; of others always the same NaN."""
    if metric.of == "score":
        return [math.nan] * len(answers)
    return [float(p) for p in answers[metric.of]]


def labels_by_metric(
    parts: Iterable[pd.DataFrame],
) -> dict[tuple[Any, ...], tuple[str, ...]]:
    """Return (task, metric) -> the labels of all answers to it, which come in parts."""
    found: defaultdict[tuple[Any, ...], set[str]] = defaultdict(set)
    for part in parts:
        for key, answers in part.groupby(["task", "metric"], dropna=False, observed=True):
            found[key].update(_labels(answers))
    return {key: tuple(sorted(labels)) for key, labels in found.items()}


def _labels(answers: pd.DataFrame) -> set[str]:
    found = set(answers["parsed"].dropna().unique())
    for name in {"target", "choices"} & set(answers):
        values = answers[name].dropna().unique()
        found.update(values if name == "target" else chain.from_iterable(values))
    return found


def _matrix(metric: Metric, answers: Iterable[ScoredAnswer]) -> Floats:
    assert metric.statistic is not None
    with authors_code(f"metric {metric.name}", ": its statistic failed", SpecError):
        rows = [list(map(float, metric.statistic(answer))) for answer in answers]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1 or lengths == [0]:
        raise SpecError(
            f"metric {metric.name}: its statistic gives {' or '.join(map(str, lengths))} numbers; "
            "it must give as many for every answer."
        )
    if metric.aggregate is None and lengths != [1]:
        raise SpecError(
            f"metric {metric.name}: its statistic gives {lengths[0]} numbers, so it needs an "
            "aggregate."
        )
    return np.array(rows)


def metric_estimate(
    metric: Metric,
    rows: Floats,
    draws: Codes,
    queries: Codes,
    *,
    binary: bool,
    shots: float = math.nan,
) -> Estimate:
    """Return the metric's value of answers with these statistics, and what its interval is made of.

    `binary`: all scores of the task are 0 or 1, so that their mean lies between.
    """
    return estimate_and_values(metric, rows, draws, queries, binary=binary, shots=shots)[0]


def estimate_and_values(
    metric: Metric, rows: Floats, draws: Codes, queries: Codes, *, binary: bool, shots: float
) -> tuple[Estimate, Floats]:
    """Return the same estimate, and the pseudo-value of each answer: NaN where one has none."""
    limits = _limits(metric, binary=binary)
    scores: Floats = rows[:, 0]
    if metric.aggregate is None and not np.isfinite(rows).all():
        return unknown_estimate(
            float(rows.mean()), limits
        ), scores  # a gold answer of probability 0
    if metric.aggregate is None:
        return mean_estimate(scores, draws, queries, limits=limits, shots=shots), scores
    value, pseudo = pseudo_values(metric, rows, draws, queries)
    if not np.isfinite(pseudo).all():
        return unknown_estimate(value, limits), pseudo
    found = mean_estimate(pseudo, draws, queries, limits=limits, shots=shots)
    return replace(found, value=value), pseudo


def metric_difference(
    metric: Metric,
    rows: tuple[Floats, Floats],
    draws: Codes,
    queries: Codes,
    *,
    binary: bool,
    shots: tuple[float, float] = (math.nan, math.nan),
) -> Estimate:
    """Return the metric's value of the second answers less that of the first, paired row by row,
    and what its interval is made of.
    """
    lowest, highest = _limits(metric, binary=binary)
    limits = (lowest - highest, highest - lowest)
    if metric.aggregate is None and not all(np.isfinite(side).all() for side in rows):
        of_a, of_b = (float(side.mean()) for side in rows)
        both = math.isinf(of_a) and math.isinf(of_b)
        return unknown_estimate(math.nan if both else of_b - of_a, limits)

    def paired(a: Floats, b: Floats) -> Estimate:
        return paired_estimate(a, b, draws, queries, limits=limits, shots=shots, lowest=lowest)

    if metric.aggregate is None:
        a, b = (side[:, 0] for side in rows)
        return paired(a, b)
    (of_a, a), (of_b, b) = (pseudo_values(metric, side, draws, queries) for side in rows)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return unknown_estimate(of_b - of_a, limits)
    return replace(paired(a, b), value=of_b - of_a)


def _limits(metric: Metric, *, binary: bool) -> Range:
    """Return the limits of a metric's values."""
    is_share = binary and metric.aggregate is None and metric.of == "score"
    return SHARE if is_share else metric.range


def pseudo_values(
    metric: Metric, rows: Floats, draws: Codes, queries: Codes
) -> tuple[float, Floats]:
    """Return the metric's value and one pseudo-value per answer, whose mean is the value.

    Summed over a query (a draw) they say what leaving out the query (the draw) changes. The rest is
    what leaving out the answer alone changes. An answer without which there is no value has none.
    """
    (value,) = _values(metric, [rows.sum(axis=0) / len(rows)])
    influence = _influence(metric, rows, np.arange(len(rows)))
    groups = [_codes(clusters) for clusters in (queries, draws)]
    wanted = [(group, _influence(metric, rows, group)) for group in groups if _is_group(group)]
    for _ in range(N_SWEEPS if len(wanted) > 1 else 1):
        for group, sums in wanted:
            missing = sums - np.bincount(group, influence)
            influence = influence + (missing / np.bincount(group))[group]
    return value, value + influence


def _codes(clusters: Codes) -> Codes:
    return np.unique(clusters, return_inverse=True)[1]


def _is_group(cluster: Codes) -> bool:
    """Return whether there are several clusters, and fewer than answers."""
    return 1 < int(cluster.max()) + 1 < len(cluster)


def _influence(metric: Metric, rows: Floats, cluster: Codes) -> Floats:
    """Return what each cluster of answers adds to the value, times the number of answers; 0 in
    sum.
    """
    n, sizes = len(rows), np.bincount(cluster)
    if len(sizes) == 1:
        return np.zeros(1)
    total = rows.sum(axis=0)
    parts = np.zeros((len(sizes), rows.shape[1]))
    np.add.at(parts, cluster, rows)
    means = [(total - part) / (n - size) for part, size in zip(parts, sizes, strict=True)]
    value, *without = _values(metric, [total / n, *means])
    influence: Floats = (n - sizes) * (value - np.array(without))
    centred: Floats = influence - sizes * (influence.sum() / n)
    return centred


def _values(metric: Metric, means: Iterable[Floats]) -> list[float]:
    """Return the value of each mean. Raises `SpecError` where one is out of the metric's range."""
    assert metric.aggregate is not None
    quiet = np.errstate(divide="ignore", invalid="ignore")  # where nothing is left: no value
    with quiet, authors_code(f"metric {metric.name}", ": its aggregate failed", SpecError):
        values = [float(metric.aggregate(mean)) for mean in means]
    low, high = metric.range
    for value in values:
        if value < low - ROUNDING or value > high + ROUNDING:
            raise SpecError(
                f"metric {metric.name} gives {value:.6g}; its range is {low:g} to {high:g}. "
                "Correct one of them in the task file."
            )
    return values
