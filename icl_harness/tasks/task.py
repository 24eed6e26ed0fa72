"""A task: what is asked, of which examples, in which words, scored how.

In: what a task file says, checked by pydantic. Out: a frozen `Task`, or a `SpecError` in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import ArgsKwargs, ErrorDetails

from icl_harness.errors import SpecError, nearest
from icl_harness.examples import Example, shown
from icl_harness.tasks.metrics import Metric, accuracy, as_metric
from icl_harness.tasks.rows import MakeExample, Source
from icl_harness.tasks.scoring import Scorer

TEMPLATE_VARIABLES = {"mode", "labels", "input", "target", "rationale", "examples"}

Generate = Callable[[np.random.Generator, str, int], tuple[list[Example], list[Example]]]
Text = Annotated[str, Field(min_length=1)]
# A variant joins names by +, gives arguments behind = and is listed between commas.
VariantName = Annotated[str, Field(pattern=r"^[^+=,\s]+$")]
LabelMap = Mapping[Text, Text]  # label -> the label shown in its place

A_FUNCTION = Field(description="a function")
A_SOURCE = Field(description="a source of rows, as hub(...) and rows(...) give")
TEXTS = Field(description="a tuple of texts that are not empty")


@dataclass(
    frozen=True,
    kw_only=True,
    config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False),
)
class Task:
    """A task has rows (`pool`, `queries`, `example`) or is generated (`generate`)."""

    # the family: prompts/<name>.jinja
    prompts: Annotated[Text, Field(description="the name of a file in prompts/")]
    scorer: Annotated[Scorer, A_FUNCTION]
    # what keeps an attempt in the bank of reinforced mode; the scorer unless given
    reward: Annotated[Scorer | None, A_FUNCTION] = None
    pool: Annotated[InstanceOf[Source] | None, A_SOURCE] = None
    queries: Annotated[InstanceOf[Source] | None, A_SOURCE] = None
    # a row becomes an example; None leaves the row out
    example: Annotated[MakeExample | None, A_FUNCTION] = None
    # (rng, variant, draw) -> pool, queries; draw is 0 unless per_draw
    generate: Annotated[Generate | None, A_FUNCTION] = None
    # generated anew for every draw; else once for all
    per_draw: Annotated[bool, Field(description="True or False")] = False
    # or the name of one of the library
    metric: Annotated[InstanceOf[Metric], BeforeValidator(as_metric)] = accuracy
    # of guessing; 1 / number of labels where there are labels
    chance: Annotated[float | None, Field(description="a number, or None")] = None
    # the answers there are: listed in prompts, the choices of examples that have none
    labels: Annotated[tuple[Text, ...], TEXTS] = ()
    # variant -> label -> label shown
    label_maps: Annotated[
        Mapping[VariantName, LabelMap],
        Field(description="a mapping from variant to label to the label shown, all of them texts"),
    ] = field(default_factory=dict)
    # further label sets that `generate` knows by name
    variants: Annotated[
        tuple[VariantName, ...],
        Field(description="a tuple of names without spaces, commas, + and ="),
    ] = ("default",)
    # further variables of the prompt template's blocks
    fields: Annotated[Mapping[str, Any], Field(description="a mapping from names to values")] = (
        field(default_factory=dict)
    )
    max_tokens: Annotated[int, Field(ge=1, description="a whole number from 1 up")] = 16
    stop: Annotated[tuple[Text, ...], TEXTS] = ("\n",)
    # drop: for published sets whose pool is known to contain queries
    leaks: Annotated[Literal["error", "drop"], Field(description="'error' or 'drop'")] = "error"
    # the exact reference learner, for the model baseline/bayes
    learner: Annotated[Callable[..., Any] | None, A_FUNCTION] = None
    # Set by the loader: the name in a spec, the file's docstring, the SHA-256 of its bytes.
    name: str = ""
    doc: str = ""
    source_hash: str = ""

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, given: ArgsKwargs, check: ModelWrapValidatorHandler[Task]) -> Task:
        try:
            return check(given)
        except ValidationError as error:
            raise SpecError(_message(error.errors()[0], given.kwargs or {})) from error

    def __post_init__(self) -> None:
        _check_source(self)
        _check_label_maps(self)
        taken = sorted(set(self.fields) & TEMPLATE_VARIABLES)
        if taken:
            raise SpecError(
                f"fields may not be called {taken[0]!r}: templates have a variable of that name."
            )
        variants = dict.fromkeys(("default", *self.variants, *self.label_maps))
        object.__setattr__(self, "variants", tuple(variants))
        if self.chance is None and self.labels:
            object.__setattr__(self, "chance", 1 / len(self.labels))


def _message(error: ErrorDetails, given: Mapping[str, object]) -> str:
    """Return the first thing that is wrong with a task's fields, with the field's rule."""
    name = str(error["loc"][0])
    known: Mapping[str, FieldInfo] = vars(Task)["__pydantic_fields__"]
    if name not in known:
        close = nearest(name, known) or f" It has {', '.join(known)}."
        return f"a task has no field {name!r}.{close}"
    rule = known[name].description or "a text"
    if name not in given:
        return f"a task needs {name}: {rule}."
    return f"the task's {name} is {shown(given[name])}; it must be {rule}."


def _check_source(task: Task) -> None:
    has_rows = not (task.pool is None or task.queries is None or task.example is None)
    if has_rows == (task.generate is not None):
        raise SpecError("a task needs either pool, queries and example, or generate.")


def _check_label_maps(task: Task) -> None:
    for variant, mapping in task.label_maps.items():
        if set(mapping) != set(task.labels) or len(set(mapping.values())) < len(task.labels):
            raise SpecError(
                f"label map {variant!r} must give each of the task's labels another one of its own."
            )
