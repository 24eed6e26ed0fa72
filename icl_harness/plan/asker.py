"""Planning: asking the schedules of a run what they request, and sending nothing.

In: an experiment, and its run folder if there is one. Out: a `Plan`. Prompts, groups, what a window
leaves of the shots, what was answered already, here or in an earlier cell, are the run's own. Where
a schedule reads answers that are still to come, unsolved ones stand in for them. Left out: requests
that fail; looking for the shots that fit, where only the provider can tell; what Gemini's caches
cost by the hour. The shots of a bank that is yet to be made are taken to be as long as the gold
answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from icl_harness.counts import n_of
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.base import Model
from icl_harness.plan.estimate import GOLD, Plan, Planned
from icl_harness.plan.pricing import Part, Pricing
from icl_harness.prompts.tree import Node, Prompt
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.attempts import outcomes
from icl_harness.runner.banks import bank_name, banks_usd, known_bank, left_attempts
from icl_harness.runner.choice_scores import NO_CONTENT
from icl_harness.runner.concurrency import first_error
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.feasible import stand_in
from icl_harness.runner.groups import Request
from icl_harness.runner.line import Line
from icl_harness.runner.overflow import Fitting, longest_first
from icl_harness.runner.provenance import spec_defaults
from icl_harness.runner.schedule import AnswersAhead, Scope
from icl_harness.runner.scopes import bank_scope, cell_of, line_scope
from icl_harness.store.bank import Bank
from icl_harness.store.header import RUN_FILE
from icl_harness.store.records import Cell, RunStore


async def make_plan(
    experiment: Experiment, folder: Path, *, apis_only: bool = False, extends: bool = False
) -> Plan:
    """Return what is left to do of an experiment. `apis_only` leaves out what is not asked through
    an API; `extends`: the folder may hold a smaller grid.

    Raises `SpecError` or `StoreError` where the run would, and `AccountError` for a key that is
    refused.
    """
    with contextlib.ExitStack() as stack:
        store = None
        if (folder / RUN_FILE).exists():
            store = RunStore.open(folder, experiment.header(), spec_defaults(), extends=extends)
            stack.enter_context(contextlib.closing(store))
        planner = _Planner(experiment, folder, store)
        try:
            for line in experiment.lines():
                if not apis_only or experiment.model(line).is_api:
                    await planner.plan(line)
        finally:
            await planner.close()
        spent = 0.0 if store is None else spent_usd(experiment, store)
    return Plan(
        rows=tuple(planner.rows),
        unpriced=tuple(planner.unpriced),
        spent_usd=spent,
        notes=tuple(planner.notes()),
    )


def spent_usd(experiment: Experiment, store: RunStore) -> float:
    """Return the dollars that a run has taken so far, its banks' too, and those of requests that
    broke off: they may have been charged for.
    """
    return folder_usd(store, experiment.spec.bank)


def folder_usd(store: RunStore, taken_bank: str | None) -> float:
    """Return the dollars of a run folder; a bank taken from another run cost it nothing."""
    with contextlib.closing(Ledger(store.path)) as ledger:
        unrecorded = ledger.unrecorded_usd()
    banks = 0.0 if taken_bank else banks_usd(store.path)
    return store.spent_usd() + banks + unrecorded


@dataclass(frozen=True, kw_only=True)
class _Ahead:
    """A line that is planned. `shows_gold`: its bank is yet to be made, gold answers stand in for
    the model's own.
    """

    line: Line
    pricing: Pricing
    fitting: Fitting
    shows_gold: bool


class _Planner:
    """What the plan has come to so far."""

    def __init__(self, experiment: Experiment, folder: Path, store: RunStore | None) -> None:
        self.rows: list[Planned] = []
        self.unpriced: list[str] = []
        self._experiment, self._folder, self._store = experiment, folder, store
        self._measured = {} if store is None else store.answer_tokens()
        self._pricing: dict[int, Pricing] = {}
        self._fittings: dict[int, Fitting] = {}
        self._banks: set[str] = set()
        # at temperature 0: the texts that are requested behind a node
        self._known: dict[tuple[str, str, str, str], set[str]] = {}

    async def plan(self, line: Line) -> None:
        """Add the rows of a line."""
        experiment = self._experiment
        ahead, bank = await self._look_ahead(line)
        scope = line_scope(experiment, line, experiment.path(line, bank))
        parts: list[tuple[Cell, Part]] = []
        for shots in experiment.spec.shots:
            cell = cell_of(experiment.spec, line, shots)
            parts += [(cell, part) for part in self._parts(ahead, scope, cell)]
        await self._count_nodes(ahead, [part for _, part in parts])
        most = max(experiment.spec.shots)
        for cell, part in parts:
            if part.shots is not None and part.shots > most:
                part = part.at(most)
            row = await self._plan_part(ahead, cell, part)
            if row.fits is False and row.shots_used is not None:
                most = row.shots_used
            if ahead.shows_gold and row.shots_used and row.counted:
                row = replace(row, counted=row.counted + GOLD)
            self.rows.append(row)

    def notes(self) -> list[str]:
        """Return what the counting has to say, and which prompts share less than others."""
        notes: list[str] = []
        for variant in self._experiment.spec.variants:
            shared = parse_variant(variant).shared
            if shared:
                notes.append(f"variant {variant}: {shared}")
        if self._banks and self._experiment.spec.bank_iterations > 1:
            notes.append(
                "bank: iterations after the first attempt what is unsolved then; planned are the "
                "most requests that they can take"
            )
        for pricing in self._pricing.values():
            notes += pricing.counter.notes
        scoring = self._experiment.spec.scoring
        if scoring != "generate" and any(pricing.forecast for pricing in self._pricing.values()):
            notes.append(
                f"scoring {scoring} is planned as one request per query; a provider may take more "
                "or fewer"
            )
        n_bare = {"choices-pmi": 1, "choices-calibrated": len(NO_CONTENT)}.get(scoring, 0)
        if n_bare and any(pricing.forecast for pricing in self._pricing.values()):
            notes.append(
                f"scoring {scoring} weighs the choices behind {n_of(n_bare, 'prompt')} without a "
                "query's content, too, which is not in the estimate"
            )
        if self._experiment.spec.gold_nll and any(
            pricing.forecast for pricing in self._pricing.values()
        ):
            notes.append(
                "--gold-nll sends each prompt once more, with its gold answer, which is not in "
                "these numbers"
            )
        return notes

    async def close(self) -> None:
        """Close the connections that counting opened; they belong to this event loop."""
        for pricing in self._pricing.values():
            if pricing.model.is_api:
                await pricing.model.close()

    async def _look_ahead(self, line: Line) -> tuple[_Ahead, Bank | None]:
        """Return what is known of a line, and its bank or what stands in for it."""
        experiment, model = self._experiment, self._experiment.model(line)
        pricing, bank, shows_gold = self._pricing_of(model), None, False
        if line.needs_bank:
            bank = known_bank(experiment, self._folder, line)
            shows_gold = bank is None
        if shows_gold:
            await self._plan_bank(line, pricing)
            pool = experiment.dataset(line.task, line.variant, line.draw).pool
            bank = Bank(tuple(map(stand_in, pool)))
            pricing = pricing.with_empty_caches()  # these prompts are no other line's
        fitting = self._fittings.setdefault(id(model), Fitting(model, experiment.spec.on_overflow))
        return _Ahead(line=line, pricing=pricing, fitting=fitting, shows_gold=shows_gold), bank

    def _pricing_of(self, model: Model) -> Pricing:
        if id(model) not in self._pricing:
            self._pricing[id(model)] = Pricing.of(
                model, paced=not self._experiment.batch, measured=self._measured
            )
        return self._pricing[id(model)]

    async def _plan_bank(self, line: Line, pricing: Pricing) -> None:
        """Add the rows of a line's bank, unless another line has."""
        experiment, name = self._experiment, bank_name(line)
        if name in self._banks:
            return
        self._banks.add(name)
        scope = bank_scope(experiment, line)
        answers = AnswersAhead(outcomes(left_attempts(self._folder, line)))
        for bundle in experiment.bank_schedule(line)(scope, len(scope.path.shots), answers):
            shots = bundle.most_shots
            part = Part(bundle=bundle, shots=shots, requests=answers.left(bundle.requests(shots)))
            if part.requests:
                row = pricing.with_window(replace(_blank(line, shots, shots), draw=None))
                row = await self._fill(row, pricing, part)
                if bundle.path is not scope.path and row.counted:
                    row = replace(row, counted=row.counted + GOLD)
                if row.longest and row.window:
                    row = replace(row, fits=row.longest <= row.window)
                self.rows.append(row)

    def _parts(self, ahead: _Ahead, scope: Scope, cell: Cell) -> Iterator[Part]:
        """Yield what a cell requests, less what the store holds the answers of."""
        line, store = ahead.line, self._store
        answers = AnswersAhead({} if store is None else store.outcomes(cell))
        for bundle in self._experiment.schedule(line)(scope, cell.shots, answers):
            most, model = bundle.most_shots, ahead.pricing.model
            requests = answers.left(longest_first(model, bundle, most))
            part = Part(bundle=bundle, shots=most, requests=requests)
            if requests:
                fitted = ahead.fitting.shots(bundle, str(line))
                if fitted is None:
                    part = replace(part, shots=None)
                else:
                    part = part.at(min(fitted, answers.most_shots(fitted)))
            yield part

    async def _count_nodes(self, ahead: _Ahead, parts: Sequence[Part]) -> None:
        """Have the nodes of a line counted at the same time; each is then known."""
        firsts = {part.shots: part for part in reversed(parts) if part.requests}
        with first_error():
            async with asyncio.TaskGroup() as group:
                for shots in sorted(k for k in firsts if k is not None):
                    group.create_task(ahead.pricing.count(firsts[shots], 1))

    async def _plan_part(self, ahead: _Ahead, cell: Cell, part: Part) -> Planned:
        row = _blank(ahead.line, cell.shots, part.shots)
        if not part.requests:
            return row
        row = ahead.pricing.with_window(row)
        if part.shots is None:
            return replace(row, fits=False)
        wanted, count = part.bundle.most_shots, await ahead.pricing.count(part)
        if row.window_source == "price table" and row.window and count is not None:
            left = ahead.pricing.fitting(part, count, row.window)
            row = replace(row, fits=left >= wanted, shots_used=self._by_policy(part.shots, left))
        elif row.window:
            row = replace(row, fits=part.shots == wanted)
        if row.shots_used is None:
            return row
        part = part.at(row.shots_used)
        if part.bundle.sampling.temperature == 0 and not (part.shots and ahead.shows_gold):
            part = replace(part, requests=self._new(cell, part))
        return await self._fill(row, ahead.pricing, part) if part.requests else row

    def _by_policy(self, k: int, left: int) -> int | None:
        """Return how many shots a cell of `k` gets where the provider will take `left`. With the
        policy `error` the run is going to stop there: the row says what it requests.
        """
        policy = self._experiment.spec.on_overflow
        if left == k or policy == "error":
            return k
        return left if policy == "drop" and left >= 0 else None

    def _new(self, cell: Cell, part: Part) -> list[Request]:
        """Return the requests to which neither the store nor an earlier cell has the answer."""
        node = part.bundle.node(part.shots or 0)
        new = []
        for request in part.requests:
            known = self._known_texts(cell, Prompt(node, request.query).leaf)
            if request.query.text not in known:
                new.append((known, request))
        for known, request in new:
            known.add(request.query.text)
        return [request for _, request in new]

    def _known_texts(self, cell: Cell, leaf: Node) -> set[str]:
        key = (cell.model, cell.task, cell.variant, leaf.hash)
        if key not in self._known:
            store = self._store
            self._known[key] = set() if store is None else set(store.answered(cell, leaf))
        return self._known[key]

    async def _fill(self, row: Planned, pricing: Pricing, part: Part) -> Planned:
        if pricing.is_unpriced and pricing.model.id not in self.unpriced:
            self.unpriced.append(pricing.model.id)
        return pricing.fill(row, part, await pricing.count(part))


def _blank(line: Line, shots: int, k: int | None) -> Planned:
    return Planned(
        task=line.task.name,
        model=line.model,
        mode=line.mode,
        variant=line.variant,
        shots=shots,
        draw=line.draw,
        requests=0,
        shots_used=k,
    )
