"""The runs below a folder: what each measures, how far it is, when it was written, what it cost.

In: a folder. Out: a line per run, and one per folder that is a run's but cannot be read.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from icl_harness.errors import IclError, SpecError
from icl_harness.plan.asker import folder_usd
from icl_harness.store.header import RECORDS_FILE, RUN_FILE
from icl_harness.store.records import RunStore

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, sqlite3.Error)
SHOWN = ("tasks", "models", "modes", "variants", "shots")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A run folder. `fault`: why it cannot be read, if it cannot."""

    path: Path
    header: dict[str, Any]
    n_records: int = 0
    n_failed: int = 0
    usd: float = 0.0
    written: datetime | None = None
    fault: str = ""


def list_runs(folder: Path) -> list[Listed]:
    """Return the runs in a folder and below it, the latest first, then those that cannot be read.
    Raises `SpecError` where there is no such folder.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise SpecError(f"{folder} {what}. Name a folder that holds run folders.")
    found = [_listed(path) for path in _run_folders(folder)]
    readable = [one for one in found if not one.fault]
    readable.sort(key=lambda one: one.written.timestamp() if one.written else 0.0, reverse=True)
    return [*readable, *(one for one in found if one.fault)]


def _run_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders that are a run's, or were, each once: none lies within another, and a link
    to one is followed.
    """
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if {RUN_FILE, RECORDS_FILE} & set(files):
            folders.clear()
            yield Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _listed(path: Path) -> Listed:
    try:
        with contextlib.closing(RunStore.open(path)) as store:
            header = store.header
            _check_shape(header)
            usd = folder_usd(store, header["spec"].get("bank"))
            n_records, n_failed = store.count(), store.count_failed()
        written = datetime.fromtimestamp(_last_write(path)).astimezone()
        return Listed(
            path=path, header=header, n_records=n_records, n_failed=n_failed, usd=usd,
            written=written,
        )  # fmt: skip
    except IclError as error:
        return Listed(path=path, header={}, fault=str(error))
    except UNREADABLE as error:  # a run.json or a bank of another shape must not hide other runs
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Listed(path=path, header={}, fault=f"{path} cannot be read: {reason}")


def _check_shape(header: dict[str, Any]) -> None:
    """Raise `KeyError` or `TypeError` where run.json lacks what a line of the list shows."""
    for name in SHOWN:
        len(header["spec"][name])
    int(header["spec"]["draws"])
    for task in header["tasks"].values():
        int(task["n_queries"])


def _last_write(path: Path) -> float:
    """Return when the records were last written; reading them touches no more than their log."""
    return (path / RECORDS_FILE).stat().st_mtime
