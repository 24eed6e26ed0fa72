"""Which comparisons are one family: the more there are, the likelier one of them is significant by
chance alone.

In: a table of differences with their p-values. Out: p-values adjusted over the family of each row,
so that a family of true zeros has a p below .05 in at most 5 of 100 cases (Holm 1979).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from icl_harness.analysis.crossed import Codes
from icl_harness.analysis.curves import POINT
from icl_harness.analysis.influence import positions
from icl_harness.analysis.stats import holm
from icl_harness.errors import SpecError, nearest

if TYPE_CHECKING:
    import pandas as pd

PAIR = ("a", "b")
# What the rows of a family may differ in, beside the shot counts.
FAMILIES: dict[str, tuple[str, ...]] = {
    "shots": (),
    "tasks": ("task", "metric"),
    "models": ("model",),
    "all": (),
}


def check_family(family: str) -> None:
    """Raise `SpecError` where there is no family of that name."""
    if family not in FAMILIES:
        raise SpecError(
            f"unknown family {family!r}; choose from {', '.join(FAMILIES)}."
            f"{nearest(family, FAMILIES)}"
        )


def with_holm(table: pd.DataFrame, by: str, family: str) -> pd.DataFrame:
    """Return the table with `p_holm`, Holm's p-value over the family of each row, and `n_family`,
    how many p-values the family has.

    `family`: "shots" is a pair at all its shot counts, or all pairs of shot counts; "tasks" and
    "models" are these over all tasks or all models, pairs of models included; "all" is the table.
    """
    p_values = table["p_value"].to_numpy(dtype=float)
    p_holm, n_family = np.full(len(table), np.nan), np.zeros(len(table), dtype=int)
    for rows in _families(table, by, family):
        p_holm[rows] = holm(p_values[rows].tolist())
        n_family[rows] = int((~np.isnan(p_values[rows])).sum())
    return table.assign(p_holm=p_holm, n_family=n_family)


def _families(table: pd.DataFrame, by: str, family: str) -> list[Codes]:
    """Return where the rows of each family stand in the table."""
    pairs_differ = by == "shots" or (by, family) == ("model", "models")
    named = POINT if pairs_differ else [*PAIR, *POINT]
    free = {by, "shots", *FAMILIES[family]}
    if family == "all":
        free.update(named)
    equal = [name for name in named if name not in free]
    if not equal:
        return [np.arange(len(table))]
    return [rows for _, rows in positions(table, equal)]
