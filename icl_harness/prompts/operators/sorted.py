"""Shots grouped by label: what does it cost not to mix them?"""

from __future__ import annotations

from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, operator


@operator("shots", nested=False, needs_labels=True)
def sorted_(shots: list[Example], context: Context) -> list[Example]:
    """Sort the K shots by label, in the task's order of labels."""
    rank = {label: i for i, label in enumerate(context.labels)}
    return sorted(shots, key=lambda shot: rank.get(shot.target, len(rank)))
