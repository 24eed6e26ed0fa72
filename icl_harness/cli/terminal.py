"""What goes to the terminal: lines and Rich tables.

Tables are as wide as what they hold. A narrower terminal wraps their lines, so no number is cut
off; a file or a pipe gets every line whole. Tables of texts are folded.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import typer

from icl_harness.printable import visible

if TYPE_CHECKING:
    from rich.table import Table

HELD = "\N{NO-BREAK SPACE}"  # holds together what is one command; printed as a space
UNLIMITED = 10_000  # columns
PAGE = 100  # columns of a file or a pipe, where texts are folded


def tell(text: str) -> None:
    """Print a line. A narrower terminal gets it folded at words."""
    text = visible(text)
    if sys.stdout.isatty():
        text = textwrap.fill(
            text, shutil.get_terminal_size().columns, subsequent_indent="  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    typer.echo(text.replace(HELD, " "))  # at once, so that a reader who has had enough is noticed


def new_table(
    title: str = "", *, heading: Iterable[str] = (), right: Collection[int] = ()
) -> Table:
    """Return an empty table; the numbers in its columns `right` end together."""
    from rich.markup import escape
    from rich.table import Table

    shown = escape(visible(title)) or None
    table = Table(
        title=shown, title_justify="left", title_style="bold", header_style="bold",
        box=None, pad_edge=False,
    )  # fmt: skip
    for i, name in enumerate(heading):
        justify: Literal["right", "left"] = "right" if i in right else "left"
        table.add_column(escape(name), justify=justify, overflow="fold", no_wrap=i == 0)
    return table


def add_row(table: Table, *cells: str, style: str | None = None) -> None:
    """Add a row of texts as they are: square brackets in them are no markup."""
    from rich.markup import escape

    table.add_row(*(escape(visible(cell)) for cell in cells), style=style)


def print_tables(tables: Iterable[Table]) -> None:
    """Print tables, each with an empty line after it."""
    for table in tables:
        _print(table, fold=False)
        typer.echo()


def print_rows(
    rows: Sequence[Sequence[str]], *, right: Collection[int] = (), fold: bool = False
) -> None:
    """Print a heading and its rows as a table; nothing where there are none. `fold`: the texts in
    the cells are folded to the width of the terminal, or of a page where there is none.
    """
    if rows:
        heading, *others = rows
        table = new_table(heading=heading, right=right)
        for row in others:
            add_row(table, *row)
        _print(table, fold=fold)


def _print(table: Table, *, fold: bool) -> None:
    from rich.console import Console
    from rich.measure import Measurement

    class PipeConsole(Console):
        """A console whose reader may have read enough: its own would end the program with 1."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = PipeConsole()
    shown = console.width
    console.width = UNLIMITED
    width = Measurement.get(console, console.options, table).maximum
    if fold:
        width = min(width, shown if console.is_terminal else PAGE)
    console.print(table, width=width, soft_wrap=True)
