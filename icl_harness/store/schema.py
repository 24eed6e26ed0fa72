"""The tables of a run's records.

In: a file. Out: a connection to its SQLite database, made where there is none. Left out: what the
rows mean (results.py).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from icl_harness.errors import StoreError
from icl_harness.store.header import RECORDS_FILE

VERSION = 2  # of the tables; 1 knew neither formats nor groups

SCHEMA = f"""
PRAGMA user_version = {VERSION};
CREATE TABLE texts (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, text TEXT NOT NULL);
CREATE TABLE nodes (
    id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, shot_ids TEXT NOT NULL, text_ids TEXT NOT NULL,
    roles TEXT NOT NULL
);
CREATE TABLE cells (
    id INTEGER PRIMARY KEY, task TEXT NOT NULL, model TEXT NOT NULL, mode TEXT NOT NULL, variant TEXT NOT NULL,
    format TEXT NOT NULL, queries_per_request INTEGER NOT NULL, shots INTEGER NOT NULL, draw INTEGER NOT NULL,
    metric TEXT NOT NULL, UNIQUE (task, model, mode, variant, format, queries_per_request, shots, draw)
);
CREATE TABLE records (
    cell INTEGER NOT NULL REFERENCES cells, query_id TEXT NOT NULL, sample INTEGER NOT NULL,
    node INTEGER NOT NULL REFERENCES nodes, query_text INTEGER NOT NULL REFERENCES texts, shots_used INTEGER NOT NULL,
    status TEXT NOT NULL, answer TEXT, parsed TEXT, score REAL, gold_nll REAL, error TEXT, reused INTEGER NOT NULL,
    prompt_tokens INTEGER, cached_tokens INTEGER, cache_write_tokens INTEGER, completion_tokens INTEGER,
    reasoning_tokens INTEGER, cost_usd REAL, latency_s REAL, n_lost INTEGER NOT NULL,
    PRIMARY KEY (cell, query_id, sample)
) WITHOUT ROWID;
CREATE INDEX records_by_prompt ON records (node, query_text);
"""

TABLES = {"texts", "nodes", "cells", "records"}

# The answers out of batches that have been stored, for a ledger that a crash kept from striking
# them out. Folders of before it lack it.
FETCHED = """
CREATE TABLE IF NOT EXISTS fetched (batch TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (batch, number))
WITHOUT ROWID
"""


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn the database's errors into one line that names the folder."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ or error  # pandas wraps the database's errors with the whole query
        if not isinstance(cause, sqlite3.Error):
            raise
        raise StoreError(f"{path / RECORDS_FILE} cannot be read or written: {cause}.") from error


def connect(file: Path) -> sqlite3.Connection:
    """Open the database for writing, made where there is none. Raises `StoreError` where it is
    another's, untouched.
    """
    # In a notebook the walk runs in a thread of its own; no two threads ever use the store at once.
    connection = sqlite3.connect(file, timeout=30, check_same_thread=False)
    try:
        tables = {
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if tables and tables - {"fetched"} != TABLES:
            raise StoreError(f"{file} is not a run's records. Choose another --out.")
        if tables:
            refuse_another_version(connection, file.parent)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # an answer paid for survives a power cut
        if not tables:
            connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        connection.execute(FETCHED)
    except (sqlite3.Error, StoreError):
        connection.close()
        raise
    return connection


def refuse_another_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `StoreError` where the tables are those of another version."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        made = "an earlier" if version < VERSION else "a later"
        raise StoreError(
            f"{path} was made by {made} version of icl-harness. Read it with that one, or choose another --out."
        )
