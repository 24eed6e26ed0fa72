"""The banks of a run as their reader sees them: attempts, and how hard the shown problems are.

In: a run folder, finished or not. Out: its banks, those in the making too; rows of their attempts;
for each cell the mean solve rate of the problems that its shots show, beside the pool's.

The solve rate of a problem is the share of right ones among its attempts of the first iteration,
which show no shots, or those of `--bank-shots`. Shots that were picked because the model solves
their problems are easier than the pool is: how much, says the difference.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product, starmap
from pathlib import Path
from statistics import fmean
from typing import Any

from icl_harness.runner.banks import bank_owner, file_name, rules_of_run
from icl_harness.runner.shown_attempts import PSEUDO, shown_bank
from icl_harness.runner.spec import Spec
from icl_harness.store.bank import (
    Attempt,
    Bank,
    Rules,
    bank_file,
    mark_kept,
    partial_file,
    read_attempts,
    read_bank,
)
from icl_harness.store.records import RunStore

USUAL_PROMPTS = int(Spec.model_fields["bank_prompts"].default)
ATTEMPT_COLUMNS = (
    "task", "model", "variant", "draw", "problem", "iteration", "sample", "n_shots", "reward",
    "right", "kept", "parsed", "answer", "error", "cut", "solve_rate", "prompt_tokens",
    "completion_tokens", "cost_usd", "node_hash",
)  # fmt: skip
SHIFT_COLUMNS = (
    "task", "model", "mode", "variant", "shots", "draw", "solve_rate", "pool_solve_rate", "shift",
    "n_answers", "n_unrated",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunBank:
    """A bank of a run. `variant`: what the cells that it serves have in common; `draw`: of a task
    that is generated for each; `is_whole`: it is finished.
    """

    task: str
    model: str
    variant: str
    draw: int | None
    bank: Bank
    rules: Rules
    is_whole: bool

    @cached_property
    def solve_rates(self) -> dict[str, float]:
        """Return the share of right attempts at each problem, in the first iteration."""
        found: defaultdict[str, list[bool]] = defaultdict(list)
        for attempt in self.bank.attempts:
            if attempt.iteration == 1 and attempt.error is None and not attempt.failed:
                found[attempt.id].append(self.rules.is_right(attempt))
        return {problem: fmean(right) for problem, right in found.items()}

    @property
    def pool_rate(self) -> float:
        """Return the mean solve rate of the problems that were tried."""
        return fmean(self.solve_rates.values()) if self.solve_rates else float("nan")


def run_banks(folder: Path, header: Mapping[str, Any]) -> list[RunBank]:
    """Return the banks of a run, in the order of its grid."""
    rules, spec = rules_of_run(folder), header["spec"]
    owners = dict.fromkeys(starmap(bank_owner, product(header["tasks"], spec.get("variants", ()))))
    found = []
    models, draws = spec.get("models", ()), (None, *range(int(spec.get("draws", 0))))
    for model, (task, variant), draw in product(models, owners, draws):
        path = bank_file(folder, file_name(task, variant, draw, model))
        bank = _read(path, rules)
        if bank is not None:
            one = RunBank(
                task=task,
                model=model,
                variant=variant,
                draw=draw,
                bank=bank,
                rules=rules,
                is_whole=path.exists(),
            )
            found.append(one)
    return found


def _read(path: Path, rules: Rules) -> Bank | None:
    if path.exists():
        return read_bank(path, rules)
    left = read_attempts(partial_file(path))
    return mark_kept(left, rules) if left else None


def attempt_rows(banks: Sequence[RunBank]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of `ATTEMPT_COLUMNS` of all attempts."""
    for one in banks:
        for attempt in one.bank.attempts:
            yield (
                one.task,
                one.model,
                one.variant,
                one.draw,
                attempt.id,
                attempt.iteration,
                attempt.sample,
                attempt.n_shots if attempt.iteration > 1 else None,
                attempt.reward,
                one.rules.is_right(attempt),
                attempt.kept,
                attempt.parsed,
                attempt.answer,
                attempt.error,
                attempt.cut,
                one.solve_rates.get(attempt.id),
                attempt.prompt_tokens,
                attempt.completion_tokens,
                attempt.cost_usd,
                attempt.node,
            )


