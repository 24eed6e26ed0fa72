"""The walk: every cell of a grid, a draw at a time and shots ascending, so that each prefix is paid for once (floor 3).

In: an experiment and a run store. Out: records in the store. A walk that stopped goes on where it was: what the store
holds is not asked again. The same greedy prompt (zero-shot is the same in every draw) is asked once a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from icl_harness.banking import apply_scorer, obtain_bank
from icl_harness.draws import stable_seed
from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.experiment import Experiment, Line
from icl_harness.models.base import Answer, Model, Usage, spent_tokens
from icl_harness.modes import PromptPath
from icl_harness.plan import fitting_shots, reserved_tokens
from icl_harness.prompts import Node, Prompt, Query
from icl_harness.results import Cell, Record, RunStore


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is. Queries count every ask of a bank too."""

    cells: int
    queries: int
    cells_done: int = 0
    queries_done: int = 0
    tokens: int = 0
    doing: str = ""


Watch = Callable[[Progress], None]


def run_experiment(experiment: Experiment, store: RunStore, watch: Watch | None = None) -> None:
    """Ask and score all that `store` does not hold yet.

    Raises `AccountError` where no further ask can succeed, `SpecError` where `on_overflow` is error and a prompt does
    not fit.
    """
    _run_async(_Walk(experiment, store, watch or (lambda progress: None)).walk())


def refuse_overflow(experiment: Experiment) -> None:
    """Raise `SpecError` where a prompt does not fit; those of reinforced mode are not known before their bank."""
    for line in experiment.lines():
        if line.mode != "reinforced":
            path, model = experiment.path(line), experiment.model(line)
            queries = [path.query(e) for e in experiment.queries(line.task, line.variant, line.draw)]
            reserved = reserved_tokens(model, path, queries, experiment.sampling(line.task))
            for shots in experiment.spec.shots:
                _fit(model, path, shots, reserved, str(line), "error")


class _Walk:
    def __init__(self, experiment: Experiment, store: RunStore, watch: Watch) -> None:
        self.experiment = experiment
        self.store = store
        self._watch = watch
        spec = experiment.spec
        n_cells = len(spec.models) * len(spec.variants) * len(spec.modes) * spec.draws * len(spec.shots)  # of one task
        n_queries = sum(map(experiment.n_queries, experiment.tasks))
        self._progress = Progress(cells=n_cells * len(experiment.tasks), queries=n_cells * n_queries)

    async def walk(self) -> None:
        try:
            for line in self.experiment.lines():
                await self._walk_line(line)
        finally:
            await self.experiment.close()

    async def _walk_line(self, line: Line) -> None:
        experiment, task = self.experiment, line.task
        model = experiment.model(line)
        bank = None
        if line.mode == "reinforced":
            bank = await obtain_bank(experiment, self.store.path, line, self._count)
        path = experiment.path(line, bank)
        examples = {e.id: e for e in experiment.queries(task, line.variant, line.draw)}
        seed = stable_seed(experiment.spec.seed, task.name, line.draw)
        queries = [path.query(example, seed=seed) for example in examples.values()]
        reserved = reserved_tokens(model, path, queries, experiment.sampling(task))
        for shots in experiment.spec.shots:
            cell = Cell(
                task=task.name, model=line.model, mode=line.mode, variant=line.variant,
                shots=shots, draw=line.draw, metric=task.metric,
            )  # fmt: skip
            done = self.store.done(cell)
            pending = [q for q in queries if (q.id, q.sample) not in done]
            self._count(queries=len(queries) - len(pending), doing=f"{line}, {shots} shots")
            if pending:
                fitted = _fit(model, path, shots, reserved, str(line), experiment.spec.on_overflow)
                if fitted is None:
                    self._skip(cell, path.node(0), pending)
                else:
                    await self._ask(cell, line, path.node(fitted), pending, examples)
            self._count(cells=1)

    async def _ask(
        self, cell: Cell, line: Line, node: Node, queries: Sequence[Query], examples: Mapping[str, Example]
    ) -> None:
        """Ask the queries behind one node and store their answers as they come."""
        sampling = self.experiment.sampling(line.task)
        by_key = {(q.id, q.sample): q for q in queries}

        def keep(answers: Sequence[Answer], reused: bool = False) -> None:
            prompts = [Prompt(node, by_key[a.query_id, a.sample]) for a in answers]
            self.store.add(cell, [_scored(p, a, line, examples, reused) for p, a in zip(prompts, answers, strict=True)])
            tokens = 0 if reused else sum(spent_tokens(a.usage) for a in answers)
            self._count(queries=len(answers), tokens=tokens)

        known = self.store.answered(cell, node) if sampling.temperature == 0 else {}
        copies = [_copy(q, known[q.text]) for q in queries if q.text in known]
        if copies:
            keep(copies, reused=True)
        asked = [q for q in queries if q.text not in known]
        waiting = {(q.id, q.sample) for q in asked}
        if asked:
            async with aclosing(self.experiment.model(line).answers(node, asked, sampling)) as stream:
                async for answers in stream:
                    keep(answers)
                    waiting -= {(a.query_id, a.sample) for a in answers}
                    await asyncio.sleep(0)  # a back end that never waits would not let Ctrl-C in
        if waiting:
            keep([_failed(by_key[key], "the back end gave no answer") for key in sorted(waiting)])

    def _skip(self, cell: Cell, node: Node, queries: Sequence[Query]) -> None:
        """Record queries whose prompt does not fit as overflow, without asking."""
        error = f"{cell.shots} shots do not fit into the context window"
        answers = [Answer(query_id=q.id, sample=q.sample, status="overflow", error=error) for q in queries]
        self.store.add(cell, [Record(prompt=Prompt(node, q), answer=a) for q, a in zip(queries, answers, strict=True)])
        self._count(queries=len(queries))

    def _count(
        self, *, cells: int = 0, queries: int = 0, unforeseen: int = 0, tokens: int = 0, doing: str = ""
    ) -> None:
        """Count what was done (`unforeseen`: asks to come that the grid does not tell, a bank's); tell the watcher."""
        was = self._progress
        self._progress = replace(
            was,
            queries=was.queries + unforeseen,
            cells_done=was.cells_done + cells,
            queries_done=was.queries_done + queries,
            tokens=was.tokens + tokens,
            doing=doing or was.doing,
        )
        self._watch(self._progress)


def _fit(model: Model, path: PromptPath, shots: int, reserved: int, where: str, on_overflow: str) -> int | None:
    """Return how many shots the cell gets: all there are or what the policy leaves; None where it is skipped."""
    wanted = min(shots, len(path.shots))  # a bank may hold fewer
    fitted = fitting_shots(model, path, wanted, reserved)
    if fitted == wanted:
        return fitted
    if on_overflow == "error":
        most = "not even the query fits" if fitted is None else f"{fitted:,} shots fit"
        raise SpecError(
            f"{where}: {shots:,} shots do not fit into the {model.capabilities.context_window:,} tokens of {model.id}; "
            f"{most}. Ask for fewer, or use --on-overflow drop or skip."
        )
    return fitted if on_overflow == "drop" else None


def _scored(prompt: Prompt, answer: Answer, line: Line, examples: Mapping[str, Example], reused: bool) -> Record:
    if answer.text is None:
        return Record(prompt=prompt, answer=answer)
    score = apply_scorer(line.task, line.task.scorer, answer.text, examples[answer.query_id])
    return Record(prompt=prompt, answer=answer, parsed=score.parsed, score=score.value, reused=reused)


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


def _run_async(walk: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, in a thread of its own where a loop is running already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(walk)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, walk).result()
