"""The run store: a folder that holds everything a run asked and was told (floor 2).

    run.json      the resolved spec, versions, data hashes: what this run is
    records.db    SQLite: cells, records, and each prefix text once
    bank-*.jsonl  the model's own attempts (reinforced mode)

What `add` was given is on disk when it returns, so a run may be stopped at any instant. Texts are content-addressed:
a prefix is a list of its edges' texts, so larger shot counts and other draws store only what is new.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_harness.errors import StoreError
from icl_harness.files import write_atomically
from icl_harness.models.base import Answer
from icl_harness.prompts import Node, Prompt

if TYPE_CHECKING:
    import pandas as pd

RUN_FILE = "run.json"
RECORDS_FILE = "records.db"

# What a run that was stopped before its run.json was there may have left.
LEFT_BY_A_STOPPED_START = {".lock", *(RECORDS_FILE + end for end in ("", "-wal", "-shm", "-journal"))}

SCHEMA = """
CREATE TABLE texts (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, text TEXT NOT NULL);
CREATE TABLE nodes (id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, shot_ids TEXT NOT NULL, text_ids TEXT NOT NULL);
CREATE TABLE cells (
    id INTEGER PRIMARY KEY, task TEXT NOT NULL, model TEXT NOT NULL, mode TEXT NOT NULL, variant TEXT NOT NULL,
    shots INTEGER NOT NULL, draw INTEGER NOT NULL, metric TEXT NOT NULL,
    UNIQUE (task, model, mode, variant, shots, draw)
);
CREATE TABLE records (
    cell INTEGER NOT NULL REFERENCES cells, query_id TEXT NOT NULL, sample INTEGER NOT NULL,
    node INTEGER NOT NULL REFERENCES nodes, query_text INTEGER NOT NULL REFERENCES texts, shots_used INTEGER NOT NULL,
    status TEXT NOT NULL, answer TEXT, parsed TEXT, score REAL, gold_nll REAL, error TEXT, reused INTEGER NOT NULL,
    prompt_tokens INTEGER, cached_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL, latency_s REAL,
    PRIMARY KEY (cell, query_id, sample)
) WITHOUT ROWID;
CREATE INDEX records_by_prompt ON records (node, query_text);
"""

TABLES = {"texts", "nodes", "cells", "records"}

EXPORT = """
SELECT c.task, c.model, c.mode, c.variant, c.shots, c.draw, c.metric, r.query_id, r.sample, r.shots_used,
       n.shot_ids, n.hash AS node_hash, r.status, r.answer, r.parsed, r.score, r.gold_nll, r.error, r.reused,
       r.prompt_tokens, r.cached_tokens, r.completion_tokens, r.cost_usd, r.latency_s