def shift_rows(folder: Path, banks: Sequence[RunBank]) -> list[tuple[Any, ...]]:
    """Return the values of `SHIFT_COLUMNS` of each cell with shots whose task has a bank.

    The solve rate is the mean over the shots of a prompt, and over the answers where each query has
    shots of its own; `n_unrated` shots show problems that were not attempted, and are left out.
    """
    by_key = {(one.model, one.task, one.variant, one.draw): one for one in banks}
    sums: dict[tuple[Any, ...], list[float]] = {}
    with contextlib.closing(RunStore.open(folder)) as store:
        for cell, shots, n_answers in store.shot_sets():
            key = (cell.model, *bank_owner(cell.task, cell.variant))
            one = by_key.get((*key, None)) or by_key.get((*key, cell.draw))
            if one is None:
                continue
            rates = [one.solve_rates.get(problem_of(id, one.solve_rates)) for id in shots]
            known = [rate for rate in rates if rate is not None]
            where = (cell.task, cell.model, cell.mode, cell.variant, cell.shots, cell.draw)
            row = sums.setdefault((*where, one.pool_rate), [0.0, 0.0, 0.0])
            row[0] += n_answers * fmean(known) if known else 0.0
            row[1] += n_answers if known else 0
            row[2] += len(rates) - len(known)
    return [_shift(key, *values) for key, values in sums.items()]


def _shift(key: tuple[Any, ...], total: float, n: float, n_unrated: float) -> tuple[Any, ...]:
    *where, pool = key
    rate = total / n if n else float("nan")
    return (*where, rate, pool, rate - pool, int(n), int(n_unrated))


def majority(one: RunBank) -> tuple[int, int]:
    """Return how many problems have an answer that can be read, and at how many of them that which
    most attempts give is right.
    """
    found = shown_bank(one.bank, PSEUDO, one.rules)
    right = [one.rules.is_right(attempt) for attempt in found.attempts if attempt.kept]
    return len(right), sum(right)


def problem_of(shot: str, problems: Mapping[str, Any]) -> str:
    """Return the problem of a shot, whose further rationales have #2, #3, … behind its id."""
    return shot if shot in problems else shot.rpartition("#")[0]


def attempts_at(one: RunBank, problem: str) -> list[Attempt]:
    """Return the attempts at a problem, in order of sample."""
    return [attempt for attempt in one.bank.attempts if attempt.id == problem]


@dataclass(frozen=True, kw_only=True)
class TriedPrompts:
    """How the prompts of a later iteration fared: each attempted `n_problems` problems once, of
    which it solved `n_right`; the `best`, from 0, made `n_others` attempts more.
    """

    iteration: int
    n_shots: int
    n_problems: int
    n_right: tuple[int, ...]
    best: int
    n_others: int


def tried_prompts(one: RunBank, spec: Mapping[str, Any]) -> Iterator[TriedPrompts]:
    """Yield what came of the prompts of each later iteration, once all were tried."""
    n_tried = int(spec.get("bank_prompts", USUAL_PROMPTS))
    for iteration in range(2, int(spec.get("bank_iterations", 1)) + 1):
        attempts = [a for a in one.bank.attempts if a.iteration == iteration]
        samples = sorted({attempt.sample for attempt in attempts})[:n_tried]
        if len(samples) < n_tried:
            return
        n_of = Counter(attempt.sample for attempt in attempts)
        right = Counter(attempt.sample for attempt in attempts if one.rules.is_right(attempt))
        n_right = tuple(right[sample] for sample in samples)
        yield TriedPrompts(
            iteration=iteration,
            n_shots=max(attempt.n_shots for attempt in attempts),
            n_problems=n_of[samples[0]],
            n_right=n_right,
            best=n_right.index(max(n_right)),
            n_others=len(attempts) - sum(n_of[sample] for sample in samples),
        )
