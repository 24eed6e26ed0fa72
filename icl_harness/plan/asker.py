"""Planning: asking the schedules of a run what they request, and sending nothing.

In: an experiment, and its run folder if there is one. Out: a `Plan`. Prompts, groups, what a window
leaves of the shots, what was answered already, here or in an earlier cell, are the run's own.
Where a schedule reads answers that are still to come, unsolved ones stand in for them. Left out:
requests that fail; looking for the shots that fit, where only the provider can tell; what Gemini's
caches cost by the hour. The shots of a bank that is yet to be made are taken to be as long as the
gold answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from icl_harness.models.api.limiter import Rates
from icl_harness.models.base import Model
from icl_harness.models.forecast import Count
from icl_harness.plan.estimate import GOLD, Plan, Planned
from icl_harness.plan.pricing import (
    Costs,
    is_unpriced,
    most_answer_tokens,
    window_of,
)
from icl_harness.prompts.tree import Node, Prompt, Query
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.attempts import outcomes
from icl_harness.runner.banks import bank_name, bank_usd, known_bank, left_attempts
from icl_harness.runner.concurrency import first_error
from icl_harness.runner.experiment import Experiment, Line, stand_in
from icl_harness.runner.groups import Request
from icl_harness.runner.overflow import Fitting, longest_first
from icl_harness.runner.provenance import spec_defaults
from icl_harness.runner.schedule import AnswersAhead, Bundle, Scope
from icl_harness.runner.scopes import bank_scope, cell_of, line_scope
from icl_harness.store.bank import Bank
from icl_harness.store.header import RUN_FILE
from icl_harness.store.records import Cell, RunStore

ROUNDING = 1e-6  # of a token


async def make_plan(experiment: Experiment, folder: Path, *, apis_only: bool = False) -> Plan:
    """Return what is left to do of an experiment. `apis_only` leaves out what is not asked through
    an API.

    Raises `SpecError` or `StoreError` where the run would, and `AccountError` for a key that is
    refused.
    """
    with contextlib.ExitStack() as stack:
        store = None
        if (folder / RUN_FILE).exists():
            store = RunStore.open(folder, experiment.header(), spec_defaults())
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
    """Return the dollars that a run has taken so far, its banks' too."""
    return store.spent_usd() + bank_usd(experiment, store.path)


