"""Best of n: of the solutions of a problem, is the one right that a verifier likes best?

In: answered records of a verifier, each a verdict on one solution; the solutions of a problem are
the queries of a cluster. Out: one record a cell and problem, whose score is that of the solution
with the highest P(Yes). Where several are as high it is the share of right ones among them, which
is what drawing one of them gives on average. A verdict without a probability counts as 1 or 0: of
several samples their mean is P(Yes). Left out: problems of which a verdict is missing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from icl_harness.analysis.crossed import Codes, Floats
from icl_harness.errors import SpecError
from icl_harness.store.cells import CELL
from icl_harness.tasks.metrics import YES

if TYPE_CHECKING:
    import pandas as pd


def best_of_n(answers: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the record of each problem of each cell. Raises `SpecError` where the task's queries
    are no solutions of problems. `name` is the metric's.
    """
    if answers.empty:
        return answers
    if "cluster" not in answers or answers["cluster"].isna().any():
        raise SpecError(
            f"{name} needs solutions of problems as queries, each in its problem's cluster, as "
            f"those of the task verifier are; {answers['task'].iloc[0]} has other queries."
        )
    answers = answers.sort_values("query_id", kind="stable", ignore_index=True)
    problem = _numbers(answers, [*CELL, "cluster"])
    solution = _numbers(answers, [*CELL, "cluster", "query_id"])
    p_yes, right, of = _solutions(answers, solution, problem)
    known = ~np.isnan(p_yes)
    p_yes, right, of = p_yes[known], right[known], of[known]
    n_problems = int(problem.max(initial=-1)) + 1
    most = np.full(n_problems, -math.inf)
    np.maximum.at(most, of, p_yes)
    best = p_yes == most[of]
    n_best = np.bincount(of[best], minlength=n_problems)
    score = np.bincount(of[best], right[best], n_problems) / np.maximum(n_best, 1)
    _, first = np.unique(problem, return_index=True)
    n_wanted = answers["cluster_size"].to_numpy(dtype=float)[first]
    judged = np.bincount(of, minlength=n_problems) == n_wanted
    found = answers.iloc[first].assign(score=score, sample=0)
    found["query_id"] = found["cluster"].astype(str)  # a problem is the unit, and what is paired
    problems: pd.DataFrame = found[judged].reset_index(drop=True)
    return problems


def _numbers(answers: pd.DataFrame, names: list[str]) -> Codes:
    groups = answers.groupby(names, sort=False, dropna=False, observed=True)
    found: Codes = groups.ngroup().to_numpy().astype(np.intp)
    return found


def _solutions(
    answers: pd.DataFrame, solution: Codes, problem: Codes
) -> tuple[Floats, Floats, Codes]:
    """Return P(Yes) of each solution of each cell, whether it is right, and its problem."""
    counts = np.bincount(solution)
    p_yes = np.bincount(solution, _p_yes(answers)) / counts
    _, first = np.unique(solution, return_index=True)
    right: Floats = np.asarray(answers["target"].astype(object) == YES, dtype=float)
    return p_yes, right[first], problem[first]


def _p_yes(answers: pd.DataFrame) -> Floats:
    """Return P(Yes) of each answer; verdicts as 1 and 0 in cells where no probability is known. An
    answer that could not be read is no Yes.
    """
    found: Floats = answers.get("p_yes", answers["score"] * math.nan).to_numpy(dtype=float)
    cell = _numbers(answers, list(CELL))
    has_any = np.bincount(cell, ~np.isnan(found)) > 0
    verdicts = np.asarray(answers["parsed"].astype(object) == YES, dtype=float)
    return np.where(has_any[cell], found, verdicts)
