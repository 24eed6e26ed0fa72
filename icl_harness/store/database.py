"""Opening a run's records.

In: a file. Out: a connection to its SQLite database, which is whole. For writing, an older
version's tables are brought up to date where they lie; for reading, in a private copy: looking at a
file never changes it, and one in a folder that cannot be written is read as well.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from icl_harness.errors import IclError, StoreError
from icl_harness.store.header import RECORDS_FILE
from icl_harness.store.migration import migrate
from icl_harness.store.schema import VERSION, make_tables, version_of
from icl_harness.store.seal import (
    damaged_pages,
    drop_triggers,
    log_of,
    note_log,
    refuse_damage,
    state_of,
    unseal,
    write_out,
)

NO_WRITING = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@contextlib.contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn the database's errors into one line that names the folder."""
    file = path / RECORDS_FILE
    try:
        yield
    except IclError:
        raise
    except Exception as error:
        cause = error.__cause__ or error  # pandas wraps the database's errors with the whole query
        if isinstance(cause, json.JSONDecodeError | UnicodeDecodeError) or _is_damage(cause):
            raise refuse_damage(file, str(cause)) from error
        if not isinstance(cause, sqlite3.Error):
            raise
        raise StoreError(f"{file} cannot be read or written: {cause}.") from error


def open_for_writing(file: Path, *, is_new: bool) -> sqlite3.Connection:
    """Open the database for writing; an older one comes up to date. `is_new`: there may be none
    yet, and it is made.

    Raises `StoreError` where it is another program's or a later version's; it stays untouched.
    """
    has_log = log_of(file).exists()
    # In a notebook the walk runs in a thread of its own; no two threads ever use the store at once.
    db = sqlite3.connect(file, timeout=30, check_same_thread=False)
    try:
        version = _version_of_whole(db, file, has_log=has_log)
        if version is None and not is_new:
            raise _is_empty(file)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # an answer paid for survives a power cut
        db.execute("PRAGMA wal_autocheckpoint = 0")  # see `write_out`
        unseal(db, file)
        if version is None:
            with db:
                db.execute("BEGIN IMMEDIATE")
                make_tables(db)
        elif version < VERSION:
            migrate(db)
        write_out(db)
    except (sqlite3.Error, StoreError):
        db.close()
        raise
    return db


def open_for_reading(file: Path) -> sqlite3.Connection:
    """Open the database for reading; an older version's is read from a private, migrated copy.

    Raises `StoreError` or `sqlite3.Error` where it is not a run's, or damaged.
    """
    has_log = log_of(file).exists()
    db = connect_for_reading(file)
    try:
        version = _version_of_whole(db, file, has_log=has_log)
        if version is None:
            raise _is_empty(file)
        note_log(db)
        if version == VERSION:
            return db
        copy = _copy_of(db)
        drop_triggers(copy)
        migrate(copy)
    except (sqlite3.Error, StoreError):
        db.close()
        raise
    db.close()
    return copy


def connect_for_reading(file: Path) -> sqlite3.Connection:
    """Connect to a database, in a folder that cannot be written too. One thread at a time may use
    the connection.
    """
    db = sqlite3.connect(file, timeout=30, check_same_thread=False)
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
        return db
    except sqlite3.Error as error:
        if _kind(error) not in NO_WRITING:
            return db  # what is wrong is told by the one who reads it
    db.close()
    if not log_of(file).exists():
        uri = f"file:{quote(str(file.absolute()))}?immutable=1"
        return sqlite3.connect(uri, uri=True, check_same_thread=False)
    with tempfile.TemporaryDirectory() as folder:  # SQLite makes a file beside it to read a log
        for part in (file, log_of(file)):
            shutil.copy(part, folder)
        with contextlib.closing(sqlite3.connect(Path(folder, file.name))) as beside:
            return _copy_of(beside)


def _copy_of(db: sqlite3.Connection) -> sqlite3.Connection:
    copy = sqlite3.connect(
        "", check_same_thread=False
    )  # a temporary file that SQLite deletes at the end
    db.backup(copy)
    return copy


def _version_of_whole(db: sqlite3.Connection, file: Path, *, has_log: bool) -> int | None:
    """Return the version of a database, None where it holds no tables. Raises `StoreError` where it
    is damaged, or lacks the log that it had beside it.
    """
    try:
        version = version_of(db, file)
    except (sqlite3.Error, StoreError) as error:
        known = isinstance(error, StoreError) and "later version" in str(error)
        if not known and damaged_pages(file, None):
            raise refuse_damage(file, str(error)) from error
        raise
    if version is None:
        return None
    state = state_of(db)
    if state == "opened" and not has_log:
        raise StoreError(
            f"{file} lacks {log_of(file).name}, which stood beside it and holds the latest "
            "answers. Put that file back, or choose another --out to ask all again."
        )
    pages = damaged_pages(file, state)
    if pages:
        raise refuse_damage(file, f"{len(pages)} of its pages have changed")
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone() if pages is None else ("ok",)
    if found != "ok":
        raise refuse_damage(file, found)
    return version


def _is_empty(file: Path) -> StoreError:
    return StoreError(
        f"{file} is empty: its answers are gone. Put the file back, with {log_of(file).name} if "
        "there was one, or choose another --out to ask all again."
    )


def _kind(error: BaseException) -> int:
    """Return the kind of an error of SQLite's, 0 where it is none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _is_damage(error: BaseException) -> bool:
    return _kind(error) in DAMAGE or str(error).startswith("Could not decode to UTF-8")
