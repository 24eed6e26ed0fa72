"""Opening a run's records.

In: a file. Out: a connection to its SQLite database. For writing, an older version's tables are
brought up to date where they lie; for reading, in a private copy: looking at a file of an earlier
version never changes it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from icl_harness.errors import StoreError
from icl_harness.store.header import RECORDS_FILE
from icl_harness.store.migration import migrate
from icl_harness.store.schema import VERSION, make_tables, version_of


@contextlib.contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn the database's errors into one line that names the folder."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ or error  # pandas wraps the database's errors with the whole query
        if not isinstance(cause, sqlite3.Error):
            raise
        raise StoreError(f"{path / RECORDS_FILE} cannot be read or written: {cause}.") from error


def open_for_writing(file: Path) -> sqlite3.Connection:
    """Open the database for writing, made where there is none; an older one comes up to date.

    Raises `StoreError` where it is another program's or a later version's; it stays untouched.
    """
    # In a notebook the walk runs in a thread of its own; no two threads ever use the store at once.
    db = sqlite3.connect(file, timeout=30, check_same_thread=False)
    try:
        version = version_of(db, file)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # an answer paid for survives a power cut
        if version is None:
            with db:
                db.execute("BEGIN IMMEDIATE")
                make_tables(db)
        elif version < VERSION:
            migrate(db)
    except (sqlite3.Error, StoreError):
        db.close()
        raise
    return db


def open_for_reading(file: Path) -> sqlite3.Connection:
    """Open the database for reading; an older version's is read from a private, migrated copy.

    Raises `StoreError` or `sqlite3.Error` where it is not a run's, or damaged.
    """
    db = sqlite3.connect(file, timeout=30)
    try:
        version = version_of(db, file)
        db.execute("SELECT 1 FROM records JOIN cells JOIN nodes JOIN texts LIMIT 1")
        if version == VERSION:
            return db
        copy = sqlite3.connect("")  # a temporary file that SQLite deletes at the end
        db.backup(copy)
        migrate(copy)
    except (sqlite3.Error, StoreError):
        db.close()
        raise
    db.close()
    return copy
