"""Writing a file whole or not at all."""

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
    """Write a file so that nothing half-written is ever under its name; folders are made. Raises
    `StoreError`.

    A link stays, and what it leads to is replaced. A device, pipe or FIFO cannot be replaced: it is
    written into.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(Path(os.path.realpath(path)), content)
    except (OSError, ValueError) as error:  # a name with a NUL byte is a ValueError
        told = (isinstance(error, OSError) and error.strerror) or error
        raise StoreError(
            f"{str(path)!r} cannot be written: {told}. Name a place that can be."
        ) from error


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write to that takes its name only once it is whole. Raises `StoreError`.

    Into what cannot be replaced (a device, a pipe) it is written as it comes.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = not path.exists() or path.is_file()
        with _replacing(Path(os.path.realpath(path))) if whole else path.open("wb") as file:
            yield file
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(path)!r} cannot be written: {error}.") from error


def _replace(target: Path, content: bytes) -> None:
    with _replacing(target) as file:
        file.write(content)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    # Its own short name: two writers never share one, and a long target name does not make it too
    # long.
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
