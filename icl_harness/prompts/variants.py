"""Variants: what a cell's prompts change, as operators joined by `+`, such as `flipped+noise=0.2`.

In: the text of a variant, a task, the examples of a draw. Out: the variant in its canonical form,
and the shots that its prompts show. A name that is no operator is one of the task's own labels
(its `label_maps`, or a `variant` that its `generate` knows), which stand on queries as well.

The canonical form: the task's own labels, then operators of kind frame, labels, shots (those that
keep prompts nested first, by their stage) and selection, each as often as once; within these groups
as written, in which order they are applied. Arguments are written as Python writes their values.
"default": none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast, get_args

from icl_harness.errors import SpecError, nearest
from icl_harness.examples import Example
from icl_harness.prompts.modes import Mode, ShotSource
from icl_harness.prompts.operators.registry import (
    Context,
    Frame,
    Kind,
    Made,
    Operator,
    Selection,
    Value,
    operators,
)
from icl_harness.prompts.tree import Shot
from icl_harness.tasks.label_sets import check_label_set
from icl_harness.tasks.task import Task

DEFAULT = "default"
_SHOWS = {
    "supervised": "the gold answers",
    "reinforced": "no gold labels",
    "unsupervised": "no gold labels",
}
MakeShots = Callable[[Sequence[Example]], list[Shot]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """An operator with its argument."""

    operator: Operator
    value: Value | None = None

    def __str__(self) -> str:
        name = self.operator.name
        return name if self.value is None else f"{name}={self.value}"

    @property
    def shared(self) -> str:
        """Return what the prompts share, of an operator that says it."""
        shared = self.operator.shared
        text = shared if isinstance(shared, str) else shared[str(self.value)]
        return text.format(value=self.value)

    def apply(self, given: Example | list[Example] | Frame, context: Context) -> Made:
        """Return what the operator makes of an example, or of a list of them."""
        arguments = [] if self.value is None else [self.value]
        return self.operator.function(given, context, *arguments)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The task's own labels and the operators beside them, in the order of their application."""

    labels: str = DEFAULT
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        own = [] if self.labels == DEFAULT else [self.labels]
        return "+".join([*own, *map(str, self.steps)]) or DEFAULT

    @property
    def frame(self) -> Frame:
        """Return what its prompts are made of beside the shots."""
        frame = Frame()
        for step in self.steps:
            if step.operator.kind == "frame":
                frame = cast("Frame", step.apply(frame, Context(task="")))
        return frame

    @property
    def selects(self) -> bool:
        """Return whether each query is shown shots of its own."""
        return any(step.operator.kind == "selection" for step in self.steps)

    @property
    def shared(self) -> str:
        """Return what prompts share where it is not as usual; "" where they are nested."""
        frames = [step for step in self.steps if step.operator.kind == "frame"]
        notes = [step.shared for step in frames]
        return "; ".join(filter(None, [*notes, self._shared_shots]))

    @property
    def _shared_shots(self) -> str:
        if self.selects:
            return self.steps[-1].shared
        changes = [step.operator.for_each_count for step in self.steps if not step.operator.nested]
        if not changes:
            return ""
        what = " and ".join(dict.fromkeys(changes))
        return f"{what} for each count, so that prompts of other counts share no shots"

    @property
    def chooses(self) -> bool:
        """Return whether it shows other shots than those that the draw begins with."""
        operators = [step.operator for step in self.steps]
        return any(made.kind == "shots" and made.nested for made in operators)

    @property
    def same_in_draws(self) -> bool:
        """Return whether all draws show the same shots, if perhaps in other orders."""
        return any(step.operator.same_in_draws for step in self.steps)

    @property
    def needs_bank(self) -> bool:
        """Return whether its shots depend on what the model has solved."""
        return any(step.operator.needs_bank for step in self.steps)

    @property
    def rationale(self) -> str | None:
        """Return which answers the shots of reinforced mode show, where it names them."""
        for step in self.steps:
            if step.operator.name == "rationale":
                return str(step.value)
        return None

    @property
    def changes_labels(self) -> bool:
        """Return whether shots may show other labels than the default's."""
        operators = [step.operator for step in self.steps]
        changed = any(made.kind == "labels" or not made.keeps_labels for made in operators)
        return self.labels != DEFAULT or changed


def parse_variant(text: str) -> Variant:
    """Return the variant that a text such as `sorted+noise=.20` means. Raises `SpecError`."""
    # A file may have changed since it was named last.
    return _parsed(text) if "ids=" in text else _parsed_once(text)


def _parsed(text: str) -> Variant:
    parts = [part.strip() for part in text.split("+")]
    if not all(parts):
        raise SpecError(
            f"variant {text!r}: nothing stands on one side of a +. Join operators as in "
            "sorted+noise=0.2."
        )
    named = [part for part in parts if part != DEFAULT]
    own = [part for part in named if part.partition("=")[0] not in operators()]
    steps = [_step(part, text) for part in named if part not in own]
    _check_own(own, text)
    _check_steps(steps, text)
    return Variant(labels=own[0] if own else DEFAULT, steps=tuple(sorted(steps, key=_precedence)))


_parsed_once = lru_cache(1024)(_parsed)


def _precedence(step: Step) -> tuple[int, bool, int]:
    """Return the sort key of a step; a stable sort leaves the rest as written."""
    kinds = get_args(Kind)
    return kinds.index(step.operator.kind), not step.operator.nested, step.operator.stage


