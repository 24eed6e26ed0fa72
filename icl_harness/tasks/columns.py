"""Which columns of a file of rows make a task: what `icl run FILE` and `task(frame, …)` are told.

In: the names of columns, as a command line, YAML or Python gives them. Out: a frozen `Columns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

from pydantic import field_validator

from icl_harness.errors import SpecError
from icl_harness.settings import Option, Settings, text

Answers = Literal["labels", "number", "free"]  # what the targets of a file are


class Columns(Settings):
    """The columns of a task that is a file of rows, and what cannot be read off them."""

    input: Annotated[
        tuple[str, ...] | None,
        Option("COLUMNS", "What is asked; several by commas.", "input, else all the others"),
    ] = None
    target: Annotated[
        str | None, text(), Option("COLUMN", "The gold answer.", "target", names=("--target",))
    ] = None
    split: Annotated[
        str | None,
        text(),
        Option("COLUMN", "Which rows are train, which test.", "split, else a fifth is held out"),
    ] = None
    group: Annotated[
        str | None, text(), Option("COLUMN", "Rows that stay on one side: a user's, say.")
    ] = None
    answers: Annotated[
        Answers | None,
        Option("KIND", "Of the targets: labels, number or free.", "found out, and said"),
    ] = None
    instruction: Annotated[
        str | None,
        text(),
        Option("TEXT", "The first sentence of its prompts.", "made of the columns' names"),
    ] = None

    @field_validator("input", mode="before")
    @classmethod
    def _read_input(cls, value: Any) -> tuple[str, ...] | None:
        """Return the columns in a text with commas, or in a list."""
        if value is None:
            return None
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, list | tuple):
            raise SpecError("--input takes the name of a column, or several by commas.")
        names = tuple(filter(None, (str(name).strip() for name in value)))
        if not names:
            raise SpecError("--input is empty; leave it out or name a column.")
        return names

    def columns(self) -> dict[str, Any]:
        """Return what was given, by the names of the fields."""
        given = {name: getattr(self, name) for name in Columns.model_fields}
        return {name: value for name, value in given.items() if value is not None}


NONE_NAMED = Columns()


class ColumnOptions(TypedDict, total=False):
    """The same, as `task(frame, …)` and `run` take them."""

    input: str | Sequence[str] | None
    target: str | None
    split: str | None
    group: str | None
    answers: Answers | None
    instruction: str | None
