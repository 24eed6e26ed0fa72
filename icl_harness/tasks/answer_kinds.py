"""What the targets of a table are: labels, numbers or free answers.

The rule, which docs/tasks.md gives to users: targets are labels where each occurs twice or more on
average, there are at most 200, and each is one line of at most 80 characters; of numbers, where
they are whole and at most 20. Else they are numbers, if all are, or free answers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from icl_harness.errors import DataError
from icl_harness.tasks.columns import Answers
from icl_harness.tasks.scoring.numbers import only_number

MOST_LABELS = 200
MOST_NUMBERS = 20  # of labels that are whole numbers
LONGEST_LABEL = 80  # characters
ROWS_OF_A_LABEL = 2  # at least, on average
N_SHOWN = 4


def kind_of(targets: Sequence[str]) -> Answers:
    """Return what targets are."""
    distinct = set(targets)
    numbers = [only_number(target) for target in distinct]
    are_numbers = None not in numbers
    most = MOST_LABELS
    if are_numbers:
        is_whole = all(number is None or number.denominator == 1 for number in numbers)
        most = MOST_NUMBERS if is_whole else 0
    is_short = all(len(target) <= LONGEST_LABEL and "\n" not in target for target in distinct)
    is_few = len(distinct) <= min(most, len(targets) / ROWS_OF_A_LABEL)
    if is_few and is_short:
        return "labels"
    return "number" if are_numbers else "free"


def check_kind(kind: Answers, targets: Sequence[str], where: str) -> None:
    """Raise `DataError` where targets cannot be what they are to be. `where` names their table and
    column.
    """
    distinct = set(targets)
    if len(distinct) == 1:
        raise DataError(
            f"{where}: all {len(targets):,} targets are {targets[0]!r}, so there is nothing to "
            "learn. Name another --target."
        )
    if kind == "number":
        odd = next((target for target in targets if only_number(target) is None), None)
        if odd is not None:
            raise DataError(f"{where}: {odd!r} is no number. Leave --answers number out.")
    if kind == "labels":
        _refuse_alike(sorted(distinct), where)
        broken = next((target for target in distinct if "\n" in target), None)
        if broken is not None:
            raise DataError(
                f"{where}: {broken[:40]!r} has a line break, which no label has. Use "
                "--answers free."
            )


def _refuse_alike(labels: Sequence[str], where: str) -> None:
    """Refuse labels that a reader of answers could not tell apart."""
    known: dict[str, str] = {}
    for label in labels:
        key = " ".join(unicodedata.normalize("NFC", label).casefold().split())
        if key in known:
            raise DataError(
                f"{where}: the labels {known[key]!r} and {label!r} differ in case, spaces or the "
                "encoding of accents alone. Write them alike."
            )
        known[key] = label


def labels_in_order(targets: Sequence[str]) -> tuple[str, ...]:
    """Return the labels: whole numbers by value and before the rest."""
    return tuple(sorted(set(targets), key=_label_order))


def _label_order(label: str) -> tuple[int, int, str]:
    is_number = label.removeprefix("-").isdecimal()
    return (0, int(label), label) if is_number else (1, 0, label)


def said(kind: Answers, targets: Sequence[str], rows: int, *, by_distance: bool) -> str:
    """Return what was found out about the targets of so many rows, to be said before anything is
    asked. `by_distance`: how near a number is counts.
    """
    n = len(set(targets))
    if kind == "labels":
        labels = labels_in_order(targets)
        few = ", ".join(labels[:N_SHOWN]) + (", …" if n > N_SHOWN else "")
        return f"{n} labels in {rows:,} rows ({few})"
    values = f"{n:,} different ones in {rows:,} rows"
    if kind == "number":
        how = "measured by R²" if by_distance else "right where equal"
        return f"numbers ({values}), {how}"
    return f"free answers ({values}), right where equal but for case and punctuation"
