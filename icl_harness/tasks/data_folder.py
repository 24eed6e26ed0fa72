"""Where the rows of the task at hand lie: what `--data` says is known while its code runs.

In: a task's name and the folder given with --data. Out: that folder, to whoever asks meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

LOCAL_FOLDER = Path("data")  # where `rows` looks when no folder is given

_TASK: ContextVar[tuple[str, Path | None]] = ContextVar("icl_task", default=("", None))


@contextlib.contextmanager
def at_work(task: str, data: Path | None) -> Iterator[None]:
    """Say whose code runs and where its rows lie, until the end."""
    before = _TASK.set((task.partition(":")[0], data))
    try:
        yield
    finally:
        _TASK.reset(before)


def task_at_work() -> tuple[str, Path | None]:
    """Return the name of the task whose code runs, "" for none, and the folder given for it."""
    name, data = _TASK.get()
    return name, given_folder(data)


def given_folder(data: Path | None) -> Path | None:
    """Return the folder of rows that was given, by --data or else by ICL_DATA; None without."""
    if data is None and os.environ.get("ICL_DATA"):
        return Path(os.environ["ICL_DATA"])
    return data


def data_folder() -> Path:
    """Return the folder of `--data` (or ICL_DATA), `data` where none is given: for a task file that
    reads files of its own.
    """
    return task_at_work()[1] or LOCAL_FOLDER
