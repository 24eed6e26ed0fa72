"""What goes to the terminal: lines and Rich tables.

Tables are as wide as what they hold. A narrower terminal wraps their lines, so no number is cut
off; a file or a pipe gets every line whole.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

HELD = "\N{NO-BREAK SPACE}"  # holds together what is one command; printed as a space
UNLIMITED = 10_000  # columns


def tell(text: str) -> None:
    """Print a line. A narrower terminal gets it folded at words."""
    if sys.stdout.isatty():
        text = textwrap.fill(
            text, shutil.get_terminal_size().columns, subsequent_indent="  ", break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip
    typer.echo(text.replace(HELD, " "))  # at once, so that a reader who has had enough is noticed


def new_table(title: str = "", *, heading: Iterable[str] = (), right: Collection[int] = ()) -> Table:
    """Return an empty table; the numbers in its columns `right` end together."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title) or None, title_justify="left", title_style="bold", header_style="bold",
        box=None, pad_edge=False,
    )  # fmt: skip
    for i, name in enumerate(heading):
        table.add_column(escape(name), justify="right" if i in right else "left")
    return table


def add_row(table: Table, *cells: str, style: str | None = None) -> None:
    """Add a row of texts as they are: square brackets in them are no markup."""
    from rich.markup import escape

    table.add_row(*map(escape, cells), style=style)


def rows_table(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[Table]:
    """Return a heading and its rows as a table, or none where there is no row."""
    if not rows:
        return []
    heading, *others = rows
    table = new_table(heading=heading, right=right)
    for row in others:
        add_row(table, *row)
    return [table]


def print_tables(tables: Iterable[Table], *, fold: bool = False) -> None:
    """Print tables, each with an empty line after it. `fold`: a terminal that is narrower gets the
    texts in the cells folded.
    """
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    shown = console.width
    is_terminal = console.is_terminal
    console.width = UNLIMITED
    for table in tables:
        width = Measurement.get(console, console.options, table).maximum
        if fold and is_terminal:
            width = min(width, shown)
        console.print(table, width=width, soft_wrap=True)
        console.print()
