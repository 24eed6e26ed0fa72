"""What comparisons of a run could see, and what larger grids would.

In: a run, or shares that are stated. Out: for each task and model the smallest difference that is
found 8 times of 10, by draws and queries. Differences are in points: hundredths of the metric's
range, or its own units where it has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_harness.analysis.crossed import Codes
from icl_harness.errors import SpecError
from icl_harness.report.metric_choice import chosen_metrics
from icl_harness.report.records import Records
from icl_harness.report.run import Run

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.analysis.compare import Pair
    from icl_harness.analysis.paired_variances import Family
    from icl_harness.tasks.metrics import Metric

BY = ("mode", "model", "variant", "shots")  # what is compared unless told: the first with several
DRAWS, QUERIES = (3, 5, 10, 20), (50, 100, 250, 1000)
SHOTS = (0, 1, 2, 4, 8, 16, 32, 64)
ACCURACY, DRAW_SD, QUERY_SD = 0.5, 0.5, 1.0
POINT = 0.01
TYPICAL = 0.1  # a difference


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The pairs of a task and a model that are compared, and the grid that they were measured on;
    a stated one has none.
    """

    by: str
    family: Family
    names: Sequence[str]  # of the pairs
    task: str = ""
    model: str = ""
    metric: str = "accuracy"
    n_draws: int = 0
    n_queries: int = 0  # of a draw

    @property
    def unit(self) -> float:
        """Return what one point is."""
        return POINT if self.family.is_bounded else 1.0

    def members(self) -> Codes:
        """Return the pairs that shots can change, from the one most easily told apart."""
        grid = self.n_draws or DRAWS[0], self.n_queries or QUERIES[0]
        n = len(self.family.draw)
        se = [self.family.at(TYPICAL, i).se(*grid)[i] for i in range(n)]
        order = np.argsort(se, kind="stable")
        of_shots = order[self.family.doublings[order].any(axis=1)]
        return of_shots if len(of_shots) else order

    def some(self) -> Codes:
        """Return the pair in the middle, and the one that is hardest to tell apart."""
        order = self.members()
        return order[[(len(order) - 1) // 2, -1]]

    def seen(
        self, n_draws: float, n_queries: float, members: Codes, *, alone: bool = False
    ) -> list[float]:
        """Return the smallest difference of each of some pairs that is found, in points."""
        from icl_harness.analysis.power import detectable

        found = detectable(self.family, n_draws, n_queries, members, alone=alone) / self.unit
        return [float(one) for one in found]


def comparisons(run: Run, by: str | None = None, metric: str | Metric | None = None
                ) -> list[Comparison]:  # fmt: skip
    """Return what is compared in a run: by `by`, else by the first of mode, model, variant and
    shots of which there are several. Raises `SpecError` where nothing can be said.
    """
    from icl_harness.analysis.paired_variances import measured_family

    records = Records([run.path])
    by = by or several(run)
    if by is None:
        raise SpecError(
            f"{run.path} holds one mode, model, variant and shot count: there is nothing to "
            "compare. Give a run with two of one."
        )
    found = []
    for pairs in records.paired_families(by, chosen_metrics([run.header], metric)):
        family = measured_family(pairs, by)
        if family is not None:
            found.append(_comparison(pairs, by, family))
    if not found:
        raise SpecError(
            f"{run.path} says nothing of how draws differ: it takes pairs of answers in two draws "
            f"or more. Extend it (icl extend {run.path} --draws 3), or state what you expect: "
            "icl power --accuracy 0.5 --draw-sd 0.5 --query-sd 1."
        )
    return found


def several(run: Run) -> str | None:
    """Return the first of mode, model, variant and shots of which a run has several."""
    cells = Records([run.path]).totals()
    return next((name for name in BY if cells[name].nunique() > 1), None)


def _comparison(pairs: Sequence[Pair], by: str, family: Family) -> Comparison:
    from icl_harness.analysis.paired_variances import is_tested

    rows = [row for row, one in pairs if is_tested(row, one)]
    n_draws = max(row["n_draws"] for row in rows)
    n_queries = max(row["n_queries"] for row in rows)
    return Comparison(
        by=by,
        family=family,
        names=[_name(row, by) for row in rows],
        task=str(rows[0]["task"]),
        model=str(rows[0].get("model", "")),
        metric=str(rows[0]["metric"]),
        n_draws=n_draws,
        n_queries=round(n_queries / n_draws) if family.nested else n_queries,
    )


def _name(row: Mapping[str, Any], by: str) -> str:
    """Return what a difference is called: `unsupervised - supervised at 4 shots`."""
    others = [str(row[name]) for name in ("mode", "variant") if name != by]
    where = ", ".join(one for one in others if one not in ("default", "supervised"))
    what = f"{row['b']} - {row['a']}"
    if by == "shots":
        what += " shots"
    else:
        what += f" at {row['shots']} {'shot' if row['shots'] == 1 else 'shots'}"
    return f"{what}, {where}" if where else what


def stated(
    *,
    accuracy: float | None = None,
    draw_sd: float | None = None,
    query_sd: float | None = None,
    by: str | None = None,
    shots: Sequence[int] | None = None,
) -> Comparison:
    """Return the comparison of two modes at these shot counts (`by` is mode, model or variant), or
    of all pairs of shot counts. Standard deviations are in logits. Raises `SpecError`.
    """
    from icl_harness.analysis.paired_variances import stated_family

    accuracy = ACCURACY if accuracy is None else accuracy
    draw_sd = DRAW_SD if draw_sd is None else draw_sd
    query_sd = QUERY_SD if query_sd is None else query_sd
    by, shots = by or "mode", tuple(shots or SHOTS)
    if not 0 < accuracy < 1:
        raise SpecError(f"--accuracy is {accuracy:g}; it lies between 0 and 1, as in 0.6.")
    for name, sd in (("--draw-sd", draw_sd), ("--query-sd", query_sd)):
        if not 0 <= sd <= 10:
            raise SpecError(f"{name} is {sd:g} logits; it is 0 to 10, as in 0.5.")
    if by not in BY:
        raise SpecError(f"stated shares are compared by {', '.join(BY)}, not by {by!r}.")
    if not any(shots) or (by == "shots" and len(shots) < 2):
        raise SpecError("--shots names nothing to compare. Give several, as in 0,1,4,16.")
    family = stated_family(accuracy, draw_sd, query_sd, by, shots)
    return Comparison(by=by, family=family, names=[""] * len(family.draw))


def power(
    run: str | Path | Run | None = None,
    *,
    by: str | None = None,
    metric: str | Metric | None = None,
    draws: Sequence[int] = (),
    queries: Sequence[int] = (),
    accuracy: float | None = None,
    draw_sd: float | None = None,
    query_sd: float | None = None,
    shots: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Return the smallest difference that a grid of `draws` times `queries` finds with 80 % power.

        icl_harness.power("results/pilot", by="shots", draws=[3, 5, 10], queries=[250, 1000])
        icl_harness.power(accuracy=0.6, draw_sd=0.5, query_sd=1)

    From a pilot run, or from an accuracy and standard deviations in logits. `detectable` is in
    points (hundredths of the metric's range), of the pair in the middle and after Holm, as
    `compare` does it; `detectable_alone` without Holm; `detectable_hardest` of the pair that is
    hardest to tell apart.
    """
    found = compared(run, by, metric, accuracy, draw_sd, query_sd, shots)
    return power_frame(found, draws, queries)


def compared(
    run: str | Path | Run | None,
    by: str | None,
    metric: str | Metric | None,
    accuracy: float | None,
    draw_sd: float | None,
    query_sd: float | None,
    shots: Sequence[int] | None,
) -> list[Comparison]:
    """Return what is compared: in a run, or as it is stated. Raises `SpecError` for both at once
    and for neither.
    """
    given = [one for one in (accuracy, draw_sd, query_sd, shots) if one is not None]
    if run is None:
        if not given:
            raise SpecError(
                "name a pilot run, as in icl power RUN, or state what you expect, as in "
                "icl power --accuracy 0.6 --draw-sd 0.5 --query-sd 1."
            )
        if metric is not None:
            raise SpecError("--metric is for a pilot run, and none is named. Leave it out.")
        return [stated(accuracy=accuracy, draw_sd=draw_sd, query_sd=query_sd, by=by, shots=shots)]
    if given:
        raise SpecError(
            "a pilot run says itself how accurate answers are and how draws and queries differ: "
            "leave out the run, or --accuracy, --draw-sd, --query-sd and --shots."
        )
    return comparisons(run if isinstance(run, Run) else Run(run), by, metric)


def power_frame(
    found: Sequence[Comparison], draws: Sequence[int] = (), queries: Sequence[int] = ()
) -> pd.DataFrame:
    """Return a row for each comparison and each of its grids."""
    import pandas as pd

    rows = []
    for one in found:
        named = {"task": one.task, "model": one.model, "metric": one.metric, "by": one.by}
        some = one.some()
        for n_draws in axis(draws or DRAWS, one.n_draws):
            for n_queries in axis(queries or QUERIES, one.n_queries):
                middle, hardest = one.seen(n_draws, n_queries, some)
                (alone,) = one.seen(n_draws, n_queries, some[:1], alone=True)
                rows.append({
                    **named, "draws": n_draws, "queries": n_queries, "detectable": middle,
                    "detectable_alone": alone, "detectable_hardest": hardest,
                })  # fmt: skip
    return pd.DataFrame(rows)


def axis(numbers: Sequence[int], own: int) -> list[int]:
    """Return numbers of draws or queries in order, the run's own among them."""
    return sorted({*numbers, *([own] if own else [])})


def least_draws(one: Comparison, difference: float, members: Codes) -> float:
    """Return the fewest draws with which some number of queries shows a difference; infinite where
    none does.
    """
    low, high = 1, 2
    while max(one.seen(high, math.inf, members)) > difference:
        low, high = high, 2 * high
        if high > 2000:
            return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        is_short = max(one.seen(middle, math.inf, members)) > difference
        low, high = (middle, high) if is_short else (low, middle)
    return high
