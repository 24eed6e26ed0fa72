"""Several runs as one: their records in one table, their curves in one picture.

In: run folders. Out: the tables and the picture that `icl curves`, `compare` and `plot` make of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_harness.errors import SpecError
from icl_harness.report.metric_choice import chosen_metrics
from icl_harness.report.run import Run, load_runs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from icl_harness.analysis.questions.answers import Answer
    from icl_harness.tasks.metrics import Metric


class Runs:
    """Runs that are read together, anew at every call."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        load_runs(self.paths)  # says at once that they cannot be put together

    def records(self) -> pd.DataFrame:
        """Return one row per answer of all runs."""
        return load_runs(self.paths)[1].table()

    def curves(
        self,
        metric: str | Metric | None = None,
        band: str = "pointwise",
        *,
        mean_over_tasks: bool = False,
    ) -> pd.DataFrame:
        """Return one row per point of every curve, with its interval: the columns of `curves.csv`.
        `metric` takes the place of the tasks' own. With the band "simultaneous" `band_low` and
        `band_high` hold for all points of a curve at once. With `mean_over_tasks` the curves are
        those of the mean over all tasks.
        """
        found, records = load_runs(self.paths)
        metrics = _metrics(found, metric)
        return records.curves(metrics, band, mean_over_tasks=mean_over_tasks)

    def compare(
        self,
        by: str = "mode",
        metric: str | Metric | None = None,
        baseline: str | int | None = None,
        family: str = "shots",
        *,
        mean_over_tasks: bool = False,
    ) -> pd.DataFrame:
        """Return paired differences per shot count between the values of `by`: of every two, or of
        each less the `baseline`. Holm's p-values are over the `family`: "shots", "tasks", "models"
        or "all". With `mean_over_tasks` differences are those of the mean over all tasks.
        """
        found, records = load_runs(self.paths)
        metrics = _metrics(found, metric)
        return records.compare(by, metrics, baseline, family, mean_over_tasks=mean_over_tasks)

    def ask(
        self,
        about: str | Sequence[str] | None = None,
        metric: str | Metric | None = None,
        **options: Any,
    ) -> list[Answer]:
        """Return the answers to questions about the curves, each a sentence with its table: those
        that `about` names ("trend", "trend,peak" or a list), or all. `options` are those of `icl
        ask`: within, target, against.
        """
        found, records = load_runs(self.paths)
        return records.ask(_metrics(found, metric), about, **options)

    def plot(
        self,
        metric: str | Metric | None = None,
        title: str | None = None,
        band: str = "pointwise",
        *,
        mean_over_tasks: bool = False,
    ) -> Figure:
        """Return the picture of the curves, with intervals point by point or, with the band
        "simultaneous", bands of whole curves.
        """
        from icl_harness.report.plots import plot

        chance: dict[str, float | None] = {}
        for path in self.paths:
            chance |= Run(path).chance()
        return plot(self.curves(metric, band, mean_over_tasks=mean_over_tasks), chance, title)

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


def _metrics(found: list[Run], metric: str | Metric | None) -> dict[str, Metric]:
    return chosen_metrics([one.header for one in found], metric)
