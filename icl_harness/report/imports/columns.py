"""Which column of a table holds what: the option `--columns key=COLUMN,…`.

In: what was typed, the columns that there are. Out: key -> column, or a `SpecError` that says which
part is wrong. What no column holds may be given once for all rows (`--model`, `--shots`, …).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from icl_harness.errors import SpecError, nearest

NAMES = ("task", "model", "mode", "variant", "shots", "draw")  # of a cell
KEYS = {
    "task": "the task's name",
    "model": "the model's name",
    "mode": "supervised, reinforced or unsupervised",
    "variant": "what else the prompts changed",
    "shots": "the number of shots",
    "draw": "the number of the draw",
    "query": "the query's id; without it a row is a whole cell",
    "sample": "the number of the answer, where a query has several",
    "score": "the score, of a cell its mean",
    "right": "of a cell: how many answers were right",
    "n": "of a cell: how many queries were asked",
    "answer": "the model's answer",
    "parsed": "what was read from the answer",
    "input": "the query's text",
    "target": "the gold answer",
    "cluster": "what several queries have in common",
}
OF_A_CELL = {"right", "n"}
OF_A_QUERY = {"query", "sample", "answer", "parsed", "input", "target", "cluster"}


def parse_columns(written: Sequence[str]) -> dict[str, str]:
    """Return key -> column of texts such as `task=dataset,score=correct`. Raises `SpecError`."""
    columns: dict[str, str] = {}
    for part in ",".join(written).split(",") if written else ():
        key, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not column:
            raise SpecError(
                f"--columns: {part.strip()!r} is not KEY=COLUMN. Write it as in "
                "task=dataset,shots=k,query=item,score=correct."
            )
        if key not in KEYS:
            raise SpecError(
                f"--columns: unknown key {key!r}.{nearest(key, KEYS)} Known: {', '.join(KEYS)}."
            )
        if key in columns:
            raise SpecError(f"--columns names {key} twice. Name it once.")
        columns[key] = column
    return columns


def check_columns(columns: Mapping[str, str], there: Collection[str], where: str) -> None:
    """Raise `SpecError` where a column is not in the file."""
    for key, column in columns.items():
        if column not in there:
            raise SpecError(
                f"{where} has no column {column!r} for {key}.{nearest(column, there)} "
                f"It has {', '.join(there)}."
            )


def check_together(
    columns: Mapping[str, str], known: Mapping[str, object], given: Mapping[str, object]
) -> None:
    """Raise `SpecError` where what is named does not make a table of answers or of cells. `known`
    holds for all rows by the file itself, `given` as it was typed.
    """
    named = set(columns)
    twice = sorted(named & set(given))
    if twice:
        raise SpecError(
            f"{twice[0]} is given twice: by --columns {twice[0]}={columns[twice[0]]} and by "
            f"--{twice[0]}. Give one."
        )
    for key in ("task", "shots"):
        if key not in named | set(known) | set(given):
            raise SpecError(
                f"no column is named for {key}. Name one, as in --columns {key}=COLUMN, or give "
                f"--{key} for all rows."
            )
    if len({"score", "right"} & named) != 1:
        raise SpecError(
            "--columns must name one column of scores: score=COLUMN, or of cells right=COLUMN "
            "with n=COLUMN."
        )
    _check_kind(named)


def _check_kind(named: set[str]) -> None:
    if "query" in named:
        idle = sorted(named & OF_A_CELL)
        if idle:
            raise SpecError(
                f"--columns: {idle[0]} is of a whole cell, and query makes each row one answer. "
                "Leave one of them out."
            )
    elif named & OF_A_QUERY:
        key = sorted(named & OF_A_QUERY)[0]
        raise SpecError(
            f"--columns: {key} is of one answer, and without query=COLUMN each row is a whole "
            "cell. Name the column of the queries' ids."
        )
    if "right" in named and "n" not in named:
        raise SpecError("--columns: right needs n, the number of queries. Name n=COLUMN.")
    needed = {"input": "target", "target": "parsed"}
    for key, other in needed.items():
        if key in named and other not in named:
            raise SpecError(
                f"--columns: {key} needs {other}, as metrics compare what was read with the gold "
                f"answer. Name {other}=COLUMN, or leave {key} out."
            )
