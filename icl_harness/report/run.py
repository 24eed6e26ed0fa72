"""A run folder as its reader sees it: records, curves, differences, pictures; finished or not."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from icl_harness.errors import SpecError, StoreError, nearest
from icl_harness.report.metric_choice import chosen_metrics
from icl_harness.report.records import Records
from icl_harness.report.run_tables import RunTables
from icl_harness.store.identity import servers
from icl_harness.store.records import Cell, RunStore, StoredRecord

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.tasks.metrics import Metric


class Run(RunTables):
    """A run folder, read anew at every call."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        RunStore.open(self.path).close()  # says at once that it is no run

    @property
    def header(self) -> dict[str, Any]:
        """Return `run.json`: spec, data hashes, versions."""
        with contextlib.closing(RunStore.open(self.path)) as store:
            return store.header

    def records(self, *, shot_ids: bool = False) -> pd.DataFrame:
        """Return one row per answer, with the query's input and gold answer. `shot_ids` adds the
        ids of each one's shots.
        """
        with contextlib.closing(RunStore.open(self.path)) as store:
            return store.records(shot_ids=shot_ids)

    def chance(self) -> dict[str, float | None]:
        """Return the chance level of each task."""
        return {name: task["chance"] for name, task in self.header["tasks"].items()}

    def _read(self, metric: str | Metric | None) -> tuple[dict[str, Metric], Records]:
        return chosen_metrics([self.header], metric), Records([self.path])

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def load_runs(folders: Sequence[Path]) -> tuple[list[Run], Records]:
    """Return runs and their records together. Raises `StoreError` where they cannot be joined.

    Runs of a task must share its data, its pool and the seed, or a draw of one is not that draw of
    the other; a curve must come from one way of asking; and no cell may be counted twice.
    """
    runs = [Run(folder) for folder in dict.fromkeys(map(Path.resolve, folders))]
    records = Records([run.path for run in runs])
    if len(runs) > 1:
        cells = records.totals()
        of_run = [cells[cells["run"] == i] for i in range(len(runs))]
        for i, one in enumerate(runs):
            for j in range(i):
                _check_joinable(one, of_run[i], runs[j], of_run[j])
    return runs, records


CURVE = ["task", "model", "mode", "variant", "format", "queries_per_request"]
FREE = {"tasks", "models", "modes", "variants", "shots", "draws", "on_overflow", "bank"}


def _check_joinable(one: Run, cells: pd.DataFrame, other: Run, other_cells: pd.DataFrame) -> None:
    where = f"{other.path.name} and {one.path.name} cannot be put together"
    mine, theirs = one.header, other.header
    _check_draws(mine, theirs, where)
    if not _keys(cells, CURVE) & _keys(other_cells, CURVE):
        return
    for run, header, beside in ((one, mine, theirs), (other, theirs, mine)):
        if "wording" not in header and "wording" in beside:
            raise StoreError(
                f"{where}: {run.path.name} was made by version 0.1. "
                f"Run `icl rescore {quote(str(run.path))}` once; it asks no model."
            )
    differing = _differences(mine, theirs)
    if differing:
        raise StoreError(
            f"{where}: they hold the same curve, asked in different ways ({', '.join(differing)})."
        )
    cell = [*CURVE, "shots", "draw"]
    if _keys(cells, cell) & _keys(other_cells, cell):
        raise StoreError(f"{where}: both hold the same cells, which would be counted twice.")


def _check_draws(mine: dict[str, Any], theirs: dict[str, Any], where: str) -> None:
    """Raise `StoreError` where a draw of one run is not that draw of the other. Nothing is paired
    with an imported cell of which the mean alone is known.
    """
    if any("cell" in header.get("imported", {}).get("per", ()) for header in (mine, theirs)):
        return
    for task in sorted(set(mine["data"]) & set(theirs["data"])):
        for name in ("seed", "pool"):
            if mine["spec"][name] != theirs["spec"][name]:
                raise StoreError(
                    f"{where}: their draws of {task} differ, as --{name} does. Run them alike."
                )
        if mine["data"][task] != theirs["data"][task]:
            raise StoreError(f"{where}: their data of {task} differ.")


def _differences(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return what makes two curves of one name curves of different things."""
    from icl_harness.runner.provenance import spec_defaults

    one, other = ({**spec_defaults(), **header["spec"]} for header in (mine, theirs))
    differing = sorted(name for name in {*one, *other} - FREE if one.get(name) != other.get(name))
    for what, ours, others in (
        ("wording", _hashes(mine, "wording"), _hashes(theirs, "wording")),
        ("scoring", _hashes(mine, "scoring"), _hashes(theirs, "scoring")),
        ("weights", mine.get("weights", {}), theirs.get("weights", {})),
        ("server", servers(mine), servers(theirs)),
    ):
        both = set(ours) & set(others)
        differing += [f"{what} of {name}" for name in sorted(both) if ours[name] != others[name]]
    return differing


def _hashes(header: dict[str, Any], part: str) -> dict[str, str]:
    """Return a part of run.json; runs of version 0.1 have one hash for wording and scoring."""
    return dict(header.get(part) or header.get("prompts", {}))


def _keys(cells: pd.DataFrame, columns: list[str]) -> set[tuple[Any, ...]]:
    return set(cells[columns].drop_duplicates().itertuples(index=False, name=None))


def find_record(folder: Path, query_id: str, wanted: dict[str, Any]) -> tuple[StoredRecord, int]:
    """Return the first record of a query with its whole prompt, and how many cells hold one. Raises
    `SpecError` where none does.
    """
    if "variant" in wanted and "imported" not in Run(folder).header:
        from icl_harness.prompts.variants import parse_variant

        wanted = {**wanted, "variant": str(parse_variant(wanted["variant"]))}
    with contextlib.closing(RunStore.open(folder)) as store:
        record = next(store.find(query_id, **wanted), None)
        if record is None:
            raise SpecError(_not_found(store, folder, query_id, wanted))
        return record, len(store.cells_of(query_id, **wanted))


def _not_found(store: RunStore, folder: Path, query_id: str, wanted: dict[str, Any]) -> str:
    known = store.query_ids()
    where = "".join(f", {name} {value}" for name, value in wanted.items())
    hint = nearest(query_id, known) or f" It asked {', '.join(known[:3])}, …"
    if not known:
        hint = " It holds no answers yet."
    if query_id in known:
        cells = store.cells_of(query_id)
        there = [_values_of(cells, name) for name in wanted]
        hint = f" It was asked with {', '.join(there)}."
    return f"{folder}: query {query_id!r}{where} was not asked.{hint}"


def _values_of(cells: Sequence[Cell], name: str) -> str:
    """Return a field of cells with the values that they have."""
    return " ".join([name, *dict.fromkeys(str(getattr(cell, name)) for cell in cells)])
