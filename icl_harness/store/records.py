"""The run store: a folder that holds everything a run asked and was told.

    run.json      the resolved spec, versions, data hashes: what this run is
    records.db    SQLite: cells, records, and each prefix text once
    ledger.db     what the run owns at providers, if it ever owned anything (ledger.py)
    bank-*.jsonl  the model's own attempts (reinforced mode)

What `add` was given is on disk when it returns, so a run may be stopped at any instant. It tells
which answers came out of batches, so that those are never fetched and counted a second time. Texts
are content-addressed: a prefix is a list of its edges' texts, so larger shot counts and other draws
store only what is new.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from icl_harness.errors import StoreError
from icl_harness.files import write_atomically
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.base import Answer, Usage
from icl_harness.prompts.tree import Node, Prompt, join_turns
from icl_harness.store.header import RECORDS_FILE, RUN_FILE, check_same, claim, read_header
from icl_harness.store.schema import connect, refuse_another_version, told

if TYPE_CHECKING:
    import pandas as pd

USAGE = (
    "prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens", "cost_usd",
)  # fmt: skip
CELL = (
    "task",
    "model",
    "mode",
    "variant",
    "format",
    "queries_per_request",
    "shots",
    "draw",
    "metric",
)
KEY = ("cell", "query_id", "sample")
REPLACED = (
    "node", "query_text", "shots_used", "status", "answer", "parsed", "score", "gold_nll", "error", "reused",
    *USAGE[:-1], "latency_s",
)  # fmt: skip

# A record that takes another's place keeps what that one took: it was paid for, if in vain.
ADD = f"""
INSERT INTO records ({", ".join((*KEY, *REPLACED, "cost_usd", "n_lost"))})
VALUES ({", ".join("?" * len((*KEY, *REPLACED, "cost_usd", "n_lost")))})
ON CONFLICT DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in REPLACED)},
    cost_usd = coalesce(cost_usd + excluded.cost_usd, cost_usd, excluded.cost_usd), n_lost = n_lost + excluded.n_lost
"""

EXPORT = f"""
SELECT {", ".join(f"c.{name}" for name in CELL)}, r.query_id, r.sample, r.shots_used,
       n.shot_ids, n.hash AS node_hash, r.status, r.answer, r.parsed, r.score, r.gold_nll, r.error, r.reused,
       {", ".join(f"r.{name}" for name in USAGE)}, r.latency_s, r.n_lost
