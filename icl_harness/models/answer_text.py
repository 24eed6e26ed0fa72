r"""What of a text that a model wrote is its answer: without its thoughts, up to a stop string.

In: the whole text. Out: the answer, and whether a thought was left unfinished (thoughts.py has the
forms of thoughts).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from icl_harness.models.base import Answer, Sampling, stop_place
from icl_harness.thoughts import without_thoughts

# What some models put around an answer.
_WRAPPING = re.compile(
    r"\A\s*(?:<\|begin_of_solution\|>|<\|START_RESPONSE\|>|<(?:answer|response)>)"
    r"|(?:<\|end_of_solution\|>|<\|END_RESPONSE\|>|</(?:answer|response)>"
    r"|<\|(?:return|end|im_end)\|>)\s*\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """`is_open`: a thought was begun and not ended. `stopped`: a stop string ended the answer."""

    answer: str
    is_open: bool
    stopped: bool


def read_answer(text: str, stop: Sequence[str] = (), *, opened: bool = False) -> Reading:
    """Return what of a model's text is its answer. `opened`: the prompt has begun a thought."""
    spoken, is_open = without_thoughts(text, opened=opened)
    spoken = _WRAPPING.sub("", spoken)
    place = stop_place(spoken, stop)
    return Reading(spoken[:place], is_open, place is not None)


def answered(
    answer: Answer,
    text: str,
    stop: Sequence[str] = (),
    *,
    is_cut: bool = False,
    opened: bool = False,
) -> Answer:
    """Return an answer with what of a model's text is its own, and the whole text where that is
    more. `is_cut`: the limit on tokens ended the text.
    """
    reading = read_answer(text, stop, opened=opened)
    return replace(
        answer,
        text=reading.answer,
        whole=None if text == reading.answer else text,
        cut=reading.is_open or (is_cut and not reading.stopped),
    )


def written(
    answer: Answer, text: str, sampling: Sampling, *, is_cut: bool, opened: bool = False
) -> Answer:
    """Return the answer that a local model's text is. One whose limit on tokens was spent on a
    thought is missing, not wrong.
    """
    found = answered(answer, text, sampling.stop, is_cut=is_cut, opened=opened)
    is_thought = is_cut and read_answer(text, opened=opened).is_open
    if is_thought and not (found.text or "").strip():
        return unanswered(found, sampling.max_tokens)
    return found


def unanswered(answer: Answer, limit: int) -> Answer:
    """Return an answer whose limit on tokens was spent on thoughts: it is missing, not wrong."""
    error = f"no answer within {limit} tokens; give room with --model-arg reasoning_tokens=N"
    return replace(answer, text=None, status="failed", error=error, cut=True)
