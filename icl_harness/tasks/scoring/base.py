"""What a scorer returns, and the forms in which answers are compared."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from icl_harness.examples import Example
from icl_harness.thoughts import without_thoughts


@dataclass(frozen=True)
class Score:
    """`parsed`: what was read from the answer, None where nothing could be; then `value`, 0 to 1,
    is 0.
    """

    parsed: str | None
    value: float


Scorer = Callable[[str, Example], Score]
UNPARSED = Score(None, 0.0)
MOST_CHARACTERS = 100_000  # of an answer, its thoughts left out

# "The final answer is X", "**Final answer:** X", "Answer: X", "#### X", or the heading "### Final
# Answer".
_MARKS = re.compile(
    r"^(?:[^\w\n]{0,8}(?:the )?final answer|(?:#{1,6}|\*\*) *answer)[^\w\n]{0,8}$"
    r"|final answer\W{0,4}(?:is\b|[:=])|\banswer\W{0,4}(?:is\b|:)|^####",
    re.IGNORECASE | re.MULTILINE,
)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_LINE_END = re.compile(r"<br ?/?>|\r\n?")
_END_OF_TURN = re.compile(
    r"</s>|<\|(?:end|eot|im_end|im_start|endoftext|end_of_text|eot_id|return)[^|>]{0,20}\|>"
    r"|<end_of_turn>|<eos>|<｜end▁of▁sentence｜>"
)


def spoken(answer: str) -> str:
    """Return what of a text is the answer: without thoughts, up to a token that ends the turn; of
    an endless one its first and last `MOST_CHARACTERS` / 2.
    """
    text = without_thoughts(answer)[0].lstrip()
    ended = _END_OF_TURN.search(text)
    text = text[: ended.start()] if ended else text
    if len(text) > MOST_CHARACTERS:
        half = MOST_CHARACTERS // 2
        text = f"{text[:half]}\n{text[-half:]}"
    return _LINE_END.sub("\n", text)


def first_line(answer: str) -> str:
    """Return the first line that is not blank, without outer spaces; "" where there is none."""
    return answer.strip().split("\n", 1)[0].strip()


def final_answer(answer: str) -> str | None:
    r"""Return what the last mark of an answer marks; None where there is no mark, or nothing after
    it.

    Marks are "final answer is", "answer:", "####" and a heading "Final Answer", for the line that
    follows, and \boxed{}, for what is in it. Of all these the last one counts: models correct
    themselves.
    """
    marks = [*_MARKS.finditer(answer), *_BOXED.finditer(answer)]
    if not marks:
        return None
    last = max(marks, key=lambda mark: mark.start())
    if last.re is _BOXED:
        return last[1].strip() or None
    rest = answer[last.end() :].lstrip(" \t:*_\n\r")  # "**Answer:**\n72" names it on the next line
    return first_line(rest) or None


def plain(text: str) -> str:
    """Return `text` without what the same answer may be dressed in: case, markdown, quotes, a final
    full stop.
    """
    text = text.casefold().replace("\u2212", "-")
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\$|\*\*|__|`|\\[()\[\]]", " ", text)
    text = re.sub(r"\s+", " ", text).rstrip(" .。")
    return text.strip("\"'“”‘’ ")
