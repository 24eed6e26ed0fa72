"""Tables as text: commas, semicolons, tabs or bars between their columns, which is found out.

In: a file's text. Out: each row with its place. Of the dialects that the header can be read in, the
first is taken in which all rows have as many cells as the header. (`csv.Sniffer` guesses by the
letters that are most regular, which in a column of sentences may be a space or an "e".)
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from icl_harness.errors import DataError

_SAID = re.compile(r"sep=(.)\r?\n")  # how Excel notes the separator in a first line


class Dialect(NamedTuple):
    """What stands between cells, and whether quotes may hold it."""

    separator: str
    quoted: bool = True


TABS = (Dialect("\t"), Dialect("\t", quoted=False))  # where tabs separate, many quote nothing
DIALECTS = (Dialect(","), Dialect(";"), *TABS, Dialect("|"))


class _Table(NamedTuple):
    path: Path
    text: str
    n_skipped: int = 0  # lines before the header

    def lines(self, dialect: Dialect) -> Iterator[tuple[str, list[str]]]:
        """Yield (place, cells) of the lines that are not empty; within quotes no line ends."""
        reader = csv.reader(
            io.StringIO(self.text, newline=""),
            strict=True,
            delimiter=dialect.separator,
            quoting=csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE,
            skipinitialspace=True,
        )
        where = self._place(1)
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield where, cells
                where = self._place(reader.line_num + 1)
        except csv.Error as error:
            remedy = "Quote cells that hold commas, quotes or line breaks."
            raise DataError(f"{where}: {error}. {remedy}") from error

    def _place(self, line: int) -> str:
        return f"{self.path}, line {line + self.n_skipped}"

    def rows(self, dialect: Dialect) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (place, row)."""
        header: list[str] | None = None
        for where, cells in self.lines(dialect):
            if header is None:
                header = _header(cells, where)
            else:
                yield where, dict(zip(header, _as_many(cells, header, where), strict=True))

    def n_columns(self, dialect: Dialect) -> int:
        """Return how many columns the header names; 0 where it cannot be read so."""
        try:
            first = next(self.lines(dialect), None)
        except DataError:
            return 0
        return 0 if first is None else len(first[1])

    def fits(self, dialect: Dialect) -> bool:
        """Return whether all rows can be read so."""
        try:
            for _ in self.rows(dialect):
                pass
        except DataError:
            return False
        return True


def csv_rows(path: Path, text: str, separator: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, row) of a table; `separator`: None where it is to be found out. Raises
    `DataError` with file, line and column.
    """
    csv.field_size_limit(2**31 - 1)  # long documents are one cell
    table = _Table(path, text)
    said = _SAID.match(text)
    if said is not None:
        table, separator = _Table(path, text[said.end() :], 1), said[1]
    yield from table.rows(_dialect(table, separator))


def _dialect(table: _Table, separator: str | None) -> Dialect:
    known: tuple[Dialect, ...] = DIALECTS
    if separator is not None:
        known = TABS if separator == "\t" else (Dialect(separator),)
    several = [dialect for dialect in known if table.n_columns(dialect) > 1]
    if len(several) > 1:
        fitting = [dialect for dialect in several if table.fits(dialect)]
        several = fitting or sorted(several, key=table.n_columns, reverse=True)
    return several[0] if several else known[0]


def _header(cells: list[str], where: str) -> list[str]:
    """Return the names of the columns, without empty ones at the end, which stray separators
    make.
    """
    header = [cell.strip() for cell in cells]
    while len(header) > 1 and not header[-1]:
        header.pop()
    if len(set(header)) < len(header):
        raise DataError(f"{where}: the header names a column twice ({', '.join(header)}).")
    return header


def _as_many(cells: list[str], header: list[str], where: str) -> list[str]:
    """Return as many cells as the header names; empty ones beyond these are dropped."""
    beyond = cells[len(header) :]
    if len(cells) < len(header) or any(cell.strip() for cell in beyond):
        where = f"{where}, column {min(len(cells), len(header)) + 1}"
        raise DataError(
            f"{where}: {len(cells)} cells where the header has {len(header)}. Quote cells that "
            "hold what separates cells."
        )
    return cells[: len(header)]
