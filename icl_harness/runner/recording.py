"""What an answer becomes: one scored record for each query that it answers.

In: a request, its answer, or one that the run already has to an identical request. Out: records.
Left out: storing them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from icl_harness.examples import Example
from icl_harness.models.base import Answer, Usage
from icl_harness.prompts.tree import Node, Prompt, Query
from icl_harness.runner.cut_answers import score_answer
from icl_harness.runner.groups import Request, split_answer
from icl_harness.store.records import Record, StoredAnswer
from icl_harness.tasks.task import Task


def scored_records(
    task: Task, node: Node, request: Request, answer: Answer, examples: Mapping[str, Example]
) -> list[Record]:
    """Return the records of one request's answer; a query whose answer is not found in it has an
    unparsed one.
    """
    if not request.is_group:
        return [_scored(task, Prompt(node, request.query), answer, examples)]
    records = []
    for query, own, found in split_answer(request, answer, task.stop):
        prompt = _prompt(node, request, query)
        if own.text is not None and not found:
            records.append(Record(prompt=prompt, answer=own, score=0.0, found=False))
        else:
            records.append(_scored(task, prompt, own, examples))
    return records


def copied_records(
    task: Task,
    node: Node,
    request: Request,
    known: Mapping[str, Mapping[str, StoredAnswer]],
    examples: Mapping[str, Example],
) -> list[Record]:
    """Return the records of a request whose answer the run already has; none where a part of it is
    missing. `known`: query text -> query id -> the answer, behind the same prefix and own edges.
    """
    rows = known.get(request.query.text, {})
    if not request.is_group:
        found = rows.get(request.query.id)
        if request.query.gold:  # of another query's gold answer nothing is known
            found = found if found is not None and found.gold_nll is not None else None
        elif found is None:
            found = next(iter(rows.values()), None)
        if found is None:
            return []
        answer = _copy(request.query, found, examples)
        record = _scored(task, Prompt(node, request.query), answer, examples)
        return [replace(record, reused=True)]
    if any(query.id not in rows for query in request.members):
        return []
    return [
        _copied_member(_prompt(node, request, query), rows[query.id], query, examples)
        for query in request.members
    ]


def _copied_member(
    prompt: Prompt, known: StoredAnswer, query: Query, examples: Mapping[str, Example]
) -> Record:
    return Record(
        prompt=prompt,
        answer=_copy(query, known, examples),
        parsed=known.parsed,
        score=known.score,
        reused=True,
        found=known.found,
    )


def missing_records(node: Node, request: Request, answer: Answer) -> list[Record]:
    """Return the records of a request without an answer: with the status and error of `answer`."""
    records = []
    for query in request.members:
        own = replace(answer, query_id=query.id, sample=query.sample)
        records.append(Record(prompt=_prompt(node, request, query), answer=own))
    return records


def add_usage(one: Usage, other: Usage) -> Usage:
    """Return what two requests took; what is known of neither stays unknown."""
    sums = {}
    for field in fields(Usage):
        values = [getattr(usage, field.name) for usage in (one, other)]
        known = [value for value in values if value is not None]
        sums[field.name] = sum(known) if known else None
    return Usage(**sums)


def _prompt(node: Node, request: Request, query: Query) -> Prompt:
    """Return the prompt that a member of a group was sent in: the text is the whole group's."""
    return Prompt(node, replace(request.query, id=query.id, sample=query.sample))


def _scored(task: Task, prompt: Prompt, answer: Answer, examples: Mapping[str, Example]) -> Record:
    if answer.text is None:
        return Record(prompt=prompt, answer=answer)
    example = examples[answer.query_id]
    score = score_answer(task, task.scorer, answer.text, example, is_cut=answer.cut)
    nats = (answer.logprobs or {}).get(example.target)
    gold_nll = None if nats is None else -nats
    return Record(
        prompt=prompt,
        answer=answer,
        parsed=score.parsed,
        score=score.value,
        gold_nll=gold_nll,
        choice_scores=_choice_scores(prompt.query, answer),
    )


def _choice_scores(query: Query, answer: Answer) -> dict[str, float] | None:
    """Return what each choice was compared by, in their order; None where that is not known."""
    found = answer.logprobs if answer.choice_scores is None else answer.choice_scores
    if found is None or not query.choices or not found.keys() >= set(query.choices):
        return None
    return {choice: found[choice] for choice in query.choices}


def _copy(query: Query, known: StoredAnswer, examples: Mapping[str, Example]) -> Answer:
    """Return the answer to an identical request; of its likelihoods that of its own gold answer is
    known.
    """
    usage = known.usage
    if usage.cost_usd is not None:
        usage = replace(usage, cost_usd=0.0)  # it was paid for once
    logprobs = None
    if known.gold_nll is not None and known.query_id in examples:
        logprobs = {examples[known.query_id].target: -known.gold_nll}
    return Answer(
        query_id=query.id,
        sample=query.sample,
        text=known.answer,
        usage=usage,
        logprobs=logprobs,
        choice_scores=known.choice_scores,
        whole=known.whole,
        cut=known.cut,
    )
