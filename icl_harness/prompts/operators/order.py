"""Other orders of the same shots: how much does a prompt's accuracy owe to the order?"""

from __future__ import annotations

import numpy as np

from icl_harness.draws import stable_seed
from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, operator, whole_number


@operator("shots", argument=whole_number("1"), nested=False)
def order(shots: list[Example], context: Context, n: int) -> list[Example]:
    """Put the K shots into their n-th order; 0 is the draw's own."""
    if n == 0:
        return shots
    seed = stable_seed("order", context.seed, context.draw, context.task, n)
    return [shots[i] for i in np.random.default_rng(seed).permutation(len(shots))]
