"""What a run owns at its providers: caches that cost by the hour, batches in the making.

In: a run folder. Out: `ledger.db`, there once there is something to write. Everything is written
down before it is made, under a `token` that its name at the provider carries, so that what a crash
orphaned can be found again there; and so are the dollars that each process may have spent without a
record: on requests that broke off, on keeping caches. Left out: other costs (they are in the
records).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_harness.errors import StoreError

LEDGER_FILE = "ledger.db"

SCHEMA = """
CREATE TABLE IF NOT EXISTS caches (
    token TEXT PRIMARY KEY, model TEXT NOT NULL, node TEXT NOT NULL, shots INTEGER NOT NULL,
    made REAL NOT NULL, name TEXT, tokens INTEGER, expires REAL, told INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS batches (
    token TEXT PRIMARY KEY, model TEXT NOT NULL, made REAL NOT NULL,
    n_requests INTEGER NOT NULL, n_bytes INTEGER NOT NULL, name TEXT,
    state TEXT NOT NULL, told TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE IF NOT EXISTS requests (
    batch TEXT NOT NULL REFERENCES batches, number INTEGER NOT NULL, key TEXT NOT NULL,
    PRIMARY KEY (batch, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unrecorded (token TEXT PRIMARY KEY, usd REAL NOT NULL);
"""


BatchStatus = dict[str, str | int | None]  # state, done, failed


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """A prefix kept at a provider. `name` is the provider's, None where its making was not
    confirmed; `made` and `expires` in seconds since 1970; `billed`: 1 once an answer carries what
    the making cost.
    """

    token: str
    model: str
    node: str
    shots: int
    made: float
    name: str | None = None
    tokens: int | None = None
    expires: float | None = None
    billed: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchEntry:
    """A batch. `state`: making (written down, perhaps not submitted), open, done (its answers are
    in the records) or gone (not at the provider). `status`: what the provider said of it last.
    """

    token: str
    model: str
    made: float
    n_requests: int
    n_bytes: int
    name: str | None
    state: str
    status: BatchStatus


class Ledger:
    """The ledger of a run folder. Written by the process that holds the run's lock; read by any.
    Without a folder it lasts as long as the process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = Path(":memory:") if folder is None else folder / LEDGER_FILE
        self._db: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None  # of the file that is open

    def plan_cache(self, model: str, node: str, shots: int) -> CacheEntry:
        """Write down that a cache of a node is about to be made, and return its entry with a new
        token.
        """
        entry = CacheEntry(token=new_token(), model=model, node=node, shots=shots, made=time.time())
        self._do(
            "INSERT INTO caches (token, model, node, shots, made) VALUES (?,?,?,?,?)",
            entry.token,
            model,
            node,
            shots,
            entry.made,
        )
        return entry

    def cache_made(self, token: str, name: str, tokens: int | None, expires: float) -> None:
        """Write down a cache's name, tokens and end; called again when it is renewed."""
        self._do(
            "UPDATE caches SET name = ?, tokens = ?, expires = ? WHERE token = ?",
            name,
            tokens,
            expires,
            token,
        )

    def cache_billed(self, token: str) -> None:
        """Write down that an answer carries what the making of a cache cost."""
        self._do("UPDATE caches SET told = 1 WHERE token = ?", token)

    def cache_gone(self, token: str) -> None:
        """Forget a cache that is deleted, has ended, or was never made."""
        self._do("DELETE FROM caches WHERE token = ?", token)

    def caches(self) -> list[CacheEntry]:
        """Return the caches that may still be there."""
        fields = "token, model, node, shots, made, name, tokens, expires, told"
        rows = self._read(f"SELECT {fields} FROM caches ORDER BY made")
        names = fields.replace("told", "billed").split(", ")
        return [CacheEntry(**dict(zip(names, row, strict=True))) for row in rows]

    def plan_batch(
        self,
        token: str,
        model: str,
        keys: Sequence[str],
        n_bytes: int,
        instead_of: Iterable[tuple[str, int]] = (),
    ) -> BatchEntry:
        """Write down a batch that is about to be submitted under a new token: `keys` name its
        requests, in order. Those that earlier batches failed to answer are no longer expected of
        them: `instead_of`, as (token, number).
        """
        made = time.time()
        with self._writing() as db:
            db.execute(
                "INSERT INTO batches (token, model, made, n_requests, n_bytes, state)"
                " VALUES (?,?,?,?,?,'making')",
                (token, model, made, len(keys), n_bytes),
            )
            db.executemany(
                "INSERT INTO requests VALUES (?,?,?)",
                [(token, i, key) for i, key in enumerate(keys)],
            )
            self._strike_out(db, instead_of)
        return BatchEntry(
            token=token,
            model=model,
            made=made,
            n_requests=len(keys),
            n_bytes=n_bytes,
            name=None,
            state="making",
            status={},
        )

    def batch_is(
        self,
        token: str,
        state: str,
        *,
        name: str | None = None,
        status: BatchStatus | None = None,
    ) -> None:
        """Write down a batch's state; its name and what the provider said of it, where given."""
        self._do(
            "UPDATE batches SET state = ?, name = coalesce(?, name), told = coalesce(?, told)"
            " WHERE token = ?",
            state,
            name,
            None if status is None else json.dumps(status),
            token,
        )

    def answered(self, places: Iterable[tuple[str, int]]) -> None:
        """Write down that the answers of requests are in the records; a batch of which all are is
        done.
        """
        with self._writing() as db:
            self._strike_out(db, places)

    def all_answered(self) -> None:
        """Write down that the records hold all answers, also those that a crash kept from being
        struck out.
        """
        if self._file.exists():
            with self._writing() as db:
                db.execute("DELETE FROM requests")
                db.execute("UPDATE batches SET state = 'done' WHERE state IN ('making', 'open')")

    def awaited(self, token: str) -> list[tuple[int, str]]:
        """Return number and key of a batch's requests whose answers are not in the records."""
        return self._read("SELECT number, key FROM requests WHERE batch = ? ORDER BY number", token)

    @staticmethod
    def _strike_out(db: sqlite3.Connection, places: Iterable[tuple[str, int]]) -> None:
        rows = list(places)
        db.executemany("DELETE FROM requests WHERE batch = ? AND number = ?", rows)
        db.executemany(
            "UPDATE batches SET state = 'done' WHERE token = ? AND state = 'open'"
            " AND NOT EXISTS (SELECT 1 FROM requests WHERE batch = token)",
            [(token,) for token in dict(rows)],
        )

    def batches(self) -> list[BatchEntry]:
        """Return all batches, oldest first."""
        fields = "token, model, made, n_requests, n_bytes, name, state, told"
        rows = self._read(f"SELECT {fields} FROM batches ORDER BY made, token")
        names = fields.replace("told", "status").split(", ")
        found = []
        for *row, status in rows:
            found.append(BatchEntry(**dict(zip(names, [*row, json.loads(status)], strict=True))))
        return found

    def note_unrecorded(self, token: str, usd: float) -> None:
        """Write down how many dollars a process may have spent that no record holds."""
        self._do("INSERT OR REPLACE INTO unrecorded VALUES (?,?)", token, usd)

    def unrecorded_usd(self) -> float:
        """Return the dollars that may have been spent, by all processes, and no record holds."""
        if not self._read("SELECT 1 FROM sqlite_master WHERE name = 'unrecorded'"):
            return 0.0  # of an earlier version, in a folder that cannot be written to
        rows = self._read("SELECT usd FROM unrecorded")
        return float(sum(usd for (usd,) in rows))

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _do(self, statement: str, *values: str | float | None) -> None:
        with self._writing() as db:
            db.execute(statement, values)

    def _read(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        with _readable(self._file):
            if self._db is None and not self._file.exists():
                return []
            return self._open().execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with _readable(self._file), self._open() as db:
            if self._inode is not None and _inode(self._file) != self._inode:
                raise StoreError(
                    f"{self._file} was deleted, moved or replaced while the run was writing to "
                    "it, so the run has stopped. Put the folder back to resume it."
                )
            yield db

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            # As with the records, the walk may run in a thread of its own; no two threads use it at
            # once.
            self._db = sqlite3.connect(self._file, timeout=30, check_same_thread=False)
            self._db.execute("PRAGMA synchronous = FULL")
            if not os.access(self._file, os.F_OK) or os.access(self._file, os.W_OK):
                self._db.executescript(SCHEMA)
            self._inode = _inode(self._file)
        return self._db


def new_token() -> str:
    """Return a new name for what is about to be made."""
    return f"icl-{secrets.token_hex(8)}"


def _inode(file: Path) -> tuple[int, int] | None:
    """Return which file a path leads to, None where there is none."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Raise `StoreError` where a ledger cannot be read or written."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"{file} cannot be used: {error}. It names the batches and caches that the run has at "
            "its providers: put it back, or move it away and look there."
        ) from error
