"""Rows that are at hand already: lists, DataFrames, data sets of `datasets`.

In: what Python gives in the place of a source. Out: a source of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icl_harness.errors import DataError
from icl_harness.examples import Example, shown
from icl_harness.tasks.row_files import PlacedRow
from icl_harness.tasks.rows import MakeExample, build, checked
from icl_harness.tasks.tables import Table


@dataclass(frozen=True, kw_only=True)
class Given:
    """Rows or examples in the memory of this process; `name` begins the ids of those without."""

    items: tuple[Any, ...] = field(repr=False)
    name: str

    def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Return the examples, those made of rows and those given as such. Raises `DataError`."""
        found: list[Example] = []
        for number, item in enumerate(self.items):
            where = f"{self.name}, row {number}"
            if isinstance(item, Example):
                found.append(checked(item, where))
                continue
            if not isinstance(item, Mapping):
                raise DataError(
                    f"{where} is {shown(item)}; a row is a dict from column to value, or an"
                    " Example."
                )
            row = {str(column): value for column, value in item.items()}
            example = build(make, row, number, self.name, where)
            if example is not None:
                found.append(example)
        if not found:
            raise DataError(f"{self.name} holds no rows that become examples. It needs one.")
        return found

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


def are_rows(value: Any) -> bool:
    """Return whether a value of Python's is a table: a DataFrame, a data set of `datasets`, a list
    of dicts or of Examples.
    """
    if hasattr(value, "columns") or hasattr(value, "column_names"):
        return not isinstance(value, type)
    is_list = isinstance(value, list | tuple) and len(value) > 0
    return is_list and all(isinstance(item, Mapping | Example) for item in value)


def given_table(value: Any, name: str) -> Table:
    """Return the rows of a table of Python's with their places. Raises `DataError`."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        _refuse_twice([str(column) for column in value.columns], name)
    value = _records(value)
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise DataError(
            f"{name} is {shown(value)}; rows are a DataFrame, a data set, or a list of dicts or of"
            " Examples."
        )
    rows: list[PlacedRow] = []
    for number, item in enumerate(value):
        where = f"{name}, row {number}"
        if not isinstance(item, Mapping):
            raise DataError(f"{where} is {shown(item)}; a row is a dict from column to value.")
        rows.append((where, {str(column): cell for column, cell in item.items()}))
    return Table(name, rows)


def _records(value: Any) -> Any:
    """Return the rows of a DataFrame of pandas or polars, or of an Arrow table, as dicts; anything
    else as it is.
    """
    for method in ("to_dicts", "to_pylist"):
        if hasattr(value, method):
            return getattr(value, method)()
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return value.to_dict(orient="records")
    return value


def _refuse_twice(columns: list[str], name: str) -> None:
    for place, column in enumerate(columns):
        if column in columns[:place]:
            raise DataError(f"{name} has two columns called {column!r}. Rename one.")


def as_source(value: Any, name: str) -> Any:
    """Return a source of rows for a list, a DataFrame or a data set; anything else as it is."""
    if hasattr(value, "examples") or isinstance(value, str | bytes | Mapping):
        return value
    value = _records(value)
    return Given(items=tuple(value), name=name) if isinstance(value, Iterable) else value


def columns_of_examples(row: Any) -> Example:
    """Return the example of a row whose columns are named as an example's fields are."""
    choices = row.get("choices")
    return Example(
        id=row["id"],
        input=row["input"],
        target=row["target"],
        rationale=row.get("rationale"),
        choices=tuple(choices) if isinstance(choices, list | tuple) else (),
        cluster=row.get("cluster"),
    )
