"""Planning: the walk of a run that asks nothing.

In: an experiment, and its run folder if there is one. Out: a `Plan`. The walk is the run's own:
prompts, groups, what a window leaves of the shots, what was answered already, here or in an earlier
cell. Tokens are counted as counting.py says, dollars as foresight.py does. Left out: requests that
fail; looking for the shots that fit, where only the provider can tell; what Gemini's caches cost by
the hour. The shots of a bank that is yet to be made are taken to be as long as the gold answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icl_harness.models.api.backend import ApiModel
from icl_harness.models.api.counting import Count, Counter
from icl_harness.models.api.foresight import Foresight
from icl_harness.models.api.limiter import Rates
from icl_harness.models.base import Model, Sampling
from icl_harness.plan.estimate import GOLD, Plan, Planned
from icl_harness.prompts.modes import PromptPath
from icl_harness.prompts.tree import Node
from icl_harness.runner.asking import Asked, fit, make_asked, make_cell
from icl_harness.runner.banks import bank_asks, bank_name, bank_usd, known_bank
from icl_harness.runner.experiment import Experiment, Line, stand_in
from icl_harness.runner.groups import Ask
from icl_harness.store.bank import Bank, read_attempts
from icl_harness.store.header import RUN_FILE
from icl_harness.store.records import RunStore


async def make_plan(experiment: Experiment, folder: Path, *, apis_only: bool = False) -> Plan:
    """Return what is left to do of an experiment. `apis_only` leaves out what is not asked through
    an API.

    Raises `SpecError` or `StoreError` where the run would, and `AccountError` for a key that is
    refused.
    """
    with contextlib.ExitStack() as stack:
        store = None
        if (folder / RUN_FILE).exists():
            store = stack.enter_context(
                contextlib.closing(RunStore.open(folder, experiment.header()))
            )
        planner = _Planner(experiment, folder, store)
        try:
            for line in experiment.lines():
                if not apis_only or isinstance(experiment.model(line), ApiModel):
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
    """A line that is planned. `stood_in`: its bank is yet to be made, gold answers stand in for the
    model's own.
    """

    line: Line
    model: Model
    asked: Asked
    counter: Counter
    foresight: Foresight | None
    stood_in: bool

    async def count(self, k: int, asks: Sequence[Ask]) -> Count | None:
        """Return the tokens of `k` shots and of requests behind them."""
        return await self.counter.count(self.asked.path.node(k), [ask.query.text for ask in asks])


class _Planner:
    """What the walk has come to so far."""

    def __init__(self, experiment: Experiment, folder: Path, store: RunStore | None) -> None:
        self.rows: list[Planned] = []
        self.unpriced: list[str] = []
        self._experiment, self._folder, self._store = experiment, folder, store
        self._models: dict[int, tuple[Model, Counter, Foresight | None]] = {}
        self._banks: set[str] = set()
        self._asks: dict[tuple[str, str, str, str, int], Asked] = {}
        self._known: dict[
            tuple[str, str, str, str], set[str]
        ] = {}  # greedy prompts: what their node was asked

    async def plan(self, line: Line) -> None:
        """Add the rows of a line."""
        experiment, model = self._experiment, self._experiment.model(line)
        counter, foresight = self._of(model)
        bank = known_bank(experiment, self._folder, line) if line.needs_bank else None
        stood_in = line.needs_bank and bank is None
        if stood_in:
            await self._plan_bank(line, model)
            bank = Bank(
                tuple(map(stand_in, experiment.dataset(line.task, line.variant, line.draw).pool))
            )
            foresight = _foresee(model)  # these prompts are no other line's
        asked = self._asked(line, model, experiment.path(line, bank))
        ahead = _Ahead(
            line=line, model=model, asked=asked, counter=counter, foresight=foresight, stood_in=stood_in
        )  # fmt: skip
        cells = {shots: self._pending(ahead, shots) for shots in experiment.spec.shots}
        await self._count_all(
            ahead, sorted({k for k, asks in cells.values() if asks and k is not None})
        )
        most = max(experiment.spec.shots)
        for shots, (k, asks) in cells.items():
            row = await self._plan_cell(ahead, shots, None if k is None else min(k, most), asks)
            if row.fits is False and row.shots_used is not None:
                most = row.shots_used
            gold = stood_in and row.shots_used and row.counted
            self.rows.append(replace(row, counted=row.counted + GOLD) if gold else row)

    def notes(self) -> list[str]:
        """Return what the counting has to say."""
        notes = [note for _, counter, _ in self._models.values() for note in counter.notes]
        scoring = self._experiment.spec.scoring
        if scoring != "generate" and any(foresight for *_, foresight in self._models.values()):
            notes.append(
                f"scoring {scoring} is planned as one request per query; a provider may take more or fewer"
            )
        return notes

    async def close(self) -> None:
        """Close the connections that counting opened; they belong to this event loop."""
        for model, _, _ in self._models.values():
            if isinstance(model, ApiModel):
                await model.close()

    def _asked(self, line: Line, model: Model, path: PromptPath) -> Asked:
        """Return what a line asks; the texts are the same in every draw of the same examples, so
        they are made once.
        """
        key = (
            line.model,
            line.task.name,
            line.variant,
            line.mode,
            line.draw if line.task.per_draw else 0,
        )
        if key not in self._asks:
            self._asks[key] = make_asked(self._experiment, line, model, path)
        return replace(self._asks[key], path=path)

    def _of(self, model: Model) -> tuple[Counter, Foresight | None]:
        if id(model) not in self._models:
            self._models[id(model)] = model, Counter(model), _foresee(model)
        return self._models[id(model)][1:]

    async def _plan_bank(self, line: Line, model: Model) -> None:
        name, (counter, foresight) = bank_name(line), self._of(model)
        if name in self._banks:
            return
        self._banks.add(name)
        asked = bank_asks(
            self._experiment, line, read_attempts((self._folder / name).with_suffix(".partial"))
        )
        if asked.queries:
            count = await counter.count(asked.node, [query.text for query in asked.queries])
            row = replace(self._blank(line, asked.node.n_shots, asked.node.n_shots), draw=None)
            row = replace(row, requests=len(asked.queries), **_window(model))
            row = self._fill(row, model, foresight, asked.node, count, asked.sampling)
            self.rows.append(
                replace(row, fits=row.longest <= row.window if row.longest and row.window else None)
            )

    def _pending(self, ahead: _Ahead, shots: int) -> tuple[int | None, Sequence[Ask]]:
        """Return how many shots a cell gets, and the requests that the store does not hold the
        answers of.
        """
        spec, store, asked, line = self._experiment.spec, self._store, ahead.asked, ahead.line
        cell, asks, found = make_cell(spec, line, shots), asked.asks, dict[int, int]()
        if store is not None:
            done, found = store.done(cell), store.answers_by_shots(cell)
            asks = [ask for ask in asks if any((q.id, q.sample) not in done for q in ask.members)]
        if not asks:
            return min(shots, len(asked.path.shots)), asks
        k = fit(ahead.model, asked.path, shots, asked.reserved, str(line), spec.on_overflow)
        return (k if k is None or not found else min(k, max(found))), asks

    async def _count_all(self, ahead: _Ahead, shots: Sequence[int]) -> None:
        """Have the nodes of a line counted at the same time; each is then known."""
        asks = ahead.asked.asks[:1]
        try:
            async with asyncio.TaskGroup() as group:
                for k in shots:
                    group.create_task(ahead.count(k, asks))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _plan_cell(
        self, ahead: _Ahead, shots: int, k: int | None, asks: Sequence[Ask]
    ) -> Planned:
        asked, row = ahead.asked, self._blank(ahead.line, shots, k)
        wanted = min(shots, len(asked.path.shots))
        if not asks:
            return row
        row = replace(row, **_window(ahead.model))
        if k is None:
            return replace(row, fits=False)
        count = await ahead.count(k, asks)
        if row.told_by == "price table" and row.window and count is not None:
            left = _fitting(
                asked,
                k,
                count,
                row.window - max(count.queries) - _room(ahead.model, asked.sampling),
            )
            row = replace(row, fits=left >= wanted, shots_used=self._by_policy(k, left))
        elif row.window:
            row = replace(row, fits=k == wanted)
        return row if row.shots_used is None else await self._ask(row, ahead, row.shots_used, asks)

    def _by_policy(self, k: int, left: int) -> int | None:
        """Return how many shots a cell of `k` gets where the provider will take `left`. With the
        policy `error` the run is going to stop there: the row says what it asks.
        """
        policy = self._experiment.spec.on_overflow
        if left == k or policy == "error":
            return k
        return left if policy == "drop" and left >= 0 else None

    async def _ask(self, row: Planned, ahead: _Ahead, k: int, asks: Sequence[Ask]) -> Planned:
        """Return the row of a cell, less what is copied from earlier answers to the same prompts."""
        line, asked, node = ahead.line, ahead.asked, ahead.asked.path.node(k)
        if asked.sampling.temperature == 0 and (k == 0 or not ahead.stood_in):
            key = (line.model, line.task.name, line.variant, node.hash)
            cell = make_cell(self._experiment.spec, line, row.shots)
            if key not in self._known:
                self._known[key] = (
                    set(self._store.answered(cell, node)) if self._store is not None else set()
                )
            known = self._known[key]
            asks = [ask for ask in asks if ask.query.text not in known]
            known.update(ask.query.text for ask in asks)
        if not asks:
            return row
        row = replace(row, requests=len(asks))
        return self._fill(
            row, ahead.model, ahead.foresight, node, await ahead.count(k, asks), asked.sampling
        )

    def _blank(self, line: Line, shots: int, k: int | None) -> Planned:
        return Planned(
            task=line.task.name, model=line.model, mode=line.mode, variant=line.variant, shots=shots, draw=line.draw,
            requests=0, shots_used=k,
        )  # fmt: skip

    def _fill(
        self, row: Planned, model: Model, foresight: Foresight | None, node: Node, count: Count | None,
        sampling: Sampling,
    ) -> Planned:  # fmt: skip
        """Return a row with the tokens and dollars of its requests."""
        room = _room(model, sampling)
        row = replace(row, completion_tokens=row.requests * room)
        if isinstance(model, ApiModel) and model.price is None and model.id not in self.unpriced:
            self.unpriced.append(model.id)
        if count is None:
            return row
        row = replace(row, longest=count.prefix + max(count.queries) + room, counted=count.how)
        if foresight is None:
            return replace(row, prompt_tokens=row.requests * count.prefix + sum(count.queries))
        row = replace(row, **vars(foresight.ask(node, count, room)))
        tokens = (row.prompt_tokens or 0) + row.completion_tokens
        if not foresight.paces_cached:
            tokens -= row.cached_tokens or 0
        return replace(
            row,
            seconds=None
            if self._experiment.batch
            else _seconds(foresight.rates, row.requests, tokens),
        )


def _foresee(model: Model) -> Foresight | None:
    return Foresight(model) if isinstance(model, ApiModel) else None


def _fitting(asked: Asked, k: int, count: Count, room: int) -> int:
    """Return how many of `k` shots fit into the tokens `room`; -1 where not even the prompt without
    shots does.
    """
    most_bytes = room * asked.path.node(k).n_bytes / max(1, count.prefix)
    return bisect_right(range(k + 1), most_bytes, key=lambda i: asked.path.node(i).n_bytes) - 1


def _seconds(rates: Rates, requests: int, tokens: int) -> float | None:
    times = [60 * n / rate for n, rate in ((requests, rates.rpm), (tokens, rates.tpm)) if rate]
    return max(times, default=None)


def _room(model: Model, sampling: Sampling) -> int:
    """Return the tokens that an answer may take."""
    if sampling.scoring != "generate":
        return 0
    return model.limit(sampling) if isinstance(model, ApiModel) else sampling.max_tokens


def _window(model: Model) -> dict[str, Any]:
    """Return the model's context window and who tells it."""
    if model.capabilities.context_window is not None:
        told_by = "user" if isinstance(model, ApiModel) else "model"
        return {"window": model.capabilities.context_window, "told_by": told_by}
    known = (
        model.price.context_window
        if isinstance(model, ApiModel) and model.price is not None
        else None
    )
    return {} if known is None else {"window": known, "told_by": "price table"}
