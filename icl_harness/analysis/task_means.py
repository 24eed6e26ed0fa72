"""Means over tasks: one curve, or one difference, for all tasks of a run.

In: a table with a row a task and point, its value, its limits and the standard error that they
stand on. Out: a row a point, the mean of all tasks. Tasks are a fixed stratum: the mean is that of
these tasks, each of which counts as much, and its interval says what other draws and queries of
them would give, not what other tasks would. Draws and queries of one task are independent of those
of another, so that variances add. Where a task lacks a value there is no mean, as one over the
other tasks would be another number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from icl_harness.analysis.bands import POINTWISE
from icl_harness.analysis.crossed import Floats
from icl_harness.errors import SpecError
from icl_harness.store.cells import CELL
from icl_harness.store.totals import MEANS

if TYPE_CHECKING:
    import pandas as pd

POINT = [name for name in CELL if name != "draw"]
MOST_TIMES = 12.7  # t's quantile at one degree of freedom
ADDED = ["n_tasks", "lacking"]
SUMS = [
    "n_queries", "n_ok", "n_failed", "n_refused", "n_unparsed", "n_cut", "n_overflow", "n_lost"
]  # fmt: skip


class Mean(NamedTuple):
    """A mean of independent values with its limits, its standard error and the degrees of freedom
    of its t.
    """

    value: float
    low: float
    high: float
    se: float
    df: float


def mean_of(values: Floats, lows: Floats, highs: Floats, ses: Floats, level: float) -> Mean:
    """Return the mean of independent values with limits at `level`.

    Distances to the limits add up as standard errors do (MOVER: Zou & Donner 2008), which keeps
    lopsided limits lopsided. Each holds the quantile of a t of few degrees of freedom, where the
    mean has the more of Satterthwaite (1946): it is taken out of the sum and that of the mean put
    in.
    """
    from scipy.special import stdtrit

    half = (highs - lows) / 2
    tail = (1 + level) / 2
    normal = float(stdtrit(1e9, tail))
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.clip(np.where(ses > 0, half / ses, normal), normal, MOST_TIMES)
    variances = (half / times) ** 2
    total = float(variances.sum())
    df, factor = 1e9, 1.0
    if total > 0:
        each = np.maximum(_df_of(times, tail), 1.0)
        df = min(total**2 / float((variances**2 / each).sum()), 1e9)
        factor = float(stdtrit(df, tail)) / float(np.sqrt((variances * times**2).sum() / total))
    value, n = float(values.mean()), len(values)
    below, above = (
        factor * float(np.sqrt((distance**2).sum())) / n
        for distance in (values - lows, highs - values)
    )
    low, high = max(value - below, float(lows.mean())), min(value + above, float(highs.mean()))
    return Mean(value, low, high, float(np.sqrt(total)) / n, df)


def _df_of(times: Floats, tail: float) -> Floats:
    """Return the degrees of freedom at which t has these quantiles, by bisection of their
    logarithm.
    """
    from scipy.special import stdtrit

    low, high = np.zeros_like(times), np.full_like(times, np.log(1e6))
    for _ in range(40):
        middle = (low + high) / 2
        above = stdtrit(np.exp(middle), tail) > times
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    found: Floats = np.exp(high)
    return found


def mean_curves(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return the table of curves of the mean over tasks: `table` is that of the tasks, with the
    column `moderated_se`. `n_tasks` counts the tasks that have a value, and `lacking` names the
    others: where there are any, there is no mean. Counts and dollars are sums, tokens means over
    tasks; `n_draws` is the least of a task.
    """
    import pandas as pd

    tasks = tasks_of(table)
    rows = []
    for rest, part in _groups(table, "value"):
        found, known = _described(rest, part[part["value"].notna()], tasks)
        found |= {name: part[name].sum() for name in SUMS}
        found |= {name: part[name].mean(skipna=False) for name in MEANS}
        found["cost_usd"] = part["cost_usd"].sum(skipna=False)
        found |= {"n_draws": part["n_draws"].min(), "ci_covers": _covers(part)}
        if not found["lacking"]:
            values = known["value"].to_numpy(dtype=float)
            mean = mean_of(values, *_limits(known), level)
            found |= {"value": mean.value, "ci_low": mean.low, "ci_high": mean.high}
        rows.append(found)
    return pd.DataFrame(rows, columns=[*table.columns.drop("moderated_se"), *ADDED])


