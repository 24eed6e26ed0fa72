"""Labels permuted among the shots: does the model learn which label belongs to which input?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from icl_harness.draws import stable_seed
from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, operator


@operator(
    "shots",
    nested=False,
    modes=("supervised",),
    with_selection=False,
    keeps_labels=False,
    for_each_count="answers are shuffled among the shots",
)
def shuffled(shots: list[Example], context: Context) -> list[Example]:
    """Give the K shots each other's answers at random: every label as often as before.

    By chance a shot may keep its own, so that label and input are independent.
    """
    seed = stable_seed("shuffled", context.seed, context.draw, context.task)
    givers = [shots[i] for i in np.random.default_rng(seed).permutation(len(shots))]
    return [
        replace(shot, target=giver.target, rationale=giver.rationale, choices=giver.choices)
        for shot, giver in zip(shots, givers, strict=True)
    ]
