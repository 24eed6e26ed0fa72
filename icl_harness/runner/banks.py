"""The bank of a line: its file, whose it is, and where another run's serves.

In: a line of an experiment. Out: its bank, the run's own or the one that `--bank` names. Once
finished a bank never changes, as the shots of cells come from it. Left out: making one
(attempts.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from icl_harness.errors import StoreError
from icl_harness.models.base import Model
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.attempts import make_bank
from icl_harness.runner.experiment import Experiment, Line
from icl_harness.store.bank import (
    Attempt,
    Bank,
    bank_file,
    bank_files,
    partial_file,
    read_attempts,
    read_bank,
    write_bank,
)


def bank_name(line: Line) -> str:
    """Return the file name of a line's bank, which depends on a variant's labels alone; a
    `per_draw` task has one for each draw.
    """
    return f"{_stem(line)}--{_plain(line.model)}-{_digest(line.model)}.jsonl"


def solved(folder: Path, task: str, variant: str, model: str) -> tuple[int, int]:
    """Return how many problems of a run's banks for these cells are solved, and how many were
    tried.
    """
    labels = _plain(parse_variant(variant).labels)
    files = bank_files(folder, f"bank-{_plain(task)}-{labels}-*-{_digest(model)}.jsonl")
    banks = [read_bank(file) for file in files]
    return sum(bank.n_solved for bank in banks), sum(bank.n_problems for bank in banks)


def check_banks(experiment: Experiment) -> None:
    """Raise `StoreError` or `DataError` where `--bank` does not fit a line, before anything is
    asked or written.
    """
    for line in experiment.lines():
        if line.needs_bank and experiment.spec.bank:
            _taken_bank(experiment, line)


async def obtain_bank(
    experiment: Experiment,
    folder: Path,
    line: Line,
    model: Model,
    count: Callable[..., None],
    check: Callable[[], None] = lambda: None,
) -> Bank:
    """Return the bank of a line: the run's own, the one that `--bank` names, or a new one of
    `model`'s attempts.

    `count` is given its requests (`unforeseen`, `queries`, `doing`); `check` is called before each
    write. Raises `ProviderError` where some failed.
    """
    path = bank_file(folder, bank_name(line))
    bank = known_bank(experiment, folder, line)
    if bank is None:
        return await make_bank(experiment, line, model, path, count, check)
    if not path.exists():
        write_bank(path, bank)
    return bank


def known_bank(experiment: Experiment, folder: Path, line: Line) -> Bank | None:
    """Return the bank of a line that need not be made: the run's own, or the one that `--bank`
    names.
    """
    path = bank_file(folder, bank_name(line))
    if path.exists():
        return read_bank(path)
    return _taken_bank(experiment, line) if experiment.spec.bank else None


def left_attempts(folder: Path, line: Line) -> list[Attempt]:
    """Return the attempts of a line's bank whose making was stopped."""
    return read_attempts(partial_file(bank_file(folder, bank_name(line))))


def bank_usd(experiment: Experiment, folder: Path) -> float:
    """Return what a run has paid for its banks so far, those in the making too; another run's cost
    it nothing.
    """
    if experiment.spec.bank:
        return 0.0
    attempts: list[Attempt] = []
    for file in bank_files(folder):
        attempts += read_bank(file).attempts
    for file in bank_files(folder, "bank-*.partial"):
        attempts += read_attempts(file)
    return sum(attempt.cost_usd or 0.0 for attempt in attempts)


def _taken_bank(experiment: Experiment, line: Line) -> Bank:
    source = _find_bank(Path(experiment.spec.bank or ""), line)
    bank = read_bank(source)
    bank.check_problems(experiment.dataset(line.task, line.variant, line.draw).pool, str(source))
    return bank


def _find_bank(source: Path, line: Line) -> Path:
    """Return the bank file: `source` itself, or in a run folder the one of this line; if need be
    another model's.
    """
    if source.is_file():
        return source
    same = bank_file(source, bank_name(line))
    others = bank_files(source, f"{_stem(line)}--*.jsonl")
    if same.is_file():
        return same
    if len(others) == 1:
        return others[0]
    found = "it holds none"
    if others:
        found = f"it holds {len(others)} banks of other models; name one of the files"
    raise StoreError(f"--bank {source}: no bank of {line} by {line.model} there: {found}.")


def _stem(line: Line) -> str:
    labels = parse_variant(line.variant).labels
    parts = ["bank", _plain(line.task.name), _plain(labels)]
    if line.task.per_draw:
        parts.append(f"draw{line.draw}")
    return "-".join(parts)


def _digest(model: str) -> str:
    # x/a-b and x/a_b look the same in a file name
    return hashlib.sha256(model.encode()).hexdigest()[:6]


def _plain(name: str) -> str:
    return re.sub(r"[^\w.]+", "_", name)
