"""Answers of rows: each row is one answer, or a whole cell whose answers are written out.

In: rows with their places, and which column is what. Out: answers, each cell's query once, or a
`DataError` that names the row. A score that is missing stays missing; it is counted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from icl_harness.errors import DataError
from icl_harness.report.imports import values
from icl_harness.report.imports.columns import NAMES
from icl_harness.tasks.metrics import Metric
from icl_harness.tasks.row_files import PlacedRow

MOST_QUERIES = 1_000_000  # of a cell that is one row
SINGLE = 1e-7  # by how much a mean of 32 bits differs from what it says
WHOLE_CELL = "cell"  # the query of a cell of which only the mean is known
# of `NAMES`, in their order
READERS: tuple[Callable[[Any, str], Any], ...] = (
    values.name, values.name, values.mode, values.name, values.whole, values.whole
)  # fmt: skip


class Point(NamedTuple):
    """A cell of a foreign table."""

    task: str
    model: str
    mode: str
    variant: str
    shots: int
    draw: int


class Scored(NamedTuple):
    """One answer of a foreign table; what it does not say is None."""

    point: Point
    query: str
    sample: int
    score: float | None
    answer: str | None = None
    parsed: str | None = None
    input: str | None = None
    target: str | None = None
    cluster: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How rows are read. `constants` are the values of what no column holds; `percent`: scores are
    divided by 100.
    """

    columns: Mapping[str, str]
    constants: Mapping[str, Any]
    metric: Metric
    percent: bool = False
    _points: dict[tuple[str, ...], Point] = field(default_factory=dict, repr=False)

    @property
    def per_query(self) -> bool:
        """Return whether a row is one answer, not a whole cell."""
        return "query" in self.columns

    def place(self, where: str, key: str) -> str:
        """Return the place of a value, for a message."""
        return f"{where}, column {self.columns[key]!r}: the {key}"

    def given(self, row: Mapping[str, Any], key: str) -> Any:
        """Return what a row holds of a key, else what holds for all rows."""
        return row.get(self.columns[key]) if key in self.columns else self.constants[key]

    def point(self, where: str, row: Mapping[str, Any]) -> Point:
        """Return the cell of a row; most rows are of the same few."""
        given = [self.given(row, key) for key in NAMES]
        written = tuple(map(repr, given))
        if written not in self._points:
            found: list[Any] = []
            for key, value, read in zip(NAMES, given, READERS, strict=True):
                where_it_is = self.place(where, key) if key in self.columns else f"--{key}"
                found.append(read(value, where_it_is))
            self._points[written] = Point(*found)
        return self._points[written]

    def score(self, where: str, row: Mapping[str, Any]) -> float | None:
        """Return the score of a row within the metric's range."""
        low, high = self.metric.range
        scale = 100 if self.percent else 1
        limits = (low * scale, high * scale)
        value = row.get(self.columns["score"])
        found = values.score(value, self.place(where, "score"), limits, self.metric.name)
        return None if found is None else found / scale


def read_answers(rows: Iterable[tuple[Reading, PlacedRow]]) -> Iterator[Scored]:
    """Yield the answers of rows, each read in its way. Raises `DataError` where a cell's query
    stands twice, or a query has two gold answers.
    """
    seen: dict[tuple[Any, ...], str] = {}
    gold: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    for reading, (where, row) in rows:
        point = reading.point(where, row)
        if reading.per_query:
            answer = _answer(where, row, reading, point)
            _refuse_twice(seen, (point, answer.query, answer.sample), where, answer.query)
            _check_gold(gold, answer, where)
            yield answer
        else:
            _refuse_twice(seen, (point,), where, "")
            yield from _cell(where, row, reading, point)


def _refuse_twice(
    seen: dict[tuple[Any, ...], str], key: tuple[Any, ...], where: str, query: str
) -> None:
    if key in seen:
        point = key[0]
        what = f"query {query!r} of " if query else ""
        remedy = "name the column that tells them apart (draw, variant, sample, …)"
        if not query:
            remedy += ", or query=COLUMN where each row is one answer"
        raise DataError(
            f"{where}: {what}{point.task}, {point.model}, {point.mode}, {point.variant}, "
            f"{point.shots} shots, draw {point.draw} was there already, in {seen[key]}. Remove one,"
            f" or {remedy}."
        )
    seen[key] = where


