"""Records of a run as a file of csv, jsonl or parquet, written as they are read.

In: a run store and an open file. Out: one row per record, whole numbers whole, in memory that does
not grow with the run. The ids of shots are a column only on request: a thousand of
them per record make a large file; records with the same `node_hash` share their shots.
"""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from icl_harness.counts import agree, n_of
from icl_harness.errors import SpecError, StoreError, nearest
from icl_harness.store.header import RECORDS_FILE
from icl_harness.store.record_rows import COLUMNS
from icl_harness.store.records import RunStore
from icl_harness.store.salvage import salvage
from icl_harness.store.seal import SEAL_FILE

if TYPE_CHECKING:
    import pyarrow as pa

Row = tuple[Any, ...]
ROWS, FEW_ROWS = 1000, 100  # of a parquet file held in memory; the fewer with lists of shots
WHOLE = {
    "queries_per_request", "shots", "draw", "sample", "shots_used", "prompt_tokens",
    "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens", "n_lost",
}  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
BLANK = " '\"\t\r\n"  # what a spreadsheet may skip before a formula
CONTROL = ("\t", "\r", "\n")
REAL = {"score", "gold_nll", "cost_usd", "latency_s"}


def export(
    store: RunStore, form: str, file: IO[bytes], *, shot_ids: bool = False, excel_safe: bool = False
) -> None:
    """Write all records. Raises `SpecError` for an unknown form.

    `excel_safe`: no text of a CSV file is a spreadsheet's formula.
    """
    _check_form(form, excel_safe=excel_safe)
    rows = store.rows(shot_ids=shot_ids)
    _write(form, rows, file, shot_ids=shot_ids, excel_safe=excel_safe)


def export_damaged(
    folder: Path, form: str, file: IO[bytes], *, shot_ids: bool = False, excel_safe: bool = False
) -> list[str]:
    """Write what can still be read of damaged records; return what must be said of it. Raises
    `StoreError` where nothing can be read, `SpecError` for an unknown form.
    """
    _check_form(form, excel_safe=excel_safe)
    with salvage(folder / RECORDS_FILE, with_shots=shot_ids) as found:
        _write(form, found.rows(), file, shot_ids=shot_ids, excel_safe=excel_safe)
    if not found.n_read and (found.n_lost or not found.checked):
        raise StoreError(f"no record of {folder} can be read. Only a copy of it can help.")
    were = agree(found.n_read, "was", "were")
    read = f"{n_of(found.n_read, 'record')} {were} read"
    notes = [f"{read}; none is known to be lost"]
    if found.n_lost:
        notes = [f"{read}; {found.n_lost:,} or more are lost"]
    if found.n_partial:
        notes.append(f"{found.n_partial:,} of them lack their input, choices, shots or node")
    if not found.checked:
        notes.append(
            f"there is no {SEAL_FILE} of these records, so a damaged value may pass for a sound one"
        )
    return notes


def _check_form(form: str, *, excel_safe: bool) -> None:
    if form not in WRITERS:
        known = [*WRITERS, "errorbars", "every-eval-ever"]  # the latter: interchange.py
        raise SpecError(
            f"unknown format {form!r}.{nearest(form, known)} Known: {', '.join(known)}."
        )
    if excel_safe and form != "csv":
        raise SpecError(f"--excel-safe is for csv, not for {form}. Leave one out.")


def _write(
    form: str, rows: Iterator[Row], file: IO[bytes], *, shot_ids: bool, excel_safe: bool
) -> None:
    if excel_safe:
        rows = map(_without_formulas, rows)
    WRITERS[form]((*COLUMNS, *(["shot_ids"] if shot_ids else [])), rows, file)


def _without_formulas(row: Row) -> Row:
    """Return a row whose texts a spreadsheet shows as they are: one that would begin a formula gets
    a ' before it, as spreadsheets write it themselves.
    """
    return tuple(_harmless(value) if isinstance(value, str) else value for value in row)


def _harmless(text: str) -> str:
    return f"'{text}" if text.lstrip(BLANK).startswith(FORMULA) or text[:1] in CONTROL else text


def _write_csv(names: tuple[str, ...], rows: Iterable[Row], file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(row)
    text.detach()


def _write_jsonl(names: tuple[str, ...], rows: Iterable[Row], file: IO[bytes]) -> None:
    lists = [name for name in ("choices", "shot_ids") if name in names]
    parse = functools.lru_cache(maxsize=len(lists))(_parsed)
    for row in rows:
        values = dict(zip(names, row, strict=True))
        values |= {name: parse(values[name]) for name in lists}
        file.write(json.dumps(values, ensure_ascii=False).encode() + b"\n")


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _write_parquet(names: tuple[str, ...], rows: Iterator[Row], file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, _parquet_type(name)) for name in names])
    parse = functools.lru_cache(maxsize=1)(_parsed)
    n_rows = FEW_ROWS if "shot_ids" in names else ROWS
    with pq.ParquetWriter(file, schema) as writer:
        while chunk := list(islice(rows, n_rows)):
            columns = [list(column) for column in zip(*chunk, strict=True)]
            if "shot_ids" in names:
                columns[-1] = [parse(shots) for shots in columns[-1]]
            writer.write_table(pa.table(columns, schema=schema))


def _parquet_type(name: str) -> pa.DataType:
    import pyarrow as pa

    if name in WHOLE:
        return pa.int64()
    if name in REAL:
        return pa.float64()
    others: dict[str, pa.DataType] = {"shot_ids": pa.list_(pa.string())}
    others |= dict.fromkeys(("reused", "cut"), pa.bool_())
    return others.get(name, pa.string())


WRITERS: dict[str, Callable[[tuple[str, ...], Iterator[Row], IO[bytes]], None]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
FORMS = tuple(WRITERS)
