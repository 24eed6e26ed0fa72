"""Rows: where the examples of a task come from.

In: a task's sources, `hub(…)` and `rows(…)`, and the folder given with --data. Out: checked
examples. With a folder, rows are read from DIR/<task>/<split>.jsonl, or another form of file
(row_files.py); without one, `hub` sources are loaded through `datasets`.

A row has its columns and an "id": its own id column, or "<split>-<row number>", counted from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

from icl_harness.errors import DataError, nearest
from icl_harness.examples import Example
from icl_harness.tasks.data_folder import LOCAL_FOLDER, task_at_work
from icl_harness.tasks.hub import Hub, hub_rows
from icl_harness.tasks.row_files import FORMS, PlacedRow, file_rows, find_files, instead_of

# What tables and programs write where there is no value. A label may be called so on purpose.
NO_VALUE = {"nan", "NaN", "NAN", "null", "NULL", "<NA>", "NaT"}


class LackingColumn(KeyError):
    """A row lacks a column that the task reads."""


class Row(dict[str, Any]):
    """One row by column name. A column that is not there ends in a `DataError` that lists those
    that are. `place` is "<split>-<row number>", for rows whose own ids are not unique.
    """

    place: str = ""

    def __missing__(self, column: str) -> NoReturn:
        raise LackingColumn(repr(column))

    def first(self, *columns: str) -> Any:
        """Return the first of these columns that the row has: hub copies of one set name them
        differently.
        """
        for column in columns:
            if column in self:
                return self[column]
        raise LackingColumn(" or ".join(map(repr, columns)))


MakeExample = Callable[[Row], Example | None]


@runtime_checkable
class Source(Protocol):
    """A place that examples come from."""

    def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Return the examples that `make` builds of the rows, in order, without those it answers
        None for.
        """


# The numbers of rows, from 0, given the folder of --data.
RowNumbers = Callable[[Path | None], Collection[int]]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one split, from `hub` or from the file DIR/<local>.*; `local` is "<task>/<split>"
    unless given. Of these the `first` so many, or `only` those with certain numbers, from 0.
    """

    split: str
    local: str | None = None
    hub: Hub | None = None
    first: int | None = None
    only: RowNumbers | None = None
    ids: str | None = None  # what begins a row's place: the split unless given

    def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Read all rows and build their examples. Raises `DataError`."""
        found, whole = self._read(task, data)
        chosen = self._chosen(found, whole, data)
        examples = [build(make, raw, n, self._ids, where) for n, (where, raw) in chosen]
        kept = [example for example in examples if example is not None]
        if not kept:
            which = "rows that become examples" if examples else "rows"
            raise DataError(f"{whole} holds no {which}. It needs at least one.")
        return kept

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows: in a task's code those of the task, from the folder of --data."""
        task, data = task_at_work()
        if not task and self.local is None and not (self.hub and data is None):
            raise DataError(
                f"rows({self.split!r}) belongs to no task here. Name its file, as in "
                f"rows({self.split!r}, 'parcels/{self.split}')."
            )
        for number, (_, raw) in self._chosen(*self._read(task, data), data):
            yield numbered(raw, number, self._ids)

    @property
    def _ids(self) -> str:
        return self.ids or self.split

    def _chosen(
        self, found: Iterable[PlacedRow], whole: str, data: Path | None
    ) -> Iterator[tuple[int, PlacedRow]]:
        """Yield the rows that are taken, under their numbers. Raises `DataError` where there are
        fewer rows than `only` names.
        """
        only = None if self.only is None else frozenset(self.only(data))
        number = -1
        for number, placed in enumerate(found):
            if number == self.first:
                return
            if only is None or number in only:
                yield number, placed
        last = max(only or (), default=-1)
        if last > number:
            raise DataError(
                f"{whole} has {number + 1:,} rows; the list of test rows names row {last:,}. It "
                "belongs to another edition of the data set."
            )

    def _read(self, task: str, data: Path | None) -> tuple[Iterable[PlacedRow], str]:
        """Return the rows with their places, and what holds them."""
        if self.hub and data is None:
            return hub_rows(self.hub, self.split), self.hub.id
        path = self._file(task, data)
        return file_rows(path), str(path)

    def _file(self, task: str, data: Path | None) -> Path:
        folder = data or LOCAL_FOLDER
        base = self.local or f"{task}/{self.split}"
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else "does not exist"
            raise DataError(
                f"data folder {folder} {what}. Task {task} needs {base}.jsonl or .csv in it."
            )
        files = find_files(folder, base)
        if len(files) > 1:
            raise DataError(
                f"{folder / base}: both {files[0].name} and {files[1].name} are there. Keep one."
            )
        if not files:
            other = f", or leave out --data to load {self.hub.id} from the hub" if self.hub else ""
            raise DataError(
                f"data file {folder / base}.jsonl (or {FORMS}) is missing. Put it "
                f"there{other}.{instead_of(folder, base)}"
            )
        return files[0]


