"""Reference learners of numbers from numbers: the mean of the nearest neighbours, or a ridge
regression of standardised inputs.

In: shots as lists of equally many numbers, with a number each. Out: a number a query, as text with
as many decimal places as the shots' have at most: where they are whole, it is whole. scikit-learn's
defaults, as for labels (baseline.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

N_NEIGHBORS = 5

Learn = Callable[[Sequence[Sequence[float]]], list[str]]


def learn_numbers(
    name: str, inputs: Sequence[Sequence[float]], targets: Sequence[str]
) -> Learn | None:
    """Return a fitted learner, `knn` or `logreg`; None where inputs or targets are no numbers."""
    golds = [_number(target) for target in targets]
    width = len(inputs[0])
    if width == 0 or None in golds or any(len(row) != width for row in inputs):
        return None
    learner = _learner(name, len(inputs))
    learner.fit([list(row) for row in inputs], golds)
    mean = sum(gold for gold in golds if gold is not None) / len(golds)
    places = max(len(target.partition(".")[2]) for target in targets)

    def predict(rows: Sequence[Sequence[float]]) -> list[str]:
        said = [mean] * len(rows)  # of a query of another kind
        placed = [i for i, row in enumerate(rows) if len(row) == width]
        if placed:
            for i, number in zip(placed, learner.predict([rows[i] for i in placed]), strict=True):
                said[i] = float(number)
        return [f"{number:.{places}f}" for number in said]

    return predict


def _learner(name: str, n_shots: int) -> Any:
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if name == "knn":
        return KNeighborsRegressor(min(N_NEIGHBORS, n_shots))
    return make_pipeline(StandardScaler(), Ridge())


def _number(text: str) -> float | None:
    try:
        number = float(text.replace(",", "")) if "e" not in text.casefold() else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
