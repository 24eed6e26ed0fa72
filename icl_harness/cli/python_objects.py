"""What Python gives `run` in the place of names: tasks, models, functions.

In: tasks and models as given. Out: their names for the spec, and the objects by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from types import FunctionType
from typing import Any, TypeAlias, TypeVar

from icl_harness.errors import SpecError
from icl_harness.examples import shown
from icl_harness.models.base import Model
from icl_harness.models.scripted import PromptText, ScriptedModel, function_model
from icl_harness.tasks.columns import NONE_NAMED, Columns
from icl_harness.tasks.discovery import Family
from icl_harness.tasks.given_rows import are_rows
from icl_harness.tasks.loading import build_task
from icl_harness.tasks.row_files import is_row_file
from icl_harness.tasks.table_task import task_of_rows
from icl_harness.tasks.task import Task

Rows: TypeAlias = Iterable[Any]  # a DataFrame, a data set, a list of dicts or of Examples
GivenTask: TypeAlias = str | PathLike[str] | Task | Family | Callable[[], Task] | Rows
GivenModel: TypeAlias = str | Model | Callable[[PromptText], str]
T = TypeVar("T")


def named_tasks(
    given: GivenTask | Sequence[GivenTask], columns: Columns = NONE_NAMED
) -> tuple[list[str], dict[str, Task]]:
    """Return the names of tasks, and the objects among them by name; `columns` are those of rows.
    Raises `SpecError`.
    """
    names: list[str] = []
    found: dict[str, Task] = {}
    for one in _listed_tasks(given):
        if isinstance(one, str | PathLike):
            names.append(fspath(one))
            continue
        for task in _tasks_of(one, columns):
            task = replace(task, name=task.name or "task")
            if "," in task.name or task.name in found:
                why = "holds a comma" if "," in task.name else "is the name of two tasks"
                raise SpecError(
                    f"run(): {task.name!r} {why}. Give each its own: Task(name='mine', …)."
                )
            names.append(task.name)
            found[task.name] = task
    return names, found


def named_source(options: dict[str, Any], known: Mapping[str, Task]) -> dict[str, Task]:
    """Return the task that `shots_from` is, by its name, which takes its place in the options;
    none where it is a name already. Raises `SpecError`.
    """
    source = options.get("shots_from")
    if source is None or isinstance(source, str | PathLike):
        return {}
    names, found = named_tasks(source)
    if len(names) != 1 or names[0] in known:
        raise SpecError(
            f"run(): shots_from is {', '.join(names)}; give one task of another name than those "
            "that are asked: Task(name='other', …)."
        )
    options["shots_from"] = names[0]
    return found


def taken_columns(given: GivenTask | Sequence[GivenTask], options: dict[str, Any]) -> Columns:
    """Return the columns that options name for rows; they leave the options unless a file among the
    tasks is to have them from the spec.
    """
    listed = _listed_tasks(given)
    if not any(map(are_rows, listed)):
        return NONE_NAMED
    named = {name: options[name] for name in Columns.model_fields if name in options}
    if not any(isinstance(one, str | PathLike) and is_row_file(fspath(one)) for one in listed):
        for name in named:
            del options[name]
    return Columns(**named)


def _listed_tasks(given: Any) -> list[Any]:
    return [given] if are_rows(given) else _listed(given, (str, PathLike, Task, Family))


def _tasks_of(one: Any, columns: Columns) -> list[Task]:
    """Return the tasks of an object: of rows, or of a function that `@task` may mark."""
    if isinstance(one, Task):
        return [one]
    if are_rows(one):
        return [task_of_rows(one, columns)]
    family = Family(build=one) if isinstance(one, FunctionType) else one
    if not isinstance(family, Family):
        raise SpecError(
            f"run(): {shown(one)} is no task; give a name of tasks/, a file of rows, a DataFrame or"
            " a Task(…)."
        )
    name = getattr(family.build, "__name__", "task")
    return [build_task(family, name, subset) for subset in family.expand(name, "")]


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