FROM records r JOIN cells c ON c.id = r.cell JOIN nodes n ON n.id = r.node
ORDER BY c.task, c.model, c.mode, c.variant, c.shots, c.draw, r.query_id, r.sample
"""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of the grid; `metric` is the task's."""

    task: str
    model: str
    mode: str
    variant: str
    shots: int
    draw: int
    metric: str = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One scored answer to one query in one cell. `reused` marks a copy of this run's answer to the same prompt.

    `gold_nll`: minus the log-likelihood of the gold choice, in nats (per token, where the scoring is), where choices
    were weighed.
    """

    prompt: Prompt
    answer: Answer
    parsed: str | None = None
    score: float | None = None
    gold_nll: float | None = None
    reused: bool = False


class RunStore:
    """A run folder open for reading, or for writing by one process at a time (`create_or_resume`)."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: Any = None) -> None:
        self.path = path
        self._db = connection
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> RunStore:
        """Open a run, finished or not, for reading. Raises `StoreError` where there is none."""
        if not (path / RUN_FILE).is_file() or not (path / RECORDS_FILE).is_file():
            raise StoreError(
                f"{path} is not a run folder: it holds no {RUN_FILE} and {RECORDS_FILE}. Name one made by icl run."
            )
        _read_header(path)
        with _told(path):
            connection = sqlite3.connect(path / RECORDS_FILE, timeout=30)
            connection.execute("SELECT 1 FROM records JOIN cells JOIN nodes JOIN texts LIMIT 1")
        return cls(path, connection)

    @classmethod
    def create_or_resume(cls, path: Path, header: dict[str, Any]) -> RunStore:
        """Open a folder for a run whose `run.json` is `header`, or go on with the same run.

        Raises `StoreError` where the folder holds something else, another spec, or a run that is going on.
        """
        lock = _claim(path)
        try:
            found = _read_header(path)
            if found is not None:
                _check_same(path, found, header)
            connection = _connect(path / RECORDS_FILE)
            if found is None:
                write_atomically(path / RUN_FILE, (json.dumps(header, indent=2, ensure_ascii=False) + "\n").encode())
        except (OSError, sqlite3.Error) as error:
            lock.release()
            raise StoreError(f"{path} cannot be written: {error}. Choose another --out.") from error
        except StoreError:
            lock.release()
            raise
        return cls(path, connection, lock)

    @property
    def header(self) -> dict[str, Any]:
        """Return what `run.json` says."""
        return _read_header(self.path) or {}

    def close(self) -> None:
        """Close the database and let another process write."""
        self._db.close()
        if self._lock is not None:
            self._lock.release()

    def done(self, cell: Cell) -> set[tuple[str, int]]:
        """Return (query id, sample) of what need not be asked again; failed requests are asked again."""
        find = "SELECT query_id, sample FROM records WHERE cell = ? AND status != 'failed'"
        with _told(self.path):
            return set(self._db.execute(find, (self._find_cell(cell),)).fetchall())

    def answered(self, cell: Cell, node: Node) -> dict[str, tuple[Any, ...]]:
        """Return query text -> (query id, answer, gold NLL, prompt, cached and completion tokens, dollars) of a prefix.

        Of the same task, variant and model only: other choices may stand behind the same words.
        """
        rows = self._db.execute(
            "SELECT t.text, r.query_id, r.answer, r.gold_nll, r.prompt_tokens, r.cached_tokens, r.completion_tokens, "
            "r.cost_usd FROM nodes n JOIN records r ON r.node = n.id JOIN cells c ON c.id = r.cell "
            "JOIN texts t ON t.id = r.query_text "
            "WHERE n.hash = ? AND c.model = ? AND c.task = ? AND c.variant = ? AND r.status = 'ok' AND r.sample = 0",
            (node.hash, cell.model, cell.task, cell.variant),
        )
        return {row[0]: row[1:] for row in rows}

    def add(self, cell: Cell, records: Sequence[Record]) -> None:
        """Store records of one cell, all or none. Raises `StoreError` where the disk is full, say."""
        with _told(self.path), self._db:
            cell_id = self._cell_id(cell)
            node_ids = {node.hash: self._node_id(node) for node in {r.prompt.node for r in records}}
            rows = [_row(record, cell_id, node_ids, self._text_id(record.prompt.query.text)) for record in records]
            marks = ",".join("?" * len(rows[0]))
            self._db.executemany(f"INSERT OR REPLACE INTO records VALUES ({marks})", rows)

    def records(self) -> pd.DataFrame:
        """Return all records, in the order of the grid; `shot_ids` is a list."""
        import pandas as pd

        with _told(self.path):
            frame = pd.read_sql_query(EXPORT, self._db)
        lists = {text: json.loads(text) for text in frame["shot_ids"].unique()}
        frame["shot_ids"] = frame["shot_ids"].map(lists)
        frame["reused"] = frame["reused"].astype(bool)
        return frame

    def count(self) -> int:
        """Return the number of records."""
        return int(self._db.execute("SELECT count(*) FROM records").fetchone()[0])

    def prompts(self, query_id: str, **wanted: Any) -> list[tuple[Cell, str]]:
        """Return (cell, whole prompt) of every record of a query; `wanted` are values of the cell's fields."""
        where = "".join(f" AND c.{name} = ?" for name in wanted)
        rows = self._db.execute(
            "SELECT c.task, c.model, c.mode, c.variant, c.shots, c.draw, c.metric, n.text_ids, t.text FROM records r "
            "JOIN cells c ON c.id = r.cell JOIN nodes n ON n.id = r.node JOIN texts t ON t.id = r.query_text "
            f"WHERE r.query_id = ? AND r.sample = 0{where} ORDER BY c.id",
            (query_id, *wanted.values()),
        )
        found = []
        for *cell, text_ids, query in rows.fetchall():
            fields = dict(zip(("task", "model", "mode", "variant", "shots", "draw", "metric"), cell, strict=True))
            found.append((Cell(**fields), self._texts(json.loads(text_ids)) + query))
        return found

    def query_ids(self) -> list[str]:
        """Return the ids of all queries asked so far."""
        return [row[0] for row in self._db.execute("SELECT DISTINCT query_id FROM records ORDER BY query_id")]

    def _texts(self, text_ids: Iterable[int]) -> str:
        find = "SELECT text FROM texts WHERE id = ?"
        return "".join(self._db.execute(find, (text_id,)).fetchone()[0] for text_id in text_ids)

    def _find_cell(self, cell: Cell) -> int | None:
        key = (cell.task, cell.model, cell.mode, cell.variant, cell.shots, cell.draw)
        find = "SELECT id FROM cells WHERE task=? AND model=? AND mode=? AND variant=? AND shots=? AND draw=?"
        row = self._db.execute(find, key).fetchone()
        return None if row is None else int(row[0])

    def _cell_id(self, cell: Cell) -> int:
        found = self._find_cell(cell)
        if found is not None:
            return found
        values = (cell.task, cell.model, cell.mode, cell.variant, cell.shots, cell.draw, cell.metric)
        insert = "INSERT INTO cells (task, model, mode, variant, shots, draw, metric) VALUES (?,?,?,?,?,?,?)"
        return int(self._db.execute(insert, values).lastrowid or 0)

    def _node_id(self, node: Node) -> int:
        row = self._db.execute("SELECT id FROM nodes WHERE hash = ?", (node.hash,)).fetchone()
        if row is None:
            text_ids = [self._text_id(edge.segment) for edge in node.path]
            values = (node.hash, json.dumps([shot.id for shot in node.shots]), json.dumps(text_ids))
            insert = "INSERT INTO nodes (hash, shot_ids, text_ids) VALUES (?,?,?)"
            return int(self._db.execute(insert, values).lastrowid or 0)
        return int(row[0])

    def _text_id(self, text: str) -> int:
        digest = hashlib.sha256(text.encode()).digest()
        row = self._db.execute("SELECT id FROM texts WHERE hash = ?", (digest,)).fetchone()
        if row is None:
            insert = "INSERT INTO texts (hash, text) VALUES (?,?)"
            return int(self._db.execute(insert, (digest, text)).lastrowid or 0)
        return int(row[0])


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn the database's errors into one line that names the folder."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ or error  # pandas wraps the database's errors with the whole query
        if not isinstance(cause, sqlite3.Error):
            raise
        raise StoreError(f"{path / RECORDS_FILE} cannot be read or written: {cause}.") from error


