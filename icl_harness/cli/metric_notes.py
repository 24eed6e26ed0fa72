"""What a reader of a table must know of its metric: which answers it leaves out, what to hold
beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from icl_harness.counts import n_of
from icl_harness.tasks.metrics import METRICS, best_of_n

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.report.records import Records


def metric_notes(frame: pd.DataFrame, records: Records) -> Iterator[str]:
    """Yield which answers are missing where a metric is of what not all have, and beside best_of_n
    how good the solutions themselves are.
    """
    metrics = [METRICS[name] for name in sorted(set(frame["metric"])) if name in METRICS]
    for of in sorted({metric.of for metric in metrics} - {"score"}):
        what = "a gold_nll" if of == "gold_nll" else "probabilities of choices"
        for (task, model), (n_lacking, n) in records.without(of).items():
            yield f"{task} {model}: {_lacking(n_lacking, n, what, is_best=best_of_n in metrics)}"
    if best_of_n in metrics:
        yield from _pass_rates(records)


def _lacking(n_lacking: int, n: int, what: str, *, is_best: bool) -> str:
    which = "no answer has" if n_lacking == n else f"{n_lacking:,} of {n:,} answers lack"
    if is_best and n_lacking == n:
        return f"{which} {what}: verdicts count as P(Yes) of 1 or 0, equal ones share"
    who = "their problems" if is_best else "they"
    return f"{which} {what}, and {who} are missing here"


def _pass_rates(records: Records) -> Iterator[str]:
    """Yield for each task with solutions the share of right ones, and of problems that have one."""
    for task, problems in records.solutions().items():
        n_problems = len(problems)
        sizes = sorted({len(solutions) for solutions in problems.values()})
        pass_1 = sum(sum(s.values()) / len(s) for s in problems.values()) / n_problems
        pass_n = sum(any(s.values()) for s in problems.values()) / n_problems
        n = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        yield (
            f"{task}: {n_of(n_problems, 'problem')} with {n} solutions each; one drawn at random "
            f"is right in {pass_1:.3f} (pass@1), one of them in {pass_n:.3f} (pass@n)"
        )
