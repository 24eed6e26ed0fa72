"""The instruction or the shots alone: which of the two does the work?"""

from __future__ import annotations

from dataclasses import replace

from icl_harness.prompts.operators.registry import Context, Frame, one_of, operator


@operator(
    "frame",
    argument=one_of("none", "only"),
    shared={
        "none": "prompts begin with the first shot; they are nested as usual",
        "only": "no shots are shown, so that all shot counts are the prompt of 0 shots, which is "
        "sent once at temperature 0",
    },
)
def instruct(frame: Frame, context: Context, what: str) -> Frame:
    """Show the shots without the instruction (none), or it without any shots (only)."""
    if what == "none":
        return replace(frame, instruction=False)
    return replace(frame, shots=False)
