"""Random shots without those most, or least, like the query: does the model look things up?

The two accuracies beside each other tell what similar shots are worth: ManyICLBench calls their
ratio SLR.
"""

from __future__ import annotations

from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, Selection, operator, share
from icl_harness.prompts.similarity import ranking


@operator("selection", argument=share("0.1", below_1=True))
def drop_nearest(pool: list[Example], context: Context, p: float) -> Selection:
    """Show each query the draw's shots without the share of the pool most like it."""
    return _first_left(pool, p, ascending=True)


@operator("selection", argument=share("0.1", below_1=True))
def drop_farthest(pool: list[Example], context: Context, p: float) -> Selection:
    """Show each query the draw's shots without the share of the pool least like it."""
    return _first_left(pool, p, ascending=False)


def _first_left(pool: list[Example], p: float, *, ascending: bool) -> Selection:
    """Return the first shots of the draw among those that a ranking has not last."""
    n_left = len(pool) - round(p * len(pool))
    rank = ranking(pool, "TFIDF", ascending=ascending)

    def select(query: Example, k: int) -> list[Example]:
        return [pool[place] for place in sorted(rank(query.input)[:n_left])[:k]]

    return Selection(select=select, most=n_left)
