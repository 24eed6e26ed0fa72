"""The bank of a line: its file, whose it is, and where another run's serves.

In: a line of an experiment. Out: its bank, the run's own or the one that `--bank` names. Once
finished a bank never changes, as the shots of cells come from it. Left out: making one
(attempts.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from icl_harness.counts import n_of
from icl_harness.errors import DataError, StoreError
from icl_harness.examples import shown
from icl_harness.models.base import Model
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.attempts import make_bank
from icl_harness.runner.experiment import Experiment, Line
from icl_harness.store.bank import (
    PASSING_REWARD,
    Attempt,
    Bank,
    bank_file,
    bank_files,
    partial_file,
    read_attempts,
    read_bank,
    write_bank,
)
from icl_harness.store.header import RUN_FILE
from icl_harness.tasks.row_files import task_name


def bank_name(line: Line) -> str:
    """Return the file name of a line's bank, which depends on a variant's labels alone; a
    `per_draw` task has one for each draw.
    """
    line = line.for_bank
    return f"{_stem(line)}--{_plain(line.model)}-{_digest(line.model)}.jsonl"


def solved(folder: Path, task: str, variant: str, model: str) -> tuple[int, int]:
    """Return how many problems of a run's banks for these cells are solved, and how many were
    tried.
    """
    pool = parse_variant(variant).frame.pool
    words = _plain(parse_variant(variant).labels) if pool else _words(variant)
    task = task_name(pool) if pool else task
    files = bank_files(folder, f"bank-{_plain(task)}-{words}-*-{_digest(model)}.jsonl")
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
        bank = await make_bank(experiment, line.for_bank, model, path, count, check)
    elif not path.exists():
        write_bank(path, bank)
    _refuse_empty(experiment, line, bank, path)
    return bank


def _refuse_empty(experiment: Experiment, line: Line, bank: Bank, path: Path) -> None:
    """Raise `DataError` where shots are asked for and no attempt earned the reward."""
    if bank.n_solved or not max(experiment.spec.shots):
        return
    task = line.for_bank.task
    reward = task.reward or task.scorer
    name = getattr(reward, "__name__", type(reward).__name__)
    best = max(bank.attempts, key=lambda attempt: attempt.reward)
    answer = "no answer" if best.answer is None else shown(best.answer)
    raise DataError(
        f"the bank of {line} is empty: none of {n_of(len(bank.attempts), 'attempt')} at "
        f"{n_of(bank.n_problems, 'problem')} earned a reward of {PASSING_REWARD:g} from {name}, "
        f"the best {best.reward:.3g} (problem {best.id}: {answer}). Without solved problems there "
        "are no shots: give the task a `reward` that returns 1 for what is good enough, or raise "
        "--bank-samples, and choose another --out, as a finished bank never changes. All attempts "
        f"are in {path}."
    )


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
    return 0.0 if experiment.spec.bank else banks_usd(folder)


def banks_usd(folder: Path) -> float:
    """Return what the attempts in a folder's banks cost."""
    attempts: list[Attempt] = []
    for file in bank_files(folder):
        attempts += read_bank(file).attempts
    for file in bank_files(folder, "bank-*.partial"):
        attempts += read_attempts(file)
    return sum(attempt.cost_usd or 0.0 for attempt in attempts)


def _taken_bank(experiment: Experiment, line: Line) -> Bank:
    line = line.for_bank
    source = _find_bank(Path(experiment.spec.bank or ""), line)
    bank = read_bank(source)
    bank.check_problems(experiment.dataset(line.task, line.variant, line.draw).pool, str(source))
    _refuse_empty(experiment, line, bank, source)
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
    raise StoreError(f"--bank {source}: {_what_is_there(source, line, others)}")


def _what_is_there(source: Path, line: Line, others: Sequence[Path]) -> str:
    """Return why a place that --bank names has no bank of a line."""
    if not source.exists():
        return "there is no such folder or file. Name the folder of a run with reinforced mode."
    wanted = f"no bank of {line} by {line.model} there"
    if others:
        names = ", ".join(str(other) for other in others[:3])
        return f"{wanted}: it holds those of {len(others)} other models; name one file: {names}."
    if line.task.per_draw:
        stem = _stem(line).removesuffix(f"draw{line.draw}")
        draws = set()
        for file in bank_files(source, f"{stem}draw*--*.jsonl"):
            draws.add(int(file.name.removeprefix(f"{stem}draw").partition("--")[0]))
        if draws:
            there = ", ".join(map(str, sorted(draws)))
            return (
                f"{wanted}: it holds those of draws {there}, and draw {line.draw} is another pool. "
                f"Ask for at most {_draws_from_0(draws)} draws, or take a run with more."
            )
    if not (source / RUN_FILE).exists():
        return f"{wanted}: it is no run folder. Name that of a run with reinforced mode."
    holds = sorted(file.name for file in bank_files(source))
    return f"{wanted}: it holds {', '.join(holds[:3]) if holds else 'no bank at all'}."


def _draws_from_0(draws: Collection[int]) -> int:
    """Return how many draws there are before one is lacking."""
    return next(draw for draw in range(len(draws) + 1) if draw not in draws)


def _stem(line: Line) -> str:
    parts = ["bank", _plain(line.task.name), _words(line.variant)]
    if line.task.per_draw:
        parts.append(f"draw{line.draw}")
    return "-".join(parts)


def _words(variant: str) -> str:
    """Return what a bank's name says of a variant: its labels, and the wording if it names one."""
    changes = parse_variant(variant)
    return ".".join(_plain(name) for name in (changes.labels, changes.frame.prompts) if name)


def _digest(model: str) -> str:
    # x/a-b and x/a_b look the same in a file name
    return hashlib.sha256(model.encode()).hexdigest()[:6]


def _plain(name: str) -> str:
    return re.sub(r"[^\w.]+", "_", name)
