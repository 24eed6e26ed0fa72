"""Tasks: what is asked, of which examples, in which words, scored how (floor 1).

In: a name. Out: a `Task`, its prompt template, and its examples with the checks that keep pool and queries apart.
A task is the function of its file's name in tasks/, marked with `@task`; files are looked for in the working
directory first, then in the project (a wheel carries them in icl_harness/content).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from icl_harness.data import MakeExample, Source
from icl_harness.errors import DataError, SpecError, nearest
from icl_harness.examples import Example, check_disjoint, check_unique, content_hash, leaked, shown
from icl_harness.prompts import Template
from icl_harness.scoring import Scorer
from icl_harness.task_files import Family, authors_code, content, family_names, load_family, task

__all__ = ["Dataset", "Task", "find_tasks", "labels_of", "list_tasks", "load_examples", "load_template", "task"]

if TYPE_CHECKING:
    import numpy as np

TEMPLATE_VARIABLES = {"mode", "labels", "input", "target", "rationale", "examples"}
MakeEpisode = Callable[["np.random.Generator", str, int], tuple[list[Example], list[Example]]]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_is_text, value))


def _is_source(value: object) -> bool:
    return value is None or callable(getattr(value, "examples", None))


def _is_optional_function(value: object) -> bool:
    return value is None or callable(value)


def _is_level(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _has_names(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value))


def _are_maps(value: object) -> bool:
    return _has_names(value) and all(
        _has_names(labels) and all(map(_is_text, labels.values()))
        for labels in cast("Mapping[str, Any]", value).values()
    )


_TEXTS, _FUNCTION = "a tuple of texts that are not empty", "a function"
FIELD_RULES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "prompts": (_is_text, "the name of a file in prompts/"),
    "scorer": (callable, _FUNCTION),
    **dict.fromkeys(("reward", "example", "episodes", "learner"), (_is_optional_function, _FUNCTION)),
    **dict.fromkeys(("pool", "queries"), (_is_source, "a source of rows, as hub(...) and rows(...) give")),
    "metric": (_is_text, "a text that is not empty"),
    "chance": (_is_level, "a number, or None"),
    **dict.fromkeys(("labels", "variants", "stop"), (_is_texts, _TEXTS)),
    "label_maps": (_are_maps, "a mapping from variant to label to the label shown, all of them texts"),
    "fields": (_has_names, "a mapping from names to values"),
    "max_tokens": (_is_positive, "a whole number from 1 up"),
    "leaks": (lambda value: value in ("error", "drop"), "'error' or 'drop'"),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task has rows (`pool`, `queries`, `example`) or is generated (`episodes`)."""

    prompts: str  # the family: prompts/<name>.jinja
    scorer: Scorer
    reward: Scorer | None = None  # what keeps an attempt in the bank of reinforced mode; the scorer unless given
    pool: Source | None = None
    queries: Source | None = None
    example: MakeExample | None = None  # a row becomes an example; None leaves the row out
    episodes: MakeEpisode | None = None  # (rng, variant, draw) -> pool, queries; draw is 0 unless per_draw
    per_draw: bool = False  # a new episode for every draw; else one for all
    metric: str = "accuracy"
    chance: float | None = None  # of guessing; 1 / number of labels where there are labels
    labels: tuple[str, ...] = ()  # the answers there are: listed in prompts, the choices of examples that have none
    label_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # variant -> label -> label shown
    variants: tuple[str, ...] = ("default",)
    fields: Mapping[str, Any] = field(default_factory=dict)  # further variables of the prompt template's blocks
    max_tokens: int = 16
    stop: tuple[str, ...] = ("\n",)
    leaks: Literal["error", "drop"] = "error"  # drop: for published sets whose pool is known to contain queries
    learner: Callable[..., Any] | None = None  # the exact reference learner, for the model baseline/bayes
    name: str = ""  # set by the loader, as is `doc`
    doc: str = ""

    def __post_init__(self) -> None:
        for name, (holds, rule) in FIELD_RULES.items():
            value = getattr(self, name)
            if not holds(value):
                raise SpecError(f"the task's {name} is {shown(value)}; it must be {rule}.")
        if (self.episodes is None) == (self.pool is None or self.queries is None or self.example is None):
            raise SpecError("a task needs either pool, queries and example, or episodes.")
        for variant, mapping in self.label_maps.items():
            if set(mapping) != set(self.labels) or len(set(mapping.values())) < len(self.labels):
                raise SpecError(f"label map {variant!r} must give each of the task's labels another one of its own.")
        taken = sorted(set(self.fields) & TEMPLATE_VARIABLES)
        if taken:
            raise SpecError(f"fields may not be called {taken[0]!r}: templates have a variable of that name.")
        object.__setattr__(self, "variants", tuple(dict.fromkeys(("default", *self.variants, *self.label_maps))))
        if self.chance is None and self.labels:
            object.__setattr__(self, "chance", 1 / len(self.labels))


@dataclass(frozen=True)
class Dataset:
    """A task's examples with the variant's label map applied; hashes are of all fields, in order."""

    pool: tuple[Example, ...]
    queries: tuple[Example, ...]
    n_dropped: int  # pool rows left out because they are queries
    pool_hash: str
    queries_hash: str


