"""What counts as one answer, and which answers go together.

In: answered records of a task. Out: which of them repeat an answer that another draw has already,
and the unit that each belongs to: its query, or what ties the scores of several queries together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from icl_harness.analysis.crossed import Codes
from icl_harness.store.cells import CELL

if TYPE_CHECKING:
    import pandas as pd

ANSWER = [*(name for name in CELL if name != "draw"), "query_id", "sample"]
# Columns of records; those that are not there tell nothing.
NEEDED = ["shots_used", "node", "reused", "unparsed", "cut"]
TIES = ["cluster", "query_text"]


def is_repeat(answers: pd.DataFrame) -> np.ndarray:
    """Return which answers are copies of that of another draw: they count once."""
    found: np.ndarray = originals_of(answers) != np.arange(len(answers))
    return found


def originals_of(answers: pd.DataFrame) -> Codes:
    """Return where the answer stands that each is a copy of: that of another draw to the same
    prompt, as zero-shot ones are at temperature 0. Others are their own.
    """
    node = next((name for name in ("node", "node_hash") if name in answers), None)
    found = np.arange(len(answers), dtype=np.intp)
    if node is None or "reused" not in answers or not answers["reused"].any():
        return found
    reused = answers["reused"].to_numpy(dtype=bool)
    alike = answers[node].isin(answers[node][reused].unique()).to_numpy()
    places = np.flatnonzero(alike)
    places = places[np.argsort(reused[places], kind="stable")]  # what was sent comes first
    groups = answers.iloc[places].groupby([*ANSWER, node], sort=False, dropna=False, observed=True)
    prompt = groups.ngroup().to_numpy()
    _, first = np.unique(prompt, return_index=True)
    original = places[first[prompt]]
    copies = reused[places]
    found[places[copies]] = original[copies]
    return found


def unparsed_of(answers: pd.DataFrame) -> pd.Series[bool]:
    """Return which answers could not be parsed."""
    return answers["unparsed"] if "unparsed" in answers else answers["parsed"].isna()


def shots_of(answers: pd.DataFrame) -> float:
    """Return the mean number of shots in the prompts; where that is not known, those asked for."""
    name = "shots_used" if "shots_used" in answers else "shots"
    return float(answers[name].to_numpy(dtype=float).mean())


def units_of(answers: pd.DataFrame) -> Codes:
    """Return the number of the unit of each answer: equal where scores depend on each other.

    That is the query; the cluster that its task names, such as the document that several queries
    ask about; and the request, where several queries are answered in one.
    """
    import pandas as pd

    queries: Codes = pd.factorize(answers["query_id"], sort=True)[0].astype(np.intp)
    ties = [_codes(answers["cluster"])] if "cluster" in answers else []
    if "query_text" in answers and (answers["queries_per_request"] > 1).any():
        ties.append(_codes(answers["query_text"]))
    for tie in ties:
        if (tie >= 0).any():
            queries = joined(queries, tie)
    return queries


def _codes(names: pd.Series[Any]) -> Codes:
    import pandas as pd

    found: Codes = pd.factorize(names)[0].astype(np.intp)  # -1 where there is none
    return found


def joined(units: Codes, tie: Codes) -> Codes:
    """Return units where those that share a tie are one: the connected parts of the graph. A tie of
    -1 is none.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    tied = tie >= 0
    n, n_ties = int(units.max()) + 1, int(tie.max()) + 1
    pairs = np.unique(units[tied] * n_ties + tie[tied])
    places = pairs // n_ties, pairs % n_ties
    if all(len(np.unique(ends)) == len(pairs) for ends in places):
        return units  # one tie a unit, one unit a tie
    where = places[0], places[1] + n
    graph = coo_matrix((np.ones(len(pairs)), where), shape=(n + n_ties, n + n_ties))
    _, part = connected_components(graph, directed=False)
    found: Codes = np.unique(part[units], return_inverse=True)[1].astype(np.intp)
    return found
