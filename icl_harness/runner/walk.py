"""The walk: every cell of a grid, a draw at a time and shots ascending, so that each prefix is paid
for once.

In: an experiment and a run store. Out: records in the store. A walk that stopped goes on where it
was: what the store holds is not asked again. The same greedy prompt (zero-shot is the same in every
draw) is asked once a run. Lines (lines.py) are walked one by one, or as many at a time as there are
workers, each by one of them; the records are the same. Where a worker dies, its line is walked on
by another, just as a walk that stopped goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from icl_harness.errors import WorkerLost
from icl_harness.models.replicas import Replica, Worker
from icl_harness.models.workers import Workers
from icl_harness.runner.asking import LineWalk, Shared, fit
from icl_harness.runner.experiment import Experiment, Line
from icl_harness.runner.groups import group_sampling, make_asks
from icl_harness.runner.ordering import Place
from icl_harness.runner.overflow import reserved_tokens
from icl_harness.store.records import RunStore

T = TypeVar("T")
PATIENCE = (
    3  # workers that a line may lose in a row without an answer; it may be the line that kills them
)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is. Queries count every ask of a bank too; `workers` are those at work, 0
    without `--workers`.
    """

    cells: int
    queries: int
    cells_done: int = 0
    queries_done: int = 0
    tokens: int = 0
    doing: str = ""
    workers: int = 0


Watch = Callable[[Progress], None]


def run_experiment(experiment: Experiment, store: RunStore, watch: Watch | None = None) -> None:
    """Ask and score all that `store` does not hold yet.

    Raises `AccountError` where no further ask can succeed, `SpecError` where `on_overflow` is error
    and a prompt does not fit.
    """
    run_async(_Walk(experiment, store, watch or (lambda progress: None)).walk())


def refuse_overflow(experiment: Experiment) -> None:
    """Raise `SpecError` where a prompt does not fit; those of reinforced mode are not known before
    their bank.
    """
    for line in experiment.lines():
        if not line.needs_bank:
            path, model, n = (
                experiment.path(line),
                experiment.model(line),
                experiment.spec.queries_per_request,
            )
            weighed = experiment.spec.scoring != "generate"
            examples = experiment.queries(line.task, line.variant, line.draw)
            queries = [path.query(example, weighed=weighed) for example in examples]
            asks, sampling = (
                make_asks(queries, n),
                group_sampling(experiment.sampling(line.task), n),
            )
            reserved = reserved_tokens(model, path, [ask.query for ask in asks], sampling)
            for shots in experiment.spec.shots:
                fit(model, path, shots, reserved, str(line), "error")


class _Walk:
    def __init__(self, experiment: Experiment, store: RunStore, watch: Watch) -> None:
        self.experiment = experiment
        self._shared = Shared(experiment=experiment, store=store)
        self._watch = watch
        spec = experiment.spec
        n_cells = (
            len(spec.models) * len(spec.variants) * len(spec.modes) * spec.draws * len(spec.shots)
        )  # of one task
        n_queries = sum(map(experiment.n_queries, experiment.tasks))
        self._progress = Progress(
            cells=n_cells * len(experiment.tasks), queries=n_cells * n_queries
        )

    async def walk(self) -> None:
        """Start the lines in the order of the grid, each once there is someone to walk it."""
        here = asyncio.Semaphore(1)
        try:
            async with asyncio.TaskGroup() as group:
                for line in self.experiment.lines():
                    group.create_task(await self._start(line, here))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[
                0
            ] from None  # the others only tell the same, or were stopped for it
        finally:
            await self.experiment.close()

    async def _start(self, line: Line, here: asyncio.Semaphore) -> Coroutine[Any, Any, None]:
        model, workers = self.experiment.model(line), self.experiment.workers
        if workers is not None and isinstance(model, Replica):
            worker = await workers.take()
            return self._walk_with(workers, worker, model, self._enter(line))
        if not self.experiment.batch:  # a batch takes hours: all lines are in it at once
            await here.acquire()
        return self._walk_here(here, self._enter(line))

    def _enter(self, line: Line) -> Place:
        return self._shared.turns.enter(line, self.experiment.spec.shots)

    async def _walk_here(self, here: asyncio.Semaphore, place: Place) -> None:
        """Walk a line with the model of this process."""
        model, batch = self.experiment.model(place.line), self.experiment.batch
        await LineWalk(
            shared=self._shared, place=place, model=model, count=self._count, all_at_once=batch
        ).walk()
        await self._shared.turns.leave(place)
        if not batch:
            here.release()

    async def _walk_with(
        self, workers: Workers, worker: Worker, model: Replica, place: Place
    ) -> None:
        """Walk a line with a worker; where it dies, go on with another from what the store holds."""
        n_lost = 0
        while True:
            tally = _Tally(self._count)
            self._count(workers=workers.n_busy)
            try:
                await LineWalk(
                    shared=self._shared, place=place, model=model.on(worker), count=tally.count
                ).walk()
                break
            except WorkerLost:
                tally.undo()
                n_lost = 0 if tally.tokens else n_lost + 1
                if n_lost == PATIENCE:
                    raise
                worker = await workers.replace(worker)
        await self._shared.turns.leave(place)
        workers.give_back(worker)
        self._count(workers=workers.n_busy)

    def _count(
        self,
        *,
        cells: int = 0,
        queries: int = 0,
        unforeseen: int = 0,
        tokens: int = 0,
        doing: str = "",
        workers: int | None = None,
    ) -> None:
        """Count what was done (`unforeseen`: asks to come that the grid does not tell, a bank's);
        tell the watcher.
        """
        was = self._progress
        self._progress = replace(
            was,
            queries=was.queries + unforeseen,
            cells_done=was.cells_done + cells,
            queries_done=was.queries_done + queries,
            tokens=was.tokens + tokens,
            doing=doing or was.doing,
            workers=was.workers if workers is None else workers,
        )
        self._watch(self._progress)


class _Tally:
    """What a walk along a line has counted: where it is to be walked once more, that is counted
    anew.
    """

    def __init__(self, count: Callable[..., None]) -> None:
        self._count = count
        self.tokens = 0
        self._counts = dict.fromkeys(("cells", "queries", "unforeseen"), 0)

    def count(self, *, tokens: int = 0, doing: str = "", **counts: int) -> None:
        for name, n in counts.items():
            self._counts[name] += n
        self.tokens += tokens
        self._count(tokens=tokens, doing=doing, **counts)

    def undo(self) -> None:
        self._count(**{name: -n for name, n in self._counts.items()})


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in a thread of its own where a loop is running already (a
    notebook).
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    from concurrent.futures import Future, ThreadPoolExecutor

    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = Future()

    async def begin() -> T:
        begun.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        return await work

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, begin())
        try:
            return running.result()
        except BaseException:  # Ctrl-C comes here, not to the thread, which would go on asking
            loop, task = begun.result()
            if task is not None and not running.done():
                loop.call_soon_threadsafe(task.cancel)
            raise
