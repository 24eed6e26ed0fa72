r"""What of a text that a model wrote is its answer: without its thoughts, up to a stop string.

In: the whole text. Out: the answer, and whether a thought was left unfinished. Models that think in
their text mark it in forms of their own (Qwen, DeepSeek, Magistral, Kimi, gpt-oss, Command A,
Gemma, Granite, …); where the prompt opens the thought, the text only closes it. Left out: thoughts
that a provider gives beside the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from icl_harness.models.base import Answer, Sampling, stop_place

_TAG = r"(?:[a-z]+:)?(?:think|thinking|thoughts?|reasoning)"
_MARKS = re.compile(
    rf"""(?P<open>
        <{_TAG}> | \[THINK\] | ◁think▷ | <\|begin_of_thought\|> | <\|START_THINKING\|>
        | <\|(?:think|thinking|inner_prefix)\|> | <unused94>\s*(?:thought)? | <\|channel>\s*thought
        | <\|channel\|>\s*(?:analysis|commentary)[^<]*<\|message\|>
        | \A\s*here(?:\ is|['’]s)\ my\ thought\ process: | \A\s*analysis(?=[A-Z])
    )|(?P<close>
        </{_TAG}> | \[/THINK\] | ◁/think▷ | <\|end_of_thought\|> | <\|END_THINKING\|>
        | <\|(?:/think|/thinking|end_think|inner_suffix)\|> | <unused95> | <channel\|>
        | <\|channel\|>\s*final[^<]*<\|message\|>
        | here(?:\ is|['’]s)\ my\ response: | assistantfinal
    )""",
    re.VERBOSE | re.IGNORECASE,
)
# Words that close a thought only where one is open: they may be an answer's own.
_WORDS = re.compile(r"here|assistantfinal", re.IGNORECASE)
_CASED = re.compile(r"\A\s*analysis[A-Z]")
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
    place = stop_place(spoken, stop)
    return Reading(spoken[:place], is_open, place is not None)


def without_thoughts(text: str, *, opened: bool = False) -> tuple[str, bool]:
    """Return a text without its thoughts, and whether the last of them was not ended."""
    parts, start, is_open = list[str](), 0, opened
    for mark in _MARKS.finditer(text):
        if mark["open"]:
            if not is_open and _begins(text, mark[0]):
                parts.append(text[start : mark.start()])
                is_open = True
        elif is_open:
            start, is_open = mark.end(), False
        elif not _WORDS.match(mark[0]):  # begun by the prompt: all before was thought
            parts, start = [], mark.end()
    if not is_open:
        parts.append(text[start:])
    return _WRAPPING.sub("", "".join(parts)), is_open


def marks_thought(token: str) -> bool:
    """Return whether a special token is part of what marks thoughts, so that it must be read."""
    return token in ("<|channel|>", "<|message|>") or _MARKS.fullmatch(token) is not None


def opens_thought(prompt: str) -> bool:
    """Return whether a prompt ends in the beginning of a thought."""
    marks = list(_MARKS.finditer(prompt[-40:].rstrip()))
    return bool(marks and marks[-1]["open"] and not prompt[-40:].rstrip()[marks[-1].end() :])


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


def _begins(text: str, mark: str) -> bool:
    """Return whether a mark begins a thought; "analysis" does in gpt-oss's text without specials,
    where a capital follows it at once.
    """
    return mark.strip().casefold() != "analysis" or _CASED.match(text) is not None
