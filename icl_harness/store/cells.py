"""Cells: the points of a grid, as they are stored."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of the grid; `metric` is the task's."""

    task: str
    model: str
    mode: str
    variant: str
    format: str = "text"
    queries_per_request: int = 1
    shots: int
    draw: int
    metric: str = "accuracy"


CELL = tuple(field.name for field in fields(Cell))
CELL_KEY = CELL[:-1]  # the metric follows from the task


def find_cell(db: sqlite3.Connection, cell: Cell) -> int | None:
    """Return the id of a cell, None where nothing is stored of it."""
    where = " AND ".join(f"{name} = ?" for name in CELL_KEY)
    row = db.execute(f"SELECT id FROM cells WHERE {where}", astuple(cell)[:-1]).fetchone()
    return None if row is None else int(row[0])


def cell_id(db: sqlite3.Connection, cell: Cell) -> int:
    """Return the id of a cell, stored where it is new."""
    found = find_cell(db, cell)
    if found is not None:
        return found
    insert = f"INSERT INTO cells ({', '.join(CELL)}) VALUES ({', '.join('?' * len(CELL))})"
    return int(db.execute(insert, astuple(cell)).lastrowid or 0)


@dataclass(frozen=True)
class AnswerTokens:
    """How long answers were: the mean of their tokens, thoughts included, a request, of `n`."""

    n: int
    tokens: float


def answer_tokens(db: sqlite3.Connection) -> dict[tuple[str, str], AnswerTokens]:
    """Return by task and model how long the answers were, where their tokens are known."""
    rows = db.execute(
        "SELECT task, model, count(*), avg(completion_tokens * queries_per_request) "
        "FROM records JOIN cells ON cells.id = records.cell "
        "WHERE status = 'ok' AND completion_tokens IS NOT NULL GROUP BY task, model"
    )
    return {(task, model): AnswerTokens(n, mean) for task, model, n, mean in rows}
