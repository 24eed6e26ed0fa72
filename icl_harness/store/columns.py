"""Records as columns for tables: only those that are wanted, in little memory.

In: a database, its cells, names of columns. Out: a DataFrame with a row per record, in which each
text stands once (categoricals). Left out: what the model wrote (record_rows.py).
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from icl_harness.store import choice_scores
from icl_harness.store.answers import USAGE
from icl_harness.store.cells import CELL
from icl_harness.store.database import database_errors
from icl_harness.store.nodes import text_of
from icl_harness.store.queries import CLUSTER_SIZE, add_cluster_size

if TYPE_CHECKING:
    import pandas as pd

    Codes = dict[str | None, int]
    Column = str | Sequence[Any]

WHOLE = {"sample", "shots_used", "n_lost", "node", "query_text"}
FLAGS = {"reused", "cut", "unparsed"}
REAL = {"score", "gold_nll", *USAGE, "latency_s", *choice_scores.COLUMNS, CLUSTER_SIZE}
OF_QUERY = {"target", "choices", "cluster", CLUSTER_SIZE, *choice_scores.COLUMNS}
# An answer that could not be read is wrong, whether or not its record says so.
SCORE = "coalesce(r.score, CASE WHEN r.status = 'ok' AND r.parsed IS NULL THEN 0.0 END)"
RIGHT = f"CASE {SCORE} WHEN 0 THEN 0 WHEN 1 THEN 1 END"


def read_columns(
    sources: Sequence[tuple[Path, sqlite3.Connection, pd.DataFrame]], names: Sequence[str]
) -> pd.DataFrame:
    """Return the fields of cells and the columns `names` of their records, cell by cell.

    `sources` are folders, their databases, and cells of theirs, which have the column `id` and the
    cells' fields (totals.py). `choices` are tuples.
    """
    import pandas as pd

    every = pd.concat([cells for _, _, cells in sources])
    alike = {name: column for name, column in _alike(every).items() if name in names}
    wanted, names = names, [name for name in names if name not in alike]
    expressions = {name: _expression(name) for name in names}
    if (every["n_fractional"] == 0).all() and "score" in names:
        expressions["score"] = RIGHT
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    known: dict[str, Codes] = {name: {None: -1} for name in names}
    sizes = []
    for path, db, cells in sources:
        has_scores = _prepare(db, names)
        choices = functools.cache(functools.partial(_choices, db))
        read: dict[str, Column] = {}
        with database_errors(path):
            for cell in cells.itertuples():
                n_rows, found = _read(db, cell, expressions, has_scores=has_scores)
                sizes.append(n_rows)
                for name, column in zip(names, found, strict=True):
                    if column != read.get(name):  # most cells of a task ask the same queries
                        read[name] = column
                        values = json.loads(column) if isinstance(column, str) else column
                        if name == "choices":
                            values = list(map(choices, values))
                        parts[name].append(_array(name, values, known[name]))
                    else:
                        parts[name].append(parts[name][-1])
    of_cells = {name: _repeated(every[name], sizes) for name in CELL}
    columns = {name: _column(name, found, known[name]) for name, found in parts.items()}
    columns |= {name: _repeated(column, sizes) for name, column in alike.items()}
    return pd.DataFrame({**of_cells, **{name: columns[name] for name in wanted}}, copy=False)


def _alike(cells: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    """Return the columns that need not be read, as all records of a cell have the same value, with
    that value for each cell: its totals say so. Where no answer is a copy, no prefix is asked for.
    """
    found = {}
    if (cells["n_ok"] == cells["n_records"]).all():
        found["status"] = cells["shots"].map(lambda _: "ok")
        if (cells["shots_used"] == cells["shots"] * cells["n_ok"]).all():  # never more than asked
            found["shots_used"] = cells["shots"]
    if (cells["n_reused"] == 0).all():
        found["reused"] = cells["n_reused"] > 0
        found["node"] = cells["n_reused"]
    if (cells["samples"] == 0).all():
        found["sample"] = cells["samples"]
    return found


def _choices(db: sqlite3.Connection, key: int | None) -> tuple[str, ...] | None:
    return None if key is None else tuple(json.loads(text_of(db, key)))


def _prepare(db: sqlite3.Connection, names: Sequence[str]) -> bool:
    """Let queries of a connection use what columns need; return whether scores of choices are to be
    looked up.
    """
    if CLUSTER_SIZE in names:
        add_cluster_size(db)
    if not set(choice_scores.COLUMNS) & set(names) or not choice_scores.is_there(db):
        return False
    choice_scores.add_functions(db)
    return True


def _read(
    db: sqlite3.Connection, cell: Any, expressions: Mapping[str, str], *, has_scores: bool
) -> tuple[int, Sequence[Column]]:
    """Return how many records a cell has, and their columns.

    Columns come as a JSON text each, which takes a fourth of the time of rows. Numbers with
    decimals do not, as SQLite writes but 15 digits of them.
    """
    join, where = "", [cell.id]
    if OF_QUERY & set(expressions):
        join = "LEFT JOIN queries q ON q.task = ? AND q.variant = ? AND q.query_id = r.query_id"
        where = [cell.task, cell.variant, cell.id]
    of_choices = dict.fromkeys(choice_scores.COLUMNS, "NULL")
    if has_scores:
        of_choices = choice_scores.COLUMNS
        join = f"{join} {choice_scores.JOIN}"
    expressions = {
        name: of_choices.get(name, expression) for name, expression in expressions.items()
    }
    of_cell = f"FROM records r {join} WHERE r.cell = ?"
    exact = any(name in REAL and expressions[name] != RIGHT for name in expressions)
    if exact or not expressions:
        wanted = ", ".join(["r.cell", *expressions.values()])
        rows = db.execute(f"SELECT {wanted} {of_cell}", where).fetchall()
        return len(rows), list(zip(*rows, strict=True))[1:] or [()] * len(expressions)
    wanted = ", ".join(f"json_group_array({one})" for one in expressions.values())
    n_rows, *texts = db.execute(f"SELECT count(*), {wanted} {of_cell}", where).fetchone()
    return n_rows, texts


def _expression(name: str) -> str:
    if name == "score":
        return SCORE
    if name == "unparsed":
        return "r.parsed IS NULL"
    if name == CLUSTER_SIZE:
        return f"{CLUSTER_SIZE}(q.task, q.variant, q.cluster)"
    return f"q.{name}" if name in OF_QUERY else f"r.{name}"


def _array(name: str, values: Sequence[Any], known: Codes) -> NDArray[Any]:
    """Return values of a column as numbers; texts by their code, which new ones get."""
    if name == "choices":
        found = np.empty(len(values), dtype=object)
        found[:] = values
        return found
    if name in WHOLE:
        return np.array(values, dtype=np.int64)
    if name in FLAGS:
        return np.array(values, dtype=bool)
    if name in REAL:
        return np.array(values, dtype=np.float64)  # None becomes NaN
    try:
        return np.fromiter(map(known.__getitem__, values), np.int32, len(values))
    except KeyError:
        for value in values:
            known.setdefault(value, len(known) - 1)
    return np.fromiter(map(known.__getitem__, values), np.int32, len(values))


def _column(name: str, found: list[NDArray[Any]], known: Codes) -> Any:
    values = np.concatenate(found) if found else np.empty(0, dtype=np.int32)
    if name in WHOLE | FLAGS | REAL or name == "choices":
        return values
    return _categorical(values, [text for text in known if text is not None])


def _repeated(column: pd.Series[Any], sizes: Sequence[int]) -> Any:
    """Return each cell's value once a record."""
    if column.dtype.kind in "iub":
        return np.repeat(column.to_numpy(), sizes)
    names = list(dict.fromkeys(column))
    codes = np.array([names.index(value) for value in column], dtype=np.int32)
    return _categorical(np.repeat(codes, sizes), names)


def _categorical(codes: NDArray[np.int32], names: Sequence[str]) -> pd.Categorical[str]:
    """Return texts by their codes in `names` as a categorical whose order is that of the texts."""
    import pandas as pd

    order = sorted(range(len(names)), key=lambda code: names[code])
    place = np.empty(len(names) + 1, dtype=np.int32)
    place[order] = np.arange(len(names))
    place[-1] = -1
    categories = pd.Index([names[code] for code in order])
    return pd.Categorical.from_codes(place[codes], categories=categories)
