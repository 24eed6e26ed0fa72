"""Reading a file that may unpack without an end: a gzip file of nothing but zeros.

In: a path. Out: its bytes, unpacked where its name ends in .gz, or `DataError`.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from icl_harness.errors import DataError

MOST_BYTES = 100_000_000  # of an unpacked file, unless it is no more than so many times its size
MOST_TIMES = 50  # text shrinks to a third or a tenth, zeros to a thousandth
PART_BYTES = 1_000_000


def bounded_bytes(path: Path) -> bytes:
    """Return what a file holds. Raises `DataError` for one that unpacks to absurdly much;
    `OSError`, `EOFError` or `zlib.error` where it cannot be read.
    """
    return _unzipped(path) if path.suffix.lower() == ".gz" else path.read_bytes()


def _unzipped(path: Path) -> bytes:
    """Return what a gzip file holds. Raises `DataError` for one that holds absurdly much."""
    parts, size, most = [], 0, max(MOST_BYTES, MOST_TIMES * path.stat().st_size)
    with gzip.open(path) as file:
        while part := file.read(PART_BYTES):
            size += len(part)
            if size > most:
                raise DataError(
                    f"{path}: its {path.stat().st_size:,} bytes unpack to more than {most:,}, as "
                    "no file of rows does. Unpack it yourself if it is one."
                )
            parts.append(part)
    return b"".join(parts)
