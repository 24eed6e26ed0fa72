"""A few shots again and again: does length help, or do other examples?"""

from __future__ import annotations

from itertools import cycle, islice

from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, operator, whole_number


@operator("shots", argument=whole_number("4", least=1), stage=2, with_selection=False)
def repeat(shots: list[Example], context: Context, n: int) -> list[Example]:
    """Show the first R shots of the draw in turn until there are K, so that R of them differ.

    After an ablation of Agarwal et al. 2024, which repeats 25 examples of translations.
    """
    if len(shots) < n:  # a bank may hold fewer: then there are fewer shots, which is recorded
        return shots
    return list(islice(cycle(shots[:n]), max(len(shots), len(context.pool))))
