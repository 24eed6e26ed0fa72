"""What is said of a bank before it is made: where guesses fill it, and what is weighed beside it.

In: an experiment. Out: a line for each task that needs one.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import comb

from icl_harness.runner.experiment import Experiment
from icl_harness.tasks.task import Task

HIGH_CHANCE = 1 / 3  # from here on guesses pass for solved problems too often
STRICT = 4  # attempts that are to agree, where fewer are made


def bank_warnings(experiment: Experiment) -> Iterator[str]:
    """Yield what a user of reinforced mode should know before anything is asked."""
    spec, owners = experiment.spec, dict[str, Task]()
    for line in experiment.lines():
        if line.needs_bank:
            owners[line.for_bank.task.name] = line.for_bank.task
    for task in owners.values():
        if spec.bank is None and spec.bank_agree == 1:
            yield from _chance(task, spec.bank_samples)
    if owners and spec.scoring != "generate" and "reinforced" in spec.modes:
        yield (
            f"reinforced with --scoring {spec.scoring}: the attempts of the bank are written, and "
            "shots show them as they are (the label alone, where prompts ask for that); a query's "
            "choices are weighed at once, with no reasoning before them"
        )


def _chance(task: Task, n: int) -> Iterator[str]:
    """Yield that guesses solve problems; of a reward of the task's own that is not known."""
    if task.reward is not None or task.chance is None or task.chance < HIGH_CHANCE:
        return
    agree = max(n, STRICT)
    samples = f"--bank-samples {agree} " if agree > n else ""
    attempts = "one attempt" if n == 1 else f"one of {n} attempts"
    yield (
        f"{task.name}: a guess is right {task.chance:.0%} of the time, so that luck alone has "
        f"{attempts} right at {by_luck(task.chance, n, 1):.0%} of the problems; "
        f"{samples}--bank-agree {agree} keeps problems with {agree} right attempts "
        f"({by_luck(task.chance, agree, agree):.0%} by luck)"
    )


def by_luck(chance: float, n: int, least: int) -> float:
    """Return the probability that at least so many of n guesses are right."""
    terms = [comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(least, n + 1)]
    return sum(terms)
