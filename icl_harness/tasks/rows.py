"""Rows: where the examples of a task come from.

In: a task's sources, `hub(…)`, `rows(…)`, `holdout(…)`, and the folder given with --data. Out:
checked examples. With a folder, rows are read from DIR/<task>/<split>.jsonl, .jsonl.gz or .csv;
without one, `hub` sources are loaded through `datasets`. A `holdout` of a hub set takes
DIR/<task>/train and test where both are there, else it splits the published copy's one file,
DIR/<local>. Files are read here and not by its builders because these do not say in which line a
file is broken.

A row has its columns and an "id": its own id column, or "<split>-<row number>", counted from 0.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

from icl_harness.errors import DataError
from icl_harness.examples import Example, normalised
from icl_harness.tasks.hub import Hub, hub_rows

SUFFIXES = (".jsonl", ".csv", ".jsonl.gz")
SPLITS = ("train", "test")  # pool, queries
LOCAL_FOLDER = Path("data")  # where `rows` looks when no folder is given


class LackingColumn(KeyError):
    """A row was asked for a column that it does not have."""


class Row(dict[str, Any]):
    """One row by column name. A column that is not there ends in a `DataError` that lists those
    that are.
    """

    def __missing__(self, column: str) -> NoReturn:
        raise LackingColumn(repr(column))

    def first(self, *columns: str) -> Any:
        """Return the first of these columns that the row has: hub copies of one set name them
        differently.
        """
        for column in columns:
            if column in self:
                return self[column]
        raise LackingColumn(" or ".join(map(repr, columns)))


MakeExample = Callable[[Row], Example | None]


@runtime_checkable
class Source(Protocol):
    """A place that examples come from."""

    def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Return the examples that `make` builds of the rows, in order, without those it answers
        None for.
        """


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one split, from `hub` or from the file DIR/<local>.*; `local` is "<task>/<split>"
    unless given.
    """

    split: str
    local: str | None = None
    hub: Hub | None = None

    def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Read all rows and build their examples. Raises `DataError`."""
        if self.hub and data is None:
            found: Iterable[tuple[str, dict[str, Any]]] = hub_rows(self.hub, self.split)
            whole = self.hub.id
        else:
            path = self._file(task, data)
            found, whole = file_rows(path), str(path)
        examples = [_build(make, raw, n, self.split, where) for n, (where, raw) in enumerate(found)]
        kept = [example for example in examples if example is not None]
        if not kept:
            raise DataError(
                f"{whole} holds no rows{' that become examples' if examples else ''}. It needs at least one."
            )
        return kept

    def _file(self, task: str, data: Path | None) -> Path:
        folder = data or LOCAL_FOLDER
        base = self.local or f"{task}/{self.split}"
        if not folder.is_dir():
            raise DataError(
                f"data folder {folder} does not exist. Task {task} needs {base}.jsonl or .csv in it."
            )
        files = _files(folder, base)
        if len(files) > 1:
            raise DataError(
                f"{folder / base}: both {files[0].name} and {files[1].name} are there. Keep one."
            )
        if not files:
            other = f", or leave out --data to load {self.hub.id} from the hub" if self.hub else ""
            raise DataError(
                f"data file {folder / base}.jsonl (or .csv, .jsonl.gz) is missing. Put it there{other}."
            )
        return files[0]


def _files(folder: Path, base: str) -> list[Path]:
    return [file for suffix in SUFFIXES if (file := folder / f"{base}{suffix}").exists()]


def hub(
    id: str,
    config: str | None = None,
    *,
    split: str,
    revision: str | None = None,
    data_dir: str | None = None,
    local: str | None = None,
) -> Rows:
    """Rows of a hub data set, or of DIR/<local>.* when a data folder is given (`local`:
    "<task>/<split>").
    """
    return Rows(
        split=split,
        local=local,
        hub=Hub(id=id, config=config, revision=revision, data_dir=data_dir),
    )


