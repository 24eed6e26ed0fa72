"""Retrieved shots: each query is shown the pool examples that are most, or least, like it."""

from __future__ import annotations

from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, Selection, one_of, operator
from icl_harness.prompts.similarity import METHODS, ranking


@operator("selection", argument=one_of(*METHODS))
def nearest(pool: list[Example], context: Context, method: str) -> Selection:
    """Show each query the K pool examples most like it, the most similar last."""
    return _first_of(pool, method, ascending=False)


@operator("selection", argument=one_of(*METHODS))
def farthest(pool: list[Example], context: Context, method: str) -> Selection:
    """Show each query the K pool examples least like it, the least similar last."""
    return _first_of(pool, method, ascending=True)


def _first_of(pool: list[Example], method: str, *, ascending: bool) -> Selection:
    rank = ranking(pool, method, ascending=ascending)

    def select(query: Example, k: int) -> list[Example]:
        return [pool[place] for place in rank(query.input)[:k][::-1]]

    return Selection(select=select)
