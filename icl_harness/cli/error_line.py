"""An error as the command line shows it: one line on standard error.

In: what was raised, and the command line. Out: the line, and the exit code: 2 for what the user can
fix, 1 for the rest, 130 for Ctrl-C.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from icl_harness.errors import IclError, StoreError
from icl_harness.printable import without_controls

STOPPED = 130  # the exit code of Ctrl-C
OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def prepare_output(*, is_needed: bool) -> None:
    """Have standard output take all that is written to it, whole. Raises `StoreError` where it is
    closed but `is_needed`.
    """
    if sys.stdout is None and is_needed:
        raise StoreError("standard output is closed. Send it to a file or a pipe, or to /dev/null.")
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        # with PYTHONUNBUFFERED a write may end early, and nothing would say so
        encoding = sys.stdout.encoding
        sys.stdout = os.fdopen(sys.stdout.fileno(), "w", encoding=encoding, closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # question marks where a terminal knows no UTF-8
            stream.reconfigure(errors="replace")


def print_error(error: BaseException, arguments: Sequence[str]) -> int:
    """Print an error in one line and return the exit code."""
    _give_up_output()
    if isinstance(error, BrokenPipeError):
        return 0  # the reader of a pipe, such as head, has read enough
    text, code = _text_and_code(error, arguments)
    with contextlib.suppress(OSError):  # there may be no standard error either
        typer.echo(f"icl: {' '.join(without_controls(text).split())}", err=True)
    return code


def _give_up_output() -> None:
    """Write out what standard output still takes; the rest of it must not fail once more, with
    lines of Python's own, when the program ends.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _text_and_code(error: BaseException, arguments: Sequence[str]) -> tuple[str, int]:
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "stopped. All answers so far are kept; run the same command to resume.", STOPPED
    if isinstance(error, IclError):
        again = " Run the same command again to resume." if error.resumable else ""
        return f"{error}{again}", error.exit_code
    if isinstance(error, typer.TyperException):
        return _usage(error, arguments), 2
    if isinstance(error, OSError) and error.filename is None and error.errno in OUTPUT_ERRORS:
        return f"the output cannot be written: {error.strerror}. Choose another place for it.", 2
    if isinstance(error, OSError):
        return str(error), 2
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1


def _usage(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """Return typer's own message about a command line, and where to look further."""
    message = " ".join(error.format_message().split())
    stop = "" if message.endswith((".", "?")) else "."
    return f"{message}{stop} `{_command(error, arguments)} --help` shows what it takes."


def _command(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """Return the command that was typed; an error in an option's form does not carry it."""
    context: Any = getattr(error, "ctx", None)
    if context is not None:
        return str(context.command_path)
    return "icl" if arguments[0].startswith("-") else f"icl {arguments[0]}"
