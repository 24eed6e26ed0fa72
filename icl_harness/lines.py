"""One line of the walk: its cells, shots ascending, asked of one model (floor 3).

In: a line, a model, a run store. Out: records in the store, and a bank where the line is reinforced. What the store
holds is not asked again, so a line that was left can be walked once more, with another worker, say. What becomes of
shots that are too many for the window, the spec's policy says: before asking where the back end tells its window
(`fit`), else when the provider refuses the longest request of a cell.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from icl_harness.banking import bank_name, obtain_bank
from icl_harness.draws import stable_seed
from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.experiment import Experiment, Line
from icl_harness.fitting import fitting_shots, reserved_tokens
from icl_harness.grid import Spec
from icl_harness.groups import Ask, group_sampling, make_asks
from icl_harness.models.base import Answer, Model, Sampling, Usage, spent_tokens
from icl_harness.modes import PromptPath
from icl_harness.prompts import Node
from icl_harness.records import add_usage, copied_records, missing_records, scored_records
from icl_harness.results import Cell, RunStore
from icl_harness.turns import Place, Turns

NO_ANSWER = "the back end gave no answer"


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What the lines of a walk have in common. `banks`: a lock each, so that a bank is made once."""

    experiment: Experiment
    store: RunStore
    turns: Turns = field(default_factory=Turns)
    banks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the cells of a line have in common: the requests, and the prefixes that they hang off.

    Where only the provider can tell what fits, the longest request is the first. `reserved`: the tokens that the
    longest and its answer take.
    """

    path: PromptPath
    asks: Sequence[Ask]
    examples: Mapping[str, Example]
    sampling: Sampling
    reserved: int


@dataclass(frozen=True, kw_only=True)
class LineWalk:
    """A walk along one line. `count` is told what was done: cells, queries, tokens, and asks that were unforeseen.

    `all_at_once`: the cells are asked at the same time (in batches), not in turn.
    """

    shared: Shared
    place: Place
    model: Model
    count: Callable[..., None]
    all_at_once: bool = False

    async def walk(self) -> None:
        """Ask and score what the store does not hold yet."""
        shared, line, experiment = self.shared, self.place.line, self.shared.experiment
        bank = None
        if line.mode == "reinforced":
            async with shared.banks[bank_name(line)]:
                bank = await obtain_bank(experiment, shared.store.path, line, self.model, self.count)
        path = experiment.path(line, bank)
        await shared.turns.move(self.place, path=path)
        asked = make_asked(experiment, line, self.model, path)
        if not self.all_at_once:
            for shots in experiment.spec.shots:
                await self._walk_cell(asked, shots)
            return
        try:
            async with asyncio.TaskGroup() as group:
                for shots in experiment.spec.shots:
                    group.create_task(self._walk_cell(asked, shots))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the others only tell the same, or were stopped for it

    def _cell(self, shots: int) -> Cell:
        return make_cell(self.shared.experiment.spec, self.place.line, shots)

    async def _walk_cell(self, asked: Asked, shots: int) -> None:
        store, place, policy = self.shared.store, self.place, self.shared.experiment.spec.on_overflow
        cell = self._cell(shots)
        self.count(doing=f"{place.line}, {shots} shots")
        pending, fitted = self._pending(cell, asked.asks), -1
        if pending:
            found = fit(self.model, asked.path, shots, asked.reserved, str(place.line), policy)
            if found is not None:
                fitted = found if place.most_shots is None else min(found, place.most_shots)
                fitted, pending = self._go_on(cell, asked, fitted, pending)
        self.count(queries=len(asked.examples) - sum(len(ask.members) for ask in pending))
        if pending:
            await self._ask_or_drop(cell, asked, fitted, pending)
        most = max(store.answers_by_shots(cell), default=shots)
        if policy == "drop" and most < min(shots, len(asked.path.shots)):
            place.most_shots = most
        await self.shared.turns.move(place, done=shots)
        self.count(cells=1)

    def _pending(self, cell: Cell, asks: Sequence[Ask]) -> list[Ask]:
        done = self.shared.store.done(cell)
        return [ask for ask in asks if any((q.id, q.sample) not in done for q in ask.members)]

    def _go_on(self, cell: Cell, asked: Asked, fitted: int, pending: list[Ask]) -> tuple[int, list[Ask]]:
        """Return shots and requests of a cell that was left: where shots were dropped, it goes on with as many."""
        found = self.shared.store.answers_by_shots(cell)
        if not found or max(found) >= fitted:
            return fitted, pending
        if sum(found.values()) > len(asked.asks[0].members):
            return max(found), pending
        return fitted, list(asked.asks)  # it was left in the search, which goes on with the longest

    async def _ask_or_drop(self, cell: Cell, asked: Asked, shots: int, asks: Sequence[Ask]) -> None:
        """Ask a cell; where the provider finds the prompts too long, do as the policy says. No shots fit: -1."""
        policy = self.shared.experiment.spec.on_overflow
        left = asks if shots < 0 else await self._ask(cell, asked, asked.path.node(shots), asks)
        if left and policy == "error":
            raise SpecError(
                f"{self.place.line}: {cell.shots:,} shots do not fit into the context window of {self.model.id}. "
                "Ask for fewer, or use --on-overflow drop or skip."
            )
        if left and (policy == "skip" or shots < 0):
            error = f"{cell.shots} shots do not fit into the context window"
            self._miss(cell, asked.path.node(0), left, Answer(query_id="", status="overflow", error=error))
        elif left:
            async with self.place.searching:  # at the same time another cell may be
                most = self.place.most_shots
                if most is None or most >= shots:
                    most = await self._search(cell, asked, left, shots)
                    self.place.most_shots = most
            if most is not None:
                await self._ask_or_drop(cell, asked, most, self._pending(cell, left))

    async def _search(self, cell: Cell, asked: Asked, left: Sequence[Ask], too_many: int) -> int | None:
        """Return the most whole shots with which the provider takes the longest request, the first of those left; -1
        where it takes none, and None where it fails, and with it the cell.

        Its refusals are free and its answers are kept at once: the last one is the cell's, with what all of them took.
        """
        store, line, longest = self.shared.store, self.place.line, left[0]
        low, high, found = -1, too_many, store.answers_by_shots(cell)
        for shots in self.shared.experiment.spec.shots:
            low = max([low, *(k for k in store.answers_by_shots(self._cell(shots)) if k < too_many)])
        spent, n_lost = Usage(), 0
        if low in found:  # by a search that was broken off
            known = store.answered(cell, asked.path.node(low)).get(longest.query.text, {})
            for query in longest.members:
                spent = add_usage(spent, known[query.id].usage)
        while high - low > 1:
            middle = (low + high) // 2
            answer = await self._ask_one(asked, asked.path.node(middle), longest)
            if answer.status == "failed":
                self._miss(cell, asked.path.node(middle), left, answer)
                return None
            n_lost += answer.n_lost
            if answer.status == "overflow":
                high = middle
                continue
            self.count(tokens=spent_tokens(answer.usage), queries=0 if low in found else len(longest.members))
            low, spent, found = middle, add_usage(spent, answer.usage), {middle: 1}
            kept = replace(answer, usage=spent, n_lost=n_lost)
            store.add(cell, scored_records(line.task, asked.path.node(low), longest, kept, asked.examples))
        return low

    async def _ask_one(self, asked: Asked, node: Node, ask: Ask) -> Answer:
        async with aclosing(self.model.answers(node, [ask.query], asked.sampling)) as stream:
            async for answers in stream:
                for answer in answers:
                    return answer
        return Answer(query_id=ask.query.id, sample=ask.query.sample, status="failed", error=NO_ANSWER)

    async def _ask(self, cell: Cell, asked: Asked, node: Node, asks: Sequence[Ask]) -> list[Ask]:
        """Ask behind one node and store the answers as they come.

        Return the requests that are left where the first is too long for the provider; of others, which are shorter,
        that is recorded as it is told.
        """
        if asked.sampling.temperature == 0:
            # Episodes ask other queries: hardly any is copied, and a batch is not to wait hours for another.
            apart = self.all_at_once and self.place.line.task.per_draw
            await self.shared.turns.wait(self.place, node, cell.shots, other_lines=not apart)
            asks = self._copy(cell, asked, node, asks)
        waiting = {(ask.query.id, ask.query.sample): ask for ask in asks}
        first, too_long = next(iter(waiting), None), dict[tuple[str, int], Answer]()
        if asks:
            async with aclosing(self.model.answers(node, [ask.query for ask in asks], asked.sampling)) as stream:
                async for answers in stream:
                    new = {_key(a): a for a in answers if _key(a) in waiting}  # the first answer to a query counts
                    too_long |= {key: a for key, a in new.items() if a.status == "overflow"}
                    taken = [(waiting.pop(key), a) for key, a in new.items() if a.status != "overflow"]
                    self._keep(cell, asked, node, taken)
                    if first in too_long and not self.all_at_once:
                        break  # a batch is paid for: it is taken to its end
                    await asyncio.sleep(0)  # a back end that never waits would not let Ctrl-C in
        if first in too_long:
            return list(waiting.values())
        self._keep(cell, asked, node, [(waiting.pop(key), a) for key, a in too_long.items()])
        if waiting:
            self._miss(cell, node, list(waiting.values()), Answer(query_id="", status="failed", error=NO_ANSWER))
        return []

    def _copy(self, cell: Cell, asked: Asked, node: Node, asks: Sequence[Ask]) -> list[Ask]:
        """Store the answers that the run was given to the same words behind the same prefix; return the other asks."""
        store, task = self.shared.store, self.place.line.task
        known = store.answered(cell, node)
        copies = [copied_records(task, node, ask, known, asked.examples) for ask in asks] if known else []
        records = [record for copy in copies for record in copy]
        if records:
            store.add(cell, records)
            self.count(queries=len(records))
            return [ask for ask, copy in zip(asks, copies, strict=True) if not copy]
        return list(asks)

    def _keep(self, cell: Cell, asked: Asked, node: Node, answered: Sequence[tuple[Ask, Answer]]) -> None:
        task = self.place.line.task
        records = [r for ask, a in answered for r in scored_records(task, node, ask, a, asked.examples)]
        if records:
            self.shared.store.add(cell, records)
            self.count(queries=len(records), tokens=sum(spent_tokens(a.usage) for _, a in answered))

    def _miss(self, cell: Cell, node: Node, asks: Sequence[Ask], answer: Answer) -> None:
        """Record requests that were not asked, or not answered, as missing: with the status and error of `answer`."""
        records = [record for ask in asks for record in missing_records(node, ask, answer)]
        self.shared.store.add(cell, records)
        self.count(queries=len(records))


def make_asked(experiment: Experiment, line: Line, model: Model, path: PromptPath) -> Asked:
    """Return what the cells of a line ask of a model."""
    n = experiment.spec.queries_per_request
    examples = {e.id: e for e in experiment.queries(line.task, line.variant, line.draw)}
    seed = stable_seed(experiment.spec.seed, line.task.name, line.draw)
    asks = make_asks([path.query(example, seed=seed) for example in examples.values()], n)
    if model.capabilities.context_window is None or model.count_tokens(path.node(0)) is None:
        longest = max(asks, key=lambda ask: len(ask.query.text))
        asks.remove(longest)
        asks.insert(0, longest)
    sampling = group_sampling(experiment.sampling(line.task), n)
    reserved = reserved_tokens(model, path, [ask.query for ask in asks], sampling)
    return Asked(path=path, asks=asks, examples=examples, sampling=sampling, reserved=reserved)


def make_cell(spec: Spec, line: Line, shots: int) -> Cell:
    """Return the cell of a line with so many shots."""
    return Cell(
        task=line.task.name, model=line.model, mode=line.mode, variant=line.variant, format=spec.format,
        queries_per_request=spec.queries_per_request, shots=shots, draw=line.draw, metric=line.task.metric,
    )  # fmt: skip


def fit(model: Model, path: PromptPath, shots: int, reserved: int, where: str, on_overflow: str) -> int | None:
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


def _key(answer: Answer) -> tuple[str, int]:
    return answer.query_id, answer.sample