def mean_differences(table: pd.DataFrame, tasks: Sequence[str], level: float) -> pd.DataFrame:
    """Return the table of differences of the mean over `tasks`, as `mean_curves` does. There is a
    p-value where each task has one; it is below 1 - `level` just where the limits exclude 0.
    """
    import pandas as pd
    from scipy.special import stdtr

    rows = []
    for rest, part in _groups(table, "b_minus_a"):
        found, known = _described(rest, part[part["b_minus_a"].notna()], tasks)
        found |= {name: part[name].sum() for name in ("n_pairs", "n_queries")}
        found |= {name: part[name].mean() for name in ("a_shots_used", "b_shots_used")}
        found["n_draws"] = part["n_draws"].min()
        if not found["lacking"]:
            lows, highs, ses = _limits(known)
            mean = mean_of((lows + highs) / 2, lows, highs, ses, level)
            value = float(known["b_minus_a"].mean())
            found |= {"b_minus_a": value, "ci_low": mean.low, "ci_high": mean.high}
            if known["p_value"].notna().all():
                found["p_value"] = 2 * float(stdtr(mean.df, -abs(mean.value) / mean.se))
        rows.append(found)
    return pd.DataFrame(rows, columns=[*table.columns.drop("moderated_se"), *ADDED])


def check_means(totals: pd.DataFrame, band: str) -> None:
    """Raise `SpecError` where there is no mean over the tasks, or no such band of it."""
    tasks_of(totals)
    if band != POINTWISE:
        raise SpecError(
            f"the band {band} is of one task's curve, not of a mean over tasks. Leave one out."
        )


def tasks_of(table: pd.DataFrame) -> list[str]:
    """Return the tasks of a table. Raises `SpecError` where they are not several, or their metrics
    differ.
    """
    tasks, metrics = (sorted(map(str, table[name].unique())) for name in ("task", "metric"))
    if len(tasks) < 2:
        raise SpecError(
            f"a mean over tasks needs 2 of them; these records hold {', '.join(tasks) or 'none'}."
        )
    if len(metrics) > 1:
        raise SpecError(
            f"the tasks are measured by {', '.join(metrics)}, of which there is no mean. Give one "
            "--metric for all."
        )
    return tasks


def _groups(table: pd.DataFrame, value: str) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield what names a mean, and the rows of its tasks."""
    names = [name for name in ("by", "a", "b", *POINT) if name in table and name != "task"]
    for key, part in table.groupby(names, sort=False, dropna=False, observed=True):
        yield dict(zip(names, key, strict=True)), part


def _described(
    rest: dict[str, Any], known: pd.DataFrame, tasks: Sequence[str]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the row that names a mean and its tasks, and the rows of these that have a value."""
    there = set(known["task"].astype(str))
    lacking = [task for task in tasks if task not in there]
    name = f"mean of {len(tasks)} tasks"
    return {"task": name, **rest, "n_tasks": len(there), "lacking": ", ".join(lacking)}, known


def _limits(known: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    lows, highs, ses = (
        known[name].to_numpy(dtype=float) for name in ("ci_low", "ci_high", "moderated_se")
    )
    return lows, highs, ses


def _covers(part: pd.DataFrame) -> str:
    """Return the chance that all intervals of the tasks are over."""
    found = set(part["ci_covers"])
    if len(found) == 1:
        return str(found.pop())
    return "queries" if found == {"queries", "queries and draws"} else ""
