"""The tables of curves and of differences, as a terminal shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_harness.analysis.bands import left_out, limits_of
from icl_harness.analysis.curves import unusual_format
from icl_harness.cli.metric_notes import metric_notes
from icl_harness.cli.notes import (
    bank_notes,
    curve_notes,
    lacking_notes,
    unfinished_note,
    unpriced_notes,
)
from icl_harness.cli.terminal import add_row, new_table, print_tables, tell
from icl_harness.tasks.metrics import with_unit

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from icl_harness.report.records import Records
    from icl_harness.report.run import Run

USUAL = {"variant": "default", "format": "text", "queries_per_request": 1}


def print_curves(runs: Sequence[Run], frame: pd.DataFrame, records: Records) -> None:
    """Print the table of runs that are read together, and what its reader must know."""
    if frame.empty:
        tell("no answers yet")
    print_tables(curve_tables(frame, [one.path for one in runs]))
    for note in notes_of(runs, frame, records):
        tell(note)


def notes_of(runs: Sequence[Run], frame: pd.DataFrame, records: Records) -> list[str]:
    """Return what the reader of a table of curves must know."""
    notes: list[str] = []
    for one in runs:
        notes += bank_notes(one.path, one.header)
    notes += curve_notes(frame, records.common_errors() if frame["n_failed"].any() else {})
    notes += lacking_notes(frame)
    notes += metric_notes(frame, records)
    notes += unpriced_notes([one.header for one in runs], frame)
    notes += unfinished_note([one.header for one in runs], records.count())
    return notes


def curve_tables(curves: pd.DataFrame, folders: Sequence[Path]) -> Iterator[Table]:
    """Yield the tables of curves as a terminal shows them."""
    for title, heading, rows in curve_texts(curves, folders):
        table = new_table(title, heading=heading, right=[0])
        for row in rows:
            add_row(table, *row)
        yield table


def curve_texts(
    curves: pd.DataFrame, folders: Sequence[Path]
) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yield title, heading and rows of a table per task, model and format: a row per shot count, a
    column per mode.

    The reinforced column says how many problems of its banks in the run `folders` are solved, as
    that caps its shots.
    """
    names = ["task", "variant", "format", "queries_per_request", "model"]
    for _, part in curves.groupby(names, sort=False):
        first = part.iloc[0].to_dict()
        modes = list(part.groupby("mode", sort=False))
        heading = ["shots"]
        for mode, _ in modes:
            solved_of = _solved(folders, first) if mode == "reinforced" else ""
            heading.append(f"{mode}{solved_of}")
        title = (
            f"{_where(first)} · {first['model']} · {with_unit(first['metric'])} {_covered(part)}"
        )
        rows = []
        for shots in sorted(part["shots"].unique()):
            points = [_point(line[line["shots"] == shots]) for _, line in modes]
            rows.append([str(shots), *points])
        yield title, heading, rows


def _covered(points: pd.DataFrame) -> str:
    """Return what the intervals in brackets are, and which chance they leave out."""
    what = "95 % interval" if "band_low" not in points else "95 % band of the whole curve"
    return f"[{what}{left_out(points)}]"


def _where(row: Mapping[Any, Any]) -> str:
    """Return the task, its variant and its format, where they are not the usual ones."""
    names = [row["task"], row["variant"], *unusual_format(row)]
    return ", ".join(str(name) for name in names if name != "default")


def _solved(folders: Sequence[Path], row: Mapping[Any, Any]) -> str:
    from icl_harness.prompts.variants import parse_variant
    from icl_harness.runner.banks import solved

    names = [str(row[name]) for name in ("task", "variant", "model")]
    counts = [solved(folder, *names) for folder in folders]
    n_solved, n_tried = (sum(count) for count in zip(*counts, strict=True))
    what = "solved" if parse_variant(names[1]).rationale is None else "to show"
    return f"\n{n_solved} of {n_tried} {what}" if n_tried else ""


