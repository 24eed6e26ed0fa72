"""Noticing that records were damaged, or lost the end of what was written.

In: a run's records.db. Out: the numbers of its damaged pages, or what is missing. A run that is
closed leaves a checksum of each page in records.crc. Until then `state` in the table `run` is
`opened` in records.db itself and `writing` in records.db-wal, so that the one without the other is
noticed. Left out: what can still be read of a damaged file (salvage.py).
"""

from __future__ import annotations

import contextlib
import functools
import re
import secrets
import shlex
import sqlite3
import struct
import zlib
from pathlib import Path

from icl_harness.errors import StoreError
from icl_harness.files import write_atomically
from icl_harness.store.schema import TABLES

SEAL_FILE = "records.crc"
WRITE_OUT_AT = 4_000_000  # bytes of records.db-wal that are moved into records.db
EVENTS = ("INSERT", "UPDATE", "DELETE")
EDITED = "edited"  # by another program, through SQLite


def unseal(db: sqlite3.Connection, file: Path) -> None:
    """Take the seal off, before anything is written."""
    file.with_name(SEAL_FILE).unlink(missing_ok=True)
    drop_triggers(db)


def drop_triggers(db: sqlite3.Connection) -> None:
    """Remove the triggers of a sealed database."""
    names = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    with db:
        for (name,) in names:
            db.execute(f'DROP TRIGGER "{name}"')


def write_out(db: sqlite3.Connection) -> bool:
    """Move what stands in records.db-wal into records.db; return whether all of it was moved."""
    with db:
        _set_state(db, "opened")
    whole = _checkpoint(db)
    with db:
        _set_state(db, "writing")
    return whole


def note_log(db: sqlite3.Connection) -> None:
    """Note that records.db-wal was there, and lacks nothing, in a database whose writer was killed
    before it could: SQLite deletes that file when the one who reads closes the database.
    """
    if state_of(db) == "opened":
        with contextlib.suppress(sqlite3.Error), db:  # a folder that cannot be written keeps it
            _set_state(db, "writing")


def seal(db: sqlite3.Connection, file: Path) -> None:
    """Close the database and leave a checksum of each of its pages.

    Each of its tables gets triggers that note the edits of other programs: those are no damage.
    """
    name = secrets.token_hex(8)
    with contextlib.closing(db):
        with db:
            for table in TABLES.keys() - {"run"}:
                for event in EVENTS:
                    db.execute(
                        f"CREATE TRIGGER seal_{table}_{event.lower()} AFTER {event} ON {table} "
                        f"BEGIN UPDATE run SET value = '{EDITED}' WHERE key = 'state'; END"
                    )
            _set_state(db, f"closed {name}")
        whole = _checkpoint(db)
    # Only now: closing a file drops the locks that SQLite in this process has on it.
    if whole:
        sums = _sums(file)
        content = f"{name}\n".encode() + struct.pack(f"<{len(sums)}I", *sums)
        content += struct.pack("<I", zlib.crc32(content))
        write_atomically(file.with_name(SEAL_FILE), content)


def log_of(file: Path) -> Path:
    """Return where SQLite keeps what is not in the database itself yet."""
    return file.with_name(f"{file.name}-wal")


def state_of(db: sqlite3.Connection) -> str | None:
    """Return the state that a database says it is in; None where it says nothing or is damaged."""
    with contextlib.suppress(sqlite3.Error):
        row = db.execute("SELECT value FROM run WHERE key = 'state'").fetchone()
        return str(row[0]) if row is not None else None
    return None


def damaged_pages(file: Path, state: str | None) -> list[int] | None:
    """Return the numbers, from 0, of pages that are not what they were when the run was closed;
    None where no seal tells.
    """
    sealed = _read_seal(file)
    if sealed is None:
        return None
    name, sums = sealed
    another = state is not None and re.fullmatch(r"closed [0-9a-f]{16}", state)
    if (another and state != f"closed {name}") or state in (EDITED, "opened", "writing"):
        return None  # the seal is not this file's
    stat = file.stat()
    found = _cached_sums(file, (stat.st_ino, stat.st_mtime_ns, stat.st_size))
    longer = max(len(sums), len(found))
    pages = zip(_padded(sums, longer), _padded(found, longer), strict=True)
    return [i for i, (before, now) in enumerate(pages) if before != now]


def page_size(file: Path) -> int:
    """Return the size that a database's own header gives its pages, SQLite's usual one where the
    header is damaged.
    """
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(18)[16:18])
    size = 65536 if size == 1 else size
    return size if size in {1 << i for i in range(9, 17)} else 4096


def refuse_damage(file: Path, what: str) -> StoreError:
    """Return the error of records that are damaged."""
    command = f"icl export {shlex.quote(str(file.parent))} --salvage --out FILE"
    return StoreError(
        f"{file} is damaged: {what}. Put a copy of it back, or write what can still be read to a "
        f"file with `{command}`."
    )


def _set_state(db: sqlite3.Connection, state: str) -> None:
    db.execute("INSERT OR REPLACE INTO run VALUES ('state', ?)", (state,))


def _checkpoint(db: sqlite3.Connection) -> bool:
    (waits,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute("PRAGMA busy_timeout = 0")  # one that reads may take long: it is moved later, then
    busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    db.execute(f"PRAGMA busy_timeout = {waits}")
    return not busy


def _sums(file: Path) -> list[int]:
    size = page_size(file)
    with file.open("rb") as opened:
        return [zlib.crc32(page) for page in iter(lambda: opened.read(size), b"")]


@functools.lru_cache(maxsize=8)
def _cached_sums(file: Path, version: tuple[int, int, int]) -> list[int]:
    return _sums(file)


def _padded(sums: list[int], length: int) -> list[int]:
    return sums + [-1] * (length - len(sums))


def _read_seal(file: Path) -> tuple[str, list[int]] | None:
    """Return the name and the checksums of a seal, None where there is none or it is damaged."""
    try:
        content = file.with_name(SEAL_FILE).read_bytes()
    except OSError:
        return None
    head, sums = content[:17], content[17:]
    if len(sums) % 4 or len(content) < 25 or not re.fullmatch(rb"[0-9a-f]{16}\n", head):
        return None
    if struct.pack("<I", zlib.crc32(content[:-4])) != content[-4:]:
        return None
    return head[:16].decode(), list(struct.unpack(f"<{len(sums) // 4 - 1}I", sums[:-4]))
