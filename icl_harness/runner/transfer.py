"""Shots of another task: which task, and its pool without what the queries of this one ask.

In: the task that a variant names, the data of both. Out: data whose pool is the other task's. Its
examples keep their ids, targets and rationales; the words around them are this task's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from icl_harness.errors import SpecError
from icl_harness.examples import content_hash, leaked, refuse_leaks
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.spec import Spec
from icl_harness.tasks.columns import Columns
from icl_harness.tasks.loading import Dataset, find_tasks, with_labels_of_data
from icl_harness.tasks.task import Task


def find_source(
    name: str, data: Path | None, columns: Columns, given: Mapping[str, Task] | None = None
) -> Task:
    """Return the task whose pool shots are drawn from. Raises `SpecError` for a group."""
    found = [(given or {})[name]] if name in (given or {}) else find_tasks(name, data, columns)
    if len(found) > 1:
        raise SpecError(
            f"--shots-from {name}: that is a group of {len(found)} tasks. Name one, as in "
            f"--shots-from {found[0].name}."
        )
    return with_labels_of_data(found[0], data)


def find_sources(spec: Spec, data: Path | None, given: Mapping[str, Task]) -> dict[str, Task]:
    """Return the tasks whose pools variants name, by these names."""
    pools = {parse_variant(variant).frame.pool for variant in spec.variants}
    return {name: find_source(name, data, spec, given) for name in sorted(pools - {""})}


def refuse_own(task: Task, source: Task) -> None:
    """Raise `SpecError` where a task is to be shown its own pool."""
    if source.name == task.name:
        raise SpecError(
            f"--shots-from {source.name}: these are {task.name}'s own shots. Leave it out, or ask "
            "another task's queries."
        )


def transferred(own: Dataset, other: Dataset, task: Task, source: Task) -> Dataset:
    """Return the queries of a task with the pool of another. Pool examples with the text of a query
    are refused, or left out where either task leaves its own out. Raises `DataError`.
    """
    leaks = leaked(other.pool, own.queries)
    if "drop" not in (task.leaks, source.leaks):
        refuse_leaks(leaks, f"shots of {source.name} before queries of {task.name}")
    dropped = {pool_id for pool_id, _ in leaks}
    pool = tuple(example for example in other.pool if example.id not in dropped)
    return replace(
        own,
        pool=pool,
        n_dropped=len(dropped),
        pool_hash=content_hash(pool) if dropped else other.pool_hash,
    )
