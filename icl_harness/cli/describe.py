"""What `icl tasks` says: the list of tasks, and one task with a rendered prompt."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from icl_harness.draws import draw_order
from icl_harness.errors import DataError, SpecError, nearest
from icl_harness.prompts.modes import MODES, PromptPath, gold_shots
from icl_harness.prompts.template import load_template
from icl_harness.prompts.tree import Prompt
from icl_harness.tasks.loading import find_tasks, labels_of, list_tasks, load_examples
from icl_harness.tasks.task import Task

N_SHOTS = 2


def task_list() -> Iterator[tuple[str, str]]:
    """Yield each task's name and what it asks, metric, chance level, variants; then, without a
    name, its subsets.
    """
    families: dict[str, list[Task]] = {}
    for task in list_tasks():
        families.setdefault(task.name.partition(":")[0], []).append(task)
    for name, members in families.items():
        first = members[0]
        levels = [task.chance for task in members if task.chance is not None]
        chance = f", chance {min(levels):.3g}" + (
            f" to {max(levels):.3g}" if max(levels) > min(levels) else ""
        )
        more = f"; variants {', '.join(first.variants)}" if len(first.variants) > 1 else ""
        yield name, f"{_first_line(first)} [{first.metric.name}{chance if levels else ''}{more}]"
        subsets = ", ".join(task.name for task in members if task.name != name)
        if subsets:
            yield from (("", line) for line in textwrap.wrap(subsets, 76))


def task_page(name: str, *, data: Path | None, mode: str, variant: str) -> Iterator[str]:
    """Yield what there is to know of a task (of a group: its first), ending in a prompt of two
    shots.

    Where the rows cannot be had, the line that says why stands in the prompt's place.
    """
    if mode not in MODES:
        raise SpecError(f"unknown mode {mode!r}.{nearest(mode, MODES)} Known: {', '.join(MODES)}.")
    found = find_tasks(name)
    task = found[0]
    if len(found) > 1:
        yield f"{name} is a group of {len(found)} tasks: {', '.join(t.name for t in found)}. The first:"
        yield ""
    yield f"{task.name}: {task.doc.strip()}"
    yield ""
    yield f"metric    {task.metric.name}{_chance(task)}"
    yield f"variants  {', '.join(task.variants)}"
    yield f"prompts   prompts/{task.prompts}.jinja, answers of at most {task.max_tokens} tokens, stop {task.stop!r}"
    try:
        dataset = load_examples(task, data=data, seed=0, variant=variant)
    except DataError as error:
        yield f"rows      {error}"
        return
    dropped = (
        f", {dataset.n_dropped} more left out as equal to a query" if dataset.n_dropped else ""
    )
    yield f"pool      {len(dataset.pool):,} examples{dropped}"
    yield f"queries   {len(dataset.queries):,} examples"
    order = draw_order(dataset.pool, 0, 0, task.name)[:N_SHOTS]
    variables = {**task.fields, "labels": labels_of(task, variant)}
    path = PromptPath(load_template(task), mode, gold_shots(order, mode), variables)
    stand_in = " (gold answers stand in for the bank's own)" if mode == "reinforced" else ""
    yield ""
    yield f"--- {mode} prompt, {len(order)} shots{stand_in}"
    yield Prompt(path.node(len(order)), path.query(dataset.queries[0])).text


def _first_line(task: Task) -> str:
    return task.doc.strip().splitlines()[0] if task.doc.strip() else ""


def _chance(task: Task) -> str:
    return "" if task.chance is None else f", chance {task.chance:.3g}"
