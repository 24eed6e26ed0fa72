"""What a scorer returns, and the forms in which answers are compared."""

from __future__ import annotations

import re
import unicodedata
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


def plain(text: str) -> str:
    """Return `text` without what the same answer may be dressed in: case, accents written apart,
    markdown, quotes, a final full stop.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = text.casefold().replace("\u2212", "-")
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\$|\*\*|__|`|\\[()\[\]]", " ", text)
    text = re.sub(r"\s+", " ", text).rstrip(" .。")
    return text.strip("\"'“”‘’ ")
