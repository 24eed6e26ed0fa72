"""Tables: each row a problem, one column the answer, all others the input.

In: a file of rows, DIR/<folder>/<name>.csv or another form of it, and a column. Out: pool and
queries: the rows that a column `split` calls train and test, else four fifths and the fifth that a
fixed seed holds out, of at most 10,000 rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.tasks.holdout import holdout
from icl_harness.tasks.rows import MakeExample, Row, Rows, is_missing

SPLIT, ID = "split", "id"
N_QUERIES, N_POOL = 2000, 8000


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file of rows. `target` is the column to predict: the last one, unless named."""

    folder: str
    name: str
    target: str | None = None

    @property
    def pool(self) -> Side:
        """What shots are drawn from."""
        return Side(table=self, split="train")

    @property
    def queries(self) -> Side:
        """What is asked."""
        return Side(table=self, split="test")

    @property
    def answer(self) -> str:
        """What prompts call the answer."""
        return self.target or "Answer"

    def example(self, row: Row) -> Example:
        """Return the example of a row: its other columns by name. Raises `DataError` where the
        target is missing.
        """
        columns = [column for column in row if column not in (SPLIT, ID)]
        target = self.target or columns[-1]
        gold = row[target]
        cells = [f"{name}: {_cell(row[name])}" for name in columns if name != target]
        return Example(
            id=row.place,
            input=", ".join(cells),
            target="" if is_missing(gold) else str(gold),
        )


def table(folder: str, name: str, targets: dict[str, str] | None = None) -> Table:
    """Return the table DIR/<folder>/<name>, of which `targets` may know the column to predict; of
    "<name>:<column>" that column. Raises `SpecError` for what is no file's name.
    """
    file, _, column = name.partition(":")
    if not re.fullmatch(r"[\w-][\w.-]*", file):
        raise SpecError(
            f"{file!r} is no name of a file in {folder}/ of the data folder, without its ending."
        )
    return Table(folder=folder, name=file, target=column or (targets or {}).get(file))


@dataclass(frozen=True, kw_only=True)
class Side:
    """The pool or the queries of a table."""

    table: Table
    split: str

    def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Return the examples of this side, in order. Raises `DataError`."""
        rows = Rows(split=self.table.name, local=f"{self.table.folder}/{self.table.name}")
        splits: set[str] = set()

        def of_side(row: Row) -> Example | None:
            splits.add(str(row.get(SPLIT, "")))
            return make(row) if row.get(SPLIT, self.split) == self.split else None

        found = rows.examples(of_side, task, data)
        if splits != {""}:
            return found
        pool, queries = holdout(rows, queries=N_QUERIES, pool=N_POOL)
        side = pool if self.split == "train" else queries
        return side.examples(make, task, data)


def _cell(value: object) -> str:
    text = "" if is_missing(value) else " ".join(str(value).split())
    return text or "missing"
