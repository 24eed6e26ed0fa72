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
from icl_harness.tasks.rows import MakeExample, build, checked


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


def as_source(value: Any, name: str) -> Any:
    """Return a source of rows for a list, a DataFrame or a data set; anything else as it is."""
    if hasattr(value, "examples") or isinstance(value, str | bytes | Mapping):
        return value
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # a DataFrame
        return Given(items=tuple(value.to_dict(orient="records")), name=name)
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
