"""What the variant rationale=… shows of a bank: a right attempt, a wrong one, the majority's, the
gold answer, another model's.

In: a bank and its rules. Out: a bank in which the attempts to show are kept, one a problem. All are
of the same problems, so that a K-shot prompt shows the same K problems in each: those at which the
model was right and wrong. Only `pseudo` takes every problem that has a readable answer, as one
would who has no gold answers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from icl_harness.prompts.operators.rationale import OF_THE_BANK
from icl_harness.store.bank import Attempt, Bank, Rules, mark_kept

SHOWN = OF_THE_BANK
GOLD, PSEUDO = "gold", "pseudo"
Choose = Callable[[Sequence[Attempt], Rules], Attempt | None]


def shown_bank(bank: Bank, which: str, rules: Rules) -> Bank:
    """Return a bank in which the attempts that `which` names are kept."""
    by_problem = _by_problem(bank)
    problems = set(by_problem) if which == PSEUDO else mixed(bank, rules)
    shown = set()
    for problem in problems:
        chosen = CHOICES[which](by_problem[problem], rules)
        if chosen is not None:
            shown.add((chosen.id, chosen.sample))
    return Bank(tuple(replace(a, kept=(a.id, a.sample) in shown) for a in bank.attempts))


def gold_bank(bank: Bank, rules: Rules, gold: Mapping[str, str]) -> Bank:
    """Return a bank of the gold answers to the problems that the others are of."""
    right = shown_bank(bank, "right", rules)
    made = []
    for attempt in right.attempts:
        if attempt.kept and attempt.id in gold:
            made.append(replace(attempt, answer=gold[attempt.id]))
    return Bank(tuple(made))


def others_bank(bank: Bank, rules: Rules, others: Bank) -> Bank:
    """Return another model's bank, with one right attempt of each of these problems kept that it
    has solved.
    """
    problems = mixed(bank, rules)
    first = mark_kept(others.attempts, replace(rules, keep=1))
    marked = [replace(a, kept=a.kept and a.id in problems) for a in first.attempts]
    return Bank(tuple(marked))


def mixed(bank: Bank, rules: Rules) -> set[str]:
    """Return the problems that are solved, and at which an attempt gave a wrong answer."""
    wrong = {attempt.id for attempt in bank.attempts if _is_wrong(attempt, rules)}
    return {attempt.id for attempt in bank.attempts if attempt.kept and attempt.id in wrong}


def n_to_show(bank: Bank, which: str | None, rules: Rules) -> int:
    """Return how many problems can be shown; of another run's bank, how many are wanted of it."""
    if which is None:
        return bank.n_solved
    return shown_bank(bank, which, rules).n_shots if which in SHOWN else len(mixed(bank, rules))


def why_nothing(which: str) -> str:
    """Return why nothing can be shown."""
    if which == PSEUDO:
        return "no attempt gave an answer that could be read"
    if which in SHOWN:
        return "at no problem was one attempt right and another wrong"
    return "the other bank solves no problem at which the model was both right and wrong"


def _by_problem(bank: Bank) -> dict[str, list[Attempt]]:
    found: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in bank.attempts:
        found[attempt.id].append(attempt)
    return found


def _is_wrong(attempt: Attempt, rules: Rules) -> bool:
    """Return whether an attempt gave an answer, and not a right one; an unreadable one is none."""
    return attempt.parsed is not None and not rules.is_right(attempt)


def _right(attempts: Sequence[Attempt], rules: Rules) -> Attempt | None:
    kept = [attempt for attempt in attempts if attempt.kept]
    return max(kept, key=lambda attempt: attempt.reward, default=None)


def _wrong(attempts: Sequence[Attempt], rules: Rules) -> Attempt | None:
    return next((attempt for attempt in attempts if _is_wrong(attempt, rules)), None)


def _majority(attempts: Sequence[Attempt], rules: Rules) -> Attempt | None:
    """Return the first attempt with the answer that most give; of equally many, the earlier."""
    read = [attempt for attempt in attempts if attempt.parsed is not None]
    votes = Counter(attempt.parsed for attempt in read)
    return max(read, key=lambda attempt: votes[attempt.parsed], default=None)


CHOICES: dict[str, Choose] = {
    "right": _right,
    "wrong": _wrong,
    "majority": _majority,
    GOLD: _right,
    PSEUDO: _majority,
}
