"""Paired differences: does one mode (model, shot count, format) do better than another on the same
draws and queries?

In: records. Out: one row per pair of values, cell by cell, with its interval. Pairing on draw,
query and sample takes out what both share, which is worth 4 to 30 times as many queries as
comparing two curves' bands. Left out: what has no partner (a record that failed, a query only one
side was asked).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_harness.analysis.stats import holm, paired_interval
from icl_harness.errors import SpecError, nearest

if TYPE_CHECKING:
    import pandas as pd

SIDES = ("mode", "model", "variant", "shots", "format", "queries_per_request")
CELL = ["task", "model", "mode", "variant", "format", "queries_per_request", "shots", "metric"]
PAIR = ["draw", "query_id", "sample"]
FOUND = ["b_minus_a", "ci_low", "ci_high", "p_value", "p_holm", "n_pairs", "n_draws", "n_queries"]


def compare(records: pd.DataFrame, by: str = "mode", level: float = 0.95) -> pd.DataFrame:
    """Return the mean of score(b) - score(a) for every two values a < b of `by`, all else equal.

    Columns: by, a, b, what else names the cell, b_minus_a, ci_low, ci_high (at `level`, each row
    for itself), p_value, p_holm, n_pairs, n_draws, n_queries. `p_holm` is adjusted over the shot
    grid: all shot counts of a pair, or all pairs of shot counts. Raises `SpecError` where `by` is
    unknown or has one value only.
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
    rest = [name for name in CELL if name != by]
    table = pd.DataFrame(
        list(_rows(records, by, rest, level)), columns=["by", "a", "b", *rest, *FOUND]
    )
    table["p_holm"] = table["p_holm"].astype("float64")
    family = rest if by == "shots" else ["a", "b", *(name for name in rest if name != "shots")]
    for _, rows in table.groupby(family, sort=False, dropna=False):
        table.loc[rows.index, "p_holm"] = holm(rows["p_value"].tolist())
    order = [
        *(name for name in rest if name != "shots"),
        "a",
        "b",
        *(["shots"] if by != "shots" else []),
    ]
    return table.sort_values(order, ignore_index=True)


def _rows(
    records: pd.DataFrame, by: str, rest: list[str], level: float
) -> Iterator[dict[str, Any]]:
    """Yield one row per cell and pair that has partners; Holm's column is filled in when all are
    known.
    """
    ok = records[(records["status"] == "ok") & records["score"].notna()]
    ok = ok.assign(score=ok["score"].astype("float64"))
    binary = (
        ok["score"]
        .isin((0.0, 1.0))
        .groupby([ok["task"], ok["metric"]], dropna=False)
        .transform("all")
    )
    ok = ok.assign(binary=binary)
    for cell, group in ok.groupby(rest, dropna=False):
        named = dict(zip(rest, cell, strict=True))
        # One row per (draw, query, sample), one column per value; runs that asked the same twice
        # are averaged.
        wide = group.pivot_table(index=PAIR, columns=by, values="score", aggfunc="mean")
        draws, queries = (wide.index.get_level_values(name).to_numpy() for name in PAIR[:2])
        for a, b in combinations(wide.columns, 2):
            both = (wide[a].notna() & wide[b].notna()).to_numpy()
            if not both.any():
                continue
            of_a, of_b = wide[a].to_numpy()[both], wide[b].to_numpy()[both]
            is_binary = bool(group["binary"].iloc[0])
            found = paired_interval(
                of_a, of_b, draws[both], queries[both], binary=is_binary, level=level
            )
            yield {
                "by": by,
                "a": a,
                "b": b,
                **named,
                "b_minus_a": found.value,
                "ci_low": found.low,
                "ci_high": found.high,
                "p_value": found.p_value,
                "n_pairs": int(both.sum()),
                "n_draws": len(np.unique(draws[both])),
                "n_queries": len(np.unique(queries[both])),
            }
