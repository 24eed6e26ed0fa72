"""Text without examples in the place of the shots: is it what they say, or the length?"""

from __future__ import annotations

from dataclasses import replace

from icl_harness.prompts.operators.registry import Context, Frame, operator


@operator(
    "frame",
    shared="filler stands in the place of shots, nested and cached as they would be",
    other_shots=True,
)
def filler(frame: Frame, context: Context) -> Frame:
    """Show words at random in the place of the shots, with as many tokens as these have."""
    return replace(frame, filler=True)
