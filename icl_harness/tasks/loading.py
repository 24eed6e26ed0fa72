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

from icl_harness.errors import DataError, SpecError, nearest
from icl_harness.examples import Example, check_unique, content_hash, leaked, refuse_leaks, shown
from icl_harness.tasks.discovery import Family, authors_code, family_names, load_family
from icl_harness.tasks.task import Task


@dataclass(frozen=True)
class Dataset:
    """A task's examples under labels of its own; hashes are of all fields, in order."""

    pool: tuple[Example, ...]
    queries: tuple[Example, ...]
    n_dropped: int  # pool rows left out because they are queries
    pool_hash: str
    queries_hash: str


def find_tasks(name: str) -> list[Task]:
    """Return the tasks of "task", "task:subset" or "task:group". Raises `SpecError` with the
    nearest names.
    """
    base, _, subset = name.partition(":")
    family = load_family(base)
    if family is None:
        raise SpecError(
            f"there is no task {base!r}.{nearest(base, family_names())} `icl tasks` lists all."
        )
    return [_build(family, base, chosen) for chosen in family.expand(base, subset)]


def list_tasks() -> list[Task]:
    """Return every task with every subset. Reads no data."""
    tasks = []
    for name in family_names():
        family = load_family(name)
        if family is not None:
            tasks += [_build(family, name, subset) for subset in family.subsets or (None,)]
    return tasks


def _build(family: Family, base: str, subset: str | None) -> Task:
    with authors_code(f"task {base}", ": its function failed", SpecError):
        built = family.build() if subset is None else family.build(subset)
    if not isinstance(built, Task):
        raise SpecError(f"task {base}: its function returns a {type(built).__name__}, not a Task.")
    full = base if subset is None or subset == family.default else f"{base}:{subset}"
    return replace(built, name=full, doc=family.doc, source_hash=family.source_hash)


def load_examples(
    task: Task, *, data: Path | None = None, seed: int = 0, draw: int = 0, variant: str = "default"
) -> Dataset:
    """Return a task's pool and queries. `data` is the folder of its files, else ICL_DATA, else the
    hub.

    `seed` and `draw` matter to generated tasks alone. Raises `SpecError` or `DataError`.
    """
    if variant not in task.variants:
        known = ", ".join(task.variants)
        close = nearest(variant, task.variants)
        raise SpecError(f"task {task.name} has no variant {variant!r}; it has {known}.{close}")
    if task.generate:
        pool, queries = _generated(task, seed, draw, variant)
    else:
        pool, queries = _rows(task, data)
    check_unique([*pool, *queries], f"task {task.name}")
    leaks = leaked(pool, queries)
    if task.leaks == "error":
        refuse_leaks(leaks, f"task {task.name}")
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
    if variant not in task.label_maps:
        return task.labels
    mapping = task.label_maps[variant]
    mapped = tuple(mapping[label] for label in task.labels)
    return task.labels if set(mapped) == set(task.labels) else mapped


def _rows(task: Task, data: Path | None) -> tuple[list[Example], list[Example]]:
    assert task.pool
    assert task.queries
    assert task.example
    if data is None and os.environ.get("ICL_DATA"):
        data = Path(os.environ["ICL_DATA"])
    base = task.name.partition(":")[0]
    pool = task.pool.examples(task.example, base, data)
    queries = task.queries.examples(task.example, base, data)
    return _with_labels(pool, task.labels), _with_labels(queries, task.labels)


def _generated(
    task: Task, seed: int, draw: int, variant: str
) -> tuple[list[Example], list[Example]]:
    assert task.generate
    draw = draw if task.per_draw else 0
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
    mapping = task.label_maps.get(variant)
    if mapping is None:
        return example
    unknown = [label for label in (example.target, *example.choices) if label not in mapping]
    if unknown:
        where = f"task {task.name}, example {example.id}"
        raise DataError(f"{where}: variant {variant} does not map {unknown[0]!r}.")
    return replace(example, target=mapping[example.target], choices=labels_of(task, variant))
