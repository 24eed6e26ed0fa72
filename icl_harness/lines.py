"""One line of the walk: its cells, shots ascending, asked of one model (floor 3).

In: a line, a model, a run store. Out: records in the store, and a bank where the line is reinforced. What the store
holds is not asked again, so a line that was left can be walked once more, with another worker, say.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from icl_harness.banking import apply_scorer, bank_name, obtain_bank
from icl_harness.draws import stable_seed
from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.experiment import Experiment, Line
from icl_harness.models.base import Answer, Model, Usage, spent_tokens
from icl_harness.modes import PromptPath
from icl_harness.plan import fitting_shots, reserved_tokens
from icl_harness.prompts import Node, Prompt, Query
from icl_harness.results import Cell, Record, RunStore
from icl_harness.turns import Place, Turns


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What the lines of a walk have in common. `banks`: a lock each, so that a bank is made once."""

    experiment: Experiment
    store: RunStore
    turns: Turns = field(default_factory=Turns)
    banks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))


@dataclass(frozen=True, kw_only=True)
class LineWalk:
    """A walk along one line. `count` is told what was done: cells, queries, tokens, and asks that were unforeseen."""

    shared: Shared
    place: Place
    model: Model
    count: Callable[..., None]

    async def walk(self) -> None:
        """Ask and score what the store does not hold yet."""
        shared, line, task = self.shared, self.place.line, self.place.line.task
        experiment = shared.experiment
        bank = None
        if line.mode == "reinforced":
            async with shared.banks[bank_name(line)]:
                bank = await obtain_bank(experiment, shared.store.path, line, self.model, self.count)
        path = experiment.path(line, bank)
        examples = {e.id: e for e in experiment.queries(task, line.variant, line.draw)}
        await shared.turns.move(self.place, path=path)
        seed = stable_seed(experiment.spec.seed, task.name, line.draw)
        queries = [path.query(example, seed=seed) for example in examples.values()]
        reserved = reserved_tokens(self.model, path, queries, experiment.sampling(task))
        for shots in experiment.spec.shots:
            cell = Cell(
                task=task.name, model=line.model, mode=line.mode, variant=line.variant,
                shots=shots, draw=line.draw, metric=task.metric,
            )  # fmt: skip
            done = shared.store.done(cell)
            pending = [q for q in queries if (q.id, q.sample) not in done]
            self.count(queries=len(queries) - len(pending), doing=f"{line}, {shots} shots")
            if pending:
                fitted = fit(self.model, path, shots, reserved, str(line), experiment.spec.on_overflow)
                if fitted is None:
                    self._skip(cell, path.node(0), pending)
                else:
                    await self._ask(cell, path.node(fitted), pending, examples)
            await shared.turns.move(self.place, shots_done=shots)
            self.count(cells=1)

    async def _ask(self, cell: Cell, node: Node, queries: Sequence[Query], examples: Mapping[str, Example]) -> None:
        """Ask the queries behind one node and store their answers as they come."""
        store, line = self.shared.store, self.place.line
        sampling = self.shared.experiment.sampling(line.task)
        by_key = {(q.id, q.sample): q for q in queries}

        def keep(answers: Sequence[Answer], reused: bool = False) -> None:
            prompts = [Prompt(node, by_key[a.query_id, a.sample]) for a in answers]
            store.add(cell, [_scored(p, a, line, examples, reused) for p, a in zip(prompts, answers, strict=True)])
            tokens = 0 if reused else sum(spent_tokens(a.usage) for a in answers)
            self.count(queries=len(answers), tokens=tokens)

        known: dict[str, tuple[Any, ...]] = {}
        if sampling.temperature == 0:
            await self.shared.turns.wait(self.place, node)
            known = store.answered(cell, node)
        copies = [_copy(q, known[q.text], examples) for q in queries if q.text in known]
        if copies:
            keep(copies, reused=True)
        asked = [q for q in queries if q.text not in known]
        waiting = {(q.id, q.sample) for q in asked}
        if asked:
            async with aclosing(self.model.answers(node, asked, sampling)) as stream:
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
        records = [Record(prompt=Prompt(node, q), answer=a) for q, a in zip(queries, answers, strict=True)]
        self.shared.store.add(cell, records)
        self.count(queries=len(queries))


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


def _scored(prompt: Prompt, answer: Answer, line: Line, examples: Mapping[str, Example], reused: bool) -> Record:
    if answer.text is None:
        return Record(prompt=prompt, answer=answer)
    example = examples[answer.query_id]
    score = apply_scorer(line.task, line.task.scorer, answer.text, example)
    nats = (answer.logprobs or {}).get(example.target)
    return Record(
        prompt=prompt, answer=answer, parsed=score.parsed, score=score.value,
        gold_nll=None if nats is None else -nats, reused=reused,
    )  # fmt: skip


def _copy(query: Query, known: tuple[Any, ...], examples: Mapping[str, Example]) -> Answer:
    """Return an answer that was given to the same words; of its likelihoods that of its own gold answer is known."""
    query_id, text, gold_nll, prompt_tokens, cached_tokens, completion_tokens, cost_usd = known
    usage = Usage(
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        completion_tokens=completion_tokens,
        cost_usd=None if cost_usd is None else 0.0,  # it was paid for once
    )
    logprobs = None if gold_nll is None or query_id not in examples else {examples[query_id].target: -gold_nll}
    return Answer(query_id=query.id, sample=query.sample, text=text, usage=usage, logprobs=logprobs)


def _failed(query: Query, error: str) -> Answer:
    return Answer(query_id=query.id, sample=query.sample, status="failed", error=error)