FROM records r JOIN cells c ON c.id = r.cell JOIN nodes n ON n.id = r.node
ORDER BY {", ".join(f"c.{name}" for name in CELL[:-1])}, r.query_id, r.sample
"""


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


@dataclass(frozen=True, kw_only=True)
class Record:
    """One scored answer to one query in one cell. `reused` marks a copy of this run's answer to the
    same prompt.

    `gold_nll`: minus the log-likelihood of the gold choice, in nats (per token, where the scoring
    is), where choices were weighed.
    """

    prompt: Prompt
    answer: Answer
    parsed: str | None = None
    score: float | None = None
    gold_nll: float | None = None
    reused: bool = False


class Known(NamedTuple):
    """An answer that the run has been given already, and what it took."""

    query_id: str
    answer: str
    parsed: str | None
    score: float
    gold_nll: float | None
    usage: Usage


class Outcome(NamedTuple):
    """What a request to a query came to in one cell; without an answer its text and score are
    None.
    """

    status: str
    text: str | None
    parsed: str | None
    score: float | None
    shots_used: int


class RunStore:
    """A run folder open for reading, or for writing by one process at a time (`create_or_resume`)."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: Any = None) -> None:
        self.path = path
        self._db = connection
        self._lock = lock

    @classmethod
    def open(cls, path: Path, header: dict[str, Any] | None = None) -> RunStore:
        """Open a run, finished or not, for reading. Raises `StoreError` where there is none, or not
        `header`'s.
        """
        if not (path / RUN_FILE).is_file() or not (path / RECORDS_FILE).is_file():
            raise StoreError(
                f"{path} is not a run folder: it holds no {RUN_FILE} and {RECORDS_FILE}. Name one made by icl run."
            )
        found = read_header(path)
        if header is not None:
            check_same(path, found or {}, header)
        with told(path):
            connection = sqlite3.connect(path / RECORDS_FILE, timeout=30)
            try:
                refuse_another_version(connection, path)
                connection.execute("SELECT 1 FROM records JOIN cells JOIN nodes JOIN texts LIMIT 1")
            except (sqlite3.Error, StoreError):
                connection.close()
                raise
        return cls(path, connection)

    @classmethod
    def create_or_resume(cls, path: Path, header: dict[str, Any]) -> RunStore:
        """Open a folder for a run whose `run.json` is `header`, or go on with the same run.

        Raises `StoreError` where the folder holds something else, another spec, or a run that is
        going on.
        """
        lock = claim(path)
        with contextlib.ExitStack() as undo:
            undo.callback(lock.release)
            try:
                found = read_header(path)
                connection = undo.enter_context(contextlib.closing(connect(path / RECORDS_FILE)))
                if found is not None:
                    check_same(path, found, header)
                    _strike_out(path, connection)
                else:
                    text = json.dumps(header, indent=2, ensure_ascii=False) + "\n"
                    write_atomically(path / RUN_FILE, text.encode())
            except (OSError, sqlite3.Error) as error:
                raise StoreError(
                    f"{path} cannot be written: {error}. Choose another --out."
                ) from error
            undo.pop_all()
        return cls(path, connection, lock)

    @property
    def header(self) -> dict[str, Any]:
        """Return what `run.json` says."""
        return read_header(self.path) or {}

    def close(self) -> None:
        """Close the database and let another process write."""
        self._db.close()
        if self._lock is not None:
            self._lock.release()

    def done(self, cell: Cell) -> dict[tuple[str, int], int]:
        """Return (query id, sample) -> shots used of what need not be asked again; failed requests
        are asked again.
        """
        find = (
            "SELECT query_id, sample, shots_used FROM records WHERE cell = ? AND status != 'failed'"
        )
        with told(self.path):
            rows = self._db.execute(find, (self._find_cell(cell),)).fetchall()
        return {(query_id, sample): shots for query_id, sample, shots in rows}

    def answered(self, cell: Cell, node: Node) -> dict[str, dict[str, Known]]:
        """Return query text -> query id -> the answer that was given to it behind a prefix.

        Of the same task, variant and model only: other choices may stand behind the same words.
        """
        rows = self._db.execute(
            "SELECT t.text, r.query_id, r.answer, r.parsed, r.score, r.gold_nll, "
            f"{', '.join(f'r.{name}' for name in USAGE)} FROM nodes n JOIN records r ON r.node = n.id "
            "JOIN cells c ON c.id = r.cell JOIN texts t ON t.id = r.query_text "
            "WHERE n.hash = ? AND c.model = ? AND c.task = ? AND c.variant = ? AND r.status = 'ok' AND r.sample = 0",
            (node.hash, cell.model, cell.task, cell.variant),
        )
        known: dict[str, dict[str, Known]] = {}
        for text, query_id, answer, parsed, score, gold_nll, *usage in rows:
            found = Known(
                query_id,
                answer,
                parsed,
                score,
                gold_nll,
                Usage(**dict(zip(USAGE, usage, strict=True))),
            )
            known.setdefault(text, {})[query_id] = found
        return known

    def outcomes(self, cell: Cell) -> dict[tuple[str, int], Outcome]:
        """Return (query id, sample) -> what a cell has so far, failed requests left out."""
        find = (
            "SELECT query_id, sample, status, answer, parsed, score, shots_used FROM records "
            "WHERE cell = ? AND status != 'failed'"
        )
        with told(self.path):
            rows = self._db.execute(find, (self._find_cell(cell),)).fetchall()
        return {(query_id, sample): Outcome(*rest) for query_id, sample, *rest in rows}

    def spent_usd(self) -> float:
        """Return the dollars that all records took together."""
        with told(self.path):
            row = self._db.execute("SELECT total(cost_usd) FROM records").fetchone()
        return float(row[0])

    def answers_by_shots(self, cell: Cell) -> dict[int, int]:
        """Return shots used -> how many answers a cell has so far."""
        find = "SELECT shots_used, count(*) FROM records WHERE cell = ? AND status = 'ok' GROUP BY shots_used"
        return dict(self._db.execute(find, (self._find_cell(cell),)).fetchall())

    def add(self, cell: Cell, records: Sequence[Record]) -> None:
        """Store records of one cell, all or none. Raises `StoreError` where the disk is full, say.

        One that takes another's place, which failed, say, adds to its own `cost_usd` and `n_lost`
        what that one has: they are sums over all that was asked for it, its tokens are those of the
        last answer.
        """
        with told(self.path), self._db:
            cell_id = self._cell_id(cell)
            node_ids = {node.hash: self._node_id(node) for node in {r.prompt.node for r in records}}
            rows = [
                _row(record, cell_id, node_ids, self._text_id(record.prompt.query.text))
                for record in records
            ]
            self._db.executemany(ADD, rows)
            places = {
                record.answer.place for record in records if record.answer.place
            }  # a group's is one
            self._db.executemany("INSERT OR IGNORE INTO fetched VALUES (?,?)", places)

    def records(self) -> pd.DataFrame:
        """Return all records, in the order of the grid; `shot_ids` is a list."""
        import pandas as pd

        with told(self.path):
            frame = pd.read_sql_query(EXPORT, self._db)
        lists = {text: json.loads(text) for text in frame["shot_ids"].unique()}
        frame["shot_ids"] = frame["shot_ids"].map(lists)
        frame["reused"] = frame["reused"].astype(bool)
        return frame

    def count(self) -> int:
        """Return the number of records."""
        return int(self._db.execute("SELECT count(*) FROM records").fetchone()[0])

    def prompts(self, query_id: str, **wanted: Any) -> list[tuple[Cell, str]]:
        """Return (cell, whole prompt) of every record of a query; `wanted` are values of the cell's
        fields.
        """
        where = "".join(f" AND c.{name} = ?" for name in wanted)
        rows = self._db.execute(
            f"SELECT n.text_ids, n.roles, t.text, {', '.join(f'c.{name}' for name in CELL)} FROM records r "
            "JOIN cells c ON c.id = r.cell JOIN nodes n ON n.id = r.node JOIN texts t ON t.id = r.query_text "
            f"WHERE r.query_id = ? AND r.sample = 0{where} ORDER BY c.id",
            (query_id, *wanted.values()),
        )
        found = []
        for text_ids, roles, query, *cell in rows.fetchall():
            turns = [*zip(json.loads(roles), self._texts(json.loads(text_ids)), strict=True)]
            turns.append(("user" if turns[0][0] else "", query))
            found.append((Cell(**dict(zip(CELL, cell, strict=True))), join_turns(turns)))
        return found

    def query_ids(self) -> list[str]:
        """Return the ids of all queries asked so far."""
        return [
            row[0]
            for row in self._db.execute("SELECT DISTINCT query_id FROM records ORDER BY query_id")
        ]

    def _texts(self, text_ids: Iterable[int]) -> Iterator[str]:
        find = "SELECT text FROM texts WHERE id = ?"
        return (self._db.execute(find, (text_id,)).fetchone()[0] for text_id in text_ids)

    def _find_cell(self, cell: Cell) -> int | None:
        names = CELL[:-1]  # the metric follows from the task
        find = f"SELECT id FROM cells WHERE {' AND '.join(f'{name} = ?' for name in names)}"
        row = self._db.execute(find, [getattr(cell, name) for name in names]).fetchone()
        return None if row is None else int(row[0])

    def _cell_id(self, cell: Cell) -> int:
        found = self._find_cell(cell)
        if found is not None:
            return found
        insert = f"INSERT INTO cells ({', '.join(CELL)}) VALUES ({', '.join('?' * len(CELL))})"
        return int(self._db.execute(insert, [getattr(cell, name) for name in CELL]).lastrowid or 0)

    def _node_id(self, node: Node) -> int:
        row = self._db.execute("SELECT id FROM nodes WHERE hash = ?", (node.hash,)).fetchone()
        if row is None:
            path = node.path
            texts, roles = (
                [self._text_id(edge.segment) for edge in path],
                [edge.role for edge in path],
            )
            values = (node.hash, *map(json.dumps, ([shot.id for shot in node.shots], texts, roles)))
            insert = "INSERT INTO nodes (hash, shot_ids, text_ids, roles) VALUES (?,?,?,?)"
            return int(self._db.execute(insert, values).lastrowid or 0)
        return int(row[0])

    def _text_id(self, text: str) -> int:
        digest = hashlib.sha256(text.encode()).digest()
        row = self._db.execute("SELECT id FROM texts WHERE hash = ?", (digest,)).fetchone()
        if row is None:
            insert = "INSERT INTO texts (hash, text) VALUES (?,?)"
            return int(self._db.execute(insert, (digest, text)).lastrowid or 0)
        return int(row[0])


def _strike_out(path: Path, db: sqlite3.Connection) -> None:
    """Strike out in the ledger the answers that the records hold: fetched again, they would be
    counted again.
    """
    places = db.execute("SELECT batch, number FROM fetched").fetchall()
    if places:
        with contextlib.closing(Ledger(path)) as ledger:
            ledger.answered(places)
        with db:
            db.execute("DELETE FROM fetched")


def _row(record: Record, cell_id: int, node_ids: dict[str, int], text_id: int) -> tuple[Any, ...]:
    answer, usage, node = record.answer, record.answer.usage, record.prompt.node
    return (
        cell_id, answer.query_id, answer.sample, node_ids[node.hash], text_id, node.n_shots,
        answer.status, answer.text, record.parsed, record.score, record.gold_nll, answer.error, int(record.reused),
        *(getattr(usage, name) for name in USAGE[:-1]), answer.latency_s, usage.cost_usd, answer.n_lost,
    )  # fmt: skip
