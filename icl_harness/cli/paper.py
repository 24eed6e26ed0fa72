"""`icl paper`: the presets, and what each would cost.

In: the files in presets/, a model. Out: a table with a line a preset.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_harness.errors import IclError, SpecError, nearest

if TYPE_CHECKING:
    from icl_harness.plan.estimate import Plan, Planned
    from icl_harness.runner.presets import Preset
    from icl_harness.runner.spec import Spec

COSTS = ("preset", "requests", "tokens", "$ cached", "$ plain", "$ answers", "")
ANY_MODEL = "openai/gpt-5"  # opens nothing: a grid is read for any model that writes answers
SHOWN_TASKS = 4


def paper(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="PRESET", help="These alone, or a folder's, as bertsch."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Show what each costs on this model; one each."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the rows lie.", envvar="ICL_DATA")
    ] = None,
) -> None:
    """List the presets: the figures of Many-Shot In-Context Learning and of what followed. With
    --model, what each costs as `icl plan` counts it; no model is asked.

    icl run paper/linear --model MODEL runs one.
    """
    from icl_harness.cli.terminal import print_rows, tell

    chosen, faults = _chosen(names or [])
    for fault in faults:
        tell(f"not listed: {fault}")
    if not model:
        for preset in chosen:
            for line in _grid_lines(preset):
                tell(line)
        tell("icl run PRESET --model MODEL runs one; icl paper --model MODEL shows what each costs")
        return
    rows, notes = [], []
    for preset in _shown_progress(chosen):
        row, left_out = _cost_row(preset, model, data)
        rows.append(row)
        notes += left_out
    print_rows([COSTS, *rows], right=range(1, 6))
    for note in notes:
        tell(note)
    tell("$ answers: at most, if each filled its room; icl plan PRESET --model MODEL tells more")


def _chosen(names: Sequence[str]) -> tuple[list[Preset], list[str]]:
    """Return the presets of these names or folders; all, where none is named. With them a line for
    each file that gives none.
    """
    from icl_harness.runner.presets import presets_and_faults

    every, faults = presets_and_faults()
    found: list[Preset] = []
    for name in names:
        folder = f"{name.rstrip('/')}/"
        some = [one for one in every if name in one.names or one.names[0].startswith(folder)]
        if not some:
            known: list[str] = []
            for one in every:
                known += one.names
            raise SpecError(f"there is no preset {name!r}.{nearest(name, known)}")
        found += [one for one in some if one not in found]
    return found if names else every, faults


def _shown_progress(chosen: Sequence[Preset]) -> Any:
    """Return presets one by one; a terminal shows how many are left."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    is_shown = console.is_terminal
    return track(chosen, "planning", console=console, transient=True, disable=not is_shown)


def _grid_lines(preset: Preset) -> list[str]:
    """Return a preset's names with its title, and below them what its grids are."""
    from icl_harness.runner.presets import load_grids

    grids = load_grids(preset.path, {"models": ANY_MODEL})
    tasks: list[str] = []
    for spec in grids:
        tasks += [name for name in spec.tasks if name not in tasks]
    more = f" and {len(tasks) - SHOWN_TASKS} more" if len(tasks) > SHOWN_TASKS else ""
    parts = [
        ", ".join(tasks[:SHOWN_TASKS]) + more,
        f"shots {_each([_range(spec.shots) for spec in grids])}",
        f"draws {_each([str(spec.draws) for spec in grids])}",
        f"queries {_each([str(spec.queries or 'all') for spec in grids])}",
    ]
    return [f"{', '.join(preset.names)}  {preset.title}", f"    {' · '.join(parts)}"]


def _each(texts: Sequence[str]) -> str:
    """Return what the parts of a preset have, once where it is the same."""
    return "; ".join(dict.fromkeys(texts))


def _range(shots: Sequence[int]) -> str:
    return str(shots[0]) if len(shots) == 1 else f"{shots[0]}–{shots[-1]} ({len(shots)})"


def _cost_row(
    preset: Preset, models: Sequence[str], data: str | None
) -> tuple[tuple[str, ...], list[str]]:
    """Return what a preset costs, and lines that say why it or a part of it is left out."""
    from icl_harness.runner.presets import load_grids

    given: dict[str, Any] = {"models": list(models)}
    if data is not None:
        given["data"] = data
    name = preset.names[0]
    rows: list[Planned] = []
    unpriced: list[str] = []
    notes = []
    try:
        grids = load_grids(preset.path, given)
    except IclError as error:
        return (name, *_sums([]), "left out"), [f"{name}: {error}"]
    for spec in grids:
        try:
            plan = _planned(spec)
        except IclError as error:
            which = f", {', '.join(spec.tasks)}" if len(grids) > 1 else ""
            notes.append(f"{name}{which}: {error}")
            continue
        rows += [row for row in plan.rows if not _is_learner(row)] or plan.rows
        unpriced += [one for one in plan.unpriced if one not in unpriced]
    left_out = ""
    if notes:
        n_parts = f"{len(notes)} of {len(grids)} parts " if len(notes) < len(grids) else ""
        left_out = f"{n_parts}left out"
    if unpriced:
        notes.append(f"{name}: the price of {', '.join(unpriced)} is not known and in no sum")
    return (name, *_sums(rows), left_out), notes


def _planned(spec: Spec) -> Plan:
    """Return the plan of a whole grid, whatever of it is in results/."""
    from icl_harness.cli.execute import plan_run

    with tempfile.TemporaryDirectory() as folder:
        return plan_run(spec, Path(folder) / "none")


def _is_learner(row: Planned) -> bool:
    """Return whether a row is of a reference learner, which costs nothing."""
    return row.model.startswith("baseline/")


def _sums(rows: Sequence[Planned]) -> tuple[str, ...]:
    """Return requests, tokens and dollars of a plan's rows."""
    from icl_harness.cli.plan_tables import count_text, usd_text

    if not rows:
        return ("-",) * 5
    about = "≈" if any(row.estimated for row in rows) else ""
    requests = f"{sum(row.requests for row in rows):,}"
    tokens = [row.prompt_tokens for row in rows if row.prompt_tokens is not None]
    kinds = ("usd_cached", "usd_plain", "usd_output")
    dollars = []
    for kind in kinds:
        known = [usd for row in rows if (usd := getattr(row, kind)) is not None]
        dollars.append(usd_text(sum(known) if known else None))
    return (requests, count_text(sum(tokens) if tokens else None, about), *dollars)
