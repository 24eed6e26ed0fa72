"""The shots that prompts of each cell showed.

In: a database. Out: for each cell and prefix the ids of its shots, and how many answers it got.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from icl_harness.store.cells import CELL, CELL_KEY, Cell
from icl_harness.store.nodes import shot_ids

SETS = f"""
SELECT r.node, count(*), {", ".join(f"c.{name}" for name in CELL)}
FROM records r JOIN cells c ON c.id = r.cell
WHERE r.status = 'ok' AND r.shots_used > 0
GROUP BY r.cell, r.node ORDER BY {", ".join(f"c.{name}" for name in CELL_KEY)}, r.node
"""


def shot_sets(db: sqlite3.Connection) -> Iterator[tuple[Cell, list[str], int]]:
    """Yield cell, ids of shots, and how many answers of the cell were shown these."""
    for node, n_answers, *cell in db.execute(SETS).fetchall():
        yield Cell(**dict(zip(CELL, cell, strict=True))), shot_ids(db, node), n_answers