def _step(part: str, text: str) -> Step:
    name, equals, written = part.partition("=")
    operator = operators()[name]
    if operator.argument is None:
        if equals:
            raise SpecError(f"variant {text!r}: {name} takes no argument. Write {name} alone.")
        return Step(operator=operator)
    try:
        value = operator.argument.read(written.strip())
    except ValueError:
        rule = f"{name} takes {operator.argument.rule}, as in {operator.usage}"
        given = f"{written.strip()!r} is not one" if equals else "none is given"
        raise SpecError(f"variant {text!r}: {rule}; {given}.") from None
    return Step(operator=operator, value=value)


def _check_own(own: Sequence[str], text: str) -> None:
    known = ", ".join(operator.usage for operator in operators().values())
    for part in own:
        name, equals, _ = part.partition("=")
        if equals:
            raise SpecError(
                f"variant {text!r}: there is no operator {name!r}.{nearest(name, operators())} "
                f"Known: {known}."
            )
    if len(own) > 1:
        raise SpecError(
            f"variant {text!r}: {own[0]!r} and {own[1]!r} are no operators, and of a task's own "
            f"labels a variant takes one.{nearest(own[-1], operators())} Operators: {known}."
        )


def _check_steps(steps: Sequence[Step], text: str) -> None:
    names = [step.operator.name for step in steps]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise SpecError(f"variant {text!r} names {twice[0]} twice. Name each operator once.")
    selections = [step.operator.name for step in steps if step.operator.kind == "selection"]
    if len(selections) > 1:
        raise SpecError(
            f"variant {text!r}: {' and '.join(selections)} both select the shots. Name one."
        )
    lost = [step.operator.name for step in steps if not step.operator.with_selection]
    if selections and lost:
        raise SpecError(
            f"variant {text!r}: {selections[0]} chooses the shots of each query itself, which "
            f"{lost[0]} cannot change. Leave one of them out."
        )
    reordering = [step.operator.name for step in steps if not step.operator.nested]
    if selections and reordering:
        raise SpecError(
            f"variant {text!r}: {selections[0]} orders the shots itself, so {reordering[0]} would "
            "do nothing. Leave one of them out."
        )
    _check_frame(Variant(steps=tuple(steps)), text)


def _check_frame(variant: Variant, text: str) -> None:
    """Refuse what would change shots that are not there."""
    frame, others = variant.frame, [step for step in variant.steps if step.operator.of_shots]
    if not frame.shots and others:
        raise SpecError(
            f"variant {text!r}: instruct=only shows no shots, so {others[0]} would do nothing. "
            "Leave one of them out."
        )
    idle = [
        step.operator.name
        for step in others
        if step.operator.kind in ("labels", "selection") or not step.operator.nested
    ]
    if frame.filler and idle:
        raise SpecError(
            f"variant {text!r}: filler stands in the place of the shots, so {idle[0]} would do "
            "nothing. Leave one of them out."
        )


def check_variant(variant: Variant, task: Task, modes: Sequence[Mode]) -> None:
    """Raise `SpecError` where a task has no such labels, or an operator would do nothing."""
    hidden = [name for name in task.variants if name in operators()]
    if hidden:
        raise SpecError(
            f"task {task.name} calls labels of its own {hidden[0]!r}, as an operator is called. "
            "Rename them in its file."
        )
    usages = tuple(operator.usage for operator in operators().values())
    check_label_set(task, variant.labels, usages)
    if not variant.frame.instruction and "unsupervised" in modes:
        raise SpecError(
            f"variant {variant}: without its instruction an unsupervised prompt says nothing of "
            "the task. Ask for it with --modes supervised,reinforced."
        )
    for operator in (step.operator for step in variant.steps):
        if operator.needs_labels and not task.labels:
            raise SpecError(
                f"task {task.name} has no fixed labels, which {operator.name} needs. Leave "
                f"{operator.name} out."
            )
        idle = [mode for mode in modes if mode not in operator.modes]
        if idle:
            raise SpecError(
                f"variant {variant}: {operator.name} would do nothing in {idle[0]} mode, whose "
                f"shots show {_SHOWS[idle[0]]}. Ask for it with --modes {','.join(operator.modes)}."
            )


def shot_source(
    variant: Variant, order: Sequence[Example], context: Context, make: MakeShots
) -> ShotSource:
    """Return the shots that a variant shows of a draw's `order`.

    `make` turns examples into the shots of a mode; a bank's leaves out what was not solved.
    """
    labels = [step for step in variant.steps if step.operator.kind == "labels"]
    context = replace(context, pool={example.id for example in order})
    examples = [_relabel(example, labels, context) for example in order]
    shots = {shot.id: shot for shot in make(examples)}
    examples = [example for example in examples if example.id in shots]
    for step in variant.steps:
        if step.operator.kind == "shots" and step.operator.nested:
            examples = cast("list[Example]", step.apply(examples, context))

    def select(query: Example, k: int) -> list[Shot]:
        return [shots[example.id] for example in selection.select(query, k)]

    def arrange(k: int) -> list[Shot]:
        arranged = examples[:k]
        for step in reordering:
            arranged = cast("list[Example]", step.apply(arranged, context))
        return make(arranged)

    reordering = [step for step in variant.steps if not step.operator.nested]
    source = ShotSource(shots=[shots[example.id] for example in examples])
    if variant.selects:
        selection = cast("Selection", variant.steps[-1].apply(examples, context))
        shown = source.shots[: selection.most]  # as many as a prompt can show
        return replace(source, shots=shown, select=select, n_shared=selection.n_shared)
    return replace(source, arrange=arrange) if reordering else source


def _relabel(example: Example, labels: Sequence[Step], context: Context) -> Example:
    for step in labels:
        example = cast("Example", step.apply(example, context))
    return example
