"""The walk: every cell of a grid, a draw at a time and shots ascending, so that each prefix is paid for once (floor 3).

In: a spec and open models. Out: records in a run store. A walk that stopped goes on where it was: what the store holds
is not asked again. An answer to the same greedy prompt (zero-shot is the same in every draw) is asked once a run.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from icl_harness.banking import obtain_bank
from icl_harness.draws import draw_order, sample_examples, stable_seed
from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.grid import Spec
from icl_harness.models import open_model
from icl_harness.models.base import Answer, Model, Sampling, Usage
from icl_harness.modes import Mode, PromptPath, gold_shots
from icl_harness.plan import fitting_shots, reserved_tokens
from icl_harness.prompts import Node, Prompt, Query, Template
from icl_harness.results import Cell, Record, RunStore
from icl_harness.tasks import Dataset, Task, find_tasks, labels_of, load_examples, load_template

T = TypeVar("T")
PACKAGES = ("icl-harness", "numpy", "torch", "transformers", "tokenizers", "datasets", "scikit-learn", "openai", "anthropic", "google-genai")  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """How far a run is. Queries count every ask of a bank too."""

    cells: int
    cells_done: int = 0
    queries: int = 0
    queries_done: int = 0
    tokens: int = 0
    doing: str = ""


class Runner:
    """One run: the resolved spec, its tasks and its open models. Everything that can be refused is refused here."""

    def __init__(
        self, spec: Spec, models: Mapping[str, Model] | None = None, watch: Callable[[Progress], None] | None = None
    ) -> None:
        self.spec = spec
        self.data = Path(spec.data) if spec.data else None
        self.tasks = self._resolve_tasks()
        self.templates: dict[str, Template] = {task.name: load_template(task) for task in self.tasks}
        self._datasets: dict[tuple[str, int, str], Dataset] = {}
        for task in self.tasks:
            for variant in spec.variants:
                self._check(task, variant)
        self._given = dict(models or {})
        self._models: dict[tuple[str, str], Model] = {}
        for name in spec.models:
            for task in self.tasks:
                self._models[name, task.name] = self._open(name, task)
        if spec.on_overflow == "error":
            self._refuse_overflow()
        self._watch = watch or (lambda progress: None)
        n_cells = len(list(self._groups())) * len(spec.shots)
        n_queries = sum(self._n_queries(task) for _, task, *_ in self._groups()) * len(spec.shots)
        self.progress = Progress(cells=n_cells, queries=n_queries)

    def header(self) -> dict[str, Any]:
        """Return what `run.json` says of this run."""
        first = self.spec.variants[0]
        data, tasks = {}, {}
        for task in self.tasks:
            found = self.dataset(task, 0, first)
            data[task.name] = {"pool": found.pool_hash, "queries": found.queries_hash}
            tasks[task.name] = {
                "metric": task.metric, "chance": task.chance, "n_pool": len(found.pool),
                "n_queries": self._n_queries(task), "n_dropped": found.n_dropped,
            }  # fmt: skip
        return {
            "spec": self.spec.as_dict(),
            "data": data,
            "templates": {name: template.hash for name, template in self.templates.items()},
            "tasks": tasks,
            "data_dir": self.spec.data,
            "models": {name: self._models[name, self.tasks[0].name].describe() for name in self.spec.models},
            "versions": {"python": platform.python_version(), **_versions()},
        }

    def run(self, store: RunStore) -> None:
        """Ask and score all that `store` does not hold yet. Raises `AccountError` where no further ask can succeed."""
        _run_async(self._walk(store))

    def dataset(self, task: Task, draw: int, variant: str) -> Dataset:
        """Return the examples of a draw; only the episodes of a `per_draw` task differ between draws."""
        key = (task.name, draw if task.per_draw else 0, variant)
        if key not in self._datasets:
            if task.per_draw:  # an episode is used up with its draw
                self._datasets = {k: v for k, v in self._datasets.items() if k[0] != task.name}
            found = load_examples(task, data=self.data, seed=self.spec.seed, draw=key[1], variant=variant)
            pool = sample_examples(found.pool, self.spec.pool, self.spec.seed, f"pool {task.name}")
            self._datasets[key] = replace(found, pool=tuple(pool))
        return self._datasets[key]

    def paths(self, task: Task, mode: Mode, variant: str, draw: int, bank: Any = None) -> PromptPath:
        """Return the prompt path of one (task, mode, variant, draw); `bank` is that of reinforced mode."""
        pool = self.dataset(task, draw, variant).pool
        # The pool of an episode comes in an order of its own (class-balanced, say); a fixed pool is permuted.
        order = list(pool) if task.per_draw else draw_order(pool, self.spec.seed, draw, task.name)
        worked: Sequence[Example] = ()
        if mode == "unsupervised" and self.spec.worked:
            order, worked = order[: -self.spec.worked], order[-self.spec.worked :]
        shots = bank.shots(order) if bank is not None else gold_shots(order, mode)
        variables = {**task.fields, "labels": labels_of(task, variant)}
        return PromptPath(self.templates[task.name], mode, shots, variables, worked)

    def _resolve_tasks(self) -> list[Task]:
        tasks = {task.name: task for name in self.spec.tasks for task in find_tasks(name)}
        return list(tasks.values())

    def _check(self, task: Task, variant: str) -> None:
        """Refuse what the task cannot give, and render one prompt of each mode to find a faulty template."""
        pool = self.dataset(task, 0, variant).pool
        most, spec = max(self.spec.shots), self.spec
        if most > len(pool):
            raise SpecError(
                f"{task.name} has {len(pool):,} pool examples; --shots asks for {most:,}. Ask for at most {len(pool):,}."
            )
        if "unsupervised" in spec.modes and most > len(pool) - spec.worked:
            raise SpecError(
                f"{task.name} has {len(pool):,} pool examples, of which {spec.worked} are worked examples; --shots asks "
                f"for {most:,}. Ask for at most {len(pool) - spec.worked:,}."
            )
        if spec.scoring != "generate" and not self.dataset(task, 0, variant).queries[0].choices:
            raise SpecError(f"{task.name} has no fixed choices to score. Use --scoring generate.")
        for mode in spec.modes:
            path = self.paths(task, mode, variant, 0)
            path.node(min(1, len(path.shots)))
            path.query(self.queries(task, 0, variant)[0])

    def _open(self, name: str, task: Task) -> Model:
        if name in self._given:
            return self._given[name]
        if not name.startswith("baseline/"):
            for (opened, _), model in self._models.items():
                if opened == name:
                    return model
        return open_model(name, base_url=self.spec.base_url, model_args=self.spec.model_args, learner=task.learner)

    def _groups(self) -> Iterator[tuple[str, Task, str, Mode, int]]:
        """Yield (model, task, variant, mode, draw): the cells of one group share one path."""
        for model in self.spec.models:
            for task in self.tasks:
                for variant in self.spec.variants:
                    for mode in self.spec.modes:
                        for draw in range(self.spec.draws):
                            yield model, task, variant, mode, draw

    def queries(self, task: Task, draw: int, variant: str) -> list[Example]:
        """Return the examples that are asked: the same in every cell of a task, or of an episode."""
        return sample_examples(
            self.dataset(task, draw, variant).queries, self.spec.queries, self.spec.seed, f"queries {task.name}"
        )

    def _n_queries(self, task: Task) -> int:
        return len(self.queries(task, 0, self.spec.variants[0]))

    def sampling(self, task: Task) -> Sampling:
        """Return how the answers of a task's cells are made."""
        return Sampling(
            max_tokens=self.spec.max_tokens or task.max_tokens,
            temperature=self.spec.temperature,
            stop=task.stop,
            scoring=self.spec.scoring,
        )

    def _refuse_overflow(self) -> None:
        for name, task, variant, mode, draw in self._groups():
            if mode != "reinforced":  # its prompts are not known before the bank is made
                path, model = self.paths(task, mode, variant, draw), self._models[name, task.name]
                queries = [path.query(example) for example in self.queries(task, draw, variant)]
                reserved = reserved_tokens(model, path, queries, self.sampling(task))
                for shots in self.spec.shots:
                    _fit(model, path, shots, reserved, f"{task.name}, {mode}, draw {draw}", "error")

    async def _walk(self, store: RunStore) -> None:
        try:
            for name, task, variant, mode, draw in self._groups():
                await self._walk_path(store, name, task, variant, mode, draw)
        finally:
            for model in {id(m): m for m in self._models.values()}.values():
                if model not in self._given.values():
                    await model.close()

    async def _walk_path(self, store: RunStore, name: str, task: Task, variant: str, mode: Mode, draw: int) -> None:
        model, sampling = self._models[name, task.name], self.sampling(task)
        bank = await obtain_bank(self, store, name, model, task, variant, draw) if mode == "reinforced" else None
        path = self.paths(task, mode, variant, draw, bank)
        examples = {example.id: example for example in self.queries(task, draw, variant)}
        seed = stable_seed(self.spec.seed, task.name, draw)
        queries = [path.query(example, seed=seed) for example in examples.values()]
        reserved = reserved_tokens(model, path, queries, sampling)
        for shots in self.spec.shots:
            cell = Cell(
                task=task.name, model=name, mode=mode, variant=variant, shots=shots, draw=draw, metric=task.metric
            )
            done = store.done(cell)
            pending = [q for q in queries if (q.id, q.sample) not in done]
            self.advance(queries=len(queries) - len(pending), doing=f"{task.name} {name} {mode} {shots} shots")
            if pending:
                where = f"{task.name}, {mode}, draw {draw}"
                fitted = _fit(model, path, min(shots, len(path.shots)), reserved, where, self.spec.on_overflow)
                if fitted is None:
                    self._skip(store, cell, path.node(0), pending)
                else:
                    await self._ask(store, cell, model, path.node(fitted), pending, examples, sampling, task)
            self.advance(cells=1)

    async def _ask(
        self,
        store: RunStore,
        cell: Cell,
        model: Model,
        node: Node,
        queries: Sequence[Query],
        examples: Mapping[str, Example],
        sampling: Sampling,
        task: Task,
    ) -> None:
        """Ask the queries behind one node and store their answers as they come."""

        def scored(answer: Answer, reused: bool = False) -> Record:
            prompt = Prompt(node, by_key[answer.query_id, answer.sample])
            if answer.text is None:
                return Record(prompt=prompt, answer=answer)
            score = task.scorer(answer.text, examples[answer.query_id])
            return Record(prompt=prompt, answer=answer, parsed=score.parsed, score=score.value, reused=reused)

        by_key = {(q.id, q.sample): q for q in queries}
        known = store.answered(cell.model, node) if sampling.temperature == 0 else {}
        copies = [scored(_copy(q, known[q.text]), reused=True) for q in queries if q.text in known]
        if copies:
            store.add(cell, copies)
            self.advance(queries=len(copies))
        asked = [q for q in queries if q.text not in known]
        waiting = {(q.id, q.sample) for q in asked}
        if asked:
            async with aclosing(model.answers(node, asked, sampling)) as stream:  # type: ignore[type-var]
                async for answers in stream:
                    store.add(cell, [scored(answer) for answer in answers])
                    waiting -= {(a.query_id, a.sample) for a in answers}
                    self.advance(queries=len(answers), tokens=sum(_tokens(a.usage) for a in answers))
        lost = [_failed(by_key[key], "the back end gave no answer") for key in sorted(waiting)]
        if lost:
            store.add(cell, [scored(answer) for answer in lost])
            self.advance(queries=len(lost))

    def _skip(self, store: RunStore, cell: Cell, node: Node, queries: Sequence[Query]) -> None:
        """Record queries whose prompt does not fit as overflow, without asking."""
        error = f"{cell.shots} shots do not fit into the context window"
        answers = [Answer(query_id=q.id, sample=q.sample, status="overflow", error=error) for q in queries]
        store.add(cell, [Record(prompt=Prompt(node, q), answer=a) for q, a in zip(queries, answers, strict=True)])
        self.advance(queries=len(queries))

    def advance(self, *, cells: int = 0, queries: int = 0, more: int = 0, tokens: int = 0, doing: str = "") -> None:
        """Count what was done (`more`: asks that were not foreseen, those of a bank) and tell the watcher."""
        was = self.progress
        self.progress = Progress(
            cells=was.cells,
            cells_done=was.cells_done + cells,
            queries=was.queries + more,
            queries_done=was.queries_done + queries,
            tokens=was.tokens + tokens,
            doing=doing or was.doing,
        )
        self._watch(self.progress)