def find_tasks(name: str) -> list[Task]:
    """Return the tasks of "task", "task:subset" or "task:group". Raises `SpecError` with the nearest names."""
    base, _, subset = name.partition(":")
    family = load_family(base)
    if family is None:
        raise SpecError(f"there is no task {base!r}.{nearest(base, family_names())} `icl tasks` lists all.")
    return [_build(family, base, chosen) for chosen in family.expand(base, subset)]


def list_tasks() -> list[Task]:
    """Return every task with every subset. Reads no data."""
    families = {name: load_family(name) for name in family_names()}
    return [_build(family, name, s) for name, family in families.items() if family for s in family.subsets or (None,)]


def _build(family: Family, base: str, subset: str | None) -> Task:
    with authors_code(f"task {base}", ": its function failed", SpecError):
        built = family.build() if subset is None else family.build(subset)
    if not isinstance(built, Task):
        raise SpecError(f"task {base}: its function returns a {type(built).__name__}, not a Task.")
    full = base if subset is None or subset == family.default else f"{base}:{subset}"
    return replace(built, name=full, doc=family.doc)


def load_template(task: Task) -> Template:
    """Return the task's prompts. Raises `TemplateError`, or `SpecError` where there are none."""
    files = content("prompts", ".jinja")
    if task.prompts not in files:
        raise SpecError(
            f"task {task.name}: there is no prompts/{task.prompts}.jinja.{nearest(task.prompts, files)} "
            "Add the file or name one that exists."
        )
    return Template.load(files[task.prompts])


def load_examples(
    task: Task, *, data: Path | None = None, seed: int = 0, draw: int = 0, variant: str = "default"
) -> Dataset:
    """Return a task's pool and queries. `data` is the folder of its files, else ICL_DATA, else the hub.

    `seed` and `draw` matter to generated tasks alone. Raises `SpecError` or `DataError`.
    """
    if variant not in task.variants:
        close = nearest(variant, task.variants)
        raise SpecError(f"task {task.name} has no variant {variant!r}; it has {', '.join(task.variants)}.{close}")
    if task.episodes:
        pool, queries = _episode(task, seed, draw, variant)
    else:
        pool, queries = _rows(task, data)
    check_unique([*pool, *queries], f"task {task.name}")
    dropped = {p for p, _ in leaked(pool, queries)} if task.leaks == "drop" else set()
    pool = [example for example in pool if example.id not in dropped]
    check_disjoint(pool, queries, f"task {task.name}")
    pool, queries = ([_relabelled(example, task, variant) for example in side] for side in (pool, queries))
    return Dataset(tuple(pool), tuple(queries), len(dropped), content_hash(pool), content_hash(queries))


def labels_of(task: Task, variant: str = "default") -> tuple[str, ...]:
    """Return the labels as prompts of the variant list them; a map onto the same labels keeps their order."""
    shown = tuple(task.label_maps[variant][label] for label in task.labels) if variant in task.label_maps else ()
    return task.labels if not shown or set(shown) == set(task.labels) else shown


def _rows(task: Task, data: Path | None) -> tuple[list[Example], list[Example]]:
    assert task.pool
    assert task.queries
    assert task.example
    if data is None and os.environ.get("ICL_DATA"):
        data = Path(os.environ["ICL_DATA"])
    base = task.name.partition(":")[0]
    pool = task.pool.examples(task.example, base, data)
    queries = task.queries.examples(task.example, base, data)
    return [_with_choices(e, task.labels) for e in pool], [_with_choices(e, task.labels) for e in queries]


def _episode(task: Task, seed: int, draw: int, variant: str) -> tuple[list[Example], list[Example]]:
    assert task.episodes
    draw = draw if task.per_draw else 0
    import numpy as np

    # The name's hash keeps tasks apart; the variant is not in the seed, so that variants share their inputs.
    name = int.from_bytes(hashlib.sha256(task.name.encode()).digest()[:4])
    with authors_code(f"task {task.name}", ": its episodes failed", DataError):
        made = task.episodes(np.random.default_rng([seed, draw, name]), variant, draw)
    if not _is_episode(made):
        raise DataError(
            f"task {task.name}: its episodes give {shown(made)}; they must give pool and queries, two lists of "
            "Examples."
        )
    pool, queries = made
    # Every draw asks other queries: their ids must say so, or statistics would take them for the same.
    prefix = f"d{draw}-" if task.per_draw else ""
    return _episode_side(pool, prefix, task.labels), _episode_side(queries, prefix, task.labels)


def _is_episode(made: object) -> bool:
    return isinstance(made, tuple | list) and len(made) == 2 and all(map(_are_examples, made))


def _are_examples(side: object) -> bool:
    return isinstance(side, tuple | list) and all(isinstance(example, Example) for example in side)


def _episode_side(examples: Sequence[Example], prefix: str, labels: tuple[str, ...]) -> list[Example]:
    return [_with_choices(replace(e, id=prefix + e.id), labels) for e in examples]


def _with_choices(example: Example, labels: tuple[str, ...]) -> Example:
    return replace(example, choices=labels) if labels and not example.choices else example


def _relabelled(example: Example, task: Task, variant: str) -> Example:
    mapping = task.label_maps.get(variant)
    if mapping is None:
        return example
    unknown = [label for label in (example.target, *example.choices) if label not in mapping]
    if unknown:
        raise DataError(f"task {task.name}, example {example.id}: variant {variant} does not map {unknown[0]!r}.")
    return replace(example, target=mapping[example.target], choices=labels_of(task, variant))
