"""Curves: records in, one row a cell's draws together out. Works on a run that has not finished.

A failed, refused or overflown request is missing: it is counted and does not enter the score. An
answer that cannot be parsed is wrong, and counted. `n_cut` counts the answers that the limit on
tokens cut, or that broke off in a thought; those whose end decides are unparsed, or failed where
there is none. Left out: differences between curves (compare) and pictures (plots).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from icl_harness.analysis.influence import (
    by_metric,
    is_binary,
    metric_interval,
    positions,
    statistics_of,
)
from icl_harness.files import write_atomically
from icl_harness.store.cells import CELL

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.tasks.metrics import Metric

POINT = [name for name in CELL if name != "draw"]  # what names a point of a curve
INTERVAL = ["value", "ci_low", "ci_high"]
COUNTS = [
    "n_queries", "n_draws", "n_ok", "n_failed", "n_refused", "n_unparsed", "n_cut", "n_overflow"
]  # fmt: skip
TOKENS = ["prompt", "cached", "cache_write", "completion", "reasoning"]
MEANS = ["shots_used", *(f"{kind}_tokens" for kind in TOKENS)]
COLUMNS = [*POINT, *INTERVAL, *COUNTS, *MEANS, "cost_usd", "n_lost"]


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
    table = _numbered(with_metrics(records, metrics or {}))
    groups = table.groupby(POINT, sort=True, dropna=False, observed=True)
    ok = table[table["status"] == "ok"]
    ok_groups = ok.groupby(POINT, sort=True, dropna=False, observed=True)
    out = pd.DataFrame(
        {
            "n_queries": groups["query_id"].nunique(),
            "n_draws": groups["draw"].nunique(),
            "n_ok": groups["is_ok"].sum(),
            "n_failed": groups["is_failed"].sum(),
            "n_refused": groups["is_refused"].sum(),
            "n_unparsed": groups["is_unparsed"].sum(),
            "n_cut": groups["is_cut"].sum(),
            "n_overflow": groups["is_overflow"].sum(),
            "n_lost": groups["n_lost"].sum(),
        }
    )
    means = ok_groups[MEANS].mean()
    intervals = _intervals(ok, metrics or {}, level)
    cost = _cost(groups)
    out = out.join(means).join(intervals).join(cost)
    return out.reset_index()[COLUMNS]


def with_metrics(records: pd.DataFrame, metrics: Mapping[str, Metric]) -> pd.DataFrame:
    """Return the records under the names of these metrics."""
    if not metrics:
        return records
    names = {task: metric.name for task, metric in metrics.items()}
    return records.assign(metric=records["task"].map(names).fillna(records["metric"]))


def unusual_format(row: Mapping[Any, Any]) -> list[str]:
    """Return how a heading names a row's requests; nothing where each is one query's plain text."""
    names = ["chat"] if row["format"] == "chat" else []
    if row["queries_per_request"] > 1:
        names.append(f"{row['queries_per_request']} queries a request")
    return names


def _numbered(records: pd.DataFrame) -> pd.DataFrame:
    """Return the records in a fixed order (sums must not depend on it), with numbers as floats and
    flags by status.
    """
    import pandas as pd

    table = records.reset_index(drop=True)
    sort_keys = [pd.factorize(table[key], sort=True)[0] for key in ("sample", "query_id", "draw")]
    table = table.iloc[np.lexsort(sort_keys)].reset_index(drop=True)
    numbers = {
        name: pd.to_numeric(table[name]).astype("float64") for name in (*MEANS, "score", "cost_usd")
    }
    ok = table["status"] == "ok"
    unparsed = ok & table["parsed"].isna()
    numbers["score"] = numbers["score"].mask(unparsed & numbers["score"].isna(), 0.0)
    flags = {
        "is_ok": ok,
        "is_failed": table["status"] == "failed",
        "is_refused": table["status"] == "refused",
        "is_overflow": table["status"] == "overflow",
        "is_unparsed": unparsed,
        "is_cut": table.get("cut", pd.Series(False, index=table.index)).astype(bool),
        "is_priced": ok & numbers["cost_usd"].notna(),
    }
    return table.assign(**numbers, **flags)


def _intervals(ok: pd.DataFrame, metrics: Mapping[str, Metric], level: float) -> pd.DataFrame:
    """Return value, ci_low and ci_high by point."""
    import pandas as pd

    ok = ok[ok["score"].notna()].reset_index(drop=True)
    draws, queries = (pd.factorize(ok[name], sort=True)[0] for name in ("draw", "query_id"))
    found: dict[Any, tuple[float, float, float]] = {}
    for metric, answers in by_metric(ok, metrics):
        statistics = statistics_of(answers, metric)
        binary = is_binary(answers)
        for point, rows in positions(answers, POINT):
            at = answers.index.to_numpy()[rows]
            interval = metric_interval(
                metric, statistics.rows(rows), draws[at], queries[at], binary=binary, level=level
            )
            found[point] = (interval.value, interval.low, interval.high)
    index = pd.MultiIndex.from_tuples(list(found), names=POINT)
    return pd.DataFrame(list(found.values()), index=index, columns=INTERVAL, dtype="float64")


def _cost(groups: Any) -> pd.Series[float]:
    """Return the sum of all known costs by cell; missing where an ok record's is not known, or none
    is.
    """
    known: pd.Series[float] = groups["cost_usd"].sum(min_count=1).rename("cost_usd")
    return known.where(groups["is_priced"].sum() == groups["is_ok"].sum())


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
