"""A task: what is asked, of which examples, in which words, scored how.

In: what a task file says, checked by pydantic. Out: a frozen `Task`, or a `SpecError` in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
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
from icl_harness.tasks.given_rows import as_source, columns_of_examples
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
A_SOURCE = Field(
    description="a source of rows: rows(...), hub(...), a list of dicts or Examples, a DataFrame"
)
TEXTS = Field(description="a tuple of texts that are not empty")


def as_number(value: object) -> object:
    """Return the number that a text or a number of numpy's stands for; anything else as it is."""
    if isinstance(value, np.integer | np.floating):
        return value.item()
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


@dataclass(
    frozen=True,
    kw_only=True,
    config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False),
)
class Task:
    """What is asked, of which examples, in which words, scored how.

    A task has rows or is generated:

    - `pool`, `queries`: what shots are drawn from, and what is asked. `rows("train")`, `hub(…)`, a
      list of dicts or of `Example`s, or a DataFrame. Of a set without a test split,
      `holdout(source, queries=100)` gives both: a pool and the queries that it holds out.
    - `example`: a function that makes an `Example` of a row, or None to leave the row out. Not
      needed where the columns are named `input` and `target`.
    - `generate`, in their place: a function of (random generator, variant, draw) that returns pool
      and queries. `per_draw`: it is called anew for every draw.

    What is sent, and how the answer is read:

    - `prompts`: the file prompts/<name>.jinja. `fields`: further variables of its blocks.
    - `labels`: the answers there are. They are listed in prompts and are the choices of examples
      that have none. `labels_from_data=True` takes the targets that occur in pool and queries.
    - `scorer`: a function of (answer, example) that returns a `Score`.
    - `reward`: what keeps an attempt in the bank of reinforced mode, as a scorer does: one that
      earns 1. It is the scorer unless given; give one where the scorer seldom gives 1 in full.
    - `metric`: how a cell's scores are put together: accuracy, or another by name.
    - `chance`: what guessing would score, drawn as a line. 1 / number of labels where there are
      labels, else unknown unless given.
    - `max_tokens`: the room for an answer, 16 unless given. `stop`: the texts that end it, a line
      end unless given.
    - `label_maps`: variant -> label -> the label shown in its place, as in {"flipped": {"yes":
      "no", "no": "yes"}}, for `--variants flipped`. `variants`: label sets that `generate` knows.
    - `leaks`: pool examples whose text is a query's are an error; with "drop" they are left out of
      the pool, and the run says how many.
    - `whole_clusters`: the queries of a cluster (solutions of one problem, say) are asked all or
      none, `--queries` being the most there are, and no pool example may be of a query's cluster.
    - `learner`: the exact learner of a generated task, for the model baseline/bayes.
    - `scoring`: the --scoring that its score is defined by, taken where none is asked for.
    """

    prompts: Annotated[Text, Field(description="the name of a file in prompts/")]
    scorer: Annotated[Scorer, A_FUNCTION]
    reward: Annotated[Scorer | None, A_FUNCTION] = None
    pool: Annotated[
        InstanceOf[Source] | None, BeforeValidator(partial(as_source, name="pool")), A_SOURCE
    ] = None
    queries: Annotated[
        InstanceOf[Source] | None, BeforeValidator(partial(as_source, name="query")), A_SOURCE
    ] = None
    example: Annotated[MakeExample | None, A_FUNCTION] = None
    generate: Annotated[Generate | None, A_FUNCTION] = None
    per_draw: Annotated[bool, Field(description="True or False")] = False
    metric: Annotated[InstanceOf[Metric], BeforeValidator(as_metric)] = accuracy
    chance: Annotated[
        float | None, BeforeValidator(as_number), Field(description="a number, or None")
    ] = None
    labels: Annotated[tuple[Text, ...], TEXTS] = ()
    labels_from_data: Annotated[bool, Field(description="True or False")] = False
    label_maps: Annotated[
        Mapping[VariantName, LabelMap],
        Field(description="a mapping from variant to label to the label shown, all of them texts"),
    ] = field(default_factory=dict)
    variants: Annotated[
        tuple[VariantName, ...],
        Field(description="a tuple of names without spaces, commas, + and ="),
    ] = ("default",)
    fields: Annotated[Mapping[str, Any], Field(description="a mapping from names to values")] = (
        field(default_factory=dict)
    )
    max_tokens: Annotated[
        int, BeforeValidator(as_number), Field(ge=1, description="a whole number from 1 up")
    ] = 16
    stop: Annotated[tuple[Text, ...], TEXTS] = ("\n",)
    leaks: Annotated[Literal["error", "drop"], Field(description="'error' or 'drop'")] = "error"
    whole_clusters: Annotated[bool, Field(description="True or False")] = False
    learner: Annotated[Callable[..., Any] | None, A_FUNCTION] = None
    scoring: str | None = None
    # Set by the loader: the name in a spec, the file's docstring, the SHA-256 of its bytes; of a
    # task without a file of its own, what was made of its rows; of another harness's, what it is
    # there.
    name: str = ""
    doc: str = ""
    source_hash: str = ""
    table: Mapping[str, Any] | None = None
    origin: Mapping[str, Any] | None = None

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
    has_rows = not (task.pool is None or task.queries is None)
    if has_rows and task.example is None:
        object.__setattr__(task, "example", columns_of_examples)
    if has_rows == (task.generate is not None):
        raise SpecError("a task needs either pool, queries and example, or generate.")
    if task.labels_from_data and (task.labels or task.generate):
        other = "labels" if task.labels else "generate"
        raise SpecError(f"labels_from_data and {other} exclude each other: give one of them.")


def _check_label_maps(task: Task) -> None:
    if task.labels_from_data:  # checked once the labels are known
        return
    for variant, mapping in task.label_maps.items():
        if set(mapping) != set(task.labels) or len(set(mapping.values())) < len(task.labels):
            raise SpecError(
                f"label map {variant!r} must give each of the task's labels another one of its own."
            )
