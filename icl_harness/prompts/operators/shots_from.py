"""Shots of another task before the queries of this one: does what they teach carry over?

As Agarwal et al. 2024 show problems of MATH before those of GSM8K, and articles of XSum before
those of XLSum. All are worded by this task's template, so that the shots alone differ.
"""

from __future__ import annotations

from dataclasses import replace

from icl_harness.prompts.operators.registry import Context, Frame, name_of, operator


@operator(
    "frame",
    argument=name_of("the name of another task", "trec"),
    shared="shots are those of {value}, nested and cached as the task's own would be",
    other_shots=True,
)
def shots_from(frame: Frame, context: Context, task: str) -> Frame:
    """Draw the shots from another task's pool; the prompt and the queries are this one's."""
    return replace(frame, pool=task)
