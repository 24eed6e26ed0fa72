"""Counts and means of a curve's points: what the records of each cell add up to, put together.

In: records in a table, or what the database counted of a run's cells (store/totals.py). Out: the
same totals, or a row a point. Left out: values and their intervals (influence).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from icl_harness.store.cells import CELL
from icl_harness.store.totals import COUNTS, MEANS, SUMS

if TYPE_CHECKING:
    import pandas as pd

STATUSES = ("ok", "failed", "refused", "overflow")


def totals_of(records: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each cell in a table of records: its fields, and `SUMS`."""
    import pandas as pd

    numbers = {
        name: pd.to_numeric(records[name]).astype("float64") for name in (*MEANS, "cost_usd")
    }
    scores = scores_of(records)
    ok = records["status"] == "ok"
    priced = numbers["cost_usd"].notna()
    fractional = scores.notna() & ~scores.isin((0.0, 1.0))
    found: dict[str, Any] = {
        **{f"n_{status}": records["status"] == status for status in STATUSES},
        "n_records": 1,
        "n_unparsed": ok & records["parsed"].isna(),
        "n_cut": records.get("cut", pd.Series(False, index=records.index)).astype(bool),
        "n_lost": records["n_lost"],
        "n_costs": priced,
        "n_priced": ok & priced,
        "n_fractional": ok & fractional,
        "cost_usd": numbers["cost_usd"].fillna(0.0),
    }
    for name in MEANS:
        found[name] = numbers[name].where(ok).fillna(0.0)
        found[f"n_{name}"] = ok & numbers[name].notna()
    rows = records[list(CELL)].assign(**found)
    has_clusters = "cluster" in records and bool(records["cluster"].notna().any())
    return _added_up(rows, list(CELL)).reset_index().assign(has_clusters=has_clusters)


def scores_of(records: pd.DataFrame) -> pd.Series[float]:
    """Return the scores of records: an answer that could not be read is wrong, whether or not its
    record says so.
    """
    import pandas as pd

    scores = pd.to_numeric(records["score"]).astype("float64")
    if "parsed" not in records:
        return scores
    unparsed = (records["status"] == "ok") & records["parsed"].isna()
    return scores.mask(unparsed & scores.isna(), 0.0)


def of_points(totals: pd.DataFrame, point: list[str]) -> pd.DataFrame:
    """Return a row for each point: counts, means over the answers, dollars, number of draws.

    Dollars are missing where an answer's cost is not known, or nothing's is.
    """
    out = _added_up(totals, point)
    out["n_draws"] = _groups(totals, point)["draw"].nunique()
    for name in MEANS:
        out[name] = out[name] / out[f"n_{name}"].where(out[f"n_{name}"] > 0)
    known = (out["n_costs"] > 0) & (out["n_priced"] == out["n_ok"])
    out["cost_usd"] = out["cost_usd"].where(known)
    return out[["n_draws", *COUNTS, *MEANS, "cost_usd"]]


def _added_up(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return the sums of rows with equal `names`."""
    added: pd.DataFrame = _groups(rows, names)[list(SUMS)].sum()
    return added


def _groups(rows: pd.DataFrame, names: list[str]) -> Any:
    return rows.groupby(names, sort=True, dropna=False, observed=True)
