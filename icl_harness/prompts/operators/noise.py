"""Wrong labels on some of the shots: does the model copy labels, or know better?"""

from __future__ import annotations

from dataclasses import replace

from icl_harness.draws import stable_seed
from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, operator, share

SEEDS = 2**63  # `stable_seed` is below


@operator("labels", argument=share("0.2"), modes=("supervised",))
def noise(example: Example, context: Context, p: float) -> Example:
    """Show a wrong label on this share of the shots; queries keep theirs."""
    # Neither K nor P is in the seed: a shot that is wrong stays so, and in the same way, in longer
    # prompts and under more noise.
    parts = (context.seed, context.draw, context.task, example.id)
    others = [choice for choice in example.choices if choice != example.target]
    if not others:
        raise SpecError(
            f"task {context.task}: noise needs other labels to show, and example {example.id} has "
            "no choices. Leave noise out."
        )
    if stable_seed("noise", *parts) >= p * SEEDS:
        return example
    return replace(example, target=others[stable_seed("wrong label", *parts) % len(others)])