def _connect(file: Path) -> sqlite3.Connection:
    """Open the database for writing, made where there is none. Raises `StoreError` where it is another's, untouched."""
    # In a notebook the walk runs in a thread of its own; no two threads ever use the store at once.
    connection = sqlite3.connect(file, timeout=30, check_same_thread=False)
    try:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and tables != TABLES:
            raise StoreError(f"{file} is not a run's records. Choose another --out.")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # an answer paid for survives a power cut
        if not tables:
            connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
    except (sqlite3.Error, StoreError):
        connection.close()
        raise
    return connection


def _row(record: Record, cell_id: int, node_ids: dict[str, int], text_id: int) -> tuple[Any, ...]:
    answer, usage, node = record.answer, record.answer.usage, record.prompt.node
    return (
        cell_id, answer.query_id, answer.sample, node_ids[node.hash], text_id, node.n_shots,
        answer.status, answer.text, record.parsed, record.score, record.gold_nll, answer.error, int(record.reused),
        usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.cost_usd, answer.latency_s,
    )  # fmt: skip


def _claim(path: Path) -> Any:
    """Make the folder, or see that it is a run's; return its held lock."""
    from filelock import FileLock, Timeout

    try:
        path.mkdir(parents=True, exist_ok=True)
        strangers = sorted(
            p.name for p in path.iterdir() if p.name not in LEFT_BY_A_STOPPED_START and not p.name.startswith(".icl-")
        )
        if strangers and not (path / RUN_FILE).exists():
            raise StoreError(
                f"{path} is not empty and not a run folder (it holds {strangers[0]}). Choose another --out."
            )
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(f"{path} is being written by another icl run. Wait for it or choose another --out.") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}. Choose another --out.") from error
    return lock


def _read_header(path: Path) -> dict[str, Any] | None:
    file = path / RUN_FILE
    if not file.exists():
        return None
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file} is damaged: it is not JSON ({error}).") from error
    if not isinstance(header, dict) or not {"spec", "data", "prompts", "tasks", "weights"} <= set(header):
        raise StoreError(f"{file} is damaged, or not a run's: it lacks what every run says of itself.")
    return header


def _check_same(path: Path, found: dict[str, Any], header: dict[str, Any]) -> None:
    """Raise `StoreError` naming the first difference of spec or data; versions may differ, numbers of one run not."""
    parts = {"spec": "spec", "data": "data", "prompts": "wording or scoring of the task", "weights": "model's weights"}
    for part, what in parts.items():
        old, new = found[part], header[part]
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                if part == "data":
                    raise StoreError(
                        f"{path} holds a run on other data of {key}: its files have changed since. "
                        "Choose another --out, or delete the folder."
                    )
                raise StoreError(
                    f"{path} holds a run of another {what}: {key} is {json.dumps(old.get(key))} there and "
                    f"{json.dumps(new.get(key))} here. Choose another --out, or ask for the same."
                )
