"""One line of the grid: its cells, shots ascending, sent to one model.

In: a line, a model, a run store. Out: records in the store, and a bank where the line needs one.
What the store holds is not sent again, so a line that was left can be walked once more, with
another worker, say.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from icl_harness.counts import n_of
from icl_harness.models.api.flights import Stopped
from icl_harness.models.base import Model
from icl_harness.prompts.modes import PromptPath
from icl_harness.runner.asking import CellAsker
from icl_harness.runner.banks import bank_name, obtain_bank
from icl_harness.runner.choice_scores import BareWeights, correction_of
from icl_harness.runner.concurrency import first_error
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.ordering import GridOrder, LineState
from icl_harness.runner.overflow import Fitting, ask_bundle
from icl_harness.runner.schedule import Scope
from icl_harness.runner.scopes import cell_of, line_scope
from icl_harness.store.records import RunStore


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What the lines of a walk share. `banks`: a lock each, so that a bank is made once."""

    experiment: Experiment
    store: RunStore
    order: GridOrder = field(default_factory=GridOrder)
    banks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    bare: dict[str, BareWeights] = field(default_factory=dict)  # of each model

    def bare_weights(self, model: str) -> BareWeights | None:
        """Return what choices weigh behind bare prompts of a model, where that is wanted."""
        correction = correction_of(self.experiment.spec.scoring)
        if correction is None:
            return None
        return self.bare.setdefault(model, BareWeights(correction=correction))


@dataclass(frozen=True, kw_only=True)
class LineWalk:
    """A walk along one line. `count` is given what was done: cells, queries, tokens, and requests
    that were unforeseen. `in_batch`: the cells are sent at the same time.
    """

    shared: Shared
    state: LineState
    model: Model
    count: Callable[..., None]
    in_batch: bool = False

    async def walk(self) -> None:
        """Send and score what the store does not hold yet."""
        experiment, line = self.shared.experiment, self.state.line
        path = await self._path()
        await self.shared.order.update(self.state, path=path)
        scope = line_scope(experiment, line, path)
        self.shared.store.add_queries(line.task.name, line.variant, scope.examples.values())
        fitting = Fitting(self.model, experiment.spec.on_overflow)
        if not self.in_batch:
            for shots in experiment.spec.shots:
                await self._walk_cell(scope, fitting, shots)
            return
        with first_error():
            async with asyncio.TaskGroup() as group:
                for shots in experiment.spec.shots:
                    group.create_task(self._walk_cell(scope, fitting, shots))

    async def _path(self) -> PromptPath:
        experiment, line = self.shared.experiment, self.state.line
        if not line.needs_bank:
            return experiment.path(line, model=self.model)
        async with self.shared.banks[bank_name(line)]:
            store = self.shared.store
            bank = await obtain_bank(
                experiment, store.path, line, self.model, self.count, store.check
            )
        return experiment.path(line, bank, self.model)

    async def _walk_cell(self, scope: Scope, fitting: Fitting, shots: int) -> None:
        if self.shared.experiment.terms.flights.stopping:
            raise Stopped
        asker = self._asker(scope, shots)
        schedule = self.shared.experiment.schedule(self.state.line)
        self.count(doing=f"{self.state.line}, {n_of(shots, 'shot')}")
        foreseen = len(scope.examples) * scope.samples
        bundles = schedule(scope, shots, lambda: asker.store.outcomes(asker.cell))
        for position, bundle in enumerate(bundles):
            n_queries = sum(len(request.members) for request in bundle.requests(bundle.most_shots))
            self.count(unforeseen=n_queries - foreseen)
            foreseen = 0
            await ask_bundle(asker, bundle, fitting, position)
        self._note_most_shots(asker, scope)
        await self.shared.order.update(self.state, done=shots)
        self.count(cells=1)

    def _asker(self, scope: Scope, shots: int) -> CellAsker:
        shared, state = self.shared, self.state
        return CellAsker(
            store=shared.store,
            cell=cell_of(shared.experiment.spec, state.line, shots),
            state=state,
            order=shared.order,
            model=self.model,
            examples=scope.examples,
            count=self.count,
            in_batch=self.in_batch,
            bare=shared.bare_weights(state.line.model),
        )

    def _note_most_shots(self, asker: CellAsker, scope: Scope) -> None:
        """Take note of a cell that dropped shots: the larger ones of the line start from its."""
        shots = asker.cell.shots
        most = max(asker.store.answers_by_shots(asker.cell), default=shots)
        drops = self.shared.experiment.spec.on_overflow == "drop"
        if drops and most < min(shots, len(scope.path.shots)):
            self.state.most_shots[0] = most
