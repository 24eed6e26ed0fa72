"""Which metric a run's tables are made with.

In: what runs say of themselves, and the metric that was asked for, if one was. Out: a metric per
task. The library's are known by name; a task's own is read from its task file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from icl_harness.errors import IclError, SpecError
from icl_harness.tasks.metrics import (
    METRICS,
    UNITS,
    Metric,
    find_metric,
    gold_nll,
    nll_per_token,
    perplexity,
)


def chosen_metrics(
    headers: Sequence[Mapping[str, Any]], metric: str | Metric | None = None
) -> dict[str, Metric]:
    """Return the metric of each task in runs with these `run.json`: the one that is asked for, else
    the task's own. Raises `SpecError` where there is none of that name.
    """
    tasks: dict[str, Mapping[str, Any]] = {}
    for header in headers:
        tasks |= header["tasks"]
    if isinstance(metric, Metric):
        _check_nll(metric.name, headers)
        return dict.fromkeys(tasks, metric)
    if metric is None:
        return {name: _own(name, task) for name, task in tasks.items()}
    _check_nll(metric, headers)
    return {name: _named(metric, name, task) for name, task in tasks.items()}


def _check_nll(metric: str, headers: Sequence[Mapping[str, Any]]) -> None:
    """Raise `SpecError` where runs store another NLL of the gold answer than the one asked for."""
    if metric not in METRICS or METRICS[metric].of != "gold_nll":
        return
    for header in headers:
        scoring = header.get("spec", {}).get("scoring", "generate")
        stored = nll_per_token if scoring == "choices-normalised" else gold_nll
        if metric != stored.name and (metric, stored) != (perplexity.name, gold_nll):
            raise SpecError(
                f"a run with --scoring {scoring} stores its NLL in {UNITS[stored.name]}: give "
                f"--metric {stored.name}, and read no run with other scoring beside it."
            )


def _own(task: str, noted: Mapping[str, Any]) -> Metric:
    """Return the metric that a run noted of a task."""
    name = noted["metric"]
    if name in METRICS:
        return METRICS[name]
    if noted.get("metric_is_mean_score", True):  # runs of version 0.1 had no others
        low, high = noted.get("metric_range", (None, None))
        unlimited = (-math.inf if low is None else low, math.inf if high is None else high)
        return Metric(name=name, range=unlimited)
    found = _of_task_file(task, f"the metric {name!r} of {task} is defined in its task file")
    if found.name != name:
        raise SpecError(
            f"the metric of {task} was {name!r} in this run and is {found.name!r} in its task file "
            f"now. Give --metric {found.name}, or --metric accuracy."
        )
    return found


def _named(metric: str, task: str, noted: Mapping[str, Any]) -> Metric:
    """Return the metric of a name for a task: the library's, the one noted, or the task file's."""
    if metric in METRICS:
        return METRICS[metric]
    if metric == noted["metric"]:
        return _own(task, noted)
    try:
        others = [_of_task_file(task, "")]
    except SpecError:
        others = []
    return find_metric(metric, others)


def _of_task_file(task: str, why: str) -> Metric:
    from icl_harness.tasks.loading import find_tasks

    try:
        return find_tasks(task)[0].metric
    except IclError as error:
        raise SpecError(
            f"{why}, which cannot be read here: {error} Run this where the task file is, or give "
            "--metric accuracy."
        ) from error
