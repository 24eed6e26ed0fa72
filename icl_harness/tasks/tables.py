"""A table of rows and the columns that were named of it: which rows are asked, and as what.

In: rows with their places, and `Columns`. Out: examples, and which of them are pool and queries.
Left out: what an answer is (answer_kinds.py) and the words of prompts (table_task.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from icl_harness.errors import DataError, SpecError, nearest
from icl_harness.examples import Example, shown
from icl_harness.tasks.columns import Columns
from icl_harness.tasks.row_files import PlacedRow
from icl_harness.tasks.rows import NO_VALUE, is_missing

# The columns that need not be named
INPUT, TARGET, SPLIT, ID = "input", "target", "split", "id"
POOL_WORDS = ("train", "training", "pool")
QUERY_WORDS = ("test", "testing", "validation", "valid", "val", "dev", "eval")  # the first is taken


class Table(NamedTuple):
    """Rows with their places, and what they are called."""

    name: str
    rows: Sequence[PlacedRow]

    def columns(self) -> list[str]:
        """Return the names of all columns; a row of JSON may lack some."""
        found: dict[str, None] = {}
        for _, row in self.rows:
            found |= dict.fromkeys(row)
        return list(found)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The columns that are used, by name."""

    input: tuple[str, ...]
    target: str
    split: str | None = None
    group: str | None = None


def choose(table: Table, wanted: Columns) -> Chosen:
    """Return the columns of a table that make a task. Raises `SpecError`, or `DataError` where
    there are no rows.
    """
    if not table.rows:
        raise DataError(f"{table.name} holds no rows. It needs some to show and some to ask.")
    known = table.columns()
    target = _target(table, wanted, known)
    for option, column in (("--split", wanted.split), ("--group", wanted.group)):
        if column is not None:
            _check_known(table, option, column, known)
            if column == target:
                raise SpecError(f"{table.name}: {option} and --target both name {column!r}.")
    usual = _usual_split(table, target, wanted)
    split = wanted.split or (usual if wanted.group is None else None)  # groups are held out
    inputs = _inputs(wanted, (target, usual, wanted.split, wanted.group, ID), known)
    for column in inputs:
        _check_known(table, "--input", column, known)
    if target in inputs:
        others = [name for name in known if name != target]
        raise SpecError(
            f"{table.name}: --input and --target both name {target!r}, so that the answer would "
            f"stand in the question. Name another --input: {', '.join(others) or 'it has none'}."
        )
    if not inputs:
        raise SpecError(f"{table.name} has no column beside {target!r} that could be the --input.")
    return Chosen(input=inputs, target=target, split=split, group=wanted.group)


def _usual_split(table: Table, target: str, wanted: Columns) -> str | None:
    """Return the column called `split`, where it says which rows are train and which test."""
    if SPLIT in (target, *(wanted.input or ())):
        return None
    words = {str(row.get(SPLIT)).strip().casefold() for _, row in table.rows}
    has_both = words & set(POOL_WORDS) and words & set(QUERY_WORDS)
    return SPLIT if has_both else None


def _target(table: Table, wanted: Columns, known: Sequence[str]) -> str:
    if wanted.target is not None:
        _check_known(table, "--target", wanted.target, known)
        return wanted.target
    if TARGET in known:
        return TARGET
    raise SpecError(
        f"{table.name}: which column is the gold answer? Name it with --target, and what is asked "
        f"with --input. It has {', '.join(known)}."
    )


def _inputs(wanted: Columns, others: Sequence[str | None], known: Sequence[str]) -> tuple[str, ...]:
    if wanted.input is not None:
        whole = ",".join(wanted.input)  # a name may hold commas
        is_one = whole in known and not set(wanted.input) <= set(known)
        return (whole,) if is_one else tuple(dict.fromkeys(wanted.input))
    if INPUT in known and INPUT not in others:
        return (INPUT,)
    # Without a name: the row numbers that pandas writes, which may tell the target of sorted rows.
    named = [column for column in known if column and not column.startswith("Unnamed: ")]
    return tuple(column for column in named if column not in others)


