"""The problems of the bank with their gold answers: is it the problems or the model's own words?"""

from __future__ import annotations

from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, operator


@operator("shots", needs_bank=True)
def bank(shots: list[Example], context: Context) -> list[Example]:
    """Show only problems that the model solved, those of reinforced mode in the same order.

    In supervised mode with their gold answers: the control of Agarwal et al. 2024, section 3.
    """
    return [shot for shot in shots if shot.id in context.solved]