def _fit(model: Model, path: PromptPath, shots: int, reserved: int, where: str, on_overflow: str) -> int | None:
    """Return how many shots the cell gets under the overflow policy, None where it is skipped."""
    fitted = fitting_shots(model, path, min(shots, len(path.shots)), reserved)
    if fitted == min(shots, len(path.shots)):
        return fitted
    if on_overflow == "error":
        most = "not even the query fits" if fitted is None else f"{fitted:,} shots fit"
        raise SpecError(
            f"{where}: {shots:,} shots do not fit into the {model.capabilities.context_window:,} tokens of {model.id}; "
            f"{most}. Ask for fewer, or use --on-overflow drop or skip."
        )
    return fitted if on_overflow == "drop" else None


def _copy(query: Query, known: tuple[Any, ...]) -> Answer:
    text, prompt_tokens, cached_tokens, completion_tokens, cost_usd = known
    usage = Usage(
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        completion_tokens=completion_tokens,
        cost_usd=None if cost_usd is None else 0.0,  # it was paid for once
    )
    return Answer(query_id=query.id, sample=query.sample, text=text, usage=usage)


def _failed(query: Query, error: str) -> Answer:
    return Answer(query_id=query.id, sample=query.sample, status="failed", error=error)


def _tokens(usage: Usage) -> int:
    return (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _run_async(walk: Any) -> None:
    """Run a coroutine to its end, in a thread of its own where a loop is running already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(walk)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, walk).result()
