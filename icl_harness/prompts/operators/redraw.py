"""Random shots for every query: what do the few shots of one draw owe to chance?"""

from __future__ import annotations

import numpy as np

from icl_harness.draws import stable_seed
from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, Selection, operator


@operator(
    "selection",
    shared="shots are drawn anew for each query, so that prompts share the preamble alone and no "
    "cache can hold the shots",
)
def redraw(pool: list[Example], context: Context) -> Selection:
    """Draw other random shots for every query; those of larger K come behind."""

    def select(query: Example, k: int) -> list[Example]:
        seed = stable_seed("redraw", context.seed, context.draw, context.task, query.id)
        return [pool[place] for place in np.random.default_rng(seed).permutation(len(pool))[:k]]

    return Selection(select=select)
