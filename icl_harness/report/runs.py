"""Several runs as one: their records in one table, their curves in one picture.

In: run folders. Out: the tables and the picture that `icl curves`, `compare` and `plot` make of
them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from icl_harness.errors import SpecError
from icl_harness.report.metric_choice import chosen_metrics
from icl_harness.report.run import Run, load_runs
from icl_harness.report.run_tables import RunTables

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.report.records import Records
    from icl_harness.tasks.metrics import Metric


class Runs(RunTables):
    """Runs that are read together, anew at every call."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        load_runs(self.paths)  # says at once that they cannot be put together

    def records(self) -> pd.DataFrame:
        """Return one row per answer of all runs."""
        return load_runs(self.paths)[1].table()

    def chance(self) -> dict[str, float | None]:
        """Return the chance level of each task."""
        found: dict[str, float | None] = {}
        for path in self.paths:
            found |= Run(path).chance()
        return found

    def _read(self, metric: str | Metric | None) -> tuple[dict[str, Metric], Records]:
        found, records = load_runs(self.paths)
        return chosen_metrics([one.header for one in found], metric), records

    def __repr__(self) -> str:
        return f"load({', '.join(repr(str(path)) for path in self.paths)})"


def load(*runs: str | Path | Run) -> Runs:
    """Return runs that are read together: folders, or what `run` returned.

        icl_harness.load("results/a", "results/b").compare(by="model")

    Raises `StoreError` where they cannot be put into one table.
    """
    if not runs:
        raise SpecError("load() names no run. Name at least one folder.")
    return Runs(tuple(one.path if isinstance(one, Run) else Path(one) for one in runs))