def rows(split: str, local: str | None = None) -> Rows:
    """Rows of one's own: DIR/<task>/<split>.jsonl or .csv; DIR is the data folder, or ./data where
    none is given.
    """
    return Rows(split=split, local=local)


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """A source that is split into a pool and queries."""

    source: Source
    n_queries: int
    n_pool: int | None
    seed: int
    local: str | None
    # The side that was not asked for yet: the source is read and split once for both.
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
        own = self._own_files(task, data)
        if own is not None:
            return rows(SPLITS[queries], f"{own}/{SPLITS[queries]}").examples(*given)
        sides = self._split(self.source.examples(*given))
        self._other.clear()
        self._other[not queries, *given] = sides[not queries]
        return sides[queries]

    def _own_files(self, task: str, data: Path | None) -> str | None:
        """Return where the folder `data` has files of both sides; None where it has the whole."""
        if data is None or not isinstance(self.source, Rows) or self.source.hub is None:
            return None
        own = self.local or task
        if all(_files(data, f"{own}/{split}") for split in SPLITS):
            return own
        whole = self.source.local or f"{task}/{self.source.split}"
        if not data.is_dir() or not _files(data, whole):
            _lacks_layouts(task, data, own, whole, self.source.hub)
        return None

    def _split(self, examples: list[Example]) -> tuple[list[Example], list[Example]]:
        import numpy as np

        wanted = self._n_queries(len(examples))
        # Equal inputs stay on one side, or the pool would contain a query.
        groups: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            groups.setdefault(normalised(example.input), []).append(index)
        shuffled = list(groups.values())
        order = np.random.default_rng(self.seed).permutation(len(shuffled))
        queries: list[int] = []
        pool: list[int] = []
        for group in (shuffled[i] for i in order):
            fits = len(queries) + len(group) <= wanted
            (queries if fits else pool).extend(group)
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
        f"data folder {data} {problem}: task {task} looks in it for {own}/train and {own}/test, or for {whole}, which "
        f"it splits (.jsonl, .csv or .jsonl.gz). Put them there, or leave out --data to load {source.id} from the hub."
    )


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

    `pool=None` takes all that is left. A source with fewer rows than asked for is split in the same
    proportion. In a data folder, a hub set's own DIR/<local>/train and test (`local`: "<task>")
    come before what is to be split.
    """
    whole = Holdout(source=source, n_queries=queries, n_pool=pool, seed=seed, local=local)
    return Part(of=whole, queries=False), Part(of=whole, queries=True)


def file_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, row) of a .jsonl, .jsonl.gz or .csv file. Raises `DataError` with file, line
    and column.
    """
    text = _text(path)
    return _csv_rows(path, text) if path.suffix == ".csv" else _json_rows(path, text)


def _text(path: Path) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}). Compress it again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        where = f"{path}, line {line}, column {column}"
        raise DataError(
            f"{where}: byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        ) from error


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    # Only "\n" ends a line: a JSON string may hold the other characters that `splitlines` cuts at.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            where = f"{where}, column {error.colno}"
            raise DataError(f"{where}: {error.msg}. Each line must be one JSON object.") from error
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{where}, column 1: {error}. Each line must be one JSON object."
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f"{where}, column 1: a JSON {type(row).__name__}. Each line must be one JSON object."
            )
        yield where, row


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(2**31 - 1)  # long documents are one cell
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            where, start = f"{path}, line {start}", reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = cells
                if len(set(header)) < len(header):
                    raise DataError(
                        f"{where}: the header names a column twice ({', '.join(header)})."
                    )
            elif len(cells) != len(header):
                where = f"{where}, column {min(len(cells), len(header)) + 1}"
                raise DataError(f"{where}: {len(cells)} cells where the header has {len(header)}.")
            else:
                yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        remedy = "Quote cells that hold commas, quotes or line breaks."
        raise DataError(f"{path}, line {start}: {error}. {remedy}") from error


def _build(
    make: MakeExample, raw: dict[str, Any], number: int, split: str, where: str
) -> Example | None:
    row = Row(raw)
    if row.get("id") in (None, ""):
        row["id"] = f"{split}-{number}"
    try:
        example = make(row)
    except LackingColumn as error:
        raise DataError(
            f"{where}: there is no column {error.args[0]}; it has {', '.join(raw)}."
        ) from error
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except Exception as error:
        # the function is the task author's: whatever it raises is told with the row it met
        raise DataError(
            f"{where}: the task cannot make an example of it: {short(error)}."
        ) from error
    return example and _checked(example, where)


def short(error: Exception) -> str:
    """Return the type and message of an error of someone else's code, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")


def _checked(example: Example, where: str) -> Example:
    """Return the example with numbers as text and no outer white space (templates set their own);
    or raise.
    """
    texts: dict[str, Any] = {}
    for name in ("id", "input", "target", "rationale"):
        value = getattr(example, name)
        if name == "rationale" and value is None:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise DataError(f"{where}: the {name} is {value}; a number must be finite.")
            value = str(value)
        if not isinstance(value, str):
            raise DataError(
                f"{where}: the {name} is {json.dumps(value, default=repr)[:40]}; it must be text."
            )
        if not value.strip():
            raise DataError(f"{where}: the {name} is empty.")
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise DataError(f"{where}: the {name} holds half a surrogate pair, which is not text.")
        texts[name] = value.strip()
    return replace(example, **texts)
