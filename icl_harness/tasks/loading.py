"""Tasks by name, and their examples, with the checks that keep pool and queries apart.

A task is the function of its file's name in tasks/, marked with `@task`; files are looked for in
the working directory first, then in the project (a wheel carries them in icl_harness/content).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from icl_harness.errors import DataError, IclError, SpecError, nearest
from icl_harness.examples import (
    Example,
    check_unique,
    content_hash,
    leaked,
    refuse_leaks,
    same_clusters,
    shown,
)
from icl_harness.tasks.answer_kinds import labels_in_order
from icl_harness.tasks.authors_code import authors_code
from icl_harness.tasks.columns import NONE_NAMED, Columns
from icl_harness.tasks.data_folder import at_work, given_folder
from icl_harness.tasks.discovery import Family, family_names, load_family
from icl_harness.tasks.harnesses.inspect_task import tasks_of_inspect
from icl_harness.tasks.harnesses.lm_eval_task import tasks_of_lm_eval
from icl_harness.tasks.harnesses.names import INSPECT, LM_EVAL
from icl_harness.tasks.label_sets import check_label_set, label_map
from icl_harness.tasks.row_files import FORMS, is_row_file
from icl_harness.tasks.rows import NO_VALUE
from icl_harness.tasks.scoring import label_match
from icl_harness.tasks.table_task import file_task
from icl_harness.tasks.task import Task


@dataclass(frozen=True)
class Dataset:
    """A task's examples under labels of its own; hashes are of all fields, in order."""

    pool: tuple[Example, ...]
    queries: tuple[Example, ...]
    n_dropped: int  # pool rows left out because they are queries
    pool_hash: str
    queries_hash: str


def find_tasks(name: str, data: Path | None = None, columns: Columns = NONE_NAMED) -> list[Task]:
    """Return the tasks of "task", "task:subset" or "task:group", whose files may read rows in the
    folder `data`; of a file of rows, the task that its `columns` make. Raises `SpecError` with the
    nearest names.
    """
    if is_row_file(name):
        return [file_task(Path(name), columns)]
    if name.startswith(LM_EVAL):
        return tasks_of_lm_eval(name, given_folder(data))
    if name.startswith(INSPECT):
        return tasks_of_inspect(name)
    base, _, subset = name.partition(":")
    family = load_family(base, data)
    if family is None:
        if "://" in name:
            raise SpecError(f"{name} is an address. Download the file and name it.")
        if os.path.isfile(name):
            raise SpecError(
                f"{name} is no file of rows by its name, which ends in .jsonl, {FORMS}."
            )
        raise SpecError(
            f"there is no task {base!r}.{nearest(base, family_names())} `icl tasks` lists all."
        )
    with at_work(base, data):
        return [build_task(family, base, chosen) for chosen in family.expand(base, subset)]


def list_tasks(data: Path | None = None) -> list[Task]:
    """Return every task with every subset, but for files that give none."""
    return tasks_and_faults(data)[0]


def tasks_and_faults(data: Path | None = None) -> tuple[list[Task], list[str]]:
    """Return every task with every subset, and a line for each file in tasks/ that gives none."""
    tasks: list[Task] = []
    broken: list[str] = []
    for name in family_names():
        try:
            family = load_family(name, data)
            if family is not None:
                with at_work(name, data):
                    tasks += [
                        build_task(family, name, subset) for subset in family.subsets or (None,)
                    ]
        except IclError as error:
            broken.append(str(error))
    return tasks, broken


def build_task(family: Family, base: str, subset: str | None = None) -> Task:
    """Return the task that a function makes, for one of its subsets where it has some. Raises
    `SpecError`.
    """
    with authors_code(f"task {base}", ": its function failed", SpecError):
        built = family.build() if subset is None else family.build(subset)
    if not isinstance(built, Task):
        raise SpecError(f"task {base}: its function returns a {type(built).__name__}, not a Task.")
    full = base if subset is None or subset == family.default else f"{base}:{subset}"
    return replace(built, name=full, doc=built.doc or family.doc, source_hash=family.source_hash)


def load_examples(
    task: Task, *, data: Path | None = None, seed: int = 0, draw: int = 0, variant: str = "default"
) -> Dataset:
    """Return a task's pool and queries. `data` is the folder of its files, else ICL_DATA, else the
    hub.

    `seed` and `draw` matter to generated tasks alone. Raises `SpecError` or `DataError`.
    """
    check_label_set(task, variant)
    with at_work(task.name, data):
        if task.generate:
            pool, queries = _generated(task, seed, draw, variant)
        else:
            pool, queries = _rows(task, data)
    check_unique([*pool, *queries], f"task {task.name}")
    leaks = leaked(pool, queries)
    if task.whole_clusters:
        leaks += same_clusters(pool, queries)
    if task.leaks == "error":
        refuse_leaks(leaks, f"task {task.name}")
    _check_targets(task, [*pool, *queries])
    dropped = {pool_id for pool_id, _ in leaks}
    pool = [_relabelled(e, task, variant) for e in pool if e.id not in dropped]
    queries = [_relabelled(e, task, variant) for e in queries]
    return Dataset(
        tuple(pool), tuple(queries), len(dropped), content_hash(pool), content_hash(queries)
    )


