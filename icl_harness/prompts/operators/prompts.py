"""Other words for the same task: how much does a curve owe to the wording of its prompts?"""

from __future__ import annotations

from dataclasses import replace

from icl_harness.prompts.operators.registry import Context, Frame, name_of, operator

TEMPLATE = name_of("the name of a file in prompts/ without its ending", "classify-terse")


@operator(
    "frame",
    argument=TEMPLATE,
    shared="prompts are worded by prompts/{value}.jinja, nested, and share nothing with those of "
    "another wording",
    of_attempts=True,
)
def prompts(frame: Frame, context: Context, template: str) -> Frame:
    """Word the prompts by another file of prompts/."""
    return replace(frame, prompts=template)
