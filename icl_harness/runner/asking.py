"""One line of the walk: its cells, shots ascending, asked of one model.

In: a line, a model, a run store. Out: records in the store, and a bank where the line is
reinforced. What the store holds is not asked again, so a line that was left can be walked once
more, with another worker, say. What becomes of shots that are too many for the window, the spec's
policy says: before asking where the back end tells its window (`fit`), else when the provider
refuses a request of a cell. All answers of a cell are to the same shots.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from icl_harness.draws import stable_seed
from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.models.base import Answer, Model, Sampling, Usage, spent_tokens
from icl_harness.prompts.modes import PromptPath
from icl_harness.prompts.tree import Node, Query
from icl_harness.runner.banks import bank_name, obtain_bank
from icl_harness.runner.experiment import Experiment, Line
from icl_harness.runner.groups import Ask, group_sampling, make_asks
from icl_harness.runner.ordering import Place, Turns
from icl_harness.runner.overflow import fitting_shots, reserved_tokens
from icl_harness.runner.recording import add_usage, copied_records, missing_records, scored_records
from icl_harness.runner.spec import Spec
from icl_harness.store.records import Cell, RunStore

NO_ANSWER = "the back end gave no answer"
TAKEN_BACK = "to be asked again with fewer shots"


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

    Where only the provider can tell what fits, the longest request, in bytes, is the first.
    `reserved`: the tokens that the longest and its answer take.
    """

    path: PromptPath
    asks: Sequence[Ask]
    examples: Mapping[str, Example]
    sampling: Sampling
    reserved: int


