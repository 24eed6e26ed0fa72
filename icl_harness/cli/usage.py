"""A command line that typer refuses, in one line.

In: what typer raised, and the command line. Out: typer's own message, and where to look further.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer


def usage(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """Return what is wrong with a command line."""
    message = " ".join(error.format_message().split())
    stop = "" if message.endswith((".", "?")) else "."
    return f"{message}{stop} `{_command(error, arguments)} --help` shows what it takes."


def _command(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """Return the command that was typed; an error in an option's form does not carry it."""
    context: Any = getattr(error, "ctx", None)
    if context is not None:
        return str(context.command_path)
    return "icl" if arguments[0].startswith("-") else f"icl {arguments[0]}"
