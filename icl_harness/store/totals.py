"""What the records of each cell add up to, as the database counts it.

In: a database. Out: one row a cell: counts by status, sums of tokens and dollars. A curve needs no
more of most columns, and no record is loaded for it. analysis/totals.py counts the same of records
in a table.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from icl_harness.store.answers import USAGE
from icl_harness.store.cells import CELL, CELL_KEY

if TYPE_CHECKING:
    import pandas as pd

MEANS = ("shots_used", *USAGE[:-1])  # averaged over the answers
COUNTS = (
    "n_records", "n_ok", "n_failed", "n_refused", "n_overflow", "n_unparsed", "n_cut", "n_lost",
    "n_costs", "n_priced", "n_fractional",
)  # fmt: skip
SUMS = (*COUNTS, "cost_usd", *MEANS, *(f"n_{name}" for name in MEANS))

# Of all records, of answers, of others: counting by status in one go takes longer.
TABLES = {
    "of_all": """
SELECT cell, count(*) AS n_records, sum(cut != 0) AS n_cut, sum(n_lost) AS n_lost,
       count(cost_usd) AS n_costs, sum(cost_usd) AS cost_usd, sum(reused) AS n_reused,
       sum(sample) AS samples
FROM records GROUP BY cell""",
    "of_answers": f"""
SELECT cell, count(*) AS n_ok, sum(parsed IS NULL) AS n_unparsed, count(cost_usd) AS n_priced,
       coalesce(sum(score NOT IN (0, 1)), 0) AS n_fractional,
       {", ".join(f"total({name}) AS {name}, count({name}) AS n_{name}" for name in MEANS)}
FROM records WHERE status = 'ok' GROUP BY cell""",
    "of_others": """
SELECT cell, sum(status = 'failed') AS n_failed, sum(status = 'refused') AS n_refused,
       sum(status = 'overflow') AS n_overflow
FROM records WHERE status != 'ok' GROUP BY cell""",
}
CLUSTERS = "SELECT 1 FROM queries WHERE cluster IS NOT NULL LIMIT 1"


def count(db: sqlite3.Connection) -> None:
    """Count for `read_totals`, into tables of this connection's own: the database works alone, so
    that other threads go on meanwhile.
    """
    for name, query in TABLES.items():
        db.execute(f"DROP TABLE IF EXISTS temp.{name}")
        db.execute(f"CREATE TEMP TABLE {name} AS {query}")


def read_totals(db: sqlite3.Connection) -> pd.DataFrame:
    """Return what was counted: a row for each cell that has records, with its `id`, the fields of
    the cell, `SUMS`.

    `n_costs` counts the records whose cost is known, `n_priced` the answers; `n_fractional` the
    answers whose score is neither 0 nor 1; a token count's `n_` the answers where it is known.
    `n_reused` counts copied answers, `samples` is the sum of the samples' numbers.
    `has_clusters` says whether any query of the run names a cluster.
    """
    import pandas as pd

    cells = pd.read_sql_query(
        f"SELECT id, {', '.join(CELL)} FROM cells ORDER BY {', '.join(CELL_KEY)}", db
    ).set_index("id")
    for name in TABLES:
        counted = pd.read_sql_query(f"SELECT * FROM temp.{name}", db)
        cells = cells.join(counted.set_index("cell"))
    cells = cells[cells["n_records"].notna()].copy()
    cells["has_clusters"] = db.execute(CLUSTERS).fetchone() is not None
    counts = [name for name in SUMS if name.startswith("n_")]
    cells[counts] = cells[counts].fillna(0).astype("int64")
    cells[list(MEANS)] = cells[list(MEANS)].fillna(0.0).astype("float64")
    cells["cost_usd"] = cells["cost_usd"].astype("float64").fillna(0.0)
    return cells.reset_index()
