"""Examples: the problems of a task, and the checks that keep pool and queries apart."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from icl_harness.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One problem. `choices` are all answers that may be given; empty where the answer is free.

    `cluster` names what examples have in common that makes their scores depend on each other (a
    document that several questions are about, say). Numbers given as texts become texts. Raises `DataError` for anything else that is no text.
    """

    id: str
    input: str
    target: str
    rationale: str | None = None
    choices: tuple[str, ...] = ()
    cluster: str | None = None

    def __post_init__(self) -> None:
        for name in ("id", "input", "target", "rationale", "cluster"):
            value = getattr(self, name)
            if name not in ("rationale", "cluster") or value is not None:
                object.__setattr__(self, name, _text(value, name))
        if not self.id:
            raise DataError(
                f"an example has no id (input {self.input[:40]!r}). Every example needs a stable id."
            )
        if not isinstance(self.choices, tuple) or not all(
            isinstance(choice, str) for choice in self.choices
        ):
            raise DataError(
                f"example {self.id}: the choices are {shown(self.choices)}; they must be a tuple of strings."
            )
        if self.choices and self.target not in self.choices:
            raise DataError(
                f"example {self.id}: target {self.target!r} is not among its {len(self.choices)} choices "
                f"({', '.join(self.choices[:4])}, …)."
            )


def _text(value: Any, name: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"the {name} is {json.dumps(value, default=repr)[:40]}; it must be text.")
    if any("\ud800" <= c <= "\udfff" for c in ("" if value.isascii() else value)):
        raise DataError(f"the {name} holds half a surrogate pair, which is not text.")
    return value


def shown(value: object) -> str:
    """Return the beginning of a value's representation, in one line, for a message about it."""
    return " ".join(repr(value).split())[:40]


# Words, and what some problems wholly consist of: brackets, operators, the sign of a number.
_WORDS = re.compile(r"\w+|[()\[\]{}<>+*/=^&|~%\\]|(?<!\w)-(?=\d)")


def normalised(text: str) -> str:
    """Return `text` in the form in which leaks are looked for: its case-folded words, brackets and
    operators.
    """
    return " ".join(_WORDS.findall(text.casefold())) or text.strip()


def content_hash(examples: Iterable[Example]) -> str:
    """Return the SHA-256 of all fields of all examples, in order."""
    hasher = hashlib.sha256()
    for example in examples:
        fields = [example.id, example.input, example.target, example.rationale, example.choices]
        if example.cluster is not None:
            fields.append(example.cluster)
        hasher.update(json.dumps(fields).encode() + b"\n")
    return hasher.hexdigest()


def check_unique(examples: Sequence[Example], where: str) -> None:
    """Raise `DataError` naming the ids that occur more than once."""
    seen: set[str] = set()
    twice = sorted({e.id for e in examples if e.id in seen or seen.add(e.id)})  # type: ignore[func-returns-value]
    if twice:
        raise DataError(
            f"{where}: {len(twice)} ids occur more than once: {_few(twice)}. Ids must be unique."
        )


def leaked(pool: Sequence[Example], queries: Sequence[Example]) -> list[tuple[str, str]]:
    """Return (pool id, query id) of every pool example whose normalised input is that of a query."""
    asked = {normalised(q.input): q.id for q in queries}
    return [(p.id, asked[key]) for p in pool if (key := normalised(p.input)) in asked]


def check_disjoint(pool: Sequence[Example], queries: Sequence[Example], where: str) -> None:
    """Raise `DataError` with the ids where the pool contains a query."""
    pairs = leaked(pool, queries)
    if pairs:
        shown = _few([f"{p} = {q}" for p, q in pairs])
        raise DataError(
            f"{where}: the pool contains {len(pairs)} of the queries (pool id = query id: {shown}). "
            "Remove them from the pool: a shot must never show a query."
        )


def _few(items: Sequence[str], most: int = 5) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
