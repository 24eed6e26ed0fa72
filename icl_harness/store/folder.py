"""A run's folder while it is open: one process writes at a time, and its files belong together.

In: a folder. Out: its lock, its records opened for writing. Left out: what is in the records.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icl_harness.errors import StoreError
from icl_harness.models.api.ledger import Ledger
from icl_harness.store.database import open_for_writing
from icl_harness.store.header import RECORDS_FILE, RUN_FILE, claim, identity


@contextlib.contextmanager
def locked(path: Path) -> Iterator[contextlib.ExitStack]:
    """Hold a folder's lock; yield what is undone at the end unless it is taken over."""
    lock = claim(path)
    with contextlib.ExitStack() as undo:
        undo.callback(lock.release)
        try:
            yield undo
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path} cannot be written: {error}. Choose another --out.") from error


@contextlib.contextmanager
def records_of(path: Path, header: dict[str, Any]) -> Iterator[sqlite3.Connection]:
    """Open a folder's records for writing, checked to be those of its header."""
    with contextlib.closing(open_for_writing(path / RECORDS_FILE)) as db:
        check_identity(path, db, header)
        with db:
            db.execute("INSERT OR REPLACE INTO run VALUES ('identity', ?)", (identity(header),))
        _forget_fetched(path, db)
        yield db


def check_identity(path: Path, db: sqlite3.Connection, header: dict[str, Any]) -> None:
    """Raise `StoreError` where the records are another run's than run.json describes."""
    row = db.execute("SELECT value FROM run WHERE key = 'identity'").fetchone()
    if row is None or row[0] == identity(header):
        return
    if not (path / RUN_FILE).exists() and not db.execute("SELECT 1 FROM records").fetchone():
        return  # a start that was stopped before its run.json was there
    raise StoreError(
        f"{path}: {RUN_FILE} and {RECORDS_FILE} belong to different runs. "
        "Put the file back that belongs there, or choose another folder."
    )


def _forget_fetched(path: Path, db: sqlite3.Connection) -> None:
    """Remove from the ledger the answers that the records hold: fetched again, they would be
    counted again.
    """
    places = db.execute("SELECT batch, number FROM fetched").fetchall()
    if places:
        with contextlib.closing(Ledger(path)) as ledger:
            ledger.answered(places)
        with db:
            db.execute("DELETE FROM fetched")
