"""A command line that typer refuses, told in one line and in the words of all other errors.

In: what typer raised, and the arguments. Out: what is wrong, and where it says what is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import typer

from icl_harness.errors import nearest

USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[
    1
]  # typer exports it by its children only


def usage(error: Any, arguments: Sequence[str], commands: Sequence[str]) -> str:
    """Return what is wrong with the arguments of one of the `commands`."""
    asked = arguments[0]
    if asked not in commands and not asked.startswith("-"):
        return f"there is no command {asked!r}.{nearest(asked, commands)} Known: {', '.join(commands)}."
    see = f"`icl {asked} --help`" if asked in commands else "`icl --help`"
    kind, said, param = type(error).__name__, error.format_message(), getattr(error, "param", None)
    if kind == "NoSuchOption":
        option, known = error.option_name, error.possibilities or ()
        return f"there is no option {option}.{nearest(option, known)} {see} lists all."
    if kind == "BadOptionUsage":
        wrong = (
            "takes no value, and one is given"
            if "not take" in said
            else "takes a value, and none is given"
        )
        return f"{error.option_name} {wrong}. {see} lists all."
    if kind == "MissingParameter":
        return f"{_name(param)} is missing. {see} shows what is taken."
    if kind == "BadParameter" and ("integer" in said or "number" in said or "float" in said):
        given = [
            after for option, after in pairwise([*_split(arguments), ""]) if option == _name(param)
        ]
        takes_one = "a whole number" if "integer" in said else "a number"
        return f"{_name(param)} is {given[-1] if given else ''!r}; it takes {takes_one}."
    if "extra argument" in said:  # "Got unexpected extra argument (b)"
        said = f"too many arguments: {said[said.rindex('(') + 1 :].rstrip(')')}"
    return f"{said.rstrip('.')}. {see} shows what is taken."


def _name(param: Any) -> str:
    """Return what help calls an option or an argument."""
    return str(param.opts[-1] if param.opts[-1].startswith("-") else param.metavar or param.name)


def _split(arguments: Sequence[str]) -> list[str]:
    """Return `--option=value` as two."""
    return [
        part
        for text in arguments
        for part in (text.split("=", 1) if text.startswith("--") else [text])
    ]