def hub(
    id: str,
    config: str | tuple[str, ...] | None = None,
    *,
    split: str,
    revision: str | None = None,
    data_dir: str | None = None,
    local: str | None = None,
    first: int | None = None,
    only: RowNumbers | None = None,
    ids: str | None = None,
) -> Rows:
    """Rows of a hub data set, or of DIR/<local>.* when a data folder is given (`local`:
    "<task>/<split>"). Several configs are read one after the other. `first` takes so many rows,
    `only` those whose numbers, counted from 0, it returns when given the folder of --data. `ids`
    begins the ids of rows without one: the split unless given.
    """
    return Rows(
        split=split,
        local=local,
        hub=Hub(id=id, config=config, revision=revision, data_dir=data_dir),
        first=first,
        only=only,
        ids=ids,
    )


def rows(split: str, local: str | None = None, *, first: int | None = None) -> Rows:
    """Rows of one's own: DIR/<task>/<split>.jsonl, .json, .csv, .tsv or .parquet; DIR is the data
    folder, or ./data where none is given. `first` takes so many of them. A task's code may also go
    through them, row by row.
    """
    return Rows(split=split, local=local, first=first)


def numbered(raw: dict[str, Any], number: int, split: str) -> Row:
    """Return a row with an id: its own, or one made of the split and its number."""
    row = Row(raw)
    row.place = f"{split}-{number}"
    if is_missing(row.get("id")) or row["id"] == "":
        row["id"] = row.place
    return row


def build(
    make: MakeExample, raw: dict[str, Any], number: int, split: str, where: str
) -> Example | None:
    """Return the example that `make` builds of a row; None where it leaves it out. Raises
    `DataError` in one line that names the row.
    """
    row = numbered(raw, number, split)
    try:
        example = make(row)
    except LackingColumn as error:
        raise DataError(_lacking(error, raw, where)) from error
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except Exception as error:
        # The function is the task author's: whatever it raises is reported with its row.
        raise DataError(
            f"{where}: the task cannot make an example of it: {short(error)}."
        ) from error
    if example is None:
        return None
    if not isinstance(example, Example):
        kind = type(example).__name__
        raise DataError(f"{where}: the task's example returns a {kind}, not an Example or None.")
    _refuse_missing(example, raw, where)
    return checked(example, where)


def _lacking(error: LackingColumn, raw: dict[str, Any], where: str) -> str:
    """Return what to say of a row that lacks a column: what it has, and what may be meant."""
    wanted = error.args[0]
    hint = nearest(wanted.strip("'").casefold(), {name.casefold() for name in raw})
    if hint:
        alike = [name for name in raw if f" {name.casefold()}" in hint.replace(".", ",")]
        hint = f" Nearest: {alike[0]}." if alike else hint
    elif "line 2" in where:
        hint = " The first line of a table names its columns: does this one?"
    return f"{where}: there is no column {wanted}; it has {', '.join(raw)}.{hint}"


def is_missing(value: object) -> bool:
    """Return whether a value is one of those by which tables say that there is none: None, NaN,
    pandas' NA and NaT.
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    try:
        return math.isnan(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def _refuse_missing(example: Example, raw: dict[str, Any], where: str) -> None:
    """Refuse the text of a missing value, which `str(row["label"])` makes of one: "nan"."""
    for column, value in raw.items():
        if not isinstance(value, str) and is_missing(value):
            for name in ("input", "target"):
                if getattr(example, name).strip() == str(value):
                    raise DataError(
                        f"{where}: the {name} is missing: column {column!r} holds {value}. Fill "
                        "it in, or let the task return None for such rows."
                    )


def short(error: Exception) -> str:
    """Return the type and message of an error of someone else's code, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")


def checked(example: Example, where: str) -> Example:
    """Return the example without outer white space, as templates set their own; or raise."""
    texts: dict[str, Any] = {
        "id": example.id.strip(),
        "input": example.input.strip(),
        "target": example.target.strip(),
    }
    if example.rationale is not None:
        texts["rationale"] = example.rationale.strip()
    for name, text in texts.items():
        if not text:
            raise DataError(f"{where}: the {name} is empty.")
    return replace(example, **texts)
