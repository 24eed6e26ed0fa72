"""Held-out queries: splitting a source that has no test split of its own.

In: a source of rows and how many queries to take. Out: two sources, pool and queries. Of a hub set
with a data folder, DIR/<task>/train and test are taken where both are there; else the published
copy's one file, DIR/<local>, is split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from icl_harness.errors import DataError
from icl_harness.examples import Example, normalised
from icl_harness.tasks.hub import Hub
from icl_harness.tasks.row_files import find_files
from icl_harness.tasks.rows import MakeExample, Rows, Source, rows

SPLITS = ("train", "test")  # pool, queries


def holdout(
    source: Source,
    *,
    queries: int,
    pool: int | None = None,
    seed: int = 0,
    local: str | None = None,
) -> tuple[Part, Part]:
    """Split a source that has no test split into (pool, queries), by a seed of its own: the same
    for every run.

    `pool=None` takes all that is left. A source with fewer rows than wanted is split in the same
    proportion. In a data folder, a hub set's own DIR/<local>/train and test (`local`: "<task>")
    come before what is to be split.
    """
    whole = Holdout(source=source, n_queries=queries, n_pool=pool, seed=seed, local=local)
    return Part(of=whole, queries=False), Part(of=whole, queries=True)


def held_out(keys: Sequence[str], wanted: int, seed: int = 0) -> tuple[list[int], list[int]]:
    """Return the places of pool and queries, in the order in which they were drawn: at most
    `wanted` queries. Equal keys (an input, a group) stay on one side, or the pool would contain a
    query.
    """
    import numpy as np

    groups: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    shuffled = list(groups.values())
    order = np.random.default_rng(seed).permutation(len(shuffled))
    pool: list[int] = []
    queries: list[int] = []
    for group in (shuffled[i] for i in order):
        fits = len(queries) + len(group) <= wanted
        (queries if fits else pool).extend(group)
    return pool, queries


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """A source that is split into a pool and queries."""

    source: Source
    n_queries: int
    n_pool: int | None
    seed: int
    local: str | None
    # The side that is not read yet: the source is read and split once for both.
    _other: dict[tuple[object, ...], list[Example]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def side(self, queries: bool, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Return the pool or the queries, in the order of the rows; of the side's own file, where
        there are files of both.
        """
        given = (make, task, data)
        if (queries, *given) in self._other:
            return self._other.pop((queries, *given))
        own = self._ownfind_files(task, data)
        if own is not None:
            return rows(SPLITS[queries], f"{own}/{SPLITS[queries]}").examples(*given)
        sides = self._split(self.source.examples(*given))
        self._other.clear()
        self._other[not queries, *given] = sides[not queries]
        return sides[queries]

    def _ownfind_files(self, task: str, data: Path | None) -> str | None:
        """Return where the folder `data` has files of both sides; None where it has the whole."""
        if data is None or not isinstance(self.source, Rows) or self.source.hub is None:
            return None
        own = self.local or task
        if all(find_files(data, f"{own}/{split}") for split in SPLITS):
            return own
        whole = self.source.local or f"{task}/{self.source.split}"
        if not data.is_dir() or not find_files(data, whole):
            _lacks_layouts(task, data, own, whole, self.source.hub)
        return None

    def _split(self, examples: list[Example]) -> tuple[list[Example], list[Example]]:
        keys = [normalised(example.input) for example in examples]
        pool, queries = held_out(keys, self._n_queries(len(examples)), self.seed)
        pool = pool[: self.n_pool]
        return [examples[i] for i in sorted(pool)], [examples[i] for i in sorted(queries)]

    def _n_queries(self, n_rows: int) -> int:
        """Return how many queries there are; where rows are fewer than both sides ask for, in the
        same proportion.
        """
        if self.n_pool is None:
            return self.n_queries
        n_both = self.n_queries + self.n_pool
        return min(self.n_queries, round(n_rows * self.n_queries / n_both))


@dataclass(frozen=True, kw_only=True)
class Part:
    """One side of a `Holdout`."""

    of: Holdout
    queries: bool

    def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Return this side, in the order of the rows. Raises `DataError`."""
        return self.of.side(self.queries, make, task, data)


def _lacks_layouts(task: str, data: Path, own: str, whole: str, source: Hub) -> NoReturn:
    problem = "lacks files" if data.is_dir() else "does not exist"
    raise DataError(
        f"data folder {data} {problem}: task {task} looks in it for {own}/train and {own}/test, or "
        f"for {whole}, which it splits (.jsonl, .csv or .jsonl.gz). Put them there, or leave out "
        f"--data to load {source.id} from the hub."
    )
