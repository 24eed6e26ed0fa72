"""What grids of other sizes would cost: the plan of the same run with other draws and queries.

In: the spec of a run, draws and queries. Out: requests, tokens, dollars and seconds, as `icl plan`
has them for a run of its own. Every further draw costs what the second does, so that two draws are
planned and not all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from icl_harness.cli.execute import plan_and_close
from icl_harness.errors import IclError, SpecError
from icl_harness.plan.estimate import Plan
from icl_harness.report.power import Comparison
from icl_harness.report.run import Run
from icl_harness.runner.concurrency import run_async
from icl_harness.runner.execution import Execution
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a grid costs; None where that is not known. Dollars are of prompts with caching and of
    answers at most.
    """

    requests: float | None
    prompt_tokens: float | None
    usd: float | None
    usd_batch: float | None
    seconds: float | None


class Costs:
    """What grids of a task and model of a run would cost; `notes` say why some are not known."""

    def __init__(self, run: Run | None, one: Comparison, how: Execution) -> None:
        self.notes: list[str] = []
        self._how = how
        self._spec: Spec | None = None
        if run is not None:
            self._spec = self._spec_of(run, one)

    def of(self, n_draws: int, n_queries: int) -> Cost | None:
        """Return what a grid costs, if that is known."""
        if self._spec is None:
            return None
        try:
            return cost_of(self._spec, n_draws, n_queries, self._how)
        except IclError as error:
            self._note(f"{n_queries:,} queries cannot be planned: {error}")
            return None

    def _spec_of(self, run: Run, one: Comparison) -> Spec | None:
        header = run.header
        if "imported" in header:
            self._note("what grids cost is not known of results that were imported")
            return None
        try:
            spec = Spec.of_run(header, f"{run.path}: run.json")
        except IclError as error:
            self._note(f"what grids cost is not known: {error}")
            return None
        update: dict[str, tuple[str, ...]] = {
            "tasks": (header.get("files", {}).get(one.task, one.task),)
        }
        if one.model:
            update["models"] = (one.model,)
        return spec.model_copy(update=update)

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def cost_of(spec: Spec, n_draws: int, n_queries: int, how: Execution) -> Cost:
    """Return what a grid costs. Raises `SpecError` where the task has fewer queries, or cannot be
    planned.
    """
    first, *second = [
        _totals(_planned(spec.model_copy(update={"draws": draws, "queries": n_queries}), how))
        for draws in range(1, min(n_draws, 2) + 1)
    ]
    last = second[0] if second else first
    found = {name: _extended(first[name], last[name], n_draws) for name in first}
    return Cost(**found)


def _planned(spec: Spec, how: Execution) -> Plan:
    terms = replace(how.terms(), keyless=True)
    experiment = Experiment(spec, terms=terms, batch=how.batch)
    there = min(map(experiment.n_queries, experiment.tasks))
    if spec.queries is not None and there < spec.queries:
        raise SpecError(f"{experiment.tasks[0].name} has {there:,} queries")
    with TemporaryDirectory() as folder:  # which holds no earlier answers; nothing is written
        return run_async(plan_and_close(experiment, Path(folder)))


def _totals(plan: Plan) -> dict[str, float | None]:
    def total(name: str) -> float | None:
        known = [value for row in plan.rows if (value := getattr(row, name)) is not None]
        return sum(known) if known else None

    answers = plan.usd("usd_output") or 0.0
    cached, batch = plan.usd("usd_cached"), plan.usd("usd_batch")
    return {
        "requests": total("requests"),
        "prompt_tokens": total("prompt_tokens"),
        "usd": None if cached is None else cached + answers,
        "usd_batch": None if batch is None else batch + answers / 2,
        "seconds": total("seconds"),
    }


def _extended(first: float | None, second: float | None, n_draws: int) -> float | None:
    """Return what all draws take, where the first takes `first` and two take `second`."""
    if first is None or second is None:
        return None
    return first + (n_draws - 1) * (second - first) if n_draws > 1 else first
