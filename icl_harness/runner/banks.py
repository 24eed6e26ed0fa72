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
from icl_harness.prompts.variants import Variant, parse_variant
from icl_harness.runner.attempts import make_bank
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.line import Line
from icl_harness.runner.shown_attempts import (
    GOLD,
    PSEUDO,
    SHOWN,
    gold_bank,
    n_to_show,
    others_bank,
    shown_bank,
    why_nothing,
)
from icl_harness.store.bank import (
    BANKS,
    Attempt,
    Bank,
    Rules,
    bank_file,
    bank_files,
    partial_file,
    read_attempts,
    read_bank,
    write_bank,
)
from icl_harness.store.header import RUN_FILE, read_header
from icl_harness.tasks.row_files import task_name


def bank_name(line: Line) -> str:
    """Return the file name of a line's bank, which depends on a variant's labels alone; a
    `per_draw` task has one for each draw.
    """
    line = line.for_bank
    draw = line.draw if line.task.per_draw else None
    return file_name(line.task.name, line.variant, draw, line.model)


def file_name(task: str, variant: str, draw: int | None, model: str) -> str:
    """Return the file name of a bank; `draw` is that of a task that is generated for each."""
    return f"{_stem(task, variant, draw)}--{_plain(model)}-{_digest(model)}.jsonl"


def bank_owner(task: str, variant: str) -> tuple[str, str]:
    """Return the task and the variant whose bank serves the cells of these (`Line.for_bank`)."""
    changes = parse_variant(variant)
    if changes.frame.pool:
        return task_name(changes.frame.pool), changes.labels
    steps = [step for step in changes.steps if step.operator.of_attempts]
    return task, str(Variant(labels=changes.labels, steps=tuple(steps)))


def solved(folder: Path, task: str, variant: str, model: str) -> tuple[int, int]:
    """Return how many problems of a run's banks for these cells can be shown, as they are solved or
    as the variant says, and how many were tried.
    """
    owner, words = bank_owner(task, variant)
    files = bank_files(folder, f"bank-{_plain(owner)}-{_words(words)}-*-{_digest(model)}.jsonl")
    rules, which = rules_of_run(folder), parse_variant(variant).rationale
    banks = [read_bank(file, rules) for file in files]
    n_shown = sum(n_to_show(bank, which, rules) for bank in banks)
    return n_shown, sum(bank.n_problems for bank in banks)


def rules_of_run(folder: Path) -> Rules:
    """Return which attempts a run keeps."""
    header = read_header(folder) or {}
    return Rules.of(header.get("spec", {}))


def check_banks(experiment: Experiment, folder: Path) -> None:
    """Raise `StoreError` or `DataError` where `--bank` does not fit a line, before anything is
    asked or written.
    """
    for line in experiment.lines():
        if line.needs_bank and experiment.spec.bank:
            _taken_bank(experiment, line)
        source = parse_variant(line.variant).rationale
        if source is not None and source not in SHOWN:
            _others(experiment, line, source, _copy_of(folder, line, source))


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
    bank = _own_bank(experiment, folder, line)
    if bank is None:
        bank = await make_bank(experiment, line.for_bank, model, path, count, check)
    elif not path.exists():
        write_bank(path, bank)
    return _shown(experiment, folder, line, bank, writes=True)


def _refuse_empty(experiment: Experiment, line: Line, bank: Bank, path: Path) -> None:
    """Raise `DataError` where shots are asked for and no attempt earned the reward."""
    if bank.n_solved or not max(experiment.spec.shots):
        return
    task = line.for_bank.task
    reward = task.reward or task.scorer
    name = getattr(reward, "__name__", type(reward).__name__)
    best = max(bank.attempts, key=lambda attempt: attempt.reward)
    answer = "no answer" if best.answer is None else shown(best.answer)
    rules, remedies = experiment.spec.bank_rules, []
    n_right = sum(map(rules.is_right, bank.attempts))
    earned = f"earned a reward of {rules.threshold:g}"
    if rules.agree > 1 and n_right:
        earned = f"is one of {rules.agree} at a problem that {earned}"
        remedies.append("lower --bank-agree")
    elif best.reward > 0:
        remedies.append("lower --bank-threshold")
    remedies.append("give the task a `reward` that returns 1 for what is good enough")
    if not experiment.spec.bank:
        remedies.append("raise --bank-samples")
    raise DataError(
        f"the bank of {line} is empty: none of {n_of(len(bank.attempts), 'attempt')} at "
        f"{n_of(bank.n_problems, 'problem')} {earned} from {name}, "
        f"the best {best.reward:.3g} (problem {best.id}: {answer}). Without solved problems there "
        f"are no shots: {', or '.join(remedies)}, and choose another --out, as a finished bank "
        f"never changes. All attempts are in {path}."
    )


