"""Writing a file whole or not at all.

In: a path and bytes. Out: the file, or `StoreError` and whatever was there before.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from icl_harness.errors import StoreError


def write_atomically(path: Path | str, content: bytes) -> None:
    """Write a file so that nothing half-written is ever under its name; missing folders are made.

    A link stays, and the file that it leads to is replaced. A device or a pipe cannot be replaced,
    so it is written into. Raises `StoreError`.
    """
    with written_atomically(Path(path)) as file:
        file.write(content)


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write to that takes its name once it is whole, as `write_atomically` does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replaceable = path.is_file() or not path.exists()
        target = _replacing(Path(os.path.realpath(path))) if replaceable else path.open("wb")
        with target as file:
            yield file
    except (OSError, ValueError) as error:  # a name with a NUL byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"{str(path)!r} cannot be written: {reason}. Choose a writable path."
        ) from error


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    # A short name of its own: two writers never share one, and no long target makes it too long.
    partial = target.with_name(f".icl-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
