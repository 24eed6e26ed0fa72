"""Files of rows: JSON lines, plain or compressed, and CSV.

In: a path. Out: each row with its place in the file. They are read here and not by `datasets`,
which does not say in which line a file is broken.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icl_harness.errors import DataError

SUFFIXES = (".jsonl", ".csv", ".jsonl.gz")


def find_files(folder: Path, base: str) -> list[Path]:
    """Return the files of rows that are called `base` in a folder, whatever their format."""
    paths = [folder / f"{base}{suffix}" for suffix in SUFFIXES]
    return [path for path in paths if path.exists()]


def file_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, row) of a .jsonl, .jsonl.gz or .csv file. Raises `DataError` with file, line
    and column.
    """
    text = _text(path)
    return _csv_rows(path, text) if path.suffix == ".csv" else _json_rows(path, text)


def _text(path: Path) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}). Compress it again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        where = f"{path}, line {line}, column {column}"
        raise DataError(
            f"{where}: byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        ) from error


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    # Only "\n" ends a line: a JSON string may hold the other characters that `splitlines` cuts at.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            where = f"{where}, column {error.colno}"
            raise DataError(f"{where}: {error.msg}. Each line must be one JSON object.") from error
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{where}, column 1: {error}. Each line must be one JSON object."
            ) from error
        if not isinstance(row, dict):
            kind = type(row).__name__
            raise DataError(f"{where}, column 1: a JSON {kind}. Each line must be one JSON object.")
        yield where, row


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(2**31 - 1)  # long documents are one cell
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            where, start = f"{path}, line {start}", reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = cells
                if len(set(header)) < len(header):
                    raise DataError(
                        f"{where}: the header names a column twice ({', '.join(header)})."
                    )
            elif len(cells) != len(header):
                where = f"{where}, column {min(len(cells), len(header)) + 1}"
                raise DataError(f"{where}: {len(cells)} cells where the header has {len(header)}.")
            else:
                yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        remedy = "Quote cells that hold commas, quotes or line breaks."
        raise DataError(f"{path}, line {start}: {error}. {remedy}") from error