def labels_of(task: Task, variant: str = "default") -> tuple[str, ...]:
    """Return the labels as prompts of the variant list them; a map onto the same labels keeps their
    order.
    """
    mapping = label_map(task, variant)
    if mapping is None:
        return task.labels
    mapped = tuple(mapping[label] for label in task.labels)
    return task.labels if set(mapped) == set(task.labels) else mapped


def _rows(task: Task, data: Path | None) -> tuple[list[Example], list[Example]]:
    assert task.pool is not None
    assert task.queries is not None
    assert task.example is not None
    data = given_folder(data)
    base = task.name.partition(":")[0]
    pool = task.pool.examples(task.example, base, data)
    queries = task.queries.examples(task.example, base, data)
    return _with_labels(pool, task.labels), _with_labels(queries, task.labels)


def with_labels_of_data(task: Task, data: Path | None) -> Task:
    """Return the task with the labels that occur in its data, if it takes them from there: all
    targets of pool and queries, in order. Raises `DataError` where there is but one.
    """
    if not task.labels_from_data:
        return task
    with at_work(task.name, data):
        pool, queries = _rows(task, data)
    _check_targets(task, [*pool, *queries])
    labels = labels_in_order([example.target for example in (*pool, *queries)])
    if len(labels) < 2:
        raise DataError(
            f"task {task.name}: all targets of its data are {labels[0]!r}. Labels need two at"
            " least: is `example` reading the right column?"
        )
    return replace(task, labels=labels, labels_from_data=False)


def _check_targets(task: Task, examples: Sequence[Example]) -> None:
    """Refuse targets that stand for a missing value, and labels to compare where none are known."""
    for example in examples:
        if example.target in NO_VALUE and not example.choices:
            raise DataError(
                f"task {task.name}, example {example.id}: the target is {example.target!r}, which"
                " is how tables write a missing value. Leave such rows out (`example` returns None)"
                f" or, if {example.target!r} is an answer, list it among the choices."
            )
        if task.scorer is label_match and not example.choices and not task.labels_from_data:
            raise DataError(
                f"task {task.name}: label_match compares labels, and it has none. Give the task"
                " labels=(…), or labels_from_data=True for all that occur in the data."
            )


def _generated(
    task: Task, seed: int, draw: int, variant: str
) -> tuple[list[Example], list[Example]]:
    assert task.generate
    draw = draw if task.per_draw else 0
    variant = variant if variant in task.variants else "default"  # its labels change afterwards
    # The name's hash keeps tasks apart; the variant is not in the seed, so that variants share
    # their inputs.
    name = int.from_bytes(hashlib.sha256(task.name.encode()).digest()[:4])
    with authors_code(f"task {task.name}", ": its generate failed", DataError):
        made = task.generate(np.random.default_rng([seed, draw, name]), variant, draw)
    if not _is_dataset(made):
        raise DataError(
            f"task {task.name}: its generate returned {shown(made)}; it must return pool and "
            "queries, two lists of Examples."
        )
    pool, queries = made
    # Every draw asks other queries: their ids must say so, or statistics would take them for the
    # same.
    prefix = f"d{draw}-" if task.per_draw else ""
    pool = [replace(example, id=prefix + example.id) for example in pool]
    queries = [replace(example, id=prefix + example.id) for example in queries]
    return _with_labels(pool, task.labels), _with_labels(queries, task.labels)


def _is_dataset(made: object) -> bool:
    return isinstance(made, tuple | list) and len(made) == 2 and all(map(_are_examples, made))


def _are_examples(side: object) -> bool:
    return isinstance(side, tuple | list) and all(isinstance(example, Example) for example in side)


def _with_labels(examples: Sequence[Example], labels: tuple[str, ...]) -> list[Example]:
    """Return the examples with the task's labels as choices, where they have none of their own."""
    if not labels:
        return list(examples)
    return [e if e.choices else replace(e, choices=labels) for e in examples]


def _relabelled(example: Example, task: Task, variant: str) -> Example:
    mapping = label_map(task, variant)
    if mapping is None:
        return example
    unknown = [label for label in (example.target, *example.choices) if label not in mapping]
    if unknown:
        where = f"task {task.name}, example {example.id}"
        raise DataError(f"{where}: variant {variant} does not map {unknown[0]!r}.")
    if example.rationale is not None and variant not in task.label_maps:
        raise DataError(
            f"task {task.name}, example {example.id}: its rationale argues for "
            f"{example.target!r}, which {variant} would call {mapping[example.target]!r}. Leave "
            f"{variant} out, or give the task a label map of that name and rationales that fit."
        )
    choices = labels_of(task, variant)
    if set(example.choices) != set(task.labels):  # some of them, its own
        choices = tuple(mapping[choice] for choice in example.choices)
    return replace(example, target=mapping[example.target], choices=choices)
