"""Run folders of earlier versions, made from SQL scripts.

version_2 is a real run's, by icl-harness 0.1, version_3 a scripted model's; curves.csv is what that
version made of it.
"""

import contextlib
import shutil
import sqlite3
from pathlib import Path

HERE = Path(__file__).parent


def make_old_run(version: int, folder: Path) -> Path:
    """Make a run folder as that version left it, and return it."""
    source = HERE / f"version_{version}"
    folder.mkdir(parents=True)
    for file in source.glob("*.json"):
        shutil.copy(file, folder)
    with contextlib.closing(sqlite3.connect(folder / "records.db")) as db:
        db.executescript((source / "records.sql").read_text())
    return folder
