"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

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


def _replace(target: Path, content: bytes) -> None:
    # Its own short name: two writers never share one, and a long target name does not make it too
    # long.
    partial = target.with_name(f".icl-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
