"""Files of rows: JSON lines and arrays, CSV and its kin, Parquet; the first three gzipped, too.

In: a path. Out: each row with its place in the file. Texts are read here and not by `datasets`,
which does not say in which line a file is broken. csv_files.py reads those with columns.
"""

from __future__ import annotations

import gzip
import json
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icl_harness.errors import DataError
from icl_harness.tasks.bounded import bounded_batches, bounded_bytes
from icl_harness.tasks.csv_files import csv_rows
from icl_harness.tasks.harnesses.names import is_foreign, without_folder

TEXTS = (".jsonl", ".json", ".csv", ".tsv")
SUFFIXES = (*TEXTS, *(f"{suffix}.gz" for suffix in TEXTS), ".parquet")
SHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
FORMS = ".csv, .tsv, .json, .parquet, or a text gzipped: .jsonl.gz"  # beside .jsonl

PlacedRow = tuple[str, dict[str, Any]]


def is_row_file(name: str) -> bool:
    """Return whether a name is a file's of rows, by its ending, and not that of a task with a
    subset, which may be a file's: `tabular:houses.csv`.
    """
    if re.match(r"[\w-]{2,}:", name):
        return False
    return name.lower().endswith((*SUFFIXES, *SHEETS))


def task_name(name: str) -> str:
    """Return what a task is called: a file by its name, wherever it lies."""
    if is_foreign(name):
        return without_folder(name)
    return Path(name).name if is_row_file(name) else name


def is_in_file(name: str) -> bool:
    """Return whether a task is a file's that lies anywhere: of rows, or of another harness."""
    return is_row_file(name) or task_name(name) != name


def find_files(folder: Path, base: str) -> list[Path]:
    """Return the files of rows that are called `base` in a folder, whatever their format."""
    paths = [folder / f"{base}{suffix}" for suffix in SUFFIXES]
    return [path for path in paths if path.exists()]


def instead_of(folder: Path, base: str) -> str:
    """Return what a folder has in the place of the files called `base`, as a sentence or two for a
    message; "" where there is nothing like them.
    """
    for suffix in SHEETS:
        sheet = folder / f"{base}{suffix}"
        if sheet.exists():
            return f" {about_sheet(sheet)}"
    wanted = folder / base
    if wanted.is_dir():
        return f" {wanted} is a folder: its rows must stand in one file beside it."
    split = Path(base).name
    beside = sorted(folder.glob(f"{split}.*")) + sorted(folder.glob(f"{split}-*"))
    flat = [path for path in beside if path.name.endswith((*SUFFIXES, *SHEETS))]
    if flat:
        return f" {flat[0]} is there: it belongs into a folder of the task, {wanted.parent}."
    others = sorted(path.name for path in wanted.parent.glob("*") if not path.name.startswith("."))
    if others:
        more = ", …" if len(others) > 4 else ""
        return f" {wanted.parent} holds {', '.join(others[:4])}{more}."
    return ""


def about_sheet(sheet: Path) -> str:
    """Return what to say of a spreadsheet."""
    return (
        f"{sheet.name} is a spreadsheet, which is not read: save the sheet as CSV, in Excel by "
        f"File, Save As, CSV UTF-8, under the name {sheet.stem}.csv."
    )


def file_rows(path: Path) -> Iterator[PlacedRow]:
    """Yield (place, row) of a file. Raises `DataError` with file, line and column."""
    _check_regular(path)
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix == ".parquet":
        return _parquet_rows(path)
    text = _text(path)
    if suffix in (".csv", ".tsv"):
        return csv_rows(path, text, "\t" if suffix == ".tsv" else None)
    return _json_rows(path, text)


def _check_regular(path: Path) -> None:
    """Refuse a pipe or a device, which may never end. A folder is refused where it is opened."""
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise DataError(f"{path} is no regular file. Write the rows into one.")


def _text(path: Path) -> str:
    try:
        data = bounded_bytes(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}). Compress it again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if data.startswith(b"PK\x03\x04"):
        raise DataError(
            f"{path} is a spreadsheet or a zip archive under another name. Save the sheet as CSV, "
            "in Excel by File, Save As, CSV UTF-8."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        where = f"{path}, line {line}, column {column}"
        raise DataError(
            f"{where}: byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        ) from error


def _json_rows(path: Path, text: str) -> Iterator[PlacedRow]:
    """Yield the rows of a JSON array, or of one object per line."""
    listed = _array(text)
    if listed is not None:
        for number, row in enumerate(listed, start=1):
            where = f"{path}, row {number}"
            if not isinstance(row, dict):
                kind = type(row).__name__
                raise DataError(f"{where}: a JSON {kind}. Each row must be one JSON object.")
            yield where, row
        return
    # Only "\n" ends a line: a JSON string may hold the other characters that `splitlines` cuts at.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _json_row(line, where)


def _array(text: str) -> list[Any] | None:
    """Return the array that a text is; None where it is none, or a line of a file of lines."""
    if not text.lstrip().startswith("["):
        return None
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None  # the line that is at fault is named below
    is_rows = isinstance(whole, list) and (not whole or isinstance(whole[0], dict))
    return whole if is_rows else None


def _json_row(line: str, where: str) -> dict[str, Any]:
    rule = "Each line must be one JSON object."
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        is_array = line.lstrip().startswith("[")
        rule = "A JSON array must be whole, or each line one JSON object." if is_array else rule
        raise DataError(f"{where}, column {error.colno}: {error.msg}. {rule}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}, column 1: {error}. {rule}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}, column 1: a JSON {type(row).__name__}. {rule}")
    return row


def _parquet_rows(path: Path) -> Iterator[PlacedRow]:
    """Yield the rows of a Parquet file; class ids become their names where the file has them."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            features = datasets.Features.from_arrow_schema(file.schema_arrow)
            names = {
                column: feature.names
                for column, feature in features.items()
                if isinstance(feature, datasets.ClassLabel)
            }
            number = 0
            for batch in bounded_batches(path, file):
                for row in batch.to_pylist():
                    for column, known in names.items():
                        row[column] = class_name(known, row[column])
                    number += 1
                    yield f"{path}, row {number}", row
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise DataError(f"{path} cannot be read as Parquet: {reason}.") from error


def class_name(names: list[str], label: int | None) -> str | None:
    """Return the name of a class id; None for -1, by which the hub hides a label."""
    return names[label] if label is not None and label >= 0 else None
