"""What an answer becomes: one scored record for each query that it answers.

In: what was asked, the answer, or one that the run was given to the same words. Out: records. Left
out: storing them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from icl_harness.examples import Example
from icl_harness.models.base import Answer, Usage
from icl_harness.prompts.tree import Node, Prompt, Query
from icl_harness.runner.banks import apply_scorer
from icl_harness.runner.groups import Ask, split_answer
from icl_harness.store.records import Record, StoredAnswer
from icl_harness.tasks.task import Task


def scored_records(
    task: Task, node: Node, ask: Ask, answer: Answer, examples: Mapping[str, Example]
) -> list[Record]:
    """Return the records of one request's answer; a query whose answer is not found in it has an
    unparsed one.
    """
    if not ask.is_group:
        return [_scored(task, Prompt(node, ask.query), answer, examples)]
    records = []
    for query, own, found in split_answer(ask, answer, task.stop):
        prompt = _prompt(node, ask, query)
        unparsed = own.text is not None and not found
        records.append(
            Record(prompt=prompt, answer=own, score=0.0, found=False)
            if unparsed
            else _scored(task, prompt, own, examples)
        )
    return records


def copied_records(
    task: Task,
    node: Node,
    ask: Ask,
    known: Mapping[str, Mapping[str, StoredAnswer]],
    examples: Mapping[str, Example],
) -> list[Record]:
    """Return the records of answers that were given to the same request; none where one of them is
    missing.
    """
    rows = known.get(ask.query.text, {})
    if not ask.is_group:
        found = rows.get(ask.query.id) or next(iter(rows.values()), None)
        if found is None:
            return []
        record = _scored(task, Prompt(node, ask.query), _copy(ask.query, found, examples), examples)
        return [replace(record, reused=True)]
    if any(query.id not in rows for query in ask.members):
        return []
    return [
        Record(
            prompt=_prompt(node, ask, query), answer=_copy(query, rows[query.id], examples),
            parsed=rows[query.id].parsed, score=rows[query.id].score,
            reused=True, found=rows[query.id].found,
        )
        for query in ask.members
    ]  # fmt: skip


def missing_records(node: Node, ask: Ask, answer: Answer) -> list[Record]:
    """Return the records of a request that has no answer, with the status and error of one."""
    return [
        Record(
            prompt=_prompt(node, ask, query),
            answer=replace(answer, query_id=query.id, sample=query.sample),
        )
        for query in ask.members
    ]


def add_usage(one: Usage, other: Usage) -> Usage:
    """Return what two requests took; what is known of neither stays unknown."""
    both = {
        f.name: [v for v in (getattr(one, f.name), getattr(other, f.name)) if v is not None]
        for f in fields(Usage)
    }
    return Usage(**{name: sum(values) if values else None for name, values in both.items()})


def _prompt(node: Node, ask: Ask, query: Query) -> Prompt:
    """Return what a member of a group was asked by: the text is the whole group's."""
    return Prompt(node, replace(ask.query, id=query.id, sample=query.sample))


def _scored(task: Task, prompt: Prompt, answer: Answer, examples: Mapping[str, Example]) -> Record:
    if answer.text is None:
        return Record(prompt=prompt, answer=answer)
    example = examples[answer.query_id]
    score = apply_scorer(task, task.scorer, answer.text, example)
    nats = (answer.logprobs or {}).get(example.target)
    gold_nll = None if nats is None else -nats
    return Record(
        prompt=prompt, answer=answer, parsed=score.parsed, score=score.value, gold_nll=gold_nll
    )


def _copy(query: Query, known: StoredAnswer, examples: Mapping[str, Example]) -> Answer:
    """Return an answer that was given to the same words; of its likelihoods that of its own gold
    answer is known.
    """
    usage = replace(
        known.usage, cost_usd=None if known.usage.cost_usd is None else 0.0
    )  # it was paid for once
    has_nll = known.gold_nll is not None and known.query_id in examples
    logprobs = {examples[known.query_id].target: -(known.gold_nll or 0.0)} if has_nll else None
    return Answer(
        query_id=query.id, sample=query.sample, text=known.answer, usage=usage, logprobs=logprobs
    )
