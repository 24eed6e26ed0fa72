"""What `icl bank` prints and writes: banks by iteration, some of their problems, the solve rates of
the problems that shots show.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from icl_harness.analysis.curves import write_csv
from icl_harness.cli.terminal import add_row, new_table, print_tables, tell
from icl_harness.counts import agree, n_of
from icl_harness.errors import SpecError, nearest
from icl_harness.report.banks import (
    ATTEMPT_COLUMNS,
    SHIFT_COLUMNS,
    RunBank,
    attempt_rows,
    attempts_at,
    majority,
    shift_rows,
    tried_prompts,
)
from icl_harness.store.bank import Attempt

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

LONGEST = 50  # letters of an answer among the examples
HEADING = (
    "iteration", "problems", "attempts", "right", "reward", "solved", "unparsed", "cut", "refused",
)  # fmt: skip


def print_banks(
    folder: Path, banks: Sequence[RunBank], spec: dict[str, Any], n_examples: int
) -> None:
    """Print the banks of a run, with some of their problems, and what its shots show."""
    for group in _groups(banks):
        _print_group(group, spec, n_examples)
    frame = _frame(SHIFT_COLUMNS, shift_rows(folder, banks))
    print_tables(_shift_tables(frame, int(spec.get("bank_shots", 0))))
    if len(frame):
        tell("shift: mean solve rate of the problems shown, less the pool's [lowest, highest draw]")


def write_attempts(banks: Sequence[RunBank], file: Path) -> None:
    """Write all attempts of banks as CSV; `-` is standard output."""
    _write(_frame(ATTEMPT_COLUMNS, attempt_rows(banks)), file)


def write_shifts(folder: Path, banks: Sequence[RunBank], file: Path) -> None:
    """Write the solve rates of the shots of all cells as CSV; `-` is standard output."""
    _write(_frame(SHIFT_COLUMNS, shift_rows(folder, banks)), file)


def _frame(columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame.from_records(list(rows), columns=list(columns))


def _write(frame: pd.DataFrame, file: Path) -> None:
    write_csv(frame, sys.stdout if str(file) == "-" else file)


def _groups(banks: Sequence[RunBank]) -> Iterator[list[RunBank]]:
    """Yield banks that differ in their draw alone together."""
    for _, group in groupby(banks, key=lambda one: (one.model, one.task, one.variant)):
        yield list(group)


def _print_group(group: Sequence[RunBank], spec: dict[str, Any], n_examples: int) -> None:
    print_tables([_iterations(group)])
    for line in (*_about(group), *_tried(group, spec), *_examples(group[0], n_examples)):
        tell(line)
    tell("")


def _title(one: RunBank) -> str:
    variant = "" if one.variant == "default" else f", {one.variant}"
    return f"{one.task}{variant} · {one.model}"


def _iterations(group: Sequence[RunBank]) -> Table:
    """Return what the attempts of each iteration came to."""
    attempts: list[tuple[RunBank, Attempt]] = []
    for one in group:
        attempts += [(one, attempt) for attempt in one.bank.attempts if not attempt.failed]
    title = _title(group[0])
    if group[0].draw is not None:
        title += f", one bank a draw, {len(group)} draws"
    table = new_table(title, heading=HEADING, right=range(len(HEADING)))
    numbers = sorted({attempt.iteration for _, attempt in attempts})
    for number in numbers:
        some = [pair for pair in attempts if pair[1].iteration == number]
        add_row(table, str(number), *_counts(some))
    if len(numbers) > 1:
        add_row(table, "all", *_counts(attempts), style="bold")
    return table


def _counts(attempts: Sequence[tuple[RunBank, Attempt]]) -> list[str]:
    answered = [(one, attempt) for one, attempt in attempts if attempt.error is None]
    right = [one.rules.is_right(attempt) for one, attempt in answered]
    solved = {(one.draw, attempt.id) for one, attempt in attempts if attempt.kept}
    numbers = [
        len({(one.draw, attempt.id) for one, attempt in attempts}),
        len(attempts),
        _share(right),
        _share([attempt.reward for _, attempt in answered]),
        len(solved),
        sum(attempt.parsed is None for _, attempt in answered),
        sum(attempt.cut for _, attempt in answered),
        len(attempts) - len(answered),
    ]
    return [number if isinstance(number, str) else f"{number:,}" for number in numbers]


def _share(values: Sequence[float]) -> str:
    return _number(fmean(values)) if values else "-"


def _about(group: Sequence[RunBank]) -> Iterator[str]:
    """Yield how far banks are, what is kept of them and what they cost."""
    n_made = sum(not one.is_whole for one in group)
    if n_made:
        yield (
            f"{n_of(n_made, 'bank')} of {len(group)} in the making; the same icl run goes on with "
            f"{agree(n_made, 'it', 'them')}"
        )
    n_shots = [one.bank.n_shots for one in group]
    n_solved = [one.bank.n_solved for one in group]
    n_tried = sum(one.bank.n_problems for one in group)
    kept = f"kept: {n_of(sum(n_shots), 'rationale')} of {sum(n_solved):,} of {n_tried:,} problems"
    most = f"{min(n_shots):,} to {max(n_shots):,}" if len(set(n_shots)) > 1 else f"{n_shots[0]:,}"
    yield f"{kept}; a prompt can show {most}"
    rules = group[0].rules
    if rules.threshold < 1 or rules.agree > 1 or rules.keep > 1:
        yield (
            f"rules: a reward of {rules.threshold:g} is right; at least {rules.agree} right of an "
            f"iteration; at most {rules.keep} kept of a problem"
        )
    n_read, n_right = map(sum, zip(*map(majority, group), strict=True))
    if n_read:
        yield f"the majority of attempts is right at {n_right:,} of {n_read:,} problems"
    costs = [one.bank.cost_usd for one in group]
    known = [cost for cost in costs if cost is not None]
    if known and sum(known):
        yield f"cost: ${sum(known):,.2f}" + ("" if len(known) == len(costs) else " or more")


def _tried(group: Sequence[RunBank], spec: dict[str, Any]) -> Iterator[str]:
    """Yield how the prompts of later iterations fared, of a bank that serves all draws."""
    if len(group) > 1:
        return
    for tried in tried_prompts(group[0], spec):
        counts = ", ".join(f"{n:,}" for n in tried.n_right)
        yield (
            f"iteration {tried.iteration}: {n_of(len(tried.n_right), 'prompt')} of "
            f"{n_of(tried.n_shots, 'shot')} tried at each of {n_of(tried.n_problems, 'problem')}: "
            f"{counts} right; prompt {tried.best + 1} made the other "
            f"{n_of(tried.n_others, 'attempt')}"
        )


def _examples(one: RunBank, n: int) -> Iterator[str]:
    """Yield some solved and some unsolved problems, each with the attempt that says most."""
    problems: dict[str, list[Attempt]] = {}
    for attempt in one.bank.attempts:
        problems.setdefault(attempt.id, []).append(attempt)
    solved = {attempt.id for attempt in one.bank.attempts if attempt.kept}
    of_draw = "" if one.draw is None else f" of draw {one.draw}"
    for name, wanted in (("solved", True), ("unsolved", False)):
        some = [id for id in problems if (id in solved) == wanted][:n]
        for id in some:
            yield f"{name}{of_draw}: {id}, {_best(one, problems[id])}"


def _best(one: RunBank, attempts: Sequence[Attempt]) -> str:
    """Return how many attempts at a problem were right, and the kept one or the best."""
    best = max(attempts, key=lambda attempt: (attempt.kept, attempt.reward))
    n_right = sum(map(one.rules.is_right, attempts))
    said = "no answer" if best.answer is None else _short(best.answer)
    which = "kept" if best.kept else f"the best, of reward {best.reward:.3g}"
    return f"{n_right} of {len(attempts)} right; {which}: {said}"


def _short(text: str) -> str:
    shown = repr(text)
    if len(shown) <= LONGEST:
        return shown
    return f"{shown[: LONGEST // 2]} … {shown[-LONGEST // 2 :]}"


def problem_lines(banks: Sequence[RunBank], problem: str, folder: Path) -> Iterator[str]:
    """Yield all attempts at a problem, whole. Raises `SpecError` where there is none."""
    found = [(one, attempts_at(one, problem)) for one in banks]
    if not any(attempts for _, attempts in found):
        known = set[str]()
        for one in banks:
            known |= {attempt.id for attempt in one.bank.attempts}
        hint = nearest(problem, known) or f" There are {', '.join(sorted(known)[:3])}, …"
        raise SpecError(f"{folder}: no attempt at a problem {problem!r}.{hint}")
    for one, attempts in found:
        for attempt in attempts:
            draw = "" if one.draw is None else f", draw {one.draw}"
            kept = ", kept" if attempt.kept else ""
            read = "" if attempt.parsed is None else f", read as {_short(attempt.parsed)}"
            yield (
                f"{_title(one)}{draw}, {problem}: iteration {attempt.iteration}, attempt "
                f"{attempt.sample + 1}, reward {attempt.reward:.3g}{kept}{read}"
            )
            yield (attempt.error or "") if attempt.answer is None else attempt.answer.strip()
            yield ""


def _shift_tables(frame: pd.DataFrame, bank_shots: int) -> Iterator[Table]:
    """Yield a table for each task, model and variant: a row per shot count, a column per mode."""
    behind = f" behind {n_of(bank_shots, 'shot')}" if bank_shots else ""
    for (task, model, variant), part in frame.groupby(["task", "model", "variant"], sort=False):
        modes = list(dict.fromkeys(part["mode"]))
        pool = part.drop_duplicates("draw")["pool_solve_rate"].mean()
        where = task if variant == "default" else f"{task}, {variant}"
        title = f"{where} · {model} · solve rate{behind}; of the pool {_number(pool)}"
        table = new_table(title, heading=["shots", *modes], right=[0])
        for shots in sorted(part["shots"].unique()):
            rows = part[part["shots"] == shots]
            add_row(table, str(shots), *(_shift(rows[rows["mode"] == mode]) for mode in modes))
        yield table


def _shift(rows: pd.DataFrame) -> str:
    """Return `.731, +.210 [+.190, +.233]`: the solve rate and its shift over draws."""
    shifts = rows["shift"].dropna()
    if shifts.empty:
        return "-"
    rate = f"{_number(rows['solve_rate'].mean())}, {_number(shifts.mean(), '+')}"
    if len(shifts) == 1:
        return rate
    return f"{rate} [{_number(shifts.min(), '+')}, {_number(shifts.max(), '+')}]"


def _number(value: float, sign: str = "") -> str:
    if math.isnan(value):
        return "-"
    text = f"{value:{sign}.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
