"""The run store: a folder that holds every request of a run and its answer.

    run.json      the resolved spec, versions, data hashes: what this run is
    records.db    SQLite: cells, records, queries with their gold answers, and each text once
    ledger.db     what the run owns at providers, if it ever owned anything
    banks/        the model's own attempts (reinforced mode)

What `add` was given is on disk when it returns, so a run may be stopped at any instant. It notes
which answers came out of batches, so that those are never fetched and counted a second time. A
record points at its leaf: the shared prefix with the query's own edges.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_harness.errors import StoreError
from icl_harness.examples import Example
from icl_harness.models.base import Usage
from icl_harness.prompts.tree import Node, join_turns
from icl_harness.store.answers import (
    JOIN_WHOLE,
    USAGE,
    WHOLE,
    Outcome,
    Record,
    StoredAnswer,
    StoredRecord,
    add_records,
)
from icl_harness.store.cells import (
    CELL,
    AnswerTokens,
    Cell,
    answer_tokens,
    cell_id,
    find_cell,
)
from icl_harness.store.choice_scores import choice_scores_of, count_known, is_there
from icl_harness.store.columns import read_columns
from icl_harness.store.database import database_errors, open_for_reading
from icl_harness.store.extension import extended
from icl_harness.store.folder import OpenRecords, check_records, locked, records_of
from icl_harness.store.header import (
    RECORDS_FILE,
    RUN_FILE,
    check_complete,
    check_same,
    read_header,
    write_header,
)
from icl_harness.store.nodes import turns
from icl_harness.store.queries import add_queries, read_queries, solutions
from icl_harness.store.record_rows import rows, table
from icl_harness.store.scores import (
    NewScore,
    ScoredText,
    replace_scores,
    rescorings,
    scored_texts,
)
from icl_harness.store.shot_sets import shot_sets
from icl_harness.store.totals import count, read_totals

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CELL",
    "Cell",
    "NewScore",
    "Outcome",
    "Record",
    "RunStore",
    "StoredAnswer",
    "StoredRecord",
    "read_together",
]

ANSWERED = f"""
SELECT t.text, r.cell, r.query_id, r.sample, r.answer, r.parsed, r.score, r.gold_nll, r.found,
       {WHOLE}, r.cut,
       {", ".join(f"r.{name}" for name in USAGE)}
FROM nodes n JOIN records r ON r.node = n.id JOIN cells c ON c.id = r.cell
     JOIN texts t ON t.id = r.query_text {JOIN_WHOLE}
WHERE n.hash = ? AND c.model = ? AND c.task = ? AND c.variant = ? AND r.status = 'ok'
"""
OF_A_QUERY = f"""
SELECT r.node, t.text, r.status, r.answer, r.parsed, r.score, q.target, {WHOLE}, r.cut,
       {", ".join(f"c.{name}" for name in CELL)}
FROM records r JOIN cells c ON c.id = r.cell JOIN texts t ON t.id = r.query_text {JOIN_WHOLE}
     LEFT JOIN queries q ON q.task = c.task AND q.variant = c.variant AND q.query_id = r.query_id
