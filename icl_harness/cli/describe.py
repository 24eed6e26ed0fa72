"""What `icl tasks` says: the list of tasks, and one task with a rendered prompt."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from icl_harness.counts import n_of
from icl_harness.draws import draw_order
from icl_harness.errors import DataError, SpecError, nearest
from icl_harness.near_duplicates import N_SHOWN, near_duplicates
from icl_harness.prompts.filler import make_filler, n_bytes
from icl_harness.prompts.modes import MODES, Mode, PromptPath, gold_shots
from icl_harness.prompts.operators.registry import Context, operators
from icl_harness.prompts.template import load_template
from icl_harness.prompts.tree import Prompt
from icl_harness.prompts.variants import DEFAULT, Variant, check_variant, parse_variant, shot_source
from icl_harness.runner.rationales import shown_in
from icl_harness.runner.transfer import find_source, refuse_own, transferred
from icl_harness.tasks.columns import NONE_NAMED, Columns
from icl_harness.tasks.label_sets import label_sets
from icl_harness.tasks.loading import (
    Dataset,
    find_tasks,
    labels_of,
    load_examples,
    with_labels_of_data,
)
from icl_harness.tasks.task import Task

N_SHOTS = 2


def task_list(tasks: Sequence[Task]) -> Iterator[tuple[str, str]]:
    """Yield each task's name and what it asks, metric, chance level, labels of its variants; then,
    without a name, its subsets.
    """
    families: dict[str, list[Task]] = {}
    for task in tasks:
        families.setdefault(task.name.partition(":")[0], []).append(task)
    for name, members in families.items():
        first = members[0]
        others = [variant for variant in first.variants if variant != DEFAULT]
        more = f"; variants {', '.join(others)}" if others else ""
        yield name, f"{_first_line(first)} [{first.metric.name}{_chance(members)}{more}]"
        subsets = [task.name for task in members if task.name != name]
        if subsets:
            yield "", _listed(subsets)


def _listed(names: Sequence[str]) -> str:
    """Return names in a row; where all have a twin that ends alike, as in :cot, once each."""
    for ending in dict.fromkeys(name.rpartition(":")[2] for name in reversed(names)):
        plain = [name for name in names if not name.endswith(f":{ending}")]
        if len(plain) > 1 and {f"{name}:{ending}" for name in plain} <= set(names):
            return f"{', '.join(plain)}; each also with :{ending}"
    return ", ".join(names)


def task_page(
    name: str, *, data: Path | None, mode: str, variant: str, columns: Columns = NONE_NAMED
) -> Iterator[str]:
    """Yield what there is to know of a task (of a group: its first), ending in a prompt of two
    shots.

    Where the rows cannot be read, a line says why, instead of the prompt.
    """
    if mode not in MODES:
        raise SpecError(f"unknown mode {mode!r}.{nearest(mode, MODES)} Known: {', '.join(MODES)}.")
    found = find_tasks(name, data, columns)
    task = found[0]
    with contextlib.suppress(DataError):  # said below
        task = with_labels_of_data(task, data)
    changes = parse_variant(variant)
    check_variant(changes, task, [mode])
    source = find_source(changes.frame.pool, data, columns) if changes.frame.pool else None
    if source is not None:
        refuse_own(task, source)
    if len(found) > 1:
        members = ", ".join(member.name for member in found)
        yield f"{name} is a group of {len(found)} tasks: {members}. The first:"
        yield ""
    yield from _facts(task)
    try:
        dataset = load_examples(task, data=data, seed=0, variant=changes.labels)
        if source is not None:
            other = load_examples(source, data=data, seed=0, variant=changes.labels)
            dataset = transferred(dataset, other, task, source)
    except DataError as error:
        yield f"rows      {error}"
        return
    yield from _sizes(dataset)
    yield from _prompt(task, source or task, dataset, mode, changes)


def _facts(task: Task) -> Iterator[str]:
    yield f"{task.name}: {task.doc.strip()}"
    yield ""
    yield f"metric    {task.metric.name}{_chance([task])}"
    yield f"variants  {', '.join(label_sets(task))}; operators, joined by + as in noise=0.2+sorted:"
    for operator in operators().values():
        if task.labels or not operator.needs_labels:
            notes = [] if operator.modes == MODES else [f"{' and '.join(operator.modes)} mode"]
            notes += [] if operator.nested else ["not nested"]
            note = f" ({', '.join(notes)})" if notes else ""
            yield f"          {operator.usage:<22} {operator.doc.rstrip('.')}{note}"
    room = n_of(task.max_tokens, "token")
    yield f"prompts   prompts/{task.prompts}.jinja, answers of at most {room}, stop {task.stop!r}"


def _sizes(dataset: Dataset) -> Iterator[str]:
    n_dropped = dataset.n_dropped
    dropped = f", {n_dropped} more left out as equal to a query" if n_dropped else ""
    yield f"pool      {n_of(len(dataset.pool), 'example')}{dropped}"
    yield f"queries   {n_of(len(dataset.queries), 'example')}"
    near = near_duplicates(dataset.pool, dataset.queries)
    if near:
        listed = ", ".join(f"{pool_id} = {query_id}" for pool_id, query_id in near[:N_SHOWN])
        more = ", …" if len(near) > N_SHOWN else ""
        yield (
            f"near      {n_of(len(near), 'pool example')} equal to a query but for word breaks, "
            f"punctuation or the order of options: {listed}{more}"
        )


def _prompt(
    task: Task, owner: Task, dataset: Dataset, mode: Mode, variant: Variant
) -> Iterator[str]:
    order, frame = shown_in(mode, draw_order(dataset.pool, 0, 0, owner.name)), variant.frame
    labels = labels_of(task, variant.labels)
    known = labels_of(owner, variant.labels)
    context = Context(task=owner.name, labels=known, solved={e.id for e in order})
    source = shot_source(variant, order, context, lambda examples: gold_shots(examples, mode))
    path = PromptPath(
        load_template(replace(task, prompts=frame.prompts) if frame.prompts else task),
        mode,
        source if frame.shots else (),
        {**task.fields, "labels": labels},
        instruction=frame.instruction,
        filler=make_filler(n_bytes, labels, 0, 0, task.name) if frame.filler else None,
    )
    k = min(N_SHOTS, len(path.shots))
    gold = " (gold answers stand in for the bank's own)" if mode == "reinforced" else ""
    if variant.needs_bank:
        gold = " (as if the model had solved every problem)"
    yield ""
    yield f"--- {mode} prompt, {n_of(k, 'shot')}{gold}"
    yield Prompt(path.node(k), path.query(dataset.queries[0], k)).text


def _first_line(task: Task) -> str:
    return task.doc.strip().splitlines()[0] if task.doc.strip() else ""


def _chance(tasks: Sequence[Task]) -> str:
    """Return the chance level of tasks, as a range where they differ; "" where none is known."""
    levels = [task.chance for task in tasks if task.chance is not None]
    if not levels:
        return ""
    low, high = min(levels), max(levels)
    return f", chance {low:.3g} to {high:.3g}" if high > low else f", chance {low:.3g}"
