"""The registry of operators: what one declares, and how its argument is read.

In: functions marked with `@operator`. Out: `operators()`, all of them by name. The kind of an
operator says what its function takes and returns; `context` and, if there is one, the argument
follow:

    frame       `Frame` → `Frame`: what prompts are made of beside the shots
    labels      example → example: the label that this shot shows
    shots       list of examples → list of examples: the shots of a prompt, and their order
    selection   list of examples → `Selection`: the k shots of each query, as read
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from icl_harness.examples import Example
from icl_harness.prompts.modes import MODES, Mode

Kind = Literal["frame", "labels", "shots", "selection"]  # in the order of a variant's name
Shared = str | Mapping[str, str]  # by the operator's argument
PREAMBLE_ALONE = "each query brings its own shots, so that prompts share the preamble alone"
Value = float | int | str
Select = Callable[[Example, int], list[Example]]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a selection operator makes of the examples: `select` gives the k shots of a query.

    `n_shared`: so many are the first of the examples, and the same for all queries. `most`: so many
    shots a prompt can show, where some examples are left out.
    """

    select: Select
    n_shared: int = 0
    most: int | None = None


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What prompts are made of. `instruction`, `shots`: whether they are there; `filler`: other
    text stands in the place of the shots. `prompts`: the template; `pool`: the task whose pool
    shots are drawn from. "" for both: the task's own.
    """

    instruction: bool = True
    shots: bool = True
    filler: bool = False
    prompts: str = ""
    pool: str = ""


Made = Example | list[Example] | Selection | Frame
Function = TypeVar("Function", bound=Callable[..., Made])


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an operator may go by beside the shots.

    `seed` is the run's, `labels` are the task's as the variant shows them, `solved` the ids of the
    problems that the bank has an answer to, `pool` those of the examples that could be shots.
    """

    task: str
    seed: int = 0
    draw: int = 0
    labels: tuple[str, ...] = ()
    solved: Collection[str] = ()
    pool: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class Argument:
    """What stands behind an operator's `=`. `read` raises `ValueError` where it breaks the rule."""

    read: Callable[[str], Value]
    rule: str
    sample: str  # as a user might write it


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator. `nested`: the K-shot prompt still begins with the shots of the smaller ones.

    `shared`: what prompts share, for one of kind selection or frame; `{value}` stands for its
    argument.
    """

    name: str
    kind: Kind
    function: Callable[..., Made]
    doc: str
    argument: Argument | None = None
    nested: bool = True
    needs_labels: bool = False  # only for tasks with a fixed set of labels
    needs_bank: bool = False
    stage: int = 0  # of those that keep prompts nested, lower stages are applied first
    with_selection: bool = True  # changes anything where each query is shown shots of its own
    keeps_labels: bool = True
    same_in_draws: bool = False  # all draws show the same shots
    for_each_count: str = "shots are reordered"  # what happens where prompts are not nested
    modes: tuple[Mode, ...] = MODES  # where it changes anything
    shared: Shared = PREAMBLE_ALONE
    other_shots: bool = False  # of kind frame: something else is shown as shots
    of_attempts: bool = False  # of kind frame: a bank's attempts are asked for so, too

    @property
    def of_shots(self) -> bool:
        """Return whether it changes which shots are shown, or how."""
        return self.kind != "frame" or self.other_shots

    @property
    def usage(self) -> str:
        """Return the operator as a user writes it."""
        return self.name if self.argument is None else f"{self.name}={self.argument.sample}"


_REGISTERED: dict[str, Operator] = {}


def operator(
    kind: Kind,
    *,
    argument: Argument | None = None,
    nested: bool = True,
    needs_labels: bool = False,
    needs_bank: bool = False,
    stage: int = 0,
    with_selection: bool = True,
    keeps_labels: bool = True,
    same_in_draws: bool = False,
    for_each_count: str = "shots are reordered",
    modes: tuple[Mode, ...] = MODES,
    shared: Shared = PREAMBLE_ALONE,
    other_shots: bool = False,
    of_attempts: bool = False,
) -> Callable[[Function], Function]:
    """Mark a function as the operator of its name; the first line of its docstring is its help."""

    def register(function: Function) -> Function:
        # as in sorted_, which hides no builtin, and drop_nearest
        name = function.__name__.removesuffix("_").replace("_", "-")
        _REGISTERED[name] = Operator(
            name=name,
            kind=kind,
            function=function,
            doc=(function.__doc__ or "").strip().split("\n")[0],
            argument=argument,
            nested=nested,
            needs_labels=needs_labels,
            needs_bank=needs_bank,
            stage=stage,
            with_selection=with_selection,
            keeps_labels=keeps_labels,
            same_in_draws=same_in_draws,
            for_each_count=for_each_count,
            modes=modes,
            shared=shared,
            other_shots=other_shots,
            of_attempts=of_attempts,
        )
        return function

    return register


@cache
def operators() -> Mapping[str, Operator]:
    """Return all operators by name. Every file of this folder is loaded and registers its own."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
    return dict(sorted(_REGISTERED.items()))


def share(sample: str, *, below_1: bool = False) -> Argument:
    """Return an argument that is a number from 0 to 1; 1 itself may be ruled out."""

    def read(text: str) -> Value:
        value = float(text)
        if not 0 <= value <= 1 or not math.isfinite(value) or (below_1 and value == 1):
            raise ValueError
        return int(value) if value.is_integer() else value

    rule = f"a number from 0 to {'below ' if below_1 else ''}1"
    return Argument(read=read, rule=rule, sample=sample)


def whole_number(sample: str, *, least: int = 0) -> Argument:
    """Return an argument that counts from `least`."""

    def read(text: str) -> Value:
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise ValueError
        return int(text)

    return Argument(read=read, rule=f"a whole number of {least} or more", sample=sample)


def name_of(what: str, sample: str) -> Argument:
    """Return an argument that is a name, which is looked up later."""

    def read(text: str) -> Value:
        if not text:
            raise ValueError
        return text

    return Argument(read=read, rule=what, sample=sample)


def one_of(*names: str) -> Argument:
    """Return an argument that is one of a few names; case does not matter."""
    by_key = {name.casefold(): name for name in names}

    def read(text: str) -> Value:
        if text.casefold() not in by_key:
            raise ValueError
        return by_key[text.casefold()]

    return Argument(read=read, rule=f"one of {', '.join(names)}", sample=names[0])
