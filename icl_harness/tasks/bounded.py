"""Reading a file that may unpack without an end: a gzip file of nothing but zeros, a Parquet file
of one long text a million times.

In: a path. Out: its bytes, unpacked where its name ends in .gz, or its rows; or `DataError`.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from icl_harness.errors import DataError

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile, RowGroupMetaData

MOST_BYTES = 100_000_000  # of an unpacked file, unless it is no more than so many times its size
MOST_TIMES = 50  # text shrinks to a third or a tenth, zeros to a thousandth
PART_BYTES = 1_000_000
PART_ROWS = 10_000
ROW_BYTES = 16  # of a row with nothing in it


def bounded_bytes(path: Path) -> bytes:
    """Return what a file holds. Raises `DataError` for one that unpacks to absurdly much;
    `OSError`, `EOFError` or `zlib.error` where it cannot be read.
    """
    return _unzipped(path) if path.suffix.lower() == ".gz" else path.read_bytes()


def _unzipped(path: Path) -> bytes:
    """Return what a gzip file holds. Raises `DataError` for one that holds absurdly much."""
    parts, size, most = [], 0, _most(path)
    with gzip.open(path) as file:
        while part := file.read(PART_BYTES):
            size += len(part)
            if size > most:
                raise _absurd(path, most)
            parts.append(part)
    return b"".join(parts)


def bounded_batches(path: Path, file: ParquetFile) -> Iterator[RecordBatch]:
    """Yield the rows of a Parquet file, few at a time. Raises `DataError` for one that unpacks to
    absurdly much.
    """
    most, columns = _most(path), file.metadata.num_columns
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    chunks = [_largest(group) for group in groups]
    if sum(group.total_byte_size for group in groups) > most or max(chunks, default=0) > most:
        raise _absurd(path, most)
    # a text may stand once in a chunk and be every row's: so few rows at a time that it fits
    n_rows = max(1, min(PART_ROWS, most // (max(chunks, default=0) * columns + 1)))
    size = 0
    for batch in file.iter_batches(batch_size=n_rows):
        size += batch.nbytes + batch.num_rows * ROW_BYTES
        if size > most:
            raise _absurd(path, most)
        yield batch


def _largest(group: RowGroupMetaData) -> int:
    """Return the bytes of the largest column of a row group, unpacked."""
    sizes = [group.column(i).total_uncompressed_size for i in range(group.num_columns)]
    return max(sizes, default=0)


def _most(path: Path) -> int:
    return max(MOST_BYTES, MOST_TIMES * path.stat().st_size)


def _absurd(path: Path, most: int) -> DataError:
    return DataError(
        f"{path}: its {path.stat().st_size:,} bytes unpack to more than {most:,}, as no file of "
        "rows does. Unpack it yourself if it is one."
    )
