"""Records as rows for tables and exports, in the order of the grid.

In: a database. Out: one tuple a record, a cell at a time, so that memory does not grow with the
run. A text that many records share is one object in a table, and read anew in an export.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icl_harness.store.answers import JOIN_WHOLE, USAGE, WHOLE
from icl_harness.store.cells import CELL, CELL_KEY
from icl_harness.store.nodes import node_hash, shot_ids, text_of

if TYPE_CHECKING:
    import pandas as pd


ASKED = ("query_id", "sample", "shots_used", "node_hash")
GOLD = ("input", "target", "choices", "cluster")
ANSWERED = ("status", "answer", "parsed", "score", "gold_nll", "error", "reused")
COLUMNS = (*CELL, *ASKED, *GOLD, *ANSWERED, *USAGE, "latency_s", "n_lost", "cut", "whole_answer")

ROWS = f"""
SELECT r.query_id, r.sample, r.shots_used, r.node, q.input, q.target, q.choices, q.cluster,
       {", ".join(f"r.{name}" for name in (*ANSWERED, *USAGE))}, r.latency_s, r.n_lost,
       r.cut, {WHOLE}
FROM records r {JOIN_WHOLE}
     LEFT JOIN queries q ON q.task = ? AND q.variant = ? AND q.query_id = r.query_id
WHERE r.cell = ? ORDER BY r.query_id, r.sample
"""
REUSED, CUT = COLUMNS.index("reused"), COLUMNS.index("cut")


@dataclass(frozen=True)
class _Reader:
    """How what rows only point at is read."""

    text: Callable[[int], str]
    choices: Callable[[int], Any]
    node_hash: Callable[[int], str]
    shots: Callable[[int], Any]


def rows(
    db: sqlite3.Connection, *, with_shots: bool = False, cached: bool = False
) -> Iterator[tuple[Any, ...]]:
    """Yield each record's values of `COLUMNS`, and the ids of its shots where they are wanted.
    `whole_answer` is what the model wrote, where that is more than the answer.

    `choices` and the ids of shots are JSON, in a table (`cached`) a tuple and a list.
    """
    reader = _shared(db) if cached else _streamed(db)
    order = ", ".join(CELL_KEY)
    cells = db.execute(f"SELECT id, {', '.join(CELL)} FROM cells ORDER BY {order}").fetchall()
    for key, *cell in cells:
        where = dict(zip(CELL, cell, strict=True))
        found = db.execute(ROWS, (where["task"], where["variant"], key))
        for query_id, sample, shots_used, node, given, target, choices, *rest in found:
            row = (
                *cell,
                query_id,
                sample,
                shots_used,
                reader.node_hash(node),
                None if given is None else reader.text(given),
                target,
                None if choices is None else reader.choices(choices),
                *rest,
            )
            row = (*row[:REUSED], bool(row[REUSED]), *row[REUSED + 1 :])
            row = (*row[:CUT], bool(row[CUT]), *row[CUT + 1 :])
            yield (*row, reader.shots(node)) if with_shots else row


def table(db: sqlite3.Connection, *, with_shots: bool = False) -> pd.DataFrame:
    """Return all records as a DataFrame; `input` is a categorical, `choices` a tuple, and the shots
    are a list a record, the same object for records of one node.
    """
    import pandas as pd

    names = (*COLUMNS, *(["shot_ids"] if with_shots else []))
    found = rows(db, with_shots=with_shots, cached=True)
    frame = pd.DataFrame.from_records(list(found), columns=list(names), coerce_float=True)
    frame["input"] = frame["input"].astype("category")
    for name in ("reused", "cut"):
        frame[name] = frame[name].astype(bool)
    return frame


def _shared(db: sqlite3.Connection) -> _Reader:
    def choices(key: int) -> tuple[str, ...]:
        return tuple(json.loads(text_of(db, key)))

    return _Reader(
        functools.cache(lambda key: text_of(db, key)),
        functools.cache(choices),
        functools.cache(lambda key: node_hash(db, key)),
        functools.cache(lambda key: shot_ids(db, key)),
    )


def _streamed(db: sqlite3.Connection) -> _Reader:
    """Return a reader that remembers only the last of each: records of a cell mostly share them."""

    def last(read: Callable[[int], str]) -> Callable[[int], str]:
        return functools.lru_cache(maxsize=1)(read)

    return _Reader(
        lambda key: text_of(db, key),
        last(lambda key: text_of(db, key)),
        last(lambda key: node_hash(db, key)),
        last(lambda key: json.dumps(shot_ids(db, key), ensure_ascii=False)),
    )