def known_bank(experiment: Experiment, folder: Path, line: Line) -> Bank | None:
    """Return the bank of a line, with what it shows of it, that need not be made: the run's own, or
    the one that `--bank` names.
    """
    bank = _own_bank(experiment, folder, line)
    return None if bank is None else _shown(experiment, folder, line, bank)


def _own_bank(experiment: Experiment, folder: Path, line: Line) -> Bank | None:
    path = bank_file(folder, bank_name(line))
    if path.exists():
        return read_bank(path, experiment.spec.bank_rules)
    return _taken_bank(experiment, line) if experiment.spec.bank else None


def _shown(
    experiment: Experiment, folder: Path, line: Line, bank: Bank, *, writes: bool = False
) -> Bank:
    """Return a bank in which what a line shows is kept. Raises `DataError` where that is nothing.

    `writes`: the run keeps a copy of another's bank, so that it can go on without the other.
    """
    which = parse_variant(line.variant).rationale
    if which != PSEUDO:  # which needs no right answer
        _refuse_empty(experiment, line, bank, bank_file(folder, bank_name(line)))
    if which is None or line.mode != "reinforced":
        return bank
    rules = experiment.spec.bank_rules
    if which == GOLD:
        found = gold_bank(bank, rules, experiment.gold_answers(line.for_bank))
    elif which in SHOWN:
        found = shown_bank(bank, which, rules)
    else:
        path = _copy_of(folder, line, which)
        others = _others(experiment, line, which, path)
        if writes and not path.exists():
            write_bank(path, others)
        found = others_bank(bank, rules, others)
    if not found.n_shots and max(experiment.spec.shots):
        raise DataError(
            f"{line}: there is nothing to show, as {why_nothing(which)}. Raise --bank-samples or "
            "--bank-temperature in a run of its own, or leave this variant out."
        )
    return found


def _others(experiment: Experiment, line: Line, source: str, copy: Path) -> Bank:
    """Return the bank of another run that a variant names, or the copy of it."""
    if copy.exists():
        return read_bank(copy, experiment.spec.bank_rules)
    names = ", ".join(SHOWN)
    return _bank_at(experiment, line, source, f"variant {line.variant} (or one of {names})")


def _copy_of(folder: Path, line: Line, source: str) -> Path:
    return folder / BANKS / f"other-{_digest(source)}-{bank_name(line)}"


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
    source = experiment.spec.bank or ""
    bank = _bank_at(experiment, line, source, f"--bank {source}")
    _refuse_empty(experiment, line, bank, Path(source))
    return bank


def _bank_at(experiment: Experiment, line: Line, source: str, asked: str) -> Bank:
    """Return the bank that lies at `source`, which was `asked` for, checked to be of the same
    problems.
    """
    line = line.for_bank
    file = _find_bank(Path(source), line, asked)
    bank = read_bank(file, experiment.spec.bank_rules)
    bank.check_problems(experiment.dataset(line.task, line.variant, line.draw).pool, str(file))
    return bank


def _find_bank(source: Path, line: Line, asked: str) -> Path:
    """Return the bank file: `source` itself, or in a run folder the one of this line; if need be
    another model's.
    """
    if source.is_file():
        return source
    same = bank_file(source, bank_name(line))
    others = bank_files(source, f"{_stem_of(line)}--*.jsonl")
    if same.is_file():
        return same
    if len(others) == 1:
        return others[0]
    raise StoreError(f"{asked}: {_what_is_there(source, line, others)}")


def _what_is_there(source: Path, line: Line, others: Sequence[Path]) -> str:
    """Return why a place that --bank names has no bank of a line."""
    if not source.exists():
        return "there is no such folder or file. Name the folder of a run with reinforced mode."
    wanted = f"no bank of {line} by {line.model} there"
    if others:
        names = ", ".join(str(other) for other in others[:3])
        return f"{wanted}: it holds those of {len(others)} other models; name one file: {names}."
    if line.task.per_draw:
        stem = _stem_of(line).removesuffix(f"draw{line.draw}")
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


def _stem_of(line: Line) -> str:
    line = line.for_bank
    draw = line.draw if line.task.per_draw else None
    return _stem(line.task.name, line.variant, draw)


def _stem(task: str, variant: str, draw: int | None) -> str:
    parts = ["bank", _plain(task), _words(variant)]
    if draw is not None:
        parts.append(f"draw{draw}")
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