@dataclass(frozen=True, kw_only=True)
class _Ahead:
    """A line that is planned. `shows_gold`: its bank is yet to be made, gold answers stand in for
    the model's own.
    """

    line: Line
    costs: Costs
    fitting: Fitting
    shows_gold: bool

    @property
    def model(self) -> Model:
        return self.costs.model


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A bundle of a cell: the requests that are left of it, and the shots that they get; None
    where it is skipped.
    """

    cell: Cell
    bundle: Bundle
    shots: int | None
    requests: Sequence[Request]

    def at(self, shots: int) -> _Part:
        """Return the same with another shot count."""
        return replace(self, shots=shots, requests=self.bundle.same(self.requests, shots))


class _Planner:
    """What the plan has come to so far."""

    def __init__(self, experiment: Experiment, folder: Path, store: RunStore | None) -> None:
        self.rows: list[Planned] = []
        self.unpriced: list[str] = []
        self._experiment, self._folder, self._store = experiment, folder, store
        self._costs: dict[int, Costs] = {}
        self._fittings: dict[int, Fitting] = {}
        self._banks: set[str] = set()
        # at temperature 0: the texts that are requested behind a node
        self._known: dict[tuple[str, str, str, str], set[str]] = {}

    async def plan(self, line: Line) -> None:
        """Add the rows of a line."""
        experiment = self._experiment
        ahead, bank = await self._look_ahead(line)
        scope = line_scope(experiment, line, experiment.path(line, bank))
        parts: list[_Part] = []
        for shots in experiment.spec.shots:
            parts += self._parts(ahead, scope, shots)
        await self._count_nodes(ahead, parts)
        most = max(experiment.spec.shots)
        for part in parts:
            if part.shots is not None and part.shots > most:
                part = part.at(most)
            row = await self._plan_part(ahead, part)
            if row.fits is False and row.shots_used is not None:
                most = row.shots_used
            if ahead.shows_gold and row.shots_used and row.counted:
                row = replace(row, counted=row.counted + GOLD)
            self.rows.append(row)

    def notes(self) -> list[str]:
        """Return what the counting has to say, and which prompts share less than others."""
        notes = []
        for variant in self._experiment.spec.variants:
            shared = parse_variant(variant).shared
            if shared:
                notes.append(f"variant {variant}: {shared}")
        for costs in self._costs.values():
            notes += costs.counter.notes
        scoring = self._experiment.spec.scoring
        if scoring != "generate" and any(costs.forecast for costs in self._costs.values()):
            notes.append(
                f"scoring {scoring} is planned as one request per query; a provider may take more "
                "or fewer"
            )
        return notes

    async def close(self) -> None:
        """Close the connections that counting opened; they belong to this event loop."""
        for costs in self._costs.values():
            if costs.model.is_api:
                await costs.model.close()

    async def _look_ahead(self, line: Line) -> tuple[_Ahead, Bank | None]:
        """Return what is known of a line, and its bank or what stands in for it."""
        experiment, model = self._experiment, self._experiment.model(line)
        costs, bank, shows_gold = self._costs_of(model), None, False
        if line.needs_bank:
            bank = known_bank(experiment, self._folder, line)
            shows_gold = bank is None
        if shows_gold:
            await self._plan_bank(line, costs)
            pool = experiment.dataset(line.task, line.variant, line.draw).pool
            bank = Bank(tuple(map(stand_in, pool)))
            costs = replace(costs, forecast=model.forecast())  # these prompts are no other line's
        fitting = self._fittings.setdefault(id(model), Fitting(model, experiment.spec.on_overflow))
        return _Ahead(line=line, costs=costs, fitting=fitting, shows_gold=shows_gold), bank

    def _costs_of(self, model: Model) -> Costs:
        if id(model) not in self._costs:
            self._costs[id(model)] = Costs.of(model)
        return self._costs[id(model)]

    async def _plan_bank(self, line: Line, costs: Costs) -> None:
        """Add the rows of a line's bank, unless another line has."""
        experiment, name = self._experiment, bank_name(line)
        if name in self._banks:
            return
        self._banks.add(name)
        scope, done = bank_scope(experiment, line), outcomes(left_attempts(self._folder, line))
        read = AnswersAhead(done)
        for bundle in experiment.bank_schedule(line)(scope, len(scope.path.shots), read):
            shots = bundle.most_shots
            requests = read.left(bundle.requests(shots))
            if not requests:
                continue
            count = await costs.counter.count(bundle.node(shots), _queries(requests))
            row = replace(_blank(line, shots, shots), draw=None, requests=len(requests))
            row = self._fill(_with_window(row, costs.model), costs, bundle, shots, count)
            if row.longest and row.window:
                row = replace(row, fits=row.longest <= row.window)
            self.rows.append(row)

    def _parts(self, ahead: _Ahead, scope: Scope, shots: int) -> Iterator[_Part]:
        """Yield what a cell requests, less what the store holds the answers of."""
        line, store = ahead.line, self._store
        cell = cell_of(self._experiment.spec, line, shots)
        read = AnswersAhead({} if store is None else store.outcomes(cell))
        for bundle in self._experiment.schedule(line)(scope, shots, read):
            k: int | None = bundle.most_shots
            requests = read.left(longest_first(ahead.model, bundle, bundle.most_shots))
            if requests:
                k = ahead.fitting.shots(bundle, str(line))
                if k is not None:
                    k = min(k, read.most_shots(k))
                    requests = bundle.same(requests, k)
            yield _Part(cell=cell, bundle=bundle, shots=k, requests=requests)

    async def _count_nodes(self, ahead: _Ahead, parts: Sequence[_Part]) -> None:
        """Have the nodes of a line counted at the same time; each is then known."""
        firsts = {part.shots: part for part in reversed(parts) if part.requests}
        with first_error():
            async with asyncio.TaskGroup() as group:
                for shots in sorted(k for k in firsts if k is not None):
                    part = firsts[shots]
                    node, queries = part.bundle.node(shots), _queries(part.requests)
                    group.create_task(ahead.costs.counter.count(node, queries[:1]))

    async def _plan_part(self, ahead: _Ahead, part: _Part) -> Planned:
        row = _blank(ahead.line, part.cell.shots, part.shots)
        if not part.requests:
            return row
        row = _with_window(row, ahead.model)
        if part.shots is None:
            return replace(row, fits=False)
        wanted, node = part.bundle.most_shots, part.bundle.node(part.shots)
        count = await ahead.costs.counter.count(node, _queries(part.requests))
        if row.told_by == "price table" and row.window and count is not None:
            room = row.window - most_answer_tokens(ahead.model, part.bundle.sampling)
            left = _fitting(part, part.shots, count, room)
            row = replace(row, fits=left >= wanted, shots_used=self._by_policy(part.shots, left))
        elif row.window:
            row = replace(row, fits=part.shots == wanted)
        if row.shots_used is None:
            return row
        return await self._ask(row, ahead, part.at(row.shots_used))

    def _by_policy(self, k: int, left: int) -> int | None:
        """Return how many shots a cell of `k` gets where the provider will take `left`. With the
        policy `error` the run is going to stop there: the row says what it asks.
        """
        policy = self._experiment.spec.on_overflow
        if left == k or policy == "error":
            return k
        return left if policy == "drop" and left >= 0 else None

    async def _ask(self, row: Planned, ahead: _Ahead, part: _Part) -> Planned:
        """Return the row of a cell, less what is copied from earlier answers to identical requests."""
        bundle, shots, requests = part.bundle, part.shots or 0, part.requests
        if bundle.sampling.temperature == 0 and (shots == 0 or not ahead.shows_gold):
            requests = self._new(part.cell, bundle.node(shots), requests)
        if not requests:
            return row
        count = await ahead.costs.counter.count(bundle.node(shots), _queries(requests))
        row = replace(row, requests=len(requests))
        return self._fill(row, ahead.costs, bundle, shots, count)

    def _new(self, cell: Cell, node: Node, requests: Sequence[Request]) -> list[Request]:
        """Return the requests to which neither the store nor an earlier cell has the answer."""
        leaves = [Prompt(node, request.query).leaf for request in requests]
        pairs = list(zip(leaves, requests, strict=True))
        new = [
            (leaf, request)
            for leaf, request in pairs
            if request.query.text not in self._known_texts(cell, leaf)
        ]
        for leaf, request in new:
            self._known_texts(cell, leaf).add(request.query.text)
        return [request for _, request in new]

    def _known_texts(self, cell: Cell, leaf: Node) -> set[str]:
        key = (cell.model, cell.task, cell.variant, leaf.hash)
        if key not in self._known:
            store = self._store
            self._known[key] = set() if store is None else set(store.answered(cell, leaf))
        return self._known[key]

    def _fill(
        self, row: Planned, costs: Costs, bundle: Bundle, shots: int, count: Count | None
    ) -> Planned:
        """Return a row with the tokens and dollars of its requests."""
        model, forecast, node = costs.model, costs.forecast, bundle.node(shots)
        room = most_answer_tokens(model, bundle.sampling)
        row = replace(row, completion_tokens=row.requests * room)
        if is_unpriced(model) and model.id not in self.unpriced:
            self.unpriced.append(model.id)
        if count is None:
            return row
        row = replace(row, longest=count.prefix + max(count.queries) + room, counted=count.how)
        if forecast is None:
            prompts = row.requests * count.prefix + sum(count.queries)
            return replace(row, prompt_tokens=prompts)
        row = replace(row, **vars(forecast.ask(node, count, room)))
        if self._experiment.batch:
            return row
        tokens = (row.prompt_tokens or 0) + row.completion_tokens
        if not forecast.paces_cached:
            tokens -= row.cached_tokens or 0
        return replace(row, seconds=_seconds(forecast.rates, row.requests, tokens))


