"""Runs from Python: `run(...)` does what `icl run` does, `rescore(...)` what `icl rescore`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from icl_harness.cli.batch_table import refuse_to_leave
from icl_harness.cli.python_objects import (
    GivenModel,
    GivenTask,
    free_folder,
    named_models,
    named_source,
    named_tasks,
    taken_columns,
)
from icl_harness.cli.run_options import RunOptions
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.base import Model
from icl_harness.models.workers import Workers
from icl_harness.plan.asker import make_plan, spent_usd
from icl_harness.plan.estimate import Plan, refuse_cost
from icl_harness.printable import for_stream
from icl_harness.report.results import write_results
from icl_harness.report.run import Run
from icl_harness.runner.bank_warnings import bank_warnings
from icl_harness.runner.banks import check_banks
from icl_harness.runner.concurrency import run_async
from icl_harness.runner.execution import Execution
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.extending import refuse_shorter
from icl_harness.runner.overflow import refuse_overflow
from icl_harness.runner.provenance import spec_defaults
from icl_harness.runner.rescoring import Rescoring
from icl_harness.runner.rescoring import rescore as score_again
from icl_harness.runner.spec import Spec, default_folder
from icl_harness.runner.walk import Watch, run_experiment
from icl_harness.store.header import others_of, read_header
from icl_harness.store.records import RunStore
from icl_harness.tasks.task import Task


def run(
    tasks: GivenTask | Sequence[GivenTask],
    model: GivenModel | Sequence[GivenModel],
    *,
    out: str | Path | None = None,
    watch: Watch | None = None,
    **options: Unpack[RunOptions],
) -> Run:
    """Run a grid, or resume it, and return the run; its folder holds curves.csv and curves.png.

        run("dialects", "demo", shots=[0, 4, 16], draws=3, queries=50).curves()

    A task is a name, a `Task`, or rows: the path of a file, a DataFrame, a list of dicts or of
    `Example`s, whose columns `input`, `target`, `split` and `group` name. What was made of rows is
    said in one line on standard error, or by `say`. A model is an id, an open `Model`, which stays
    open, or a function that is given each prompt's text and returns the answer. `options` are the
    fields of `Spec` (modes, shots, draws, queries, seed, variants, …) and of `Execution` (workers,
    kv_cache, batch, rpm, tpm, max_cost).

    Without `out` the folder's name follows from the spec, so that the same call finds it and asks
    nothing twice; where a function answers, each call has a folder of its own and asks again. An
    `out` that holds another function's answers is refused.

    Raises `IclError`; all answers until then are kept.
    """
    from icl_harness.cli.notes import repeated_notes

    given = dict(options)
    names, own_tasks = named_tasks(tasks, taken_columns(tasks, given))
    own_tasks |= named_source(given, own_tasks)
    ids, opened = named_models(model)
    how = {name: given.pop(name) for name in Execution.model_fields if name in given}
    spec = Spec.from_dict({"tasks": names, "models": ids, **given}, "run()")
    tables = [task.table for task in own_tasks.values() if task.table is not None]
    default = free_folder(default_folder(spec, tables), opened.values())
    folder = default if out is None else Path(out)
    done = execute(spec, folder, Execution.model_validate(how), opened, watch, own_tasks)
    for note in repeated_notes(done.header):
        print(for_stream(note, sys.stderr), file=sys.stderr)
    write_results(done, done.curves())
    return done


def rescore(
    run: str | Path | Run, tasks: GivenTask | Sequence[GivenTask] | None = None
) -> Rescoring:
    """Score a run's stored answers again, asking no model: with its task files as they are now, or
    with `tasks`, which `run` was given. curves.csv and curves.png are written anew.

    Returns how many scores changed, and notes. Raises `IclError`, and then changes nothing.
    """
    folder = run.path if isinstance(run, Run) else Path(run)
    found = score_again(folder, {} if tasks is None else named_tasks(tasks)[1])
    done = Run(folder)
    write_results(done, done.curves())
    return found


def execute(
    spec: Spec,
    out: Path,
    how: Execution = Execution(),
    models: Mapping[str, Model] | None = None,
    watch: Watch | None = None,
    tasks: Mapping[str, Task] | None = None,
    *,
    extends: bool = False,
) -> Run:
    """Run `spec` into the folder `out`, which may hold a smaller grid where it `extends` one.
    Whatever is refused is refused before anything is written.
    """
    how.refuse_idle_for(spec.models, spec.scoring)
    terms = how.terms()
    with _workers(how) as workers:
        cache = how.disk_cache()
        experiment = Experiment(spec, models, workers, cache, terms, batch=how.batch, tasks=tasks)
        _say_what_was_found(experiment, how)
        for warning in bank_warnings(experiment):
            _say_aloud(how, warning)
        _refuse_early(experiment, out, how, extends=extends)
        header = experiment.header()
        _say_of_other_replies(out, header)
        store = RunStore.create_or_resume(out, header, spec_defaults(), extends=extends)
        terms.ledger = terms.flights.ledger = Ledger(out)
        if terms.budget is not None:
            terms.budget.spent_usd = spent_usd(experiment, store)
        try:
            run_experiment(experiment, store, watch)
            terms.ledger.all_answered()
        finally:
            terms.flights.close()
            terms.ledger.close()
            store.close()
    return Run(out)


def _say_what_was_found(experiment: Experiment, how: Execution) -> None:
    """Say of each task that has no file of its own what its rows were taken for: aloud, where
    nobody else listens, as it decides what is measured.
    """
    for task in (*experiment.tasks, *experiment.sources):
        if task.table is not None or task.origin is not None:
            _say_aloud(how, f"{task.name}: {task.doc}")


def _say_aloud(how: Execution, text: str) -> None:
    """Say something to who listens, or on standard error."""
    if "say" in how.model_fields_set:
        how.say(text)
    else:
        print(for_stream(text, sys.stderr), file=sys.stderr)


def _say_of_other_replies(out: Path, header: Mapping[str, Any]) -> None:
    """Say which open models answer by another function than they did: they are asked only for what
    is missing.
    """
    for name in others_of(read_header(out) or {}, header, "reply"):
        print(
            f"{name}: {out} holds answers of another function of this model, which are kept; choose"
            " another out to ask again",
            file=sys.stderr,
        )


def _refuse_early(
    experiment: Experiment, out: Path, how: Execution, *, extends: bool = False
) -> None:
    """Refuse what cannot succeed, or would cost more than it may, before anything is written."""
    _refuse_what_cannot_be_asked(experiment, out)
    if extends:
        refuse_shorter(experiment, out)
    if how.max_cost is not None:
        plan = run_async(make_plan(experiment, out, apis_only=True, extends=extends))
        for note in plan.notes:
            how.say(note)
        refuse_cost(plan, how.max_cost, batch=how.batch)
    if not how.batch:
        refuse_to_leave(out)


def _refuse_what_cannot_be_asked(experiment: Experiment, out: Path) -> None:
    check_banks(experiment, out)
    if experiment.spec.on_overflow == "error":
        refuse_overflow(experiment)


def plan_run(
    spec: Spec,
    out: Path,
    how: Execution = Execution(),
    models: Mapping[str, Model] | None = None,
) -> Plan:
    """Return what `execute` would have to do, less what the folder `out` holds already. No model is
    asked and nothing is written; where a key is there, the provider counts tokens.
    """
    how.refuse_idle_for(spec.models, spec.scoring)
    terms = replace(how.terms(), keyless=True)
    experiment = Experiment(spec, models, terms=terms, batch=how.batch)
    _say_what_was_found(experiment, how)
    _refuse_what_cannot_be_asked(experiment, out)
    found = run_async(plan_and_close(experiment, out))
    return replace(found, notes=(*bank_warnings(experiment), *found.notes))


async def plan_and_close(experiment: Experiment, out: Path) -> Plan:
    """Return what an experiment would have to do, and close its models."""
    try:
        return await make_plan(experiment, out)
    finally:
        await experiment.close()


@contextmanager
def _workers(how: Execution) -> Iterator[Workers | None]:
    """Give the workers of `--workers`, or none, and stop them at the end."""
    if how.workers is None:
        yield None
        return
    workers = Workers(how.worker_cpus)
    try:
        yield workers
    finally:
        workers.close()
