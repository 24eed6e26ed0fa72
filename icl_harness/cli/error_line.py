"""An error as the command line shows it: one line on standard error.

In: what was raised, and the command line. Out: the line, and the exit code: 2 for what the user can
fix, 1 for the rest, 130 for Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from icl_harness.errors import IclError

STOPPED = 130  # the exit code of Ctrl-C


def print_error(error: BaseException, arguments: Sequence[str]) -> int:
    """Print an error in one line and return the exit code."""
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()  # the reader of a pipe, such as head, has read enough
        return 0
    text, code = _text_and_code(error, arguments)
    typer.echo(f"icl: {' '.join(text.split())}", err=True)
    return code


def _text_and_code(error: BaseException, arguments: Sequence[str]) -> tuple[str, int]:
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "stopped. All answers so far are kept; run the same command to resume.", STOPPED
    if isinstance(error, IclError):
        again = " Run the same command again to resume." if error.resumable else ""
        return f"{error}{again}", error.exit_code
    if isinstance(error, typer.TyperException):
        return _usage(error, arguments), 2
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
