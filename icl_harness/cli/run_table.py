"""The table of `icl runs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from icl_harness.cli.notes import HALF_A_CENT, grid_size
from icl_harness.report.listing import Listed

HEADING = ("run", "tasks", "models", "modes", "shots", "draws", "answers", "of", "$", "written")
NUMBERS = (5, 6, 7, 8)
MOST = 3  # names of one kind


def run_rows(found: Sequence[Listed], folder: Path) -> list[tuple[str, ...]]:
    """Return a heading and a row per run that can be read; nothing where there is none. An answer
    that failed is none.
    """
    rows = [_row(one, folder) for one in found if not one.fault]
    return [HEADING, *rows] if rows else []


def _row(one: Listed, folder: Path) -> tuple[str, ...]:
    spec = one.header["spec"]
    path = str(one.path.relative_to(folder)) if one.path != folder else str(folder)
    written = one.written.strftime("%Y-%m-%d %H:%M") if one.written else ""
    return (
        f"{path} (imported)" if "imported" in one.header else path,
        _some(spec["tasks"]),
        _some(spec["models"]),
        _some(spec["modes"]),
        _range(spec["shots"]),
        str(spec["draws"]),
        f"{one.n_records - one.n_failed:,}",
        f"{grid_size(one.header):,}",
        f"{one.usd:,.2f}" if one.usd >= HALF_A_CENT else "-",
        written,
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def _range(shots: Sequence[int]) -> str:
    few = ",".join(map(str, shots))
    return few if len(shots) <= MOST else f"{shots[0]}..{shots[-1]} ({len(shots)})"
