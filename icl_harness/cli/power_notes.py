"""The line of a run, or of a plan, whose comparisons cannot show 10 points; none where they can."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from shlex import quote

from icl_harness.cli.power_tables import grid_text, points
from icl_harness.errors import IclError
from icl_harness.plan.estimate import Plan
from icl_harness.report.power import Comparison, comparisons, several, stated
from icl_harness.report.run import Run
from icl_harness.runner.spec import Spec
from icl_harness.store.header import RUN_FILE
from icl_harness.tasks.loading import find_tasks

WANTED = 10  # points
ONE_DRAW = (
    "one draw cannot show a difference of any size, as other draws may differ; --draws 3 or more "
    "can"
)


def run_power_notes(run: Run) -> Iterator[str]:
    """Yield for each task and model of a run what it cannot see."""
    by = several(run)
    if by is None:
        return
    if run.header["spec"].get("draws") == 1:
        yield ONE_DRAW
        return
    for one in _known(run, by):
        note = _note(one, one.n_draws, one.n_queries)
        if note:
            yield f"{note}; icl power {quote(str(run.path))} tells what would"


def plan_power_notes(spec: Spec, folder: Path, plan: Plan) -> Iterator[str]:
    """Yield what a planned grid cannot see: by the answers that its folder holds already, else even
    if draws did not differ.
    """
    by = compared_by(spec)
    if by is None or not any(spec.shots):
        return
    if spec.draws == 1:
        yield ONE_DRAW
        return
    n_queries = _n_queries(spec, plan)
    known = _known(Run(folder), by) if (folder / RUN_FILE).exists() else []
    for one in known:
        note = _note(one, spec.draws, max(n_queries, one.n_queries))
        if note:
            yield f"{note}, by the answers so far"
    if not known and n_queries > 1:
        yield from _at_best(spec, by, n_queries)


def compared_by(spec: Spec) -> str | None:
    """Return the first of mode, model, variant and shots of which a grid has several."""
    numbers = {
        "mode": len(spec.modes),
        "model": len(spec.models),
        "variant": len(spec.variants),
        "shots": len(spec.shots),
    }
    return next((name for name, n in numbers.items() if n > 1), None)


def _known(run: Run, by: str) -> Sequence[Comparison]:
    """Return what the answers of a run tell, if anything."""
    try:
        return [one for one in comparisons(run, by) if one.family.is_bounded]
    except IclError:
        return []


def _note(one: Comparison, n_draws: int, n_queries: int) -> str:
    """Return that a grid cannot show 10 points; nothing where it can."""
    middle, hardest = one.seen(n_draws, n_queries, one.some())
    if hardest <= WANTED:
        return ""
    n = len(one.members())
    every = "" if middle > WANTED else "every time "
    where = " · ".join(name for name in (one.task, one.model) if name)
    least = f"the least is {points(middle)} for half of {n:,} comparisons, "
    least += f"{points(hardest)} for all" if math.isfinite(hardest) else "none is seen in all"
    if n == 1:
        least = f"the least is {points(hardest)}"
    if not math.isfinite(middle):
        least = "none is large enough"
    return (
        f"{where}: {grid_text(n_draws, n_queries)} cannot {every}show a difference of {WANTED} "
        f"points by {one.by}; {least} (80 % power, after Holm)"
    )


def _at_best(spec: Spec, by: str, n_queries: int) -> Iterator[str]:
    one = stated(accuracy=0.5, draw_sd=0.0, query_sd=1.0, by=by, shots=spec.shots)
    if _has_queries_by_draw(spec):
        one = replace(one, family=replace(one.family, nested=True))
    (least,) = one.seen(spec.draws, n_queries, one.some()[:1])
    if least > WANTED:
        yield (
            f"{grid_text(spec.draws, n_queries)} cannot show a difference of {WANTED} points by "
            f"{by}, even if draws do not differ: {points(least)} is the least at accuracy .5 (80 % "
            "power, after Holm)"
        )


def _n_queries(spec: Spec, plan: Plan) -> int:
    """Return how many queries a cell has, as far as the plan tells."""
    requests = [row.requests for row in plan.rows if row.draw is not None]
    planned = max(requests, default=0) * spec.queries_per_request // spec.samples
    return planned if spec.queries is None else min(spec.queries, max(planned, 0) or spec.queries)


def _has_queries_by_draw(spec: Spec) -> bool:
    """Return whether all tasks make new queries for each draw."""
    data = Path(spec.data) if spec.data else None
    found = chain.from_iterable(find_tasks(name, data, spec) for name in spec.tasks)
    return all(task.generate is not None for task in found)
