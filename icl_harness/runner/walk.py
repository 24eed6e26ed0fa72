"""The walk: every cell of a grid, a draw at a time and shots ascending, so that each prefix is paid
for once.

In: an experiment and a run store. Out: records in the store. A walk that stopped goes on where it
was: what the store holds is not sent again. Lines (lines.py) are walked one by one, or as many at a
time as there are workers, each by one of them; the records are the same. Where a worker dies, its
line is walked on by another, just as a walk that stopped goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace

from icl_harness.errors import WorkerLost
from icl_harness.models.api.flights import Stopped
from icl_harness.models.replicas import Replica, Worker
from icl_harness.models.workers import Workers
from icl_harness.runner.concurrency import first_error, run_async
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.line import Line
from icl_harness.runner.lines import LineWalk, Shared
from icl_harness.runner.ordering import LineState
from icl_harness.runner.stopping import Stopper
from icl_harness.store.records import RunStore

# workers that a line may lose in a row without an answer; it may be the line that kills them
MOST_LOST = 3


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is. Queries count the requests of a bank, too; `workers` are those at work, 0
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
    """Send and score all that `store` does not hold yet.

    Raises `AccountError` where no further request can succeed, `SpecError` where `on_overflow` is
    error and a prompt does not fit.
    """
    walk = _Walk(experiment, store, watch or (lambda progress: None))
    try:
        run_async(walk.walk(), walk.stopper.press_soon)
    except Stopped:
        raise KeyboardInterrupt from None


class _Walk:
    def __init__(self, experiment: Experiment, store: RunStore, watch: Watch) -> None:
        self.experiment = experiment
        self._shared = Shared(experiment=experiment, store=store)
        self.stopper = Stopper(experiment.terms.flights, experiment.terms.say)
        self._watch = watch
        spec = experiment.spec
        n_lines = len(spec.models) * len(spec.variants) * len(spec.modes) * spec.draws
        n_cells = n_lines * len(spec.shots)  # of one task
        n_queries = spec.samples * sum(map(experiment.n_queries, experiment.tasks))
        self._progress = Progress(
            cells=n_cells * len(experiment.tasks), queries=n_cells * n_queries
        )

    async def walk(self) -> None:
        """Start the lines in the order of the grid, each once there is someone to walk it."""
        here = asyncio.Semaphore(1)
        with self.stopper.watching():
            try:
                with first_error():
                    async with asyncio.TaskGroup() as group:
                        for line in self.experiment.lines():
                            group.create_task(await self._start(line, here))
            finally:
                await self.experiment.close()

    async def _start(self, line: Line, here: asyncio.Semaphore) -> Coroutine[None, None, None]:
        model, workers = self.experiment.model(line), self.experiment.workers
        if workers is not None and isinstance(model, Replica):
            worker = await workers.take()
            return self._walk_with(workers, worker, model, self._enter(line))
        if not self.experiment.batch:  # a batch takes hours: all lines are in it at once
            await here.acquire()
        return self._walk_here(here, self._enter(line))

    def _enter(self, line: Line) -> LineState:
        return self._shared.order.enter(line, self.experiment.spec.shots)

    async def _walk_here(self, here: asyncio.Semaphore, state: LineState) -> None:
        """Walk a line with the model of this process."""
        model, batch = self.experiment.model(state.line), self.experiment.batch
        await LineWalk(
            shared=self._shared, state=state, model=model, count=self._count, in_batch=batch
        ).walk()
        await self._shared.order.leave(state)
        if not batch:
            here.release()

    async def _walk_with(
        self, workers: Workers, worker: Worker, model: Replica, state: LineState
    ) -> None:
        """Walk a line with a worker; where it dies, another goes on from what the store holds."""
        n_lost = 0
        while True:
            tally = _Tally(self._count)
            self._count(workers=workers.n_busy)
            try:
                await LineWalk(
                    shared=self._shared, state=state, model=model.on(worker), count=tally.count
                ).walk()
                break
            except WorkerLost:
                tally.undo()
                n_lost = 0 if tally.tokens else n_lost + 1
                if n_lost == MOST_LOST:
                    raise
                worker = await workers.replace(worker)
        await self._shared.order.leave(state)
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
        """Count what was done (`unforeseen`: queries to come beside those of the grid, a bank's
        say), and show it to the watcher.
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
    """What a walk along a line has counted: it is counted anew where the line is walked again."""

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
