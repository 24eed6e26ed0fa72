"""Curves: records in, one row a cell's draws together out. Works on a run that has not finished.

A failed, refused or overflown request is missing: it is counted and does not enter the score. An
answer that cannot be parsed is wrong, and counted. `n_cut` counts the answers that the limit on
tokens cut, or that broke off in a thought; those whose end decides are unparsed, or failed where
there is none. Left out: differences between curves (compare) and pictures (plots).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from icl_harness.analysis.bands import LIMITS, POINTWISE, SIMULTANEOUS, check_band, point_level
from icl_harness.analysis.crossed import Codes
from icl_harness.analysis.estimates import Estimate, covers
from icl_harness.analysis.influence import (
    Statistics,
    by_metric,
    labels_by_metric,
    metric_estimate,
    positions,
    statistics_of,
)
from icl_harness.analysis.samples import joined_samples, nothing_known
from icl_harness.analysis.stats import intervals
from icl_harness.analysis.task_means import check_means, mean_curves
from icl_harness.analysis.totals import of_points, scores_of, totals_of
from icl_harness.analysis.units import NEEDED, TIES, is_repeat, shots_of, units_of, unparsed_of
from icl_harness.errors import SpecError
from icl_harness.files import write_atomically
from icl_harness.store.cells import CELL
from icl_harness.store.totals import MEANS

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.tasks.metrics import Metric

    Parts = Callable[[Sequence[str]], Iterable[pd.DataFrame]]

POINT = [name for name in CELL if name != "draw"]  # what names a point of a curve
CURVE = [name for name in POINT if name != "shots"]
INTERVAL = ["value", "ci_low", "ci_high"]
COUNTS = [
    "n_queries", "n_draws", "n_ok", "n_failed", "n_refused", "n_unparsed", "n_cut", "n_overflow"
]  # fmt: skip
COLUMNS = [*POINT, *INTERVAL, *COUNTS, *MEANS, "cost_usd", "n_lost", "ci_covers"]
REPEATED = ["n_ok", "n_unparsed", "n_cut"]  # which count a copied answer once
FAMILY = ["task", "model", "metric"]  # of points whose draws are alike
OF_SCORES = ["query_id", "sample", "status", "score", *NEEDED]  # what an interval is made of
OF_METRICS = [*OF_SCORES, "parsed", "target", "choices"]  # of metrics other than the mean score


def curves(
    records: pd.DataFrame,
    level: float = 0.95,
    metrics: Mapping[str, Metric] | None = None,
    band: str = POINTWISE,
    *,
    mean_over_tasks: bool = False,
) -> pd.DataFrame:
    """Return one row per point of every curve (`POINT`), in that order, with the columns `COLUMNS`.

    `value` is the metric of the records that are ok and `ci_low`, `ci_high` its interval
    (docs/statistics.md); all three are missing where no record is ok. `ci_covers` says over which
    chance the interval is: "queries and draws", or one of them. Answers that several draws share,
    as zero-shot ones are, count once in `n_ok`. With the `band` "simultaneous" two more columns,
    `band_low` and `band_high`, hold for all points of a curve at once. `metrics` are those of the
    tasks; else each is the one that the records name. `shots_used` and the tokens are means over
    the records that are ok; `cost_usd` is a sum, missing where an answer's cost is not known;
    `n_lost` counts requests that broke off. The order of the records makes no difference. With
    `mean_over_tasks` the curves are those of the mean over all tasks (task_means.py), with the
    columns `n_tasks` and `lacking`. Raises `SpecError` where a metric needs what the records lack.
    """
    import pandas as pd

    check_band(band)
    if records.empty:
        return pd.DataFrame(columns=_columns(band))
    named = with_metrics(records, metrics or {})
    totals = totals_of(named)
    return curves_of_parts(
        totals, lambda names: [named], level, metrics, band, mean_over_tasks=mean_over_tasks
    )


def curves_of_parts(
    totals: pd.DataFrame,
    parts: Parts,
    level: float = 0.95,
    metrics: Mapping[str, Metric] | None = None,
    band: str = POINTWISE,
    *,
    mean_over_tasks: bool = False,
) -> pd.DataFrame:
    """Return the same table of records that are read in parts, so that they need not all be held:
    `parts` yields all records of some points after those of others, with the columns it is given.

    `totals` are what the records of each cell add up to (totals.py).
    """
    import pandas as pd

    check_band(band)
    if totals.empty:
        return pd.DataFrame(columns=_columns(band))
    if mean_over_tasks:
        check_means(totals, band)
    out = of_points(totals, POINT).join(_intervals(parts, totals, metrics or {}, level, band))
    for name in REPEATED:
        out[name] -= out.pop(f"{name}_again").fillna(0).astype("int64")
    table = out.reset_index()
    if mean_over_tasks:
        return mean_curves(table[[*COLUMNS, "moderated_se"]], level)
    return table[_columns(band)]


def _columns(band: str) -> list[str]:
    return [*COLUMNS, *LIMITS] if band == SIMULTANEOUS else COLUMNS


def needed_columns(totals: pd.DataFrame, metrics: Mapping[str, Metric]) -> list[str]:
    """Return which columns of records, beside those of their cells, tables of values need."""
    every = [metric for metric, _ in by_metric(totals, metrics)]
    of_scores = all(one.statistic is None and one.samples == "each" for one in every)
    names = OF_SCORES if of_scores else OF_METRICS
    names = [*names, *sorted({one.of for one in every} - {"score"})]
    if any(one.samples == "best" for one in every):
        names = [*names, "cluster_size"]
    has_groups = bool((totals["queries_per_request"] > 1).any())
    ties = zip(TIES, (bool(totals["has_clusters"].any()), has_groups), strict=True)
    return [*names, *(name for name, is_there in ties if is_there)]


def with_metrics(records: pd.DataFrame, metrics: Mapping[str, Metric]) -> pd.DataFrame:
    """Return the records under the names of these metrics."""
    names = {task: metric.name for task, metric in metrics.items()}
    if all(names.get(task, metric) == metric for task, metric in _keys(records)):
        return records
    found = records["task"].astype(object).map(names)
    return records.assign(metric=found.where(found.notna(), records["metric"].astype(object)))


def unusual_format(row: Mapping[Any, Any]) -> list[str]:
    """Return how a heading names a row's requests; nothing where each is one query's plain text."""
    names = ["chat"] if row["format"] == "chat" else []
    if row["queries_per_request"] > 1:
        names.append(f"{row['queries_per_request']} queries a request")
    return names


def _intervals(
    parts: Parts, totals: pd.DataFrame, metrics: Mapping[str, Metric], level: float, band: str
) -> pd.DataFrame:
    """Return value, limits, what they cover, n_queries, and how often counts count an
    answer again, by point.
    """
    names = needed_columns(totals, metrics)
    labels = labels_by_metric(map(_answers, parts(names))) if "target" in names else {}
    fractional = _keys(totals[totals["n_fractional"] > 0])
    found: dict[Any, Estimate] = {}
    again: dict[Any, list[int]] = {}
    n_queries = []
    lacking: dict[str, Metric] = {}
    for part in parts(names):
        n_queries.append(_by_point(part)["query_id"].nunique())
        ok = _answers(part)
        for metric, every in by_metric(ok, metrics):
            answers = joined_samples(every, metric)
            if metric.of != "score":  # which not all answers have
                again |= _again(every)
                lacking[str(every["task"].iloc[0])] = metric
            if answers.empty:
                continue
            (key,) = _keys(every)
            statistics = statistics_of(answers, metric, labels.get(key))
            binary = key not in fractional
            repeats = is_repeat(answers)
            for point, rows in positions(answers, POINT):
                if point not in again:
                    again[point] = _counted(answers.iloc[rows[repeats[rows]]])
                kept = rows[~repeats[rows]]
                found[point] = _estimate(metric, answers, statistics, kept, binary=binary)
    if again and not found:
        raise SpecError(nothing_known(lacking))
    return _table(_rows_of(found, level, band), list(found), n_queries, again)


def _table(
    rows: Sequence[tuple[Any, ...]],
    points: Sequence[Any],
    n_queries: Sequence[pd.Series[int]],
    again: Mapping[Any, list[int]],
) -> pd.DataFrame:
    """Return the columns of `_intervals` by point; `rows` are those of the `points`."""
    import pandas as pd

    index = pd.MultiIndex.from_tuples(points, names=POINT)
    columns = [*INTERVAL, *LIMITS, "ci_covers", "moderated_se"]
    values = pd.DataFrame(rows, index=index, columns=columns)
    counted: pd.DataFrame = pd.concat(n_queries).to_frame("n_queries")
    names_again = [f"{name}_again" for name in REPEATED]
    every_point = pd.MultiIndex.from_tuples(list(again), names=POINT)
    repeated = pd.DataFrame(list(again.values()), index=every_point, columns=names_again)
    numbers = dict.fromkeys([*INTERVAL, *LIMITS], "float64")
    return counted.join(values.astype(numbers)).join(repeated)


def _again(answers: pd.DataFrame) -> dict[Any, list[int]]:
    """Return by point how many answers are copies, how many of these could not be parsed, and how
    many were cut.
    """
    repeats = is_repeat(answers)
    found = {}
    for point, rows in positions(answers, POINT):
        found[point] = _counted(answers.iloc[rows[repeats[rows]]])
    return found


def _counted(copies: pd.DataFrame) -> list[int]:
    n_cut = int(copies["cut"].sum()) if "cut" in copies else 0
    return [len(copies), int(unparsed_of(copies).sum()), n_cut]


def _estimate(
    metric: Metric, answers: pd.DataFrame, statistics: Statistics, rows: Codes, *, binary: bool
) -> Estimate:
    """Return what a point's interval is made of."""
    at = answers.iloc[rows]
    draws = at["draw"].to_numpy()
    return metric_estimate(
        metric, statistics.rows(rows), draws, units_of(at), binary=binary, shots=shots_of(at)
    )


