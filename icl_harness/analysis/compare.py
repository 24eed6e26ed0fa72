"""Paired differences: does one mode (model, shot count, format) do better than another on the same
draws and queries?

In: records. Out: one row per pair of values, cell by cell, with its interval. Pairing on draw,
query and sample takes out what both share, which is worth 4 to 30 times as many queries as
comparing two curves' bands. Left out: what has no partner (a record that failed, a query only one
side was asked).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_harness.analysis.crossed import Floats
from icl_harness.analysis.curves import POINT, with_metrics
from icl_harness.analysis.influence import (
    by_metric,
    is_binary,
    metric_difference,
    positions,
    statistics_of,
)
from icl_harness.analysis.stats import holm
from icl_harness.analysis.totals import scores_of
from icl_harness.errors import SpecError, nearest
from icl_harness.prompts.variants import DEFAULT

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.tasks.metrics import Metric

SIDES = ("mode", "model", "variant", "shots", "format", "queries_per_request")
PAIR = ["draw", "query_id", "sample"]
FOUND = ["b_minus_a", "ci_low", "ci_high", "p_value", "p_holm", "n_pairs", "n_draws", "n_queries"]


def compare(
    records: pd.DataFrame,
    by: str = "mode",
    level: float = 0.95,
    metrics: Mapping[str, Metric] | None = None,
) -> pd.DataFrame:
    """Return metric(b) - metric(a) for every two values of `by`, all else equal: a is the variant
    `default`, else the first in sorted order.

    Columns: by, a, b, what else names the point, b_minus_a, ci_low, ci_high (at `level`, each row
    for itself), p_value, p_holm, n_pairs, n_draws, n_queries. `p_holm` is adjusted over the shot
    grid: all shot counts of a pair, or all pairs of shot counts. `metrics` are those of the tasks;
    else each is the one that the records name. Raises `SpecError` where `by` is unknown or has one
    value only, or a metric needs what the records lack.
    """
    import pandas as pd

    if by not in SIDES:
        raise SpecError(
            f"cannot compare by {by!r}; choose from {', '.join(SIDES)}.{nearest(by, SIDES)}"
        )
    values = sorted(records[by].dropna().unique())
    if len(values) < 2:
        only = f" ({values[0]})" if values else ""
        several = [side for side in SIDES if records[side].nunique() > 1]
        instead = f" Several there are by {', '.join(several)}." if several else ""
        raise SpecError(
            f"the records hold {len(values)} {by}{only}: a comparison by {by} needs 2.{instead}"
        )
    rest = [name for name in POINT if name != by]
    found = list(_rows(with_metrics(records, metrics or {}), metrics or {}, by, rest, level))
    table = pd.DataFrame(found, columns=["by", "a", "b", *rest, *FOUND])
    table["p_holm"] = table["p_holm"].astype("float64")
    family = rest if by == "shots" else ["a", "b", *(name for name in rest if name != "shots")]
    for _, rows in table.groupby(family, sort=False, dropna=False):
        table.loc[rows.index, "p_holm"] = holm(rows["p_value"].tolist())
    last = [] if by == "shots" else ["shots"]
    order = [*(name for name in rest if name != "shots"), "a", "b", *last]
    return table.sort_values(order, ignore_index=True)


def _rows(
    records: pd.DataFrame, metrics: Mapping[str, Metric], by: str, rest: list[str], level: float
) -> Iterator[dict[str, Any]]:
    """Yield one row per point and pair that has partners; Holm's column is filled in when all are
    known.
    """
    scored = records.assign(score=scores_of(records))
    ok = scored[(scored["status"] == "ok") & scored["score"].notna()]
    for metric, answers in by_metric(ok, metrics):
        statistics = statistics_of(answers, metric)
        binary = is_binary(answers)
        for point, chosen in positions(answers, rest):
            sides = dict(_sides(answers.iloc[chosen], statistics.rows(chosen), by))
            for a, b in combinations(sorted(sides, key=_default_first), 2):
                row = _difference(metric, sides[a], sides[b], binary=binary, level=level)
                if row is not None:
                    yield {"by": by, "a": a, "b": b, **dict(zip(rest, point, strict=True)), **row}


def _default_first(value: Any) -> tuple[bool, Any]:
    """Return the sort key of a value of `by`: the variant `default` is what others differ from."""
    return value != DEFAULT, value


def _sides(
    answers: pd.DataFrame, statistics: Floats, by: str
) -> Iterator[tuple[Any, tuple[pd.MultiIndex, Floats]]]:
    """Yield each value of `by` with its (draw, query, sample) and their statistics; runs that asked
    the same twice are averaged.
    """
    import pandas as pd

    for (value,), chosen in positions(answers, [by]):
        pairs = pd.MultiIndex.from_frame(answers.iloc[chosen][PAIR])
        names = pairs.unique().sort_values()
        code = names.get_indexer(pairs)
        sums = np.zeros((len(names), statistics.shape[1]))
        np.add.at(sums, code, statistics[chosen])
        yield value, (names, sums / np.bincount(code)[:, None])


def _difference(
    metric: Metric,
    a: tuple[pd.MultiIndex, Floats],
    b: tuple[pd.MultiIndex, Floats],
    *,
    binary: bool,
    level: float,
) -> dict[str, Any] | None:
    """Return the numbers of a row; None where no query was answered on both sides."""
    (names_a, of_a), (names_b, of_b) = a, b
    both = names_a.intersection(names_b, sort=None)
    if both.empty:
        return None
    rows = of_a[names_a.get_indexer(both)], of_b[names_b.get_indexer(both)]
    draws, queries = (both.get_level_values(i).factorize()[0] for i in (0, 1))
    found = metric_difference(metric, rows, draws, queries, binary=binary, level=level)
    return {
        "b_minus_a": found.value,
        "ci_low": found.low,
        "ci_high": found.high,
        "p_value": found.p_value,
        "n_pairs": len(both),
        "n_draws": int(draws.max()) + 1,
        "n_queries": int(queries.max()) + 1,
    }
