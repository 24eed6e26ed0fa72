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

from icl_harness.analysis.influence import (
    by_metric,
    labels_by_metric,
    metric_interval,
    positions,
    statistics_of,
)
from icl_harness.analysis.totals import of_points, scores_of, totals_of
from icl_harness.files import write_atomically
from icl_harness.store.cells import CELL
from icl_harness.store.totals import MEANS

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.tasks.metrics import Metric

    Parts = Callable[[Sequence[str]], Iterable[pd.DataFrame]]

POINT = [name for name in CELL if name != "draw"]  # what names a point of a curve
INTERVAL = ["value", "ci_low", "ci_high"]
COUNTS = [
    "n_queries", "n_draws", "n_ok", "n_failed", "n_refused", "n_unparsed", "n_cut", "n_overflow"
]  # fmt: skip
COLUMNS = [*POINT, *INTERVAL, *COUNTS, *MEANS, "cost_usd", "n_lost"]
OF_SCORES = ["query_id", "sample", "status", "score"]  # what an interval is made of
OF_METRICS = [*OF_SCORES, "parsed", "target", "choices"]  # of metrics other than the mean score


def curves(
    records: pd.DataFrame, level: float = 0.95, metrics: Mapping[str, Metric] | None = None
) -> pd.DataFrame:
    """Return one row per point of every curve (`POINT`), in that order, with the columns `COLUMNS`.

    `value` is the metric of the records that are ok and `ci_low`, `ci_high` its crossed interval
    (influence); all three are missing where no record is ok. `metrics` are those of the tasks; else
    each is the one that the records name. `shots_used` and the tokens are means over the records
    that are ok; `cost_usd` is a sum, missing where an answer's cost is not known; `n_lost` counts
    requests that broke off. The order of the records makes no difference. Raises `SpecError` where
    a metric needs what the records lack.
    """
    import pandas as pd

    if records.empty:
        return pd.DataFrame(columns=COLUMNS)
    named = with_metrics(records, metrics or {})
    return curves_of_parts(totals_of(named), lambda names: [named], level, metrics)


def curves_of_parts(
    totals: pd.DataFrame,
    parts: Parts,
    level: float = 0.95,
    metrics: Mapping[str, Metric] | None = None,
) -> pd.DataFrame:
    """Return the same table of records that are read in parts, so that they need not all be held:
    `parts` yields all records of some points after those of others, with the columns it is given.

    `totals` are what the records of each cell add up to (totals.py).
    """
    import pandas as pd

    if totals.empty:
        return pd.DataFrame(columns=COLUMNS)
    out = of_points(totals, POINT).join(_intervals(parts, totals, metrics or {}, level))
    return out.reset_index()[COLUMNS]


def needed_columns(totals: pd.DataFrame, metrics: Mapping[str, Metric]) -> list[str]:
    """Return which columns of records, beside those of their cells, tables of values need."""
    means = [metric.is_mean_score for metric, _ in by_metric(totals, metrics)]
    return OF_SCORES if all(means) else OF_METRICS


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
    parts: Parts, totals: pd.DataFrame, metrics: Mapping[str, Metric], level: float
) -> pd.DataFrame:
    """Return value, ci_low, ci_high and n_queries by point."""
    import pandas as pd

    names = needed_columns(totals, metrics)
    labels = {} if names == OF_SCORES else labels_by_metric(map(_answers, parts(names)))
    fractional = _keys(totals[totals["n_fractional"] > 0])
    found: dict[Any, tuple[float, float, float]] = {}
    n_queries = []
    for part in parts(names):
        n_queries.append(_by_point(part)["query_id"].nunique())
        ok = _answers(part)
        draws, queries = (pd.factorize(ok[name], sort=True)[0] for name in ("draw", "query_id"))
        for metric, answers in by_metric(ok, metrics):
            (key,) = _keys(answers)
            statistics = statistics_of(answers, metric, labels.get(key))
            binary = key not in fractional
            for point, rows in positions(answers, POINT):
                at = answers.index.to_numpy()[rows]
                crossed = draws[at], queries[at]
                interval = metric_interval(
                    metric, statistics.rows(rows), *crossed, binary=binary, level=level
                )
                found[point] = (interval.value, interval.low, interval.high)
    index = pd.MultiIndex.from_tuples(list(found), names=POINT)
    values = pd.DataFrame(list(found.values()), index=index, columns=INTERVAL, dtype="float64")
    counted: pd.DataFrame = pd.concat(n_queries).to_frame("n_queries")
    return counted.join(values)


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
