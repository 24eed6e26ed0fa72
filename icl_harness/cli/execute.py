"""Runs from Python: `run(...)` does what `icl run` does."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from icl_harness.cli.batch_table import refuse_to_leave
from icl_harness.errors import SpecError
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.api.limiter import Rates
from icl_harness.models.api.terms import Budget, Terms
from icl_harness.models.base import KvCache, Model
from icl_harness.models.workers import Workers
from icl_harness.plan.asker import make_plan, spent_usd
from icl_harness.plan.estimate import Plan, refuse_cost
from icl_harness.report.run import Run
from icl_harness.runner.banks import check_banks
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.spec import Spec
from icl_harness.runner.walk import Watch, refuse_overflow, run_async, run_experiment
from icl_harness.store.records import RunStore


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out: no part of what is measured, so a run may be gone on with in
    another way.

    `workers="ray"` spreads local models over the machines of a Ray cluster, with `worker_cpus` CPUs
    each; `kv_cache` keeps the keys and values of `hf/` models between runs. `batch` hands requests
    to APIs in batches, `rpm` and `tpm` are the account's requests and tokens a minute, `max_cost`
    the dollars that the run may spend; `say` is told what cannot wait for the end.
    """

    workers: str | None = None
    worker_cpus: int | None = None
    kv_cache: KvCache | None = None
    batch: bool = False
    rpm: float | None = None
    tpm: float | None = None
    max_cost: float | None = None
    say: Callable[[str], None] = lambda note: None

    def terms(self) -> Terms:
        """Return the terms on which APIs are asked. Raises `SpecError`."""
        if self.max_cost is not None and not 0 < self.max_cost < float("inf"):
            raise SpecError(f"--max-cost is {self.max_cost}; it takes a number of dollars above 0.")
        budget = None if self.max_cost is None else Budget(self.max_cost)
        return Terms(
            rates=Rates(rpm=self.rpm, tpm=self.tpm), budget=budget, batch=self.batch, say=self.say
        )


def run(
    tasks: str | Sequence[str],
    model: str | Model | Sequence[str | Model],
    *,
    out: str | Path | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> Run:
    """Run a grid, or go on with it, and return the run.

    `options` are the fields of `Spec` (modes, shots, draws, queries, seed, variants, …) and of
    `Execution` (workers, kv_cache, batch, rpm, tpm, max_cost). A model is an id or an open `Model`,
    which stays open. Without `out` the folder's name follows from the spec, so that the same call
    finds it.

        run("dialects", "demo", modes=["supervised"], shots=[0, 4, 16], draws=3,
        queries=50).curves()

    Raises `IclError`; what was answered until then is kept.
    """
    named = [model] if isinstance(model, str | Model) else list(model)
    given = {m.id: m for m in named if isinstance(m, Model)}
    ids = [m.id if isinstance(m, Model) else m for m in named]
    how = Execution(**{f.name: options.pop(f.name) for f in fields(Execution) if f.name in options})
    spec = Spec.from_dict({"tasks": tasks, "models": ids, **options}, "run()")
    folder = Path(out) if out is not None else default_folder(spec)
    return execute(spec, folder, how, given, watch)


def execute(
    spec: Spec,
    out: Path,
    how: Execution = Execution(),
    models: dict[str, Model] | None = None,
    watch: Watch | None = None,
) -> Run:
    """Run `spec` into the folder `out`. Nothing is written before all that can be refused has been."""
    terms = how.terms()
    with _workers(how.workers, how.worker_cpus) as crew:
        experiment = Experiment(spec, models, crew, how.kv_cache, terms, batch=how.batch)
        check_banks(experiment)
        if spec.on_overflow == "error":
            refuse_overflow(experiment)
        if how.max_cost is not None:
            found = run_async(make_plan(experiment, out, apis_only=True))
            for note in found.notes:
                how.say(note)
            refuse_cost(found, how.max_cost, batch=how.batch)
        if not how.batch:
            refuse_to_leave(out)
        elif spec.scoring != "generate":
            raise SpecError(
                f"--batch takes answers that are generated, not --scoring {spec.scoring}. Leave one out."
            )
        store = RunStore.create_or_resume(out, experiment.header())
        terms.ledger = Ledger(out)
        if terms.budget is not None:
            terms.budget.spent_usd = spent_usd(experiment, store)
        try:
            run_experiment(experiment, store, watch)
            terms.ledger.all_answered()
        finally:
            terms.ledger.close()
            store.close()
    return Run(out)


def plan_run(
    spec: Spec, out: Path, how: Execution = Execution(), models: dict[str, Model] | None = None
) -> Plan:
    """Return what `execute` would have to do, less what the folder `out` holds already. Asks no
    model, writes nothing.

    Where a key is there, the provider is asked to count tokens.
    """
    experiment = Experiment(spec, models, terms=replace(how.terms(), keyless=True), batch=how.batch)
    check_banks(experiment)
    if spec.on_overflow == "error":
        refuse_overflow(experiment)

    async def work() -> Plan:
        try:
            return await make_plan(experiment, out)
        finally:
            await experiment.close()

    return run_async(work())


@contextmanager
def _workers(name: str | None, cpus: int | None) -> Iterator[Workers | None]:
    """Give the workers that `--workers` names, or none, and end them. Raises `SpecError`."""
    if name not in (None, "ray"):
        raise SpecError(f"unknown workers {name!r}. Known: ray.")
    if cpus is not None and (name is None or cpus < 1):
        needs = "belongs to --workers ray" if name is None else "takes a whole number of 1 or more"
        raise SpecError(f"--worker-cpus is {cpus}; it {needs}.")
    if name is None:
        yield None
        return
    workers = Workers(cpus)
    try:
        yield workers
    finally:
        workers.close()


def default_folder(spec: Spec) -> Path:
    """Return `results/<tasks>-<models>-<hash of the spec>`: the same command finds its run again."""
    digest = hashlib.sha256(json.dumps(spec.as_dict(), sort_keys=True).encode()).hexdigest()[:6]
    name = "-".join(re.sub(r"[^\w.]+", "_", part) for part in (*spec.tasks[:3], *spec.models[:2]))
    return Path("results") / f"{name[:60]}-{digest}"