def _check_gold(
    gold: dict[tuple[str, str, str], tuple[Any, ...]], answer: Scored, where: str
) -> None:
    """Raise `DataError` where a query of a task has another text or gold answer than before."""
    if answer.target is None:
        return
    key = (answer.point.task, answer.point.variant, answer.query)
    said = (answer.input, answer.target, answer.cluster)
    known = gold.setdefault(key, said)
    if known != said:
        raise DataError(
            f"{where}: query {answer.query!r} of {answer.point.task} has another input, target or "
            f"cluster here ({said[1]!r}) than in a row before ({known[1]!r}). One id is one query."
        )


def _answer(where: str, row: Mapping[str, Any], reading: Reading, point: Point) -> Scored:
    columns = reading.columns
    texts = {}
    for key in ("answer", "parsed", "input", "target", "cluster"):
        texts[key] = values.text_or_none(row.get(columns[key])) if key in columns else None
    sample = 0
    if "sample" in columns:
        sample = values.whole(row.get(columns["sample"]), reading.place(where, "sample"))
    query = values.name(row.get(columns["query"]), reading.place(where, "query"))
    score = reading.score(where, row)
    if "target" in columns and texts["target"] is None:
        raise DataError(f"{reading.place(where, 'target')} is empty; every query needs one.")
    if "parsed" not in columns:
        texts["parsed"] = ""  # not known, which is not unparsed
    elif texts["parsed"] is None and score:
        raise DataError(
            f"{reading.place(where, 'parsed')} is empty, and its score is {score:g}. An answer of "
            "which nothing was read scores 0: correct the row, or leave parsed out of --columns."
        )
    return Scored(point, query, sample, score, **texts)


def _cell(where: str, row: Mapping[str, Any], reading: Reading, point: Point) -> Iterator[Scored]:
    """Yield the answers of a cell that is one row: as many right ones as it says, of as many
    queries; one answer with the mean score where the number of queries is not known.
    """
    columns = reading.columns
    if "n" not in columns:
        yield Scored(point, WHOLE_CELL, 0, reading.score(where, row), parsed="")
        return
    n = values.whole(row.get(columns["n"]), reading.place(where, "n"))
    if not 1 <= n <= MOST_QUERIES:
        raise DataError(
            f"{reading.place(where, 'n')} is {n:,}; it must be from 1 to {MOST_QUERIES:,}."
        )
    n_right = _n_right(where, row, reading, n)
    # Ids of this point alone: nothing says which answers of two points are to one query.
    names = [point.task, point.model, point.mode, point.variant, str(point.shots)]
    digest = hashlib.sha256("\x1f".join(names).encode()).hexdigest()[:12]
    for i in range(n):
        score = None if n_right is None else float(i < n_right)
        yield Scored(point, f"{digest}-{i:06}", 0, score, parsed="")


def _n_right(where: str, row: Mapping[str, Any], reading: Reading, n: int) -> int | None:
    """Return how many of a cell's answers were right; None where its score is missing."""
    if "right" in reading.columns:
        given = row.get(reading.columns["right"])
        if values.is_none(given):
            return None
        right = values.whole(given, reading.place(where, "right"))
        if right > n:
            raise DataError(f"{reading.place(where, 'right')} is {right:,}, of {n:,} queries.")
        return right
    mean = reading.score(where, row)
    if mean is None:
        return None
    right = round(mean * n)
    written = row[reading.columns["score"]]
    step = _last_digit(written) / (100 if reading.percent else 1)
    if abs(right / n - mean) > step / 2 + SINGLE:
        low, high = math.floor(mean * n), math.ceil(mean * n)
        raise DataError(
            f"{reading.place(where, 'score')} is {written}, which is no share of {n:,} answers: "
            f"{low:,} right ones are {low / n:.6g}, {high:,} are {high / n:.6g}. Correct n, or "
            "leave it out of --columns: the mean is kept then, its interval knows draws alone."
        )
    return right


def _last_digit(written: Any) -> float:
    """Return the worth of the last digit of a number as it is written: .01 of "0.92"."""
    text = str(written).strip().casefold()
    digits, _, exponent = text.partition("e")
    decimals = len(digits.partition(".")[2])
    shift = int(exponent) if exponent.lstrip("+-").isdigit() else 0
    return float(10.0 ** (shift - decimals))
