"""Rows: where the examples of a task come from.

In: a task's sources, `hub(…)` and `rows(…)`, and the folder given with --data. Out: checked
examples. With a folder, rows are read from DIR/<task>/<split>.jsonl, .jsonl.gz or .csv; without
one, `hub` sources are loaded through `datasets`.

A row has its columns and an "id": its own id column, or "<split>-<row number>", counted from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

from icl_harness.errors import DataError
from icl_harness.examples import Example
from icl_harness.tasks.hub import Hub, hub_rows
from icl_harness.tasks.row_files import file_rows, find_files

LOCAL_FOLDER = Path("data")  # where `rows` looks when no folder is given


class LackingColumn(KeyError):
    """A row lacks a column that the task reads."""


class Row(dict[str, Any]):
    """One row by column name. A column that is not there ends in a `DataError` that lists those
    that are.
    """

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


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one split, from `hub` or from the file DIR/<local>.*; `local` is "<task>/<split>"
    unless given.
    """

    split: str
    local: str | None = None
    hub: Hub | None = None

    def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Read all rows and build their examples. Raises `DataError`."""
        if self.hub and data is None:
            found: Iterable[tuple[str, dict[str, Any]]] = hub_rows(self.hub, self.split)
            whole = self.hub.id
        else:
            path = self._file(task, data)
            found, whole = file_rows(path), str(path)
        examples = [_build(make, raw, n, self.split, where) for n, (where, raw) in enumerate(found)]
        kept = [example for example in examples if example is not None]
        if not kept:
            which = "rows that become examples" if examples else "rows"
            raise DataError(f"{whole} holds no {which}. It needs at least one.")
        return kept

    def _file(self, task: str, data: Path | None) -> Path:
        folder = data or LOCAL_FOLDER
        base = self.local or f"{task}/{self.split}"
        if not folder.is_dir():
            raise DataError(
                f"data folder {folder} does not exist. Task {task} needs {base}.jsonl or .csv in "
                "it."
            )
        files = find_files(folder, base)
        if len(files) > 1:
            raise DataError(
                f"{folder / base}: both {files[0].name} and {files[1].name} are there. Keep one."
            )
        if not files:
            other = f", or leave out --data to load {self.hub.id} from the hub" if self.hub else ""
            raise DataError(
                f"data file {folder / base}.jsonl (or .csv, .jsonl.gz) is missing. Put it "
                f"there{other}."
            )
        return files[0]


def hub(
    id: str,
    config: str | None = None,
    *,
    split: str,
    revision: str | None = None,
    data_dir: str | None = None,
    local: str | None = None,
) -> Rows:
    """Rows of a hub data set, or of DIR/<local>.* when a data folder is given (`local`:
    "<task>/<split>").
    """
    return Rows(
        split=split,
        local=local,
        hub=Hub(id=id, config=config, revision=revision, data_dir=data_dir),
    )


def rows(split: str, local: str | None = None) -> Rows:
    """Rows of one's own: DIR/<task>/<split>.jsonl or .csv; DIR is the data folder, or ./data where
    none is given.
    """
    return Rows(split=split, local=local)


def _build(
    make: MakeExample, raw: dict[str, Any], number: int, split: str, where: str
) -> Example | None:
    row = Row(raw)
    if row.get("id") in (None, ""):
        row["id"] = f"{split}-{number}"
    try:
        example = make(row)
    except LackingColumn as error:
        raise DataError(
            f"{where}: there is no column {error.args[0]}; it has {', '.join(raw)}."
        ) from error
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except Exception as error:
        # The function is the task author's: whatever it raises is reported with its row.
        raise DataError(
            f"{where}: the task cannot make an example of it: {short(error)}."
        ) from error
    return example and _checked(example, where)


def short(error: Exception) -> str:
    """Return the type and message of an error of someone else's code, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")


def _checked(example: Example, where: str) -> Example:
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