def _check_known(table: Table, option: str, column: str, known: Sequence[str]) -> None:
    if column in known:
        return
    folded = {name.casefold(): name for name in known}
    same = folded.get(column.casefold())
    hint = f" Nearest: {same}." if same else nearest(column, known)
    raise SpecError(
        f"{table.name} has no column {column!r}, which {option} names; it has {', '.join(known)}."
        f"{hint}"
    )


def cell_text(value: Any) -> str | None:
    """Return what a cell says, as a text; None where it says nothing. Raises `DataError` for what
    is no text, number, date or truth value.
    """
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, Mapping | list | tuple | set | bytes) or hasattr(value, "tolist"):
        value = value.item() if getattr(value, "ndim", None) == 0 else value
        if isinstance(value, Mapping | list | tuple | set | bytes) or hasattr(value, "tolist"):
            raise DataError(f"{shown(value)} is no text or number")
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return f"{value:.0f}"  # a column of whole numbers with a gap is one of floats
    return str(value).strip() or None


def texts_of(table: Table, column: str) -> list[str | None]:
    """Return what the cells of a column say. Raises `DataError` with the row."""
    found = []
    for where, row in table.rows:
        try:
            found.append(cell_text(row.get(column)))
        except DataError as error:
            raise DataError(
                f"{where}: column {column!r}: {error}. Name another column, or write its text out."
            ) from error
    return found


def targets_of(table: Table, column: str) -> list[str]:
    """Return the gold answers. Raises `DataError` where some are missing, with the first row."""
    found = texts_of(table, column)
    targets = [None if text in NO_VALUE else text for text in found]
    return list(_all_there(table, targets, "target", column))


def inputs_of(table: Table, columns: Sequence[str]) -> list[str]:
    """Return what is asked: a cell, or several in one line. Numbers alone stand as they are, else
    each cell behind its column's name; those that are empty are left out. Raises `DataError`.
    """
    cells = [texts_of(table, column) for column in columns]
    if len(columns) == 1:
        return list(_all_there(table, cells[0], "input", columns[0]))
    is_numeric = are_numbers(cells)
    lines: list[str | None] = []
    for row in zip(*cells, strict=True):
        parts = []
        for column, text in zip(columns, row, strict=True):
            if text is not None:
                parts.append(text if is_numeric else f"{column}: {text}")
        lines.append(", ".join(parts) or None)
    return list(_all_there(table, lines, "input", ", ".join(columns)))


def are_numbers(cells: Sequence[Sequence[str | None]]) -> bool:
    """Return whether all cells of all columns are numbers, none of them missing."""
    try:
        return all(text and math.isfinite(float(text)) for text in chain.from_iterable(cells))
    except ValueError:
        return False


def _all_there(table: Table, texts: Sequence[str | None], what: str, column: str) -> Iterator[str]:
    missing = [place for place, text in enumerate(texts) if text is None]
    if missing:
        where = table.rows[missing[0]][0]
        others = f"{len(missing) - 1:,} more of {len(texts):,} rows"
        more = f", as in {others}" if len(missing) > 1 else ""
        raise DataError(
            f"{where}: the {what} is missing (column {column!r}){more}. Fill it in, or "
            "take such rows out of the file."
        )
    yield from (text for text in texts if text is not None)


def ids_of(table: Table) -> list[str]:
    """Return the ids of rows: those of the column `id` where each row has one of its own, else
    "row-0", "row-1", …
    """
    numbers = [f"row-{number}" for number in range(len(table.rows))]
    if ID not in table.columns():
        return numbers
    own = texts_of(table, ID)
    return (
        [text for text in own if text] if None not in own and len(set(own)) == len(own) else numbers
    )


def examples_of(table: Table, chosen: Chosen) -> list[Example]:
    """Return the examples, in the order of the rows. Raises `DataError`."""
    targets = targets_of(table, chosen.target)
    inputs = inputs_of(table, chosen.input)
    groups: Sequence[str | None] = [None] * len(table.rows)
    if chosen.group is not None:
        groups = list(_all_there(table, texts_of(table, chosen.group), "group", chosen.group))
    found = []
    for id, text, target, group in zip(ids_of(table), inputs, targets, groups, strict=True):
        found.append(Example(id=id, input=text, target=target, cluster=group))
    return found
