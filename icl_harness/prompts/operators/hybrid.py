"""A block that all queries share, then similar shots: is retrieval worth it behind a cache?

Source: Golchin et al. 2025 (arXiv 2507.16217): 80 random shots, cached, then the 20 most similar.
"""

from __future__ import annotations

from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, Selection, operator, whole_number
from icl_harness.prompts.similarity import ranking


@operator(
    "selection",
    argument=whole_number("8"),
    shared="prompts share the first {value} shots of the draw, behind which each query brings its "
    "own",
)
def hybrid(pool: list[Example], context: Context, n: int) -> Selection:
    """Show the first K0 shots of the draw, the same to all queries, then those most like each."""
    rank = ranking(pool, "TFIDF")

    def select(query: Example, k: int) -> list[Example]:
        if k <= n:
            return pool[:k]
        places = rank(query.input)
        similar = places[places >= n][: k - n]
        return pool[:n] + [pool[place] for place in similar[::-1]]

    return Selection(select=select, n_shared=n)