def _queries(requests: Sequence[Request]) -> list[Query]:
    return [request.query for request in requests]


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


def _with_window(row: Planned, model: Model) -> Planned:
    window, told_by = window_of(model)
    return replace(row, window=window, told_by=told_by)


def _fitting(part: _Part, shots: int, count: Count, room: int) -> int:
    """Return how many of `shots` shots fit into the tokens `room`, taken from those of a byte; -1
    where not even the prompt without shots does.
    """
    bundle, longest = part.bundle, max(count.queries)
    per_byte = count.prefix / max(1, bundle.node(shots).n_bytes)
    own_per_byte = longest / max(1, _longest_bytes(part))

    def tokens(k: int) -> int:
        own = own_per_byte * _longest_bytes(part.at(k)) if bundle.path.selects else longest
        return math.ceil(per_byte * bundle.node(k).n_bytes + own - ROUNDING)

    return bisect_right(range(shots + 1), room, key=tokens) - 1


def _longest_bytes(part: _Part) -> int:
    return max(len(query.tail.encode()) for query in _queries(part.requests))


def _seconds(rates: Rates, requests: int, tokens: int) -> float | None:
    times = [60 * n / rate for n, rate in ((requests, rates.rpm), (tokens, rates.tpm)) if rate]
    return max(times, default=None)
