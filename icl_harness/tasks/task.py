"""A task: what is asked, of which examples, in which words, scored how."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from icl_harness.errors import SpecError
from icl_harness.examples import Example, shown
from icl_harness.tasks.metrics import Metric, accuracy, as_metric
from icl_harness.tasks.rows import MakeExample, Source
from icl_harness.tasks.scoring import Scorer

if TYPE_CHECKING:
    import numpy as np


TEMPLATE_VARIABLES = {"mode", "labels", "input", "target", "rationale", "examples"}


Generate = Callable[["np.random.Generator", str, int], tuple[list[Example], list[Example]]]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_is_text, value))


def _is_source(value: object) -> bool:
    return value is None or callable(getattr(value, "examples", None))


def _is_optional_function(value: object) -> bool:
    return value is None or callable(value)


def _is_level(value: object) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    )


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
    **dict.fromkeys(
        ("reward", "example", "generate", "learner"), (_is_optional_function, _FUNCTION)
    ),
    **dict.fromkeys(
        ("pool", "queries"), (_is_source, "a source of rows, as hub(...) and rows(...) give")
    ),
    "chance": (_is_level, "a number, or None"),
    **dict.fromkeys(("labels", "variants", "stop"), (_is_texts, _TEXTS)),
    "label_maps": (
        _are_maps,
        "a mapping from variant to label to the label shown, all of them texts",
    ),
    "fields": (_has_names, "a mapping from names to values"),
    "max_tokens": (_is_positive, "a whole number from 1 up"),
    "leaks": (lambda value: value in ("error", "drop"), "'error' or 'drop'"),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task has rows (`pool`, `queries`, `example`) or is generated (`generate`)."""

    prompts: str  # the family: prompts/<name>.jinja
    scorer: Scorer
    reward: Scorer | None = (
        None  # what keeps an attempt in the bank of reinforced mode; the scorer unless given
    )
    pool: Source | None = None
    queries: Source | None = None
    example: MakeExample | None = None  # a row becomes an example; None leaves the row out
    generate: Generate | None = (
        None  # (rng, variant, draw) -> pool, queries; draw is 0 unless per_draw
    )
    per_draw: bool = False  # generated anew for every draw; else once for all
    metric: Metric = accuracy  # or the name of one of the library
    chance: float | None = None  # of guessing; 1 / number of labels where there are labels
    labels: tuple[
        str, ...
    ] = ()  # the answers there are: listed in prompts, the choices of examples that have none
    label_maps: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict
    )  # variant -> label -> label shown
    variants: tuple[str, ...] = ("default",)
    fields: Mapping[str, Any] = field(
        default_factory=dict
    )  # further variables of the prompt template's blocks
    max_tokens: int = 16
    stop: tuple[str, ...] = ("\n",)
    leaks: Literal["error", "drop"] = (
        "error"  # drop: for published sets whose pool is known to contain queries
    )
    learner: Callable[..., Any] | None = (
        None  # the exact reference learner, for the model baseline/bayes
    )
    # Set by the loader: the name in a spec, the file's docstring, the SHA-256 of its bytes.
    name: str = ""
    doc: str = ""
    source_hash: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "metric", as_metric(self.metric))
        for name, (holds, rule) in FIELD_RULES.items():
            value = getattr(self, name)
            if not holds(value):
                raise SpecError(f"the task's {name} is {shown(value)}; it must be {rule}.")
        if (self.generate is None) == (
            self.pool is None or self.queries is None or self.example is None
        ):
            raise SpecError("a task needs either pool, queries and example, or generate.")
        for variant, mapping in self.label_maps.items():
            if set(mapping) != set(self.labels) or len(set(mapping.values())) < len(self.labels):
                raise SpecError(
                    f"label map {variant!r} must give each of the task's labels another one of its own."
                )
        taken = sorted(set(self.fields) & TEMPLATE_VARIABLES)
        if taken:
            raise SpecError(
                f"fields may not be called {taken[0]!r}: templates have a variable of that name."
            )
        object.__setattr__(
            self, "variants", tuple(dict.fromkeys(("default", *self.variants, *self.label_maps)))
        )
        if self.chance is None and self.labels:
            object.__setattr__(self, "chance", 1 / len(self.labels))