def _point(rows: pd.DataFrame) -> str:
    """Return `.713 [.680, .745]`, or a dash where nothing was answered."""
    if rows.empty or rows["value"].isna().all():
        return "-"
    value, low, high = (_number(rows[name].iloc[0]) for name in ("value", *limits_of(rows)))
    return f"{value} [{low}, {high}]"


def _number(value: float, sign: str = "") -> str:
    """Return `.713`, or with the sign `+` `+.713`; a dash where it is not known."""
    if math.isnan(value):
        return "-"
    text = f"{value:{sign}.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def difference_tables(found: pd.DataFrame) -> Iterator[Table]:
    """Yield a table for every two values that were compared, all else equal: a row per shot count.
    Where shot counts were compared, a row per pair of them.
    """
    by = "by" if found.empty else str(found["by"].iloc[0])
    names = ["task", "variant", "format", "queries_per_request", "model", "mode", "metric"]
    if by != "shots":
        names = [*(name for name in names if name != by), "a", "b"]
    for _, part in found.groupby(names, sort=False, dropna=False):
        heading = ["shots", "difference", "p", _holm(part), "pairs", "draws", "queries"]
        table = new_table(
            _difference_title(part.iloc[0].to_dict(), by), heading=heading, right=[0, *range(2, 7)]
        )
        for row in part.to_dict("records"):
            add_row(table, *_difference(row, by))
        yield table


def _holm(part: pd.DataFrame) -> str:
    """Return the heading of Holm's p-values, which says of how many where the table shows fewer."""
    n_family = part["n_family"].max()
    return "p (Holm)" if n_family <= part["p_value"].notna().sum() else f"p (Holm of {n_family})"


def difference_notes(found: pd.DataFrame) -> Iterator[str]:
    """Yield why some differences have no p-value or no interval."""
    without = found[found["p_value"].isna()]
    same = without[without["ci_low"].isna() & (without["a_shots_used"] == without["b_shots_used"])]
    for row in same.to_dict("records"):
        used = f"both held {row['b_shots_used']:.4g} shots"
        yield f"{_where({**USUAL, **row})}: {row['b']} and {row['a']} shots: {used}, not compared"
    if (without["n_draws"].eq(1) & without["ci_low"].notna()).any():
        yield (
            "one draw: the intervals are over queries alone, and there is no p-value, as other "
            "draws of the shots may differ; --draws 3 or more tells"
        )


def _difference_title(row: Mapping[Any, Any], by: str) -> str:
    row = {**USUAL, **row}  # what is compared has no column of its own
    which = [str(row[name]) for name in ("model", "mode") if name != by]
    what = "differences between shot counts" if by == "shots" else f"{row['b']} - {row['a']}"
    return " · ".join([_where(row), *which, f"{with_unit(row['metric'])}: {what} [95 % interval]"])


def _difference(row: Mapping[Any, Any], by: str) -> Iterator[str]:
    sides = [
        _shots(row[side] if by == "shots" else row["shots"], row[f"{side}_shots_used"])
        for side in ("b", "a")
    ]
    yield " - ".join(sides if by == "shots" else dict.fromkeys(sides))
    value, low, high = (_number(row[name], "+") for name in ("b_minus_a", "ci_low", "ci_high"))
    yield f"{value} [{low}, {high}]" if row["ci_low"] == row["ci_low"] else "-"
    yield _p_value(row["p_value"])
    yield _p_value(row["p_holm"])
    for name in ("n_pairs", "n_draws", "n_queries"):
        yield f"{row[name]:,}"


def _shots(asked: int, used: float) -> str:
    """Return a shot count, with how many the prompts held where that is another number."""
    return str(asked) if used == asked else f"{asked} ({used:.4g} used)"


def _p_value(p: float) -> str:
    if math.isnan(p):
        return "-"
    return "<.001" if p < 0.0005 else _number(p)