def _rows_of(found: Mapping[Any, Estimate], level: float, band: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table: a model's points on a task tell together how much draws vary."""
    of_points = _levels(found, level) if band == SIMULTANEOUS else {}
    rows = {}
    for points in _grouped(found, FAMILY):
        estimates = [found[point] for point in points]
        pointwise = intervals(estimates, level)
        wide = pointwise
        if of_points:
            wide = intervals(estimates, [of_points[point] for point in points])
        for point, one, of, by in zip(points, estimates, pointwise, wide, strict=True):
            limits = (of.low, of.high, by.low, by.high)
            rows[point] = (of.value, *limits, covers(one), of.moderated_se)
    return [rows[point] for point in found]


def _levels(found: Mapping[Any, Estimate], level: float) -> dict[Any, float]:
    """Return the level of each point's interval at which those of its curve hold together."""
    levels: dict[Any, float] = {}
    for points in _grouped(found, CURVE):
        at = point_level([found[point] for point in points], level)
        levels.update(dict.fromkeys(points, at))
    return levels


def _grouped(points: Iterable[Any], names: Sequence[str]) -> list[list[Any]]:
    """Return the points in groups that have the fields `names` in common."""
    groups: dict[Any, list[Any]] = {}
    for point in points:
        named = dict(zip(POINT, point, strict=True))
        groups.setdefault(tuple(named[name] for name in names), []).append(point)
    return list(groups.values())


def _keys(rows: pd.DataFrame) -> set[tuple[Any, ...]]:
    """Return the (task, metric) that occur."""
    return set(rows[["task", "metric"]].drop_duplicates().itertuples(index=False, name=None))


def _answers(part: pd.DataFrame) -> pd.DataFrame:
    """Return the records that have a score, in a fixed order: sums must not depend on it."""
    import pandas as pd

    table = part.assign(score=scores_of(part))
    table = table[(table["status"] == "ok") & table["score"].notna()]
    keys = [pd.factorize(table[key], sort=True)[0] for key in ("sample", "query_id", "draw")]
    return table.iloc[np.lexsort(keys)].reset_index(drop=True)


def _by_point(records: pd.DataFrame) -> Any:
    return records.groupby(POINT, sort=True, dropna=False, observed=True)


def write_csv(table: pd.DataFrame, path: Path | str | TextIO) -> None:
    """Write `table` so that equal tables give equal bytes. Raises `StoreError` where the file
    cannot be written.
    """
    if not isinstance(path, str | Path):
        path.write(csv_text(table))
    else:
        write_atomically(path, csv_text(table).encode())


def csv_text(table: pd.DataFrame) -> str:
    """Return `table` as CSV: at most 6 decimals, whole numbers without a point, missing ones
    empty.
    """
    text = table.copy()
    for name in text.columns:
        if text[name].dtype.kind in "fiu":
            text[name] = [_number(value) for value in text[name]]
    return text.to_csv(index=False, lineterminator="\n")


def _number(value: float) -> str:
    if value != value:
        return ""
    short = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if short == "-0" else short
