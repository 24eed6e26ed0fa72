"""Reading a file that may have no end: a device, a pipe, a gzip file of nothing but zeros.

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
    """Return what a file holds. Raises `DataError` for what is no file, or unpacks to absurdly
    much; `OSError`, `EOFError` or `zlib.error` where it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a file but {_kind(path)}. Put a file of rows there.")
    return _unzipped(path) if path.suffix == ".gz" else path.read_bytes()


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


def _kind(path: Path) -> str:
    """Return what a path that is no file leads to."""
    kinds = {
        "a folder": path.is_dir,
        "a pipe": path.is_fifo,
        "a device": lambda: path.is_char_device() or path.is_block_device(),
        "a socket": path.is_socket,
    }
    return next((kind for kind, is_it in kinds.items() if is_it()), "nothing that can be read")
