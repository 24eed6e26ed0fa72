"""Pool and queries of one table: by a column that says so, else a fifth of the rows held out.

In: examples and the words of the split column, where one is named. Out: two lists of examples, and
a few words about them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from icl_harness.errors import DataError
from icl_harness.examples import Example, normalised
from icl_harness.tasks.holdout import held_out
from icl_harness.tasks.tables import POOL_WORDS, QUERY_WORDS

SHARE = 5  # a fifth of the rows is held out
MOST_QUERIES = 1000


class Sides(NamedTuple):
    """What shots are drawn from, what is asked, and how they were told apart."""

    pool: list[Example]
    queries: list[Example]
    how: str


def held_out_sides(examples: Sequence[Example], name: str, group: str | None) -> Sides:
    """Return the same fifth of the rows as queries in every run, at most 1,000. Equal inputs stay
    on one side, and so do rows of one group (`Example.cluster`). Raises `DataError`.
    """
    keys = joined(examples)
    sizes = Counter(keys)
    if len(sizes) < 2:
        raise DataError(_one_group(examples, name, group))
    wanted = min(MOST_QUERIES, max(1, round(len(examples) / SHARE)))
    _, queries = held_out(keys, wanted)
    chosen = set(queries)
    if not chosen:  # each group is larger than a fifth: the smallest one
        smallest = min(sizes, key=lambda key: sizes[key])
        chosen = {place for place, key in enumerate(keys) if key == smallest}
    by = f", by {group}" if group is not None else ""
    sides = Sides([], [], f"held out by a fixed seed{by}")
    for place, example in enumerate(examples):
        (sides.queries if place in chosen else sides.pool).append(example)
    return sides


def _one_group(examples: Sequence[Example], name: str, group: str | None) -> str:
    if group is not None and len({example.cluster for example in examples}) == 1:
        return (
            f"{name}: all rows are of one group ({group} is {examples[0].cluster!r}), so none can "
            "be held out. Name another --group, or leave it out."
        )
    return (
        f"{name}: its rows cannot be told apart into those to show and those to ask: "
        f"{len(examples)} with the same input or group. Two different ones are needed."
    )


def joined(examples: Sequence[Example]) -> list[str]:
    """Return a key for each example: those of equal inputs or of one group have the same."""
    parents: dict[str, str] = {}

    def root(key: str) -> str:
        while parents.setdefault(key, key) != key:
            parents[key] = key = parents[parents[key]]
        return key

    inputs = [f"input {normalised(example.input)}" for example in examples]
    for key, example in zip(inputs, examples, strict=True):
        if example.cluster is not None:
            parents[root(key)] = root(f"group {example.cluster}")
    return [root(key) for key in inputs]


def named_sides(
    examples: Sequence[Example], words: Sequence[str | None], name: str, column: str
) -> Sides:
    """Return the rows that a column calls train and test; of validation and test, test. Raises
    `DataError`.
    """
    folded = [(word or "").casefold() for word in words]
    found = Counter(folded)
    side = {"pool": _first(POOL_WORDS, found), "queries": _first(QUERY_WORDS, found)}
    for what, known, word in (
        ("train", POOL_WORDS, side["pool"]),
        ("test", QUERY_WORDS, side["queries"]),
    ):
        if word is None:
            there = ", ".join(sorted({word or "(empty)" for word in words})[:6])
            raise DataError(
                f"{name}: no row of column {column!r} says {what} (or {', '.join(known[1:])}); "
                f"they say {there}. Write it so, or leave --split out to hold a fifth out."
            )
    pool = [e for e, word in zip(examples, folded, strict=True) if word == side["pool"]]
    queries = [e for e, word in zip(examples, folded, strict=True) if word == side["queries"]]
    n_left = len(examples) - len(pool) - len(queries)
    left = f"; {n_left:,} of other splits are left out" if n_left else ""
    _refuse_shared_groups(pool, queries, name)
    return Sides(pool, queries, f"as {column} says{left}")


def _first(known: Sequence[str], found: Counter[str]) -> str | None:
    return next((word for word in known if word in found), None)


def _refuse_shared_groups(pool: Sequence[Example], queries: Sequence[Example], name: str) -> None:
    both = {e.cluster for e in pool} & {e.cluster for e in queries} - {None}
    if both:
        few = ", ".join(sorted(map(str, both))[:4])
        raise DataError(
            f"{name}: {len(both)} groups stand on both sides of the split ({few}). Leave out "
            "--group, or --split to have groups held out whole."
        )
