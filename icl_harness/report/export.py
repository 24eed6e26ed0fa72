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
from typing import IO, TYPE_CHECKING, Any

from icl_harness.errors import SpecError, nearest
from icl_harness.store.record_rows import COLUMNS
from icl_harness.store.records import RunStore

if TYPE_CHECKING:
    import pyarrow as pa

Row = tuple[Any, ...]
ROWS, FEW_ROWS = 1000, 100  # of a parquet file held in memory; the fewer with lists of shots
WHOLE = {
    "queries_per_request", "shots", "draw", "sample", "shots_used", "prompt_tokens",
    "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens", "n_lost",
}  # fmt: skip
REAL = {"score", "gold_nll", "cost_usd", "latency_s"}


def export(store: RunStore, form: str, file: IO[bytes], *, shot_ids: bool = False) -> None:
    """Write all records. Raises `SpecError` for an unknown form."""
    if form not in WRITERS:
        raise SpecError(
            f"unknown format {form!r}.{nearest(form, WRITERS)} Known: {', '.join(WRITERS)}."
        )
    names = (*COLUMNS, *(["shot_ids"] if shot_ids else []))
    WRITERS[form](names, store.rows(shot_ids=shot_ids), file)


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