@dataclass(frozen=True, kw_only=True)
class LineWalk:
    """A walk along one line. `count` is told what was done: cells, queries, tokens, and asks that
    were unforeseen.

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
        if line.needs_bank:
            async with shared.banks[bank_name(line)]:
                bank = await obtain_bank(
                    experiment, shared.store.path, line, self.model, self.count
                )
        path = experiment.path(line, bank)
        await shared.turns.move(self.place, path=path)
        asked = make_asked(experiment, line, self.model, path)
        shared.store.add_queries(line.task.name, line.variant, asked.examples.values())
        if not self.all_at_once:
            for shots in experiment.spec.shots:
                await self._walk_cell(asked, shots)
            return
        try:
            async with asyncio.TaskGroup() as group:
                for shots in experiment.spec.shots:
                    group.create_task(self._walk_cell(asked, shots))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[
                0
            ] from None  # the others only tell the same, or were stopped for it

    def _cell(self, shots: int) -> Cell:
        return make_cell(self.shared.experiment.spec, self.place.line, shots)

    async def _walk_cell(self, asked: Asked, shots: int) -> None:
        store, place, policy = (
            self.shared.store,
            self.place,
            self.shared.experiment.spec.on_overflow,
        )
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
        return [ask for ask in asks if any(_key(query) not in done for query in ask.members)]

    def _go_on(
        self, cell: Cell, asked: Asked, fitted: int, pending: list[Ask]
    ) -> tuple[int, list[Ask]]:
        """Return shots and requests of a cell that was left: where shots were dropped, it goes on
        with as many.
        """
        found = self.shared.store.answers_by_shots(cell)
        if not found or max(found) >= fitted:
            return fitted, pending
        left = {_key(ask.query) for ask in pending}
        answered = [ask for ask in asked.asks if _key(ask.query) not in left]
        if len(answered) > 1:
            return max(found), pending
        return fitted, [
            *answered,
            *pending,
        ]  # it was left in the search, which goes on with the same request

    async def _ask_or_drop(self, cell: Cell, asked: Asked, shots: int, asks: Sequence[Ask]) -> None:
        """Ask a cell; where the provider finds a prompt too long, do as the policy says. No shots
        fit: -1.
        """
        policy, place = self.shared.experiment.spec.on_overflow, self.place
        if shots >= 0:
            too_long = await self._ask(cell, asked, asked.path.node(shots), asks)
            if too_long is None:
                return
            if policy == "error":
                raise SpecError(
                    f"{place.line}: {cell.shots:,} shots do not fit into the context window of {self.model.id}. "
                    "Ask for fewer, or use --on-overflow drop or skip."
                )
            asks = [too_long, *(ask for ask in asked.asks if ask is not too_long)]
            self._take_back(cell, asked, asks[1:])
        if shots < 0 or policy == "skip":
            error = f"{cell.shots} shots do not fit into the context window"
            self._miss(
                cell, asked.path.node(0), asks, Answer(query_id="", status="overflow", error=error)
            )
            return
        async with place.searching:  # at the same time another cell may be
            most = place.most_shots
            if most is None or most >= shots:
                most = await self._search(cell, asked, asks, shots)
            if most is None:
                return
            place.most_shots = most
        self._take_back(cell, asked, asks[:1], but=most)
        await self._ask_or_drop(cell, asked, most, self._pending(cell, asks))

    def _take_back(
        self, cell: Cell, asked: Asked, asks: Sequence[Ask], but: int | None = None
    ) -> None:
        """Have requests asked again whose answers are to other shots than the cell is to have
        (`but`), and so of no use; what they cost stays.
        """
        done = self.shared.store.done(cell)
        stale = [
            ask for ask in asks if any(done.get(_key(query), but) != but for query in ask.members)
        ]
        self._miss(
            cell,
            asked.path.node(0),
            stale,
            Answer(query_id="", status="failed", error=TAKEN_BACK),
            again=True,
        )

    async def _search(
        self, cell: Cell, asked: Asked, left: Sequence[Ask], too_many: int
    ) -> int | None:
        """Return the most whole shots with which the provider takes the first of the requests left,
        which was refused; -1 where it takes none, and None where it fails, and with it the cell.

        Its refusals are free and its answers are kept at once: the last one is the cell's, with
        what all of them took.
        """
        store, line, longest = self.shared.store, self.place.line, left[0]
        low, high, spent, n_lost = -1, too_many, Usage(), 0
        for shots in self.shared.experiment.spec.shots:
            low = max(
                [low, *(k for k in store.answers_by_shots(self._cell(shots)) if k < too_many)]
            )
        while high - low > 1:
            middle = (low + high) // 2
            node = asked.path.node(middle)
            answer = await self._ask_one(asked, node, longest)
            n_lost += answer.n_lost
            if answer.status == "overflow":
                high = middle
                continue
            self.count(tokens=spent_tokens(answer.usage))
            # Its tokens are summed here, its dollars by the store.
            spent = add_usage(spent, answer.usage)
            kept = replace(
                answer, usage=replace(spent, cost_usd=answer.usage.cost_usd), n_lost=n_lost
            )
            store.add(cell, scored_records(line.task, node, longest, kept, asked.examples))
            if answer.status == "failed":
                self.count(queries=len(longest.members))
                self._miss(
                    cell, node, left[1:], Answer(query_id="", status="failed", error=answer.error)
                )
                return None
            low, n_lost = middle, 0
        if not self._pending(cell, [longest]):
            self.count(queries=len(longest.members))
        return low

    async def _ask_one(self, asked: Asked, node: Node, ask: Ask) -> Answer:
        async with aclosing(self.model.answers(node, [ask.query], asked.sampling)) as stream:
            async for answers in stream:
                for answer in answers:
                    return answer
        return Answer(
            query_id=ask.query.id, sample=ask.query.sample, status="failed", error=NO_ANSWER
        )

    async def _ask(self, cell: Cell, asked: Asked, node: Node, asks: Sequence[Ask]) -> Ask | None:
        """Ask behind one node, greedily each text once; return a request that the provider finds
        too long.
        """
        if asked.sampling.temperature != 0:
            return await self._ask_all(cell, asked, node, asks)
        # Episodes ask other queries: hardly any is copied, and a batch is not to wait hours for
        # another.
        apart = self.all_at_once and self.place.line.task.per_draw
        await self.shared.turns.wait(self.place, node, cell.shots, other_lines=not apart)
        asks = self._copy(cell, asked, node, asks)
        if (
            asked.sampling.scoring != "generate"
        ):  # of choices, the store does not hold all that a copy may need
            return await self._ask_all(cell, asked, node, asks)
        firsts, twins = _distinct(asks)
        too_long = await self._ask_all(cell, asked, node, firsts)
        if too_long is None and twins:
            too_long = await self._ask_all(cell, asked, node, self._copy(cell, asked, node, twins))
        return too_long

    async def _ask_all(
        self, cell: Cell, asked: Asked, node: Node, asks: Sequence[Ask]
    ) -> Ask | None:
        """Ask behind one node and store the answers as they come."""
        waiting, too_long = {_key(ask.query): ask for ask in asks}, list[Ask]()
        if asks:
            async with aclosing(
                self.model.answers(node, [ask.query for ask in asks], asked.sampling)
            ) as stream:
                async for answers in stream:
                    new = {
                        _key(a): a for a in answers if _key(a) in waiting
                    }  # the first answer to a query counts
                    taken = [(waiting.pop(key), answer) for key, answer in new.items()]
                    too_long += [ask for ask, answer in taken if answer.status == "overflow"]
                    self._keep(
                        cell, asked, node, [(ask, a) for ask, a in taken if a.status != "overflow"]
                    )
                    if too_long and not self.all_at_once:
                        break  # a batch is paid for: it is taken to its end
                    await asyncio.sleep(0)  # a back end that never waits would not let Ctrl-C in
        if waiting and not too_long:
            self._miss(
                cell,
                node,
                list(waiting.values()),
                Answer(query_id="", status="failed", error=NO_ANSWER),
            )
        return max(too_long, key=_n_bytes, default=None)

    def _copy(self, cell: Cell, asked: Asked, node: Node, asks: Sequence[Ask]) -> list[Ask]:
        """Store the answers that the run was given to the same words behind the same prefix; return
        the other asks.
        """
        store, task = self.shared.store, self.place.line.task
        known = store.answered(cell, node)
        copies = (
            [copied_records(task, node, ask, known, asked.examples) for ask in asks]
            if known
            else []
        )
        records = [record for copy in copies for record in copy]
        if records:
            store.add(cell, records)
            self.count(queries=len(records))
            return [ask for ask, copy in zip(asks, copies, strict=True) if not copy]
        return list(asks)

    def _keep(
        self, cell: Cell, asked: Asked, node: Node, answered: Sequence[tuple[Ask, Answer]]
    ) -> None:
        task = self.place.line.task
        records = [
            r for ask, a in answered for r in scored_records(task, node, ask, a, asked.examples)
        ]
        if records:
            self.shared.store.add(cell, records)
            self.count(queries=len(records), tokens=sum(spent_tokens(a.usage) for _, a in answered))

    def _miss(
        self, cell: Cell, node: Node, asks: Sequence[Ask], answer: Answer, *, again: bool = False
    ) -> None:
        """Record requests that have no answer as missing: with the status and error of `answer`.
        `again`: they had one, and are counted once more when they are asked again.
        """
        records = [record for ask in asks for record in missing_records(node, ask, answer)]
        self.shared.store.add(cell, records)
        self.count(queries=-len(records) if again else len(records))


def make_asked(experiment: Experiment, line: Line, model: Model, path: PromptPath) -> Asked:
    """Return what the cells of a line ask of a model."""
    n = experiment.spec.queries_per_request
    examples = {e.id: e for e in experiment.queries(line.task, line.variant, line.draw)}
    seed = stable_seed(experiment.spec.seed, line.task.name, line.draw)
    # A reference learner answers with the text that gives its choice.
    weighed = experiment.spec.scoring != "generate" or line.model.startswith("baseline/")
    queries = [path.query(example, seed=seed, weighed=weighed) for example in examples.values()]
    asks = make_asks(queries, n)
    if model.capabilities.context_window is None or model.count_tokens(path.node(0)) is None:
        longest = max(asks, key=_n_bytes)
        asks.remove(longest)
        asks.insert(0, longest)
    sampling = group_sampling(experiment.sampling(line.task), n)
    reserved = reserved_tokens(model, path, [ask.query for ask in asks], sampling)
    return Asked(path=path, asks=asks, examples=examples, sampling=sampling, reserved=reserved)


def make_cell(spec: Spec, line: Line, shots: int) -> Cell:
    """Return the cell of a line with so many shots."""
    return Cell(
        task=line.task.name, model=line.model, mode=line.mode, variant=line.variant, format=spec.format,
        queries_per_request=spec.queries_per_request, shots=shots, draw=line.draw, metric=line.task.metric.name,
    )  # fmt: skip


def fit(
    model: Model, path: PromptPath, shots: int, reserved: int, where: str, on_overflow: str
) -> int | None:
    """Return how many shots the cell gets: all there are or what the policy leaves; None where it
    is skipped.
    """
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


def _key(one: Query | Answer) -> tuple[str, int]:
    return (one.id if isinstance(one, Query) else one.query_id), one.sample


def _n_bytes(ask: Ask) -> int:
    return len(
        ask.query.text.encode()
    )  # nearer to its tokens than its characters, where scripts differ


def _distinct(asks: Sequence[Ask]) -> tuple[list[Ask], list[Ask]]:
    """Return the first request of each text, and those of the same texts; groups are all distinct."""
    firsts: dict[str, Ask] = {}
    twins = [
        ask
        for ask in asks
        if not ask.is_group and firsts.setdefault(ask.query.text, ask) is not ask
    ]
    return [ask for ask in asks if ask.is_group or firsts[ask.query.text] is ask], twins
