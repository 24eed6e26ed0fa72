"""What Python gives `run` in the place of names: tasks, models, functions.

In: tasks and models as given. Out: their names for the spec, and the objects by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from icl_harness.errors import SpecError
from icl_harness.examples import shown
from icl_harness.models.base import Model
from icl_harness.models.scripted import PromptText, ScriptedModel, function_model
from icl_harness.tasks.discovery import Family
from icl_harness.tasks.task import Task

GivenTask: TypeAlias = str | Task | Family
GivenModel: TypeAlias = str | Model | Callable[[PromptText], str]
T = TypeVar("T")


def named_tasks(given: GivenTask | Sequence[GivenTask]) -> tuple[list[str], dict[str, Task]]:
    """Return the names of tasks, and the objects among them by name. Raises `SpecError`."""
    names: list[str] = []
    found: dict[str, Task] = {}
    for one in _listed(given, (str, Task, Family)):
        if isinstance(one, str):
            names.append(one)
            continue
        task = _built(one) if isinstance(one, Family) else one
        if not isinstance(task, Task):
            raise SpecError(f"run(): {shown(one)} is no task; give a name of tasks/, or a Task(…).")
        task = replace(task, name=task.name or "task")
        if "," in task.name or task.name in found:
            why = "holds a comma" if "," in task.name else "is the name of two tasks"
            raise SpecError(f"run(): {task.name!r} {why}. Give each its own: Task(name='mine', …).")
        names.append(task.name)
        found[task.name] = task
    return names, found


def _built(family: Family) -> Any:
    """Return the task of a function that `@task` marks, under the function's name."""
    if family.subsets:
        raise SpecError(
            "run(): a task with subsets is named by its file's name, as in 'trec:fine'."
        )
    task = family.build()
    return replace(task, name=family.build.__name__) if isinstance(task, Task) else task


def named_models(given: GivenModel | Sequence[GivenModel]) -> tuple[list[str], dict[str, Model]]:
    """Return the ids of models, and the open ones among them by id. Raises `SpecError`."""
    ids: list[str] = []
    opened: dict[str, Model] = {}
    for one in _listed(given, (str, Model)):
        if isinstance(one, str):
            ids.append(one)
            continue
        if not isinstance(one, Model) and not callable(one):
            raise SpecError(
                f"run(): {shown(one)} is no model; give an id, an open model, or a function of the"
                " prompt's text that returns the answer."
            )
        model = one if isinstance(one, Model) else function_model(one, _new_id(one, ids))
        ids.append(model.id)
        opened[model.id] = model
    return ids, opened


def _new_id(function: Callable[..., Any], taken: Sequence[str]) -> str:
    """Return a function's name, or "function" for one without, and a number where it is taken."""
    name = getattr(function, "__name__", "")
    id = name if name.isidentifier() and name not in ("demo", "baseline") else "function"
    numbered = [f"{id}-{number}" for number in range(2, len(taken) + 2)]
    return next(one for one in (id, *numbered) if one not in taken)


def _listed(given: Any, single: tuple[type, ...]) -> list[Any]:
    is_one = isinstance(given, single) or callable(given) or not isinstance(given, Iterable)
    return [given] if is_one else list(given)


def free_folder(folder: Path, models: Iterable[Model]) -> Path:
    """Return the folder of a run that names none: beside an earlier one where a function answers,
    as another function may stand under the same name now.
    """
    if not any(isinstance(model, ScriptedModel) for model in models):
        return folder
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free
