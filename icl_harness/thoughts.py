r"""Thoughts that a model writes into its text: where each begins and ends.

In: a whole text. Out: the same without its thoughts, and whether the last was left unfinished.
Models that think in their text mark it in forms of their own (Qwen, DeepSeek, Magistral, Kimi,
gpt-oss, Command A, Gemma, Granite, …); where the prompt opens the thought, the text only closes it.
Left out: thoughts that a provider gives beside the text.
"""

from __future__ import annotations

import re

_TAG = r"(?:[a-z]+:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis)"
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
    return "".join(parts), is_open


def marks_thought(token: str) -> bool:
    """Return whether a special token is part of what marks thoughts, so that it must be read."""
    return token in ("<|channel|>", "<|message|>") or _MARKS.fullmatch(token) is not None


def opens_thought(prompt: str) -> bool:
    """Return whether a prompt ends in the beginning of a thought."""
    marks = list(_MARKS.finditer(prompt[-40:].rstrip()))
    return bool(marks and marks[-1]["open"] and not prompt[-40:].rstrip()[marks[-1].end() :])


def _begins(text: str, mark: str) -> bool:
    """Return whether a mark begins a thought; "analysis" does in gpt-oss's text without specials,
    where a capital follows it at once.
    """
    return mark.strip().casefold() != "analysis" or _CASED.match(text) is not None
