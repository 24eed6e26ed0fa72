"""Runs from Python: `run(...)` does what `icl run` does, `Run` reads what a run left, finished or not (floor 5)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_harness.banking import check_banks
from icl_harness.batches import refuse_to_leave
from icl_harness.errors import SpecError, StoreError, nearest
from icl_harness.experiment import Experiment
from icl_harness.grid import Spec
from icl_harness.ledger import Ledger
from icl_harness.models.api.limiter import Rates
from icl_harness.models.api.terms import Budget, Terms
from icl_harness.models.base import KvCache, Model
from icl_harness.models.workers import Workers
from icl_harness.plan import Plan, refuse_cost
from icl_harness.planning import make_plan, spent_usd
from icl_harness.results import Cell, RunStore
from icl_harness.run_file import servers
from icl_harness.runner import Watch, refuse_overflow, run_async, run_experiment

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


FORMS = ("csv", "jsonl", "parquet")  # of an export


class Run:
    """A run folder, read anew at every call."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        RunStore.open(self.path).close()  # says at once that it is no run

    @property
    def header(self) -> dict[str, Any]:
        """Return `run.json`: spec, data hashes, versions."""
        store = RunStore.open(self.path)
        try:
            return store.header
        finally:
            store.close()

    def records(self) -> pd.DataFrame:
        """Return one row per answer."""
        store = RunStore.open(self.path)
        try:
            return store.records()
        finally:
            store.close()

    def curves(self) -> pd.DataFrame:
        """Return one row per point of every curve, with its interval: the columns of `curves.csv`."""
        from icl_harness.curves import curves

        return curves(self.records())

    def compare(self, by: str = "mode") -> pd.DataFrame:
        """Return paired differences per shot count between the values of `by`."""
        from icl_harness.compare import compare

        return compare(self.records(), by=by)

    def plot(self) -> Figure:
        """Return the picture of the curves."""
        from icl_harness.plots import plot

        return plot(self.curves(), self.chance())

    def chance(self) -> dict[str, float | None]:
        """Return the chance level of each task."""
        return {name: task["chance"] for name, task in self.header["tasks"].items()}

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out: no part of what is measured, so a run may be gone on with in another way.

    `workers="ray"` spreads local models over the machines of a Ray cluster, with `worker_cpus` CPUs each; `kv_cache`
    keeps the keys and values of `hf/` models between runs. `batch` hands requests to APIs in batches, `rpm` and `tpm`
    are the account's requests and tokens a minute, `max_cost` the dollars that the run may spend; `say` is told what
    cannot wait for the end.
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
        return Terms(rates=Rates(rpm=self.rpm, tpm=self.tpm), budget=budget, batch=self.batch, say=self.say)


def run(
    tasks: str | Sequence[str],
    model: str | Model | Sequence[str | Model],
    *,
    out: str | Path | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> Run:
    """Run a grid, or go on with it, and return the run.

    `options` are the fields of `Spec` (modes, shots, draws, queries, seed, variants, …) and of `Execution` (workers,
    kv_cache, batch, rpm, tpm, max_cost). A model is an id or an open `Model`, which stays open. Without `out` the
    folder's name follows from the spec, so that the same call finds it.

        run("dialects", "demo", modes=["supervised"], shots=[0, 4, 16], draws=3, queries=50).curves()

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
            raise SpecError(f"--batch takes answers that are generated, not --scoring {spec.scoring}. Leave one out.")
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


def plan_run(spec: Spec, out: Path, how: Execution = Execution(), models: dict[str, Model] | None = None) -> Plan:
    """Return what `execute` would have to do, less what the folder `out` holds already. Asks no model, writes nothing.

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


def load_runs(folders: Sequence[Path]) -> tuple[list[Run], pd.DataFrame]:
    """Return runs and their records in one table. Raises `StoreError` where they cannot stand in one.

    Runs of a task must share its data, its pool and the seed, or a draw of one is not that draw of the other; a curve
    must come from one way of asking; and no cell may be counted twice.
    """
    import pandas as pd

    runs = [Run(folder) for folder in dict.fromkeys(folder.resolve() for folder in folders)]
    frames = [run.records() for run in runs]
    for i, one in enumerate(runs):
        for j in range(i):
            _check_joinable(one, frames[i], runs[j], frames[j])
    return runs, pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]


