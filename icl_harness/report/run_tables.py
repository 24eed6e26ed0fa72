"""The tables and pictures of one run, or of several together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from icl_harness.analysis.questions.answers import Answer
    from icl_harness.report.overlays import Overlay
    from icl_harness.report.records import Records
    from icl_harness.tasks.metrics import Metric


class RunTables(ABC):
    """What can be asked of records, which are read anew at every call."""

    @abstractmethod
    def _read(self, metric: str | Metric | None) -> tuple[dict[str, Metric], Records]:
        """Return the metric of each task, and the records."""

    @abstractmethod
    def chance(self) -> dict[str, float | None]:
        """Return the chance level of each task."""

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
        metrics, records = self._read(metric)
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
        metrics, records = self._read(metric)
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
        metrics, records = self._read(metric)
        return records.ask(metrics, about, **options)

    def plot(
        self,
        metric: str | Metric | None = None,
        title: str | None = None,
        band: str = "pointwise",
        *,
        mean_over_tasks: bool = False,
        overlay: Overlay | Sequence[Overlay] | None = None,
    ) -> Figure:
        """Return the picture of the curves, with intervals point by point or, with the band
        "simultaneous", bands of whole curves. `overlay` lays published values beside them, grey:
        the name of a table ("paper", "bertsch", …), the path of a CSV or a DataFrame with columns
        label, shots and value, or several of these.
        """
        from icl_harness.report.overlays import load_overlays
        from icl_harness.report.plots import plot

        beside = None if overlay is None else load_overlays(overlay)
        frame = self.curves(metric, band, mean_over_tasks=mean_over_tasks)
        return plot(frame, self.chance(), title, beside)
