"""A run's folder while it is open: one process writes at a time, and its files belong together.

In: a folder. Out: its lock, its records opened for writing, which are checked at every write to be
there still. Left out: what is in the records.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_harness.errors import StoreError
from icl_harness.models.api.ledger import Ledger
from icl_harness.store.database import database_errors, open_for_writing
from icl_harness.store.extension import earlier_identities
from icl_harness.store.header import RECORDS_FILE, RUN_FILE, claim, read_header
from icl_harness.store.identity import identities
from icl_harness.store.seal import WRITE_OUT_AT, log_of, seal, write_out


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


@dataclass(frozen=True)
class OpenRecords:
    """Records that this process writes, and which file they were when they were opened."""

    path: Path
    db: sqlite3.Connection
    witness: sqlite3.Connection  # which reads the file anew at every write
    inode: tuple[int, int]
    identities: dict[str, str]

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write within one transaction. Raises `StoreError` where the folder is not the run's any
        more: what was paid for is written into its files wherever they are, and the run stops.
        """
        with database_errors(self.path):
            if self.is_in_place():
                # another file may have been copied over the one that is open
                check_identity(self.path, self.witness, self.identities)
            with self.db:
                yield
            self.check()
            if log_of(self.path / RECORDS_FILE).stat().st_size > WRITE_OUT_AT:
                write_out(self.db)

    def check(self) -> None:
        """Raise `StoreError` where the folder or a file of it is not what was opened."""
        if not self.is_in_place():
            raise StoreError(
                f"{self.path}: {RECORDS_FILE} was deleted, moved or replaced while the run was "
                "writing to it, so the run has stopped. Put the folder back to resume it, or "
                "choose another --out."
            )
        try:
            header = read_header(self.path)
        except OSError as error:
            raise StoreError(f"{self.path / RUN_FILE} cannot be read: {error.strerror}.") from error
        if header is None:
            raise StoreError(
                f"{self.path}: {RUN_FILE} was deleted while the run was writing to the folder, so "
                "the run has stopped. Put it back to resume."
            )
        if identities(header) != self.identities:
            raise _different_runs(self.path)

    def is_in_place(self) -> bool:
        """Return whether the path still leads to the file that was opened."""
        try:
            return _inode(self.path / RECORDS_FILE) == self.inode
        except OSError:
            return False

    def close(self) -> None:
        """Close the records, and seal them where that is possible."""
        self.witness.close()
        with contextlib.closing(self.db), contextlib.suppress(sqlite3.Error, OSError, StoreError):
            self.check()
            seal(self.db, self.path / RECORDS_FILE)


@contextlib.contextmanager
def records_of(path: Path, header: dict[str, Any]) -> Iterator[OpenRecords]:
    """Open a folder's records for writing, checked to be those of its header."""
    file, is_new = path / RECORDS_FILE, not (path / RUN_FILE).exists()
    with contextlib.ExitStack() as undo, database_errors(path):
        db = undo.enter_context(contextlib.closing(open_for_writing(file, is_new=is_new)))
        expected = identities(header)
        _check_cells(path, db, header)
        check_identity(path, db, expected, earlier_identities(header))
        with db:
            db.executemany("INSERT OR REPLACE INTO run VALUES (?,?)", expected.items())
        _forget_fetched(path, db)
        witness = sqlite3.connect(file, check_same_thread=False)
        undo.pop_all()
    records = OpenRecords(path, db, witness, _inode(file), expected)
    with contextlib.closing(records):
        yield records


def check_identity(
    path: Path,
    db: sqlite3.Connection,
    expected: dict[str, str],
    earlier: Sequence[dict[str, str]] = (),
) -> None:
    """Raise `StoreError` where the records are another run's than run.json describes, now or
    `earlier`, before it was extended.
    """
    stored = dict(db.execute("SELECT key, value FROM run"))
    known = {key: stored[key] for key in expected if key in stored}
    agrees = any(known.items() <= hashes.items() for hashes in (expected, *earlier))
    if agrees and (known or (path / RUN_FILE).exists()):
        return
    if not (path / RUN_FILE).exists() and not db.execute("SELECT 1 FROM records").fetchone():
        return  # a start that was stopped before its run.json was there
    raise _different_runs(path)


def check_records(path: Path, db: sqlite3.Connection, header: dict[str, Any]) -> None:
    """Raise `StoreError` where the records are not those that run.json describes."""
    _check_cells(path, db, header)
    check_identity(path, db, identities(header), earlier_identities(header))


def _check_cells(path: Path, db: sqlite3.Connection, header: dict[str, Any]) -> None:
    """Raise `StoreError` where the records hold what the grid lacks; records of older versions name
    no run, and only this tells.
    """
    spec = header.get("spec", {})
    for column, key in (("model", "models"), ("mode", "modes"), ("shots", "shots")):
        found = {row[0] for row in db.execute(f"SELECT DISTINCT {column} FROM cells")}
        if key in spec and found - set(spec[key]):
            raise _different_runs(path)


def _different_runs(path: Path) -> StoreError:
    if not (path / RUN_FILE).exists():
        return StoreError(
            f"{path}: {RECORDS_FILE} holds another run's answers, and its {RUN_FILE} is gone. "
            "Put that back, or choose another --out."
        )
    return StoreError(
        f"{path}: {RUN_FILE} and {RECORDS_FILE} belong to different runs. "
        "Put the file back that belongs there, or choose another folder."
    )


def _inode(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_dev, stat.st_ino


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