def _check_joinable(one: Run, frame: pd.DataFrame, other: Run, other_frame: pd.DataFrame) -> None:
    where = f"{other.path.name} and {one.path.name} cannot be put together"
    mine, theirs = one.header, other.header
    shared = set(mine["data"]) & set(theirs["data"])
    for task in sorted(shared):
        for name in ("seed", "pool"):
            if mine["spec"][name] != theirs["spec"][name]:
                raise StoreError(f"{where}: their draws of {task} differ, as --{name} does. Run them alike.")
        if mine["data"][task] != theirs["data"][task]:
            raise StoreError(f"{where}: their data of {task} differ.")
    line = ["task", "model", "mode", "variant", "format", "queries_per_request"]
    cell = [*line, "shots", "draw"]
    if not _keys(frame, line) & _keys(other_frame, line):
        return
    asked = set(mine["spec"]) - {"tasks", "models", "modes", "variants", "shots", "draws", "on_overflow", "bank"}
    differing = sorted(name for name in asked if mine["spec"][name] != theirs["spec"].get(name))
    for what, ours, others in (
        ("wording or scoring", mine["prompts"], theirs["prompts"]),
        ("weights", mine["weights"], theirs["weights"]),
        ("server", servers(mine), servers(theirs)),
    ):
        both = set(ours) & set(others)
        differing += [f"{what} of {name}" for name in sorted(both) if ours[name] != others[name]]
    if differing:
        raise StoreError(f"{where}: they hold the same curve, asked in different ways ({', '.join(differing)}).")
    if _keys(frame, cell) & _keys(other_frame, cell):
        raise StoreError(f"{where}: both hold the same cells, which would be counted twice.")


def _keys(frame: pd.DataFrame, columns: list[str]) -> set[tuple[Any, ...]]:
    return set(frame[columns].drop_duplicates().itertuples(index=False, name=None))


def find_prompts(folder: Path, query_id: str, wanted: dict[str, Any]) -> list[tuple[Cell, str]]:
    """Return (cell, whole prompt) of every cell that asked a query. Raises `SpecError` where none did."""
    store = RunStore.open(folder)
    try:
        found = store.prompts(query_id, **wanted)
        if not found:
            known = store.query_ids()
            where = "".join(f", {name} {value}" for name, value in wanted.items())
            hint = nearest(query_id, known) or f" It asked {', '.join(known[:3])}, …"
            if query_id in known:
                cells = [cell for cell, _ in store.prompts(query_id)]
                there = [(name, dict.fromkeys(str(getattr(cell, name)) for cell in cells)) for name in wanted]
                hint = f" It was asked with {', '.join(' '.join([name, *values]) for name, values in there)}."
            raise SpecError(f"{folder}: query {query_id!r}{where} was not asked.{hint}")
        return found
    finally:
        store.close()


def export(frame: pd.DataFrame, form: str) -> bytes:
    """Return a table as csv, jsonl or parquet. Raises `SpecError` for another form."""
    import io

    buffer = io.BytesIO()
    if form == "parquet":
        frame.to_parquet(buffer, index=False)
    elif form == "jsonl":
        frame.to_json(buffer, orient="records", lines=True, force_ascii=False)
    elif form == "csv":
        flat = frame.assign(shot_ids=frame["shot_ids"].map(json.dumps)) if "shot_ids" in frame else frame
        flat.to_csv(buffer, index=False, lineterminator="\n")
    else:
        raise SpecError(f"unknown format {form!r}. Known: {', '.join(FORMS)}.")
    return buffer.getvalue()
