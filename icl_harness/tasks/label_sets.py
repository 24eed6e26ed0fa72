"""Other labels in the place of a task's own: do shots override what the model knows?

In: a task and the name of a set of labels. Out: which label is shown in the place of which. Beside
the sets of a task's own (its `label_maps`, the `variants` that its `generate` knows), which come
first, any task with labels has two, after Agarwal et al. 2024 (section 4):

    flipped     each label is called as the next one is, the last as the first
    abstract    the labels are called A, B, C, …; beyond 26 AA, AB, …
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase

from icl_harness.errors import SpecError, nearest
from icl_harness.tasks.task import Task

EVERY_TASKS = ("flipped", "abstract")


def label_sets(task: Task) -> tuple[str, ...]:
    """Return the names of the sets of labels that a task can be asked with."""
    more = [name for name in EVERY_TASKS if name not in task.variants]
    return (*task.variants, *more) if len(task.labels) > 1 else task.variants


def label_map(task: Task, name: str) -> Mapping[str, str] | None:
    """Return label → the label shown in its place; None where a set changes none, or `generate`
    makes the examples with it.
    """
    if name in task.label_maps:
        return task.label_maps[name]
    if name in task.variants or name not in label_sets(task):
        return None
    shown = _flipped(task.labels) if name == "flipped" else _letters(len(task.labels))
    return dict(zip(task.labels, shown, strict=True))


def check_label_set(task: Task, name: str, others: tuple[str, ...] = ()) -> None:
    """Raise `SpecError` where a task has no such set, or its labels would stay the same. `others`
    are names of something else that may have been meant.
    """
    known = label_sets(task)
    if name in EVERY_TASKS and name not in known:
        if task.labels_from_data:  # they are not known yet
            return
        raise SpecError(
            f"task {task.name} has no fixed labels, which {name} needs: it changes what labels are "
            f"called. Leave {name} out."
        )
    if name not in known:
        listed = ", ".join([*known, *others])
        close = nearest(name, [*known, *(other.partition("=")[0] for other in others)])
        raise SpecError(f"task {task.name} has no variant {name!r}; it has {listed}.{close}")
    mapping = label_map(task, name)
    if mapping and all(label == shown for label, shown in mapping.items()):
        raise SpecError(
            f"task {task.name}: its labels are called {', '.join(task.labels[:3])}, … already, so "
            f"{name} would change nothing. Leave it out."
        )


def _flipped(labels: tuple[str, ...]) -> tuple[str, ...]:
    return (*labels[1:], labels[0])


def _letters(n: int) -> list[str]:
    """Return A to Z, then AA, AB, …, as the columns of a spreadsheet are called."""
    names = list(ascii_uppercase)
    for name in names:
        if len(names) >= n:
            break
        names += [name + letter for letter in ascii_uppercase]
    return names[:n]
