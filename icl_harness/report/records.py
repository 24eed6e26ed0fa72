"""The records of one or more runs, as tables are made of them: read in parts, not all at once.

In: run folders. Out: their curves, paired differences, commonest errors. Left out: which runs may
be put together (joining.py).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_harness.errors import DataError
from icl_harness.store.records import RunStore, read_together

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.analysis.compare import Pair
    from icl_harness.analysis.joint import Joint
    from icl_harness.analysis.questions.answers import Answer
    from icl_harness.tasks.metrics import Metric

PART = 150_000  # records; a part holds whole points, so it may hold more


class Records:
    """The records of run folders, read anew at every call."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[list[RunStore]]:
        with contextlib.ExitStack() as stack:
            stores = [RunStore.open(folder) for folder in self.folders]
            for store in stores:
                stack.enter_context(contextlib.closing(store))
                store.hold()  # totals and records are to be of one instant
            yield stores

    def table(self) -> pd.DataFrame:
        """Return all records with all columns in one table. It may be large."""
        import pandas as pd

        with self._opened() as stores:
            found = [store.records() for store in stores]
        return pd.concat(found, ignore_index=True) if len(found) > 1 else found[0]

    def totals(self) -> pd.DataFrame:
        """Return a row for each cell: its fields, what its records add up to, and the number of its
        `run`.
        """
        with self._opened() as stores:
            return _totals(stores)

    def count(self) -> int:
        """Return the number of records."""
        with self._opened() as stores:
            return sum(store.count() for store in stores)

    def has_answers(self) -> bool:
        """Return whether the text of any answer is stored."""
        with self._opened() as stores:
            return any(store.has_answers() for store in stores)

    def curves(
        self,
        metrics: Mapping[str, Metric],
        band: str = "pointwise",
        *,
        mean_over_tasks: bool = False,
    ) -> pd.DataFrame:
        """Return the table of curves."""
        with self._opened() as stores:
            totals = _totals(stores)
            from icl_harness.analysis.curves import curves_of_parts, with_metrics

            totals = with_metrics(totals, metrics)
            points = _in_parts(totals)

            def parts(names: Sequence[str]) -> Iterator[pd.DataFrame]:
                for cells in points:
                    yield read_together(stores, cells, names)

            return curves_of_parts(
                totals, parts, metrics=metrics, band=band, mean_over_tasks=mean_over_tasks
            )

    def compare(
        self,
        by: str,
        metrics: Mapping[str, Metric],
        baseline: str | int | None = None,
        family: str = "shots",
        *,
        mean_over_tasks: bool = False,
    ) -> pd.DataFrame:
        """Return the table of paired differences between the values of `by`."""
        from icl_harness.analysis.compare import compare

        records = self._scored(metrics)
        return compare(
            records,
            by=by,
            metrics=metrics,
            baseline=baseline,
            family=family,
            mean_over_tasks=mean_over_tasks,
        )

    def joints(self, metrics: Mapping[str, Metric]) -> list[Joint]:
        """Return the points of each task, with how their errors go together."""
        from icl_harness.analysis.joint import joints

        return joints(self._scored(metrics), metrics)

    def paired_families(self, by: str, metrics: Mapping[str, Metric]) -> list[list[Pair]]:
        """Return the pairs that such a table is made of, those of each task, model and metric."""
        from icl_harness.analysis.compare import paired_families

        return paired_families(self._scored(metrics), by, metrics)

    def ask(
        self,
        metrics: Mapping[str, Metric],
        about: str | Sequence[str] | None = None,
        *,
        within: float | None = None,
        target: float | None = None,
        against: str | None = None,
    ) -> list[Answer]:
        """Return the answers to the questions of these names (`"trend,peak"`, or a list), or to
        all. Raises `SpecError` for one that is not known.
        """
        from icl_harness.analysis.joint import joints
        from icl_harness.analysis.questions import Options, ask, ask_of_records, asked

        names = asked(about)
        options = Options(within=within, target=target, against=against)
        records = self._scored(metrics)
        answers = ask(joints(records, metrics), names, options)
        return [*answers, *ask_of_records(records, metrics, names)]

    def _scored(self, metrics: Mapping[str, Metric]) -> pd.DataFrame:
        """Return all records, with the columns that tables of values need."""
        with self._opened() as stores:
            totals = _totals(stores)
            if totals.empty:
                raise DataError("no cell has an answer yet: there is nothing to compare.")
            from icl_harness.analysis.curves import needed_columns, with_metrics

            cells = with_metrics(totals, metrics)
            return read_together(stores, cells, needed_columns(cells, metrics))

    def without(self, name: str) -> dict[tuple[str, str], tuple[int, int]]:
        """Return by task and model how many answers lack what a metric is of (`Metric.of`), and how
        many answers there are; only where some lack it.
        """
        n_answers, n_known = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        with self._opened() as stores:
            for store in stores:
                for key, (n, known) in store.count_known(name).items():
                    n_answers[key] += n
                    n_known[key] += known
        return {key: (n - n_known[key], n) for key, n in n_answers.items() if n > n_known[key]}

    def solutions(self) -> dict[str, dict[str, dict[str, bool]]]:
        """Return by task and problem which solutions are right, by the id of their query; of tasks
        whose queries are solutions of problems.
        """
        found: dict[str, dict[str, dict[str, bool]]] = {}
        with self._opened() as stores:
            for store in stores:
                for task, problem, query_id, right in store.solutions():
                    found.setdefault(task, {}).setdefault(problem, {})[query_id] = right
        return found

    def common_errors(self) -> dict[tuple[Any, ...], str]:
        """Return the commonest error of the requests that failed, by point of a curve."""
        from icl_harness.analysis.curves import POINT

        found = {}
        with self._opened() as stores:
            totals = _totals(stores)
            failed = totals[totals["n_failed"] > 0]
            for point, cells in failed.groupby(POINT, sort=False):
                counts = Counter[str]()
                for run, cell in zip(cells["run"], cells["id"], strict=True):
                    counts.update(stores[int(run)].errors(int(cell)))
                if counts:
                    found[point] = min(counts, key=lambda error: (-counts[error], error))
        return found


def _totals(stores: Sequence[RunStore]) -> pd.DataFrame:
    with ThreadPoolExecutor() as pool:
        counting = [pool.submit(store.count_totals) for store in stores]
        for library in ("pandas", "scipy.special"):
            import_module(library)  # takes as long as counting a million records
        for one in counting:
            one.result()
    import pandas as pd

    found = [store.totals().assign(run=i) for i, store in enumerate(stores)]
    return pd.concat(found, ignore_index=True) if len(found) > 1 else found[0]


def _in_parts(totals: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the cells in parts: the cells of a point together, few of them where they are large,
    so that no part has many more records than `PART`.
    """
    from icl_harness.analysis.curves import POINT

    parts: list[list[int]] = []
    n_records = PART
    for rows in totals.groupby(POINT, sort=False, dropna=False).indices.values():
        if n_records >= PART:
            parts.append([])
            n_records = 0
        parts[-1].extend(rows)
        n_records += int(totals["n_records"].to_numpy()[rows].sum())
    return [totals.iloc[rows] for rows in parts]
