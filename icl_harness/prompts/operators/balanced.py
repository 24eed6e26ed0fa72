"""Labels in equal numbers: what do the label frequencies of random shots cost?"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from icl_harness.draws import stable_seed
from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, operator


@operator("shots", needs_labels=True, stage=1, with_selection=False)
def balanced(shots: list[Example], context: Context) -> list[Example]:
    """Show all labels equally often, as far as the pool and K allow.

    In rounds: each shows one example of every label that has one left, in a random order of the
    labels, so that the first K are balanced for every K. Of each label the draw's first come first.
    """
    of_label = defaultdict[str, list[Example]](list)
    for shot in shots:
        of_label[shot.target].append(shot)
    labels = sorted(of_label)
    rng = np.random.default_rng(stable_seed("balanced", context.seed, context.draw, context.task))
    rounds: list[Example] = []
    for n in range(max(map(len, of_label.values()), default=0)):
        order = [labels[i] for i in rng.permutation(len(labels))]
        rounds += [of_label[label][n] for label in order if n < len(of_label[label])]
    return rounds
