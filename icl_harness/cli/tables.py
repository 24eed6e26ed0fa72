"""The tables of curves and of differences, as a terminal shows them."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from icl_harness.analysis.curves import asked_how
from icl_harness.runner.banks import solved

if TYPE_CHECKING:
    import pandas as pd
from icl_harness.cli.notes import bank_notes, common_errors, curve_notes, unfinished_note

TABLE_WIDTH = 110  # of a table of many columns, at least


HELD = "\N{NO-BREAK SPACE}"  # holds together what is one command; printed as a space


def tell(text: str, indent: str = "  ") -> None:
    """Print a line. A terminal that is narrower gets it folded at words; a file or a pipe gets it
    whole.
    """
    if sys.stdout.isatty():
        text = textwrap.fill(
            text, shutil.get_terminal_size().columns, subsequent_indent=indent, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip
    typer.echo(text.replace(HELD, " "))  # at once, so that a reader who has had enough is noticed


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Yield a line per row, its columns as wide as their longest text; those in `right` end where
    it ends.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        yield "  ".join(
            text.rjust(width) if i in right else text.ljust(width) for i, (text, width) in cells
        ).rstrip()


def print_tables(tables: Iterable[Any]) -> None:
    """Print Rich tables. A terminal that is narrower wraps their lines: no number is cut off."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    console.width = max(console.width, TABLE_WIDTH)
    for table in tables:
        console.print(table)
        console.print()


def print_curves(runs: Sequence[Any], frame: pd.DataFrame, records: pd.DataFrame) -> None:
    """Print the table of runs that are read together, and what its reader must know."""
    if frame.empty:
        tell("no answers yet")
    print_tables(curve_tables(frame, [one.path for one in runs]))
    notes = [note for one in runs for note in bank_notes(one.path, one.header)]
    notes += curve_notes(frame, common_errors(records))
    for note in (*notes, *unfinished_note([one.header for one in runs], len(records))):
        tell(note)


def curve_tables(curves: pd.DataFrame, folders: Sequence[Path]) -> Iterator[Any]:
    """Yield a Rich table per task, model and way of asking: a row per shot count, a column per
    mode. The reinforced column says how many problems of its banks in the run `folders` are solved,
    as that caps its shots.
    """
    from rich.markup import escape
    from rich.table import Table

    for (task, variant, _, _, model), part in curves.groupby(
        ["task", "variant", "format", "queries_per_request", "model"], sort=False
    ):
        how = "".join(
            f", {name}" for name in [variant, *asked_how(part.iloc[0])] if name != "default"
        )
        title = escape(f"{task}{how} · {model} · {part['metric'].iloc[0]}") + " \\[95 % interval]"
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        table.add_column("shots", justify="right")
        modes = list(part.groupby("mode", sort=False))
        for mode, _ in modes:
            table.add_column(
                str(mode)
                + (
                    _solved(folders, str(task), str(variant), str(model))
                    if mode == "reinforced"
                    else ""
                )
            )
        for shots in sorted(part["shots"].unique()):
            table.add_row(str(shots), *[_point(line[line["shots"] == shots]) for _, line in modes])
        yield table


def _solved(folders: Sequence[Path], task: str, variant: str, model: str) -> str:
    counts = [solved(folder, task, variant, model) for folder in folders]
    n_solved, n_tried = (sum(count) for count in zip(*counts, strict=True))
    return f"\n{n_solved} of {n_tried} solved" if n_tried else ""


def _point(rows: pd.DataFrame) -> str:
    """Return `.713 [.680, .745]`, or a dash where nothing was answered."""
    if rows.empty or rows["value"].isna().all():
        return "-"
    value, low, high = (_number(rows[name].iloc[0]) for name in ("value", "ci_low", "ci_high"))
    return f"{value} [{low}, {high}]"


def _number(value: float, sign: str = "") -> str:
    """Return `.713`, or with the sign `+` `+.713`."""
    text = f"{value:{sign}.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def difference_tables(found: pd.DataFrame) -> Iterator[Any]:
    """Yield a Rich table for every two values that were compared, all else equal: a row per shot
    count. Where shot counts were compared, a row per pair of them.
    """
    from rich.markup import escape
    from rich.table import Table

    by = "by" if found.empty else str(found["by"].iloc[0])
    names = ["task", "variant", "format", "queries_per_request", "model", "mode", "metric"]
    if by != "shots":
        names = [*(name for name in names if name != by), "a", "b"]
    for _, part in found.groupby(names, sort=False, dropna=False):
        first = {"variant": "default", "format": "text", "queries_per_request": 1, **part.iloc[0]}
        how = "".join(
            f", {name}" for name in [first["variant"], *asked_how(first)] if name != "default"
        )
        which = [str(first[name]) for name in ("model", "mode") if name != by]
        what = (
            "differences between shot counts" if by == "shots" else f"{first['b']} - {first['a']}"
        )
        title = " · ".join([f"{first['task']}{how}", *which, f"{first['metric']}: {what}"])
        table = Table(
            title=escape(title) + " \\[95 % interval]", title_justify="left", title_style="bold"
        )
        table.box, table.pad_edge = None, False
        table.add_column("shots", justify="right")
        table.add_column("difference")
        for name in ("p", "p (Holm)", "pairs", "draws", "queries"):
            table.add_column(name, justify="right")
        for row in part.to_dict("records"):
            table.add_row(*_difference(row, by))
        yield table


def _difference(row: Mapping[Any, Any], by: str) -> Iterator[str]:
    yield f"{row['b']} - {row['a']}" if by == "shots" else str(row["shots"])
    value, low, high = (_number(row[name], "+") for name in ("b_minus_a", "ci_low", "ci_high"))
    yield f"{value} [{low}, {high}]"
    for name in ("p_value", "p_holm"):
        yield (
            "-" if math.isnan(row[name]) else "<.001" if row[name] < 0.0005 else _number(row[name])
        )
    for name in ("n_pairs", "n_draws", "n_queries"):
        yield f"{row[name]:,}"
