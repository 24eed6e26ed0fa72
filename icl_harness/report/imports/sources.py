"""Opening a file of results: a table, or a log of lm-eval or Inspect.

In: a path and what was typed of its columns. Out: its rows, which column is what, and what holds
for all of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from icl_harness.errors import DataError
from icl_harness.report.imports.columns import KEYS, check_columns, check_together
from icl_harness.report.imports.inspect_logs import inspect_rows
from icl_harness.report.imports.lm_eval import is_samples, lm_eval_rows
from icl_harness.tasks.row_files import SUFFIXES, PlacedRow, file_rows

BY_NAME = {"query_id": "query"}  # as `icl export` calls it
USUAL = {"mode": "supervised", "variant": "default", "draw": 0}


class Source(NamedTuple):
    """The rows of a file and how they are read."""

    rows: Iterable[PlacedRow]
    columns: dict[str, str]
    constants: dict[str, Any]


def open_source(path: Path, columns: Mapping[str, str], given: Mapping[str, Any]) -> Source:
    """Open a file; `given` are the values typed for all rows. Raises `SpecError` or `DataError`."""
    if not path.exists():
        raise DataError(f"{path} does not exist. Name a file of results.")
    if path.is_dir():
        raise DataError(f"{path} is a folder. Name the files in it.")
    if path.suffix == ".eval" or (path.suffix == ".json" and _is_inspect(path)):
        return _source(path, *inspect_rows(path, columns), given)
    if not path.name.endswith(SUFFIXES):
        raise DataError(
            f"{path} is no file that is read: its name must end in {', '.join(SUFFIXES)} or .eval."
        )
    rows = iter(file_rows(path))
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path} holds no rows.")
    if is_samples(first[1]):
        return _source(path, *lm_eval_rows(path, [first, *rows], columns), given)
    chosen = dict(columns) or _by_name(first[1])
    return _source(path, chain([first], rows), chosen, {}, given, there=first[1])


def _is_inspect(path: Path) -> bool:
    """Return whether a JSON file is a log of Inspect: an object that says of which task it is."""
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.read(2000)
    return head.lstrip().startswith("{") and '"eval"' in head and '"status"' in head


def _by_name(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns that are called as a key is."""
    found = {}
    for column in row:
        key = BY_NAME.get(column, column)
        if key in KEYS and key not in found:
            found[key] = column
    return found


def _source(
    path: Path,
    rows: Iterable[PlacedRow],
    columns: dict[str, str],
    constants: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    there: Mapping[str, Any] | None = None,
) -> Source:
    if there is None:
        rows = list(rows)
        there = rows[0][1]
    check_columns(columns, list(there), str(path))
    check_together(columns, constants, given)
    stem = path.name.partition(".")[0] if path.suffix != ".eval" else path.stem
    values = {**USUAL, "model": stem, **constants, **given}
    return Source(rows, columns, {key: values[key] for key in values if key not in columns})
