"""How many tokens models that reason usually think for: a plan's range, until a run measures it.

The ends are rough. The providers give no means: "from a few hundred to tens of thousands"
(developers.openai.com/api/docs/guides/reasoning), a budget that the model may leave unused
(platform.claude.com/docs, extended thinking; ai.google.dev/gemini-api/docs/thinking). The questions
of few-shot tasks have short answers, so the ranges lie at that low end, and each effort's goes from
what an easy question takes to what a hard one does. Efforts where none is asked for, by the same
guides, November 2026: GPT-5.1 and later none to medium by model, earlier ones medium, Claude high,
Gemini 3 and later high, 2.5 as the model likes.
"""

from __future__ import annotations

import re

EFFORT_TOKENS = {
    "none": (0, 0), "minimal": (0, 200), "low": (50, 800), "medium": (200, 2_500),
    "high": (600, 6_000), "xhigh": (1_500, 12_000), "max": (1_500, 20_000),
}  # fmt: skip
# a family -> the least and the most effort that its models make unless they are asked for one
FAMILIES = (
    (r"gpt-(5\.|[6-9])", "none", "medium"),
    (r"(opus|sonnet|haiku)-|fable|mythos", "medium", "high"),
    (r"gemini-[3-9]", "medium", "high"),
    (r"", "medium", "medium"),
)
SOURCE = "a rough range by the providers' guides to reasoning; a pilot run of this grid measures it"


def usual_tokens(name: str, effort: str | None) -> tuple[int, int]:
    """Return how many tokens a model usually thinks for, from and to, at an effort or its own."""
    found = next((least, most) for family, least, most in FAMILIES if re.search(family, name))
    least, most = (effort, effort) if effort in EFFORT_TOKENS else found
    return EFFORT_TOKENS[least][0], EFFORT_TOKENS[most][1]
