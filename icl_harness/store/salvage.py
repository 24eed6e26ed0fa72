"""What can still be read of damaged records.

In: a run's records.db. Out: the records that stand on pages which are not damaged, as rows of
`COLUMNS` (record_rows.py), and how many are lost. Where the run left checksums, a damaged page is
blanked in a copy, so that nothing of it passes for a value. Left out: mending the file.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icl_harness.errors import StoreError
from icl_harness.store.answers import USAGE
from icl_harness.store.cells import CELL, CELL_KEY
from icl_harness.store.nodes import node_hash, shot_ids, text_of
from icl_harness.store.record_rows import ANSWERED, COLUMNS, GOLD
from icl_harness.store.seal import damaged_pages, log_of, page_size, state_of

STATUSES = {"ok", "failed", "refused", "overflow"}
RECORD = (
    "query_id", "sample", "shots_used", "node", *ANSWERED, *USAGE, "latency_s", "n_lost", "cut",
    "whole", "rest",
)  # fmt: skip
COUNTED = ("sample", "shots_used", "reused", *USAGE[:-1], "n_lost", "cut")  # never below zero
FAULTS = (sqlite3.Error, UnicodeDecodeError, ValueError, TypeError)

Row = tuple[Any, ...]


@dataclass
class Salvage:
    """The records that can be read, and once all are, how many cannot: `n_lost` at least, as
    nobody knows what else stood there, and `n_partial` whose input, choices or shots are lost.
    """

    db: sqlite3.Connection
    raw: sqlite3.Connection  # the same, which gives texts as bytes
    checked: bool  # by checksums
    with_shots: bool = False
    n_read: int = 0
    n_partial: int = 0
    n_lost: int = 0
    _text: Callable[[int], str] = field(init=False)
    _known: set[str] = field(init=False)  # the columns of its version

    def __post_init__(self) -> None:
        self._known = set()
        for table in ("cells", "queries", "records"):
            self._known |= {row[1] for row in self.db.execute(f"PRAGMA table_info({table})")}
        self._text = functools.cache(lambda key: text_of(self.db, key))

    def rows(self) -> Iterator[Row]:
        """Yield what can be read, in the order of the grid."""
        found = self._all("SELECT {} FROM cells", ("id", *CELL), "id")
        order = [CELL.index(name) + 1 for name in CELL_KEY]
        for key, *cell in sorted(found, key=lambda row: [row[i] for i in order]):
            of_cell = dict(zip(CELL, cell, strict=True))
            gold = self._gold(of_cell["task"], of_cell["variant"])
            for record in self._records(key, sorted(gold)):
                self.n_read += 1
                yield self._row(tuple(cell), record, gold.get(record["query_id"], {}))

    def _gold(self, task: str, variant: str) -> dict[str, dict[str, Any]]:
        """Return query id -> what is stored of the query, of those that can be read."""
        where = "SELECT {} FROM queries WHERE task = ? AND variant = ?"
        rows = self._all(where, ("query_id", *GOLD), "query_id", task, variant)
        return {row[0]: dict(zip(GOLD, row[1:], strict=True)) for row in rows}

    def _records(self, cell: int, query_ids: list[str]) -> list[dict[str, Any]]:
        """Return the records of a cell, those between two damaged pages by the ids of queries."""
        select = "SELECT {} FROM records WHERE cell = ?"
        found = self._all(select, RECORD, "query_id, sample", cell)
        seen = {row[0] for row in found}
        for query_id in query_ids:
            if query_id not in seen:
                rows = list(self._scan(f"{select} AND query_id = ?", RECORD, cell, query_id))
                found += rows
        records = [dict(zip(RECORD, row, strict=True)) for row in found]
        whole = [record for record in records if _is_possible(record)]
        self.n_lost += len(records) - len(whole)
        return sorted(whole, key=lambda record: (record["query_id"], record["sample"]))

    def _row(self, cell: Row, record: dict[str, Any], gold: dict[str, Any]) -> Row:
        node, n_missing = record["node"], int(not gold)
        looked_up: list[Any] = []
        for read, key in (
            (functools.partial(node_hash, self.db), node),
            (self._text, gold.get("input")),
            (self._text, gold.get("choices")),
            (self._text, record["whole"]),
            (self._text, record["rest"]),
            (self._shots, node if self.with_shots else None),
        ):
            value = None
            if key is not None:
                with contextlib.suppress(*FAULTS):
                    value = read(key)
                n_missing += value is None
            looked_up.append(value)
        self.n_partial += n_missing > 0
        digest, given, choices, whole, rest, shots = looked_up
        asked = (record["query_id"], record["sample"], record["shots_used"], digest)
        known = (given, gold.get("target"), choices, gold.get("cluster"))
        if rest is not None:
            whole = record["answer"] + rest
        flags = {name: bool(record[name]) for name in ("reused", "cut")}
        values = {**record, **flags, "whole_answer": whole}
        answered = tuple(values[name] for name in COLUMNS[len(CELL) + len(asked) + len(known) :])
        return (*cell, *asked, *known, *answered, *([shots] if self.with_shots else []))

    def _shots(self, node: int) -> str:
        return json.dumps(shot_ids(self.db, node), ensure_ascii=False)

    def _all(self, select: str, names: Row, order: str, *values: object) -> list[Row]:
        """Return the rows of a table up to the first damaged page, and from its end up to the
        last.
        """
        rows: list[Row] = []
        n_lost = self.n_lost
        for way in ("", " DESC"):
            by = ", ".join(f"{name}{way}" for name in order.split(", "))
            rows += self._scan(f"{select} ORDER BY {by}", names, *values)
        self.n_lost = n_lost  # what neither way leads to is looked for one by one
        return list(dict.fromkeys(rows))

    def _scan(self, select: str, names: Row, *values: object) -> Iterator[Row]:
        """Yield rows until one stands on a damaged page."""
        try:
            known = [name if name in self._known else f"NULL AS {name}" for name in names]
            for row in self.raw.execute(select.format(", ".join(known)), values):
                try:
                    yield tuple(map(_decoded, row))
                except UnicodeDecodeError:
                    self.n_lost += 1
        except sqlite3.Error:
            self.n_lost += 1


def _decoded(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _is_possible(record: dict[str, Any]) -> bool:
    counts = [record[name] for name in COUNTED if record[name] is not None]
    return record["status"] in STATUSES and all(
        isinstance(count, int) and count >= 0 for count in counts
    )


@contextlib.contextmanager
def salvage(file: Path, *, with_shots: bool = False) -> Iterator[Salvage]:
    """Give what can be read of records. Raises `StoreError` where nothing can."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, file.name)
        try:
            shutil.copyfile(file, copy)
            if log_of(file).exists():
                shutil.copyfile(log_of(file), log_of(copy))
            checked = _blank_damage(file, copy)
        except OSError as error:
            raise StoreError(f"{file} cannot be read: {error.strerror}.") from error
        with contextlib.closing(sqlite3.connect(copy)) as db:
            raw = sqlite3.connect(copy)
            raw.text_factory = bytes
            try:
                db.execute("SELECT 1 FROM records, cells, texts, nodes, queries LIMIT 0")
            except sqlite3.Error as error:
                raise StoreError(
                    f"nothing can be read of {file}: {error}. Only a copy of it can help."
                ) from error
            with contextlib.closing(raw):
                yield Salvage(db, raw, checked=checked, with_shots=with_shots)


def _blank_damage(file: Path, copy: Path) -> bool:
    """Fill the damaged pages of a copy with bytes that are no data; return whether checksums tell
    which they are. The first stays: without it nothing can be read.
    """
    with contextlib.closing(sqlite3.connect(copy)) as db:
        pages = damaged_pages(file, state_of(db))
    size = page_size(file)
    with copy.open("r+b") as opened:
        n_pages = copy.stat().st_size // size
        for page in pages or []:
            if 0 < page < n_pages:
                opened.seek(page * size)
                opened.write(b"\xff" * size)
    return pages is not None
