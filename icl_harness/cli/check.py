"""What `icl check` prints: the unparsed and doubtful answers of a run, by kind."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from icl_harness.cli.terminal import HELD
from icl_harness.counts import n_of
from icl_harness.report.doubtful import COLUMNS, KINDS

ROWS = 10_000  # of a table held at once
LONGEST = 160  # letters of an answer; its end says most, so its middle is left out


class _Kind:
    """The answers of one kind: how many there are, and some of them."""

    def __init__(self) -> None:
        self.n = 0
        self.examples: dict[tuple[str, str, str], Mapping[str, Any]] = {}

    def add(self, row: Mapping[str, Any], n_shown: int) -> None:
        """Count an answer. The same one to the same query at many shot counts is one example."""
        self.n += 1
        if len(self.examples) < n_shown:
            self.examples.setdefault((row["task"], row["query_id"], row["answer"]), row)


def check_lines(
    folder: Path,
    found: Iterable[Mapping[str, Any]],
    n_answers: int,
    n_shown: int,
    several: Collection[str] = (),
) -> Iterator[str]:
    """Yield how many answers there are of each kind, and some of each with what shows them whole.

    Kinds of answers that could not be parsed come first. `several`: what the run has more than one
    of, so that a query's cell must be named by it.
    """
    kinds = {name: _Kind() for name in KINDS}
    first, n_unparsed = None, 0
    for row in found:
        first = first or row
        n_unparsed += row["parsed"] is None
        kinds[row["kind"]].add(row, n_shown)
    answers = n_of(n_answers, "answer")
    yield f"{folder}: {answers}, {n_unparsed:,} unparsed (counted as wrong)"
    for name, kind in kinds.items():
        if kind.n:
            yield ""
            yield f"{name}: {kind.n:,} ({kind.n / n_answers:.1%}): {KINDS[name]}"
        for row in kind.examples.values():
            shots = n_of(row["shots"], "shot")
            yield f"  {row['task']} {row['query_id']}, {shots}: {_answer(row)}"
    if first is not None:
        named = {"query": first["query_id"], **{name: first[name] for name in several}}
        options = [f"--{name} {shlex.quote(str(value))}" for name, value in named.items()]
        shown = f"icl show {shlex.quote(str(folder))} {' '.join(options)}"
        yield ""
        yield f"One whole, with its prompt: {shown.replace(' ', HELD)}"


def csv_parts(found: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the answers as CSV, some at a time."""
    import pandas as pd

    from icl_harness.analysis.curves import csv_text

    yield ",".join(COLUMNS) + "\n"
    while rows := list(islice(found, ROWS)):
        text = csv_text(pd.DataFrame(rows, columns=list(COLUMNS)))
        yield text.partition("\n")[2]


def _answer(row: Mapping[Any, Any]) -> str:
    read = f", read as {_short(row['parsed'])}" if isinstance(row["parsed"], str) else ""
    gold = f", gold {_short(row['target'])}" if isinstance(row["target"], str) else ""
    return f"{_short(row['answer'])}{read}{gold}"


def _short(text: Any) -> str:
    shown = repr(text)
    if len(shown) <= LONGEST:
        return shown
    return f"{shown[: LONGEST // 2]} … {shown[-LONGEST // 2 :]}"