WHERE r.query_id = ? AND r.sample = 0
"""


class RunStore:
    """A run folder, open for reading, or for one process to write (`create_or_resume`)."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        records: OpenRecords | None = None,
        unlock: Callable[[], None] | None = None,
    ) -> None:
        self.path = path
        self._db = connection
        self._records = records  # where they are open for writing
        self._unlock = unlock

    @classmethod
    def open(
        cls,
        path: Path,
        header: dict[str, Any] | None = None,
        spec_defaults: Mapping[str, Any] | None = None,
        *,
        extends: bool = False,
    ) -> RunStore:
        """Open a run, finished or not, for reading. Raises `StoreError` where there is none, or not
        `header`'s, which may be a larger grid where it `extends` the run.
        """
        if not (path / RUN_FILE).is_file() or not (path / RECORDS_FILE).is_file():
            raise StoreError(
                f"{path} is not a run folder: it holds no {RUN_FILE} and {RECORDS_FILE}. "
                "Name one made by icl run."
            )
        found = read_header(path) or {}
        if header is not None:
            check_same(path, found, header, spec_defaults, extends=extends)
        with database_errors(path):
            connection = open_for_reading(path / RECORDS_FILE)
            try:
                check_records(path, connection, found)
            except (sqlite3.Error, StoreError):
                connection.close()
                raise
        return cls(path, connection)

    @classmethod
    def create_or_resume(
        cls,
        path: Path,
        header: dict[str, Any],
        spec_defaults: Mapping[str, Any] | None = None,
        *,
        extends: bool = False,
    ) -> RunStore:
        """Open a folder for a run whose `run.json` is `header`, or resume the same run, or one that
        it `extends`.

        Raises `StoreError` where the folder holds something else, another spec, or a run that is
        being written.
        """
        with locked(path) as undo:
            found = read_header(path)
            if found is not None:
                check_same(path, found, header, spec_defaults, extends=extends)
                check_complete(path)
                if extends and found["spec"] != header["spec"]:
                    found = extended(found, header)
                    write_header(path, found)
            records = undo.enter_context(records_of(path, found or header))
            if found is None:
                write_header(path, header)
            store = cls(path, records.db, records, undo.pop_all().close)
        return store

    @classmethod
    def open_for_writing(cls, path: Path) -> RunStore:
        """Open an existing run for writing. Raises `StoreError` where there is none, or it is
        being written.
        """
        cls.open(path).close()
        with locked(path) as undo:
            records = undo.enter_context(records_of(path, read_header(path) or {}))
            store = cls(path, records.db, records, undo.pop_all().close)
        return store

    @property
    def header(self) -> dict[str, Any]:
        """Return what `run.json` says."""
        return read_header(self.path) or {}

    def close(self) -> None:
        """Close the database and let another process write."""
        if self._unlock is None:
            self._db.close()
        else:
            self._unlock()

    def hold(self) -> None:
        """From now on read the records as they are now, whatever is written meanwhile."""
        with database_errors(self.path):
            self._db.execute("BEGIN")
            self._db.execute("SELECT 1 FROM records LIMIT 1").fetchone()  # BEGIN alone waits for it

    def check(self) -> None:
        """Raise `StoreError` where the folder is not the one that was opened for writing."""
        if self._records is not None:
            self._records.check()

    def done(self, cell: Cell) -> dict[tuple[str, int], int]:
        """Return (query id, sample) -> shots used of what need not be requested again; failed
        requests are.
        """
        find = (
            "SELECT query_id, sample, shots_used FROM records WHERE cell = ? AND status != 'failed'"
        )
        with database_errors(self.path):
            rows = self._db.execute(find, (find_cell(self._db, cell),)).fetchall()
        return {(query_id, sample): shots for query_id, sample, shots in rows}

    def answered(self, cell: Cell, leaf: Node) -> dict[str, dict[str, StoredAnswer]]:
        """Return query text -> query id -> the answer that was given to it behind a leaf: the
        shared prefix, with the query's own edges where it has any.

        Of the same task, variant and model only: other choices may stand behind the same words.
        """
        where = (leaf.hash, cell.model, cell.task, cell.variant)
        answers: dict[str, dict[str, StoredAnswer]] = {}
        with database_errors(self.path):
            rows = self._db.execute(ANSWERED, where).fetchall()
            has_scores = is_there(self._db)
            for text, key, query_id, sample, *rest in rows:
                answer, parsed, score, nll, found, whole, cut, *usage = rest
                took = Usage(**dict(zip(USAGE, usage, strict=True)))
                scored = (parsed, score, nll, took, bool(found))
                choices = None
                if has_scores:
                    choices = choice_scores_of(self._db, (key, query_id, sample))
                stored = StoredAnswer(query_id, answer, *scored, whole, bool(cut), choices)
                answers.setdefault(text, {})[query_id] = stored
        return answers

    def outcomes(self, cell: Cell) -> dict[tuple[str, int], Outcome]:
        """Return (query id, sample) -> what a cell has so far, failed requests left out."""
        find = (
            "SELECT query_id, sample, status, answer, parsed, score, shots_used FROM records "
            "WHERE cell = ? AND status != 'failed'"
        )
        with database_errors(self.path):
            rows = self._db.execute(find, (find_cell(self._db, cell),)).fetchall()
        return {(query_id, sample): Outcome(*rest) for query_id, sample, *rest in rows}

    def spent_usd(self) -> float:
        """Return the dollars that all records took together."""
        with database_errors(self.path):
            row = self._db.execute("SELECT total(cost_usd) FROM records").fetchone()
        return float(row[0])

    def answer_tokens(self) -> dict[tuple[str, str], AnswerTokens]:
        """Return by task and model how many tokens the answers so far took."""
        with database_errors(self.path):
            return answer_tokens(self._db)

    def answers_by_shots(self, cell: Cell) -> dict[int, int]:
        """Return shots used -> how many answers a cell has so far."""
        find = (
            "SELECT shots_used, count(*) FROM records "
            "WHERE cell = ? AND status = 'ok' GROUP BY shots_used"
        )
        return dict(self._db.execute(find, (find_cell(self._db, cell),)).fetchall())

    def add(self, cell: Cell, records: Sequence[Record]) -> None:
        """Store records of one cell, all or none. Raises `StoreError` where the disk is full, say.

        One that replaces another, which failed, say, adds to its own `cost_usd` and `n_lost` what
        that one has: they are sums over all requests, its tokens are those of the last answer.
        """
        places = {record.answer.place for record in records if record.answer.place}
        with self._writing():
            add_records(self._db, cell_id(self._db, cell), records)
            self._db.executemany("INSERT OR IGNORE INTO fetched VALUES (?,?)", places)

    def add_queries(self, task: str, variant: str, examples: Iterable[Example]) -> None:
        """Store the examples that a task's cells of a variant ask, with their gold answers; those
        that are there already stay.
        """
        with self._writing():
            add_queries(self._db, task, variant, examples)

    def queries(self, task: str, variant: str) -> dict[str, Example]:
        """Return query id -> example; empty for a run of a version that did not store them."""
        with database_errors(self.path):
            return read_queries(self._db, task, variant)

    def records(self, *, shot_ids: bool = False) -> pd.DataFrame:
        """Return all records, in the order of the grid. `shot_ids` adds a column with the ids of
        each one's shots; records behind one prefix share a list.
        """
        with database_errors(self.path):
            return table(self._db, with_shots=shot_ids)

    def count_totals(self) -> None:
        """Count what `totals` returns; other threads go on meanwhile."""
        with database_errors(self.path):
            count(self._db)

    def totals(self) -> pd.DataFrame:
        """Return what the records of each cell add up to (totals.py), in the order of the grid, as
        it was counted.
        """
        with database_errors(self.path):
            return read_totals(self._db)

    def shot_sets(self) -> Iterator[tuple[Cell, list[str], int]]:
        """Yield each cell with the ids of the shots of a prefix, and how many answers that got."""
        with database_errors(self.path):
            yield from shot_sets(self._db)

    def errors(self, cell: int) -> dict[str, int]:
        """Return the errors of a cell's failed requests, by its number, with how many had each."""
        find = (
            "SELECT error, count(*) FROM records "
            "WHERE cell = ? AND status = 'failed' AND error IS NOT NULL GROUP BY error"
        )
        with database_errors(self.path):
            return dict(self._db.execute(find, (cell,)).fetchall())

    def rows(self, *, shot_ids: bool = False) -> Iterator[tuple[Any, ...]]:
        """Yield the records as tuples of `COLUMNS` (record_rows.py), in bounded memory."""
        with database_errors(self.path):
            yield from rows(self._db, with_shots=shot_ids)

    def scored_texts(self) -> Iterator[ScoredText]:
        """Yield the answers that can be scored again, those to one query together."""
        with database_errors(self.path):
            yield from scored_texts(self._db)

    def replace_scores(
        self,
        new: Iterable[NewScore],
        metrics: Mapping[str, str],
        scoring: Mapping[str, str],
        before: Mapping[str, str],
    ) -> list[dict[str, Any]]:
        """Replace scores, all or none; return what is noted of this time and all before. `metrics`
        and `scoring` are each task's now, `before` its scoring until now.
        """
        with self._writing():
            replace_scores(self._db, new, metrics, scoring, before)
            return rescorings(self._db)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        assert self._records is not None
        return self._records.writing()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Write within one transaction, which what is added to a store of this package needs."""
        with self._writing():
            yield self._db

    def leaves(self, cell: Cell) -> set[str]:
        """Return the hashes of the prefixes that a cell's answers were given to."""
        find = (
            "SELECT DISTINCT n.hash FROM records r JOIN nodes n ON n.id = r.node "
            "WHERE r.cell = ? AND r.status = 'ok'"
        )
        return {row[0] for row in self._db.execute(find, (find_cell(self._db, cell),))}

    def count(self) -> int:
        """Return the number of records."""
        return int(self._db.execute("SELECT count(*) FROM records").fetchone()[0])

    def count_known(self, name: str) -> dict[tuple[str, str], tuple[int, int]]:
        """Return by task and model how many answers there are, and of how many `name` is known:
        `gold_nll`, or a column of choices (choice_scores.py).
        """
        with database_errors(self.path):
            return count_known(self._db, name)

    def solutions(self) -> list[tuple[str, str, str, bool]]:
        """Return task, problem, query id and whether it is right, of queries that are solutions."""
        with database_errors(self.path):
            return solutions(self._db)

    def has_answers(self) -> bool:
        """Return whether the text of any answer is stored."""
        find = "SELECT EXISTS (SELECT 1 FROM records WHERE answer IS NOT NULL)"
        return bool(self._db.execute(find).fetchone()[0])

    def count_failed(self) -> int:
        """Return the number of records without an answer that are sent again."""
        find = "SELECT count(*) FROM records WHERE status = 'failed'"
        return int(self._db.execute(find).fetchone()[0])

    def find(self, query_id: str, **wanted: Any) -> Iterator[StoredRecord]:
        """Yield every cell's record of a query with its whole prompt; `wanted` are values of the
        cell's fields.
        """
        where = "".join(f" AND c.{name} = ?" for name in wanted)
        find = f"{OF_A_QUERY}{where} ORDER BY c.id"
        rows = self._db.execute(find, (query_id, *wanted.values())).fetchall()
        for node, query, status, answer, parsed, score, target, whole, cut, *cell in rows:
            edges = turns(self._db, node)
            role = "user" if edges[0][0] else ""
            text = join_turns([*edges, (role, query)])
            of = Cell(**dict(zip(CELL, cell, strict=True)))
            scored = (status, answer, parsed, score, target)
            yield StoredRecord(of, text, *scored, whole, bool(cut))

    def cells_of(self, query_id: str, **wanted: Any) -> list[Cell]:
        """Return the cells that requested an answer to a query."""
        where = "".join(f" AND c.{name} = ?" for name in wanted)
        find = f"SELECT {', '.join(f'c.{name}' for name in CELL)} FROM cells c WHERE EXISTS "
        find += "(SELECT 1 FROM records r WHERE r.cell = c.id AND r.query_id = ?)"
        rows = self._db.execute(f"{find}{where} ORDER BY c.id", (query_id, *wanted.values()))
        return [Cell(**dict(zip(CELL, row, strict=True))) for row in rows]

    def query_ids(self) -> list[str]:
        """Return the ids of all queries that the records hold."""
        find = "SELECT DISTINCT query_id FROM records ORDER BY query_id"
        return [row[0] for row in self._db.execute(find)]


def read_together(
    stores: Sequence[RunStore], cells: pd.DataFrame, names: Sequence[str]
) -> pd.DataFrame:
    """Return columns of the records of some cells (columns.py); a cell's `run` is the place of its
    store in `stores`.
    """
    sources = []
    for i, store in enumerate(stores):
        of_run = cells[cells["run"] == i]
        if len(of_run):
            sources.append((store.path, store._db, of_run))
    return read_columns(sources, names)
