"""Examples: the problems of a task, and the checks that keep pool and queries apart.

In: the fields of one problem, or many problems. Out: checked examples, or one line about what is
wrong with them.
"""

from __future__ import annotations

import hashlib
import json
import math
import numbers
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from icl_harness.counts import agree, n_of
from icl_harness.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One problem. `choices` are all answers that may be given; empty where the answer is free.

    `cluster` names what makes the scores of several examples depend on each other, such as the
    document that they all ask about. Numbers become texts. Raises `DataError` where anything else
    is not text.
    """

    id: str
    input: str
    target: str
    rationale: str | None = None
    choices: tuple[str, ...] = ()
    cluster: str | None = None

    def __post_init__(self) -> None:
        for name in ("id", "input", "target"):
            object.__setattr__(self, name, _text(getattr(self, name), name))
        for name in ("rationale", "cluster"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _text(value, name))
        if not self.id:
            raise DataError(
                f"an example has no id (input {self.input[:40]!r}). Every example needs a stable"
                " id."
            )
        if self.choices != ():
            self._check_choices()

    def _check_choices(self) -> None:
        choices = self.choices
        is_tuple = isinstance(choices, tuple)
        if not is_tuple or not all(isinstance(choice, str) for choice in choices):
            raise DataError(
                f"example {self.id}: the choices are {shown(choices)}; they must be a tuple of"
                " strings."
            )
        if self.target not in choices:
            raise DataError(
                f"example {self.id}: target {self.target!r} is not among its {len(choices)}"
                f" choices ({_few(choices, 4)})."
            )


def _text(value: Any, name: str) -> str:
    if isinstance(value, numbers.Real) and hasattr(value, "item"):  # a number of numpy's
        value = value.item()
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise DataError(f"the {name} is {json.dumps(value)}; a number must be finite.")
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"the {name} is {json.dumps(value, default=repr)[:40]}; it must be text.")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DataError(f"the {name} holds half a surrogate pair, which is not text.")
    return value


def shown(value: object) -> str:
    """Return the beginning of a value's representation, in one line, for a message about it."""
    return " ".join(repr(value).split())[:40]


# Words, and what some problems consist of alone: brackets, operators, the sign of a number.
_WORDS = re.compile(r"\w+|[()\[\]{}<>+*/=^&|~%\\]|(?<!\w)-(?=\d)")


def normalised(text: str) -> str:
    """Return the form of a text in which leaks are found: its words, brackets and operators,
    case-folded, with accents as part of their letters.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
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
    counts = Counter(example.id for example in examples)
    twice = sorted(id for id, count in counts.items() if count > 1)
    if twice:
        raise DataError(
            f"{where}: {n_of(len(twice), 'id')} {agree(len(twice), 'occurs', 'occur')} more than "
            f"once: {_few(twice)}. Ids must be unique."
        )


def n_repeated(queries: Sequence[Example]) -> int:
    """Return how many queries repeat the normalised input of an earlier one, and are not of its
    cluster: queries of a cluster count as one in intervals.
    """
    texts = [normalised(query.input) for query in queries]
    clusters = [query.id if query.cluster is None else query.cluster for query in queries]
    return len(set(zip(texts, clusters, strict=True))) - len(set(texts))


def leaked(pool: Sequence[Example], queries: Sequence[Example]) -> list[tuple[str, str]]:
    """Return (pool id, query id) of every pool example whose normalised input is a query's."""
    query_ids = {normalised(query.input): query.id for query in queries}
    pairs = []
    for example in pool:
        query_id = query_ids.get(normalised(example.input))
        if query_id is not None:
            pairs.append((example.id, query_id))
    return pairs


def same_clusters(pool: Sequence[Example], queries: Sequence[Example]) -> list[tuple[str, str]]:
    """Return (pool id, query id) of every pool example of a query's cluster, with another input."""
    inputs = {normalised(query.input) for query in queries}
    query_ids = {normalised(q.cluster): q.id for q in queries if q.cluster is not None}
    pairs = []
    for example in pool:
        query_id = query_ids.get(normalised(example.cluster or ""))
        if query_id is not None and normalised(example.input) not in inputs:
            pairs.append((example.id, query_id))
    return pairs


def refuse_leaks(pairs: Sequence[tuple[str, str]], where: str) -> None:
    """Raise `DataError` with the ids where there are pool examples that are queries."""
    if pairs:
        ids = _few([f"{pool_id} = {query_id}" for pool_id, query_id in pairs])
        raise DataError(
            f"{where}: the pool contains {n_of(len(pairs), 'query')} (pool id = query id: {ids})."
            " A shot must never show a query: remove such rows from the pool's file, or say"
            ' Task(leaks="drop") in the task file, which leaves them out of the pool.'
        )


def _few(items: Sequence[str], most: int = 5) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
