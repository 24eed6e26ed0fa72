"""Solutions of a run as rows for a verifier: each with its problem, and whether it is right.

In: a run folder. Out: rows. The attempts of its banks, at problems of the pool, are what shots are
drawn from; its answers to the queries of one cell are what is asked. Failed requests are no
solutions; answers that could not be parsed are wrong ones. Left out: writing files.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_harness.errors import SpecError, StoreError
from icl_harness.examples import Example
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.banks import bank_name
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.line import Line
from icl_harness.runner.rescoring import experiment_of
from icl_harness.store.bank import PASSING_REWARD, Bank, bank_file, bank_files, read_bank
from icl_harness.store.record_rows import COLUMNS
from icl_harness.store.records import CELL, RunStore
from icl_harness.tasks.holdout import held_out

Rows = list[dict[str, Any]]
OF_LINES = ("task", "model", "variant", "draw")  # what may choose a bank


@dataclass(frozen=True)
class Solutions:
    """Rows for pool and queries; either may be empty."""

    pool: Rows
    queries: Rows


def solutions_of(
    folder: Path, wanted: Mapping[str, Any], n_held_out: int | None = None
) -> Solutions:
    """Return the solutions that a run holds; `wanted` chooses among its cells by the fields of
    `Cell`. With `n_held_out` so many problems of the bank are the queries. Raises `SpecError` where
    several cells or banks are left, `StoreError` where there is neither.
    """
    if "variant" in wanted:
        wanted = {**wanted, "variant": str(parse_variant(wanted["variant"]))}
    with contextlib.closing(RunStore.open(folder)) as store:
        header = store.header
        answers = [] if n_held_out is not None else _answers(store, folder, wanted)
    pool = _attempts(folder, header, wanted) if bank_files(folder) else []
    if not pool and (n_held_out is not None or not answers):
        raise StoreError(f"{folder} holds no solutions: no bank, and no answer that was asked for.")
    if n_held_out is None:
        return Solutions(pool, answers)
    return _split(pool, n_held_out, folder)


def _answers(store: RunStore, folder: Path, wanted: Mapping[str, Any]) -> Rows:
    """Return the answers of one cell."""
    cells: defaultdict[tuple[Any, ...], Rows] = defaultdict(list)
    for values in store.rows():
        record = dict(zip(COLUMNS, values, strict=True))
        cell = tuple(record[name] for name in CELL)
        if all(record[name] == value for name, value in wanted.items()):
            of_cell = cells[cell]
            if record["status"] == "ok" and record["answer"] is not None:
                of_cell.append(
                    _row(
                        record["query_id"],
                        record["sample"],
                        record["input"],
                        record["answer"],
                        right=(record["score"] or 0.0) >= PASSING_REWARD,
                    )
                )
    found = list(cells.values())
    if any(rows != found[0] for rows in found[1:]):  # zero-shot answers are the same in all draws
        raise SpecError(f"{folder} holds answers of {_several('cells', CELL, list(cells))}")
    return found[0] if found else []


def _attempts(folder: Path, header: Mapping[str, Any], wanted: Mapping[str, Any]) -> Rows:
    """Return the attempts of one bank, with the problems of the task's pool."""
    experiment = experiment_of(header)
    lines: dict[Path, Line] = {}
    for line in experiment.lines():
        file = bank_file(folder, bank_name(line))
        if _is_wanted(line, wanted) and file.exists():
            lines.setdefault(file, line)
    if len(lines) > 1:
        keys = [(one.task.name, one.model, one.variant, one.draw) for one in lines.values()]
        raise SpecError(f"{folder} holds {_several('banks', OF_LINES, keys)}")
    for file, line in lines.items():
        return _rows_of(experiment, line, read_bank(file), file)
    return []


def _rows_of(experiment: Experiment, line: Line, bank: Bank, file: Path) -> Rows:
    pool = experiment.dataset(line.task, line.variant, line.draw).pool
    bank.check_problems(pool, str(file))
    problems: dict[str, Example] = {example.id: example for example in pool}
    rows = []
    for attempt in bank.attempts:
        if attempt.answer is not None and attempt.id in problems:
            problem, right = problems[attempt.id].input, attempt.reward >= PASSING_REWARD
            rows.append(_row(attempt.id, attempt.sample, problem, attempt.answer, right=right))
    return rows


def _row(
    problem_id: str, sample: int, problem: str, solution: str, *, right: bool
) -> dict[str, Any]:
    return {
        "id": f"{problem_id}/{sample}",
        "problem_id": problem_id,
        "problem": problem,
        "solution": solution.strip(),
        "correct": right,
    }


def _is_wanted(line: Line, wanted: Mapping[str, Any]) -> bool:
    """Return whether a bank may be of the cells that are wanted: one of a fixed pool serves all
    draws, one of a label set all variants that show it.
    """
    labels = parse_variant(wanted.get("variant", line.variant)).labels
    return (
        wanted.get("task", line.task.name) == line.task.name
        and wanted.get("model", line.model) == line.model
        and labels == parse_variant(line.variant).labels
        and (not line.task.per_draw or wanted.get("draw", line.draw) == line.draw)
    )


def _several(what: str, names: Sequence[str], keys: Sequence[tuple[Any, ...]]) -> str:
    """Return what to say where one of several is to be chosen: by which options, of what values."""
    choices = []
    for name, values in zip(names, zip(*keys, strict=True), strict=True):
        found = list(dict.fromkeys(values))
        if len(found) > 1:
            choices.append(f"--{name} ({_few(found)})")
    return f"{len(keys)} {what}: choose one by {', '.join(choices)}."


def _few(values: Iterable[Any]) -> str:
    texts = list(map(str, values))
    return ", ".join(texts[:5]) + (", …" if len(texts) > 5 else "")


def _split(rows: Rows, n_held_out: int, folder: Path) -> Solutions:
    """Return the rows with some problems as queries, the same ones every time."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    if not 0 < n_held_out < len(problems):
        raise SpecError(
            f"the bank of {folder} holds attempts at {len(problems):,} problems; --queries holds "
            f"out {n_held_out:,}: it takes 1 to {len(problems) - 1:,}."
        )
    _, places = held_out(problems, n_held_out)
    asked = {problems[place] for place in places}
    pool = [row for row in rows if row["problem"] not in asked]
    return Solutions(pool, [row for row in rows if row["problem"] in asked])
