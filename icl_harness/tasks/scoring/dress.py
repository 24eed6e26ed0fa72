r"""The dress of an answer: what may stand around the same words without changing what they say.

In: an answer as a model wrote it. Out: the same words in plain dress: one form for each character
(NFKC), simple quotes and hyphens, no markdown, LaTeX or tags. What marks an answer (`\boxed{}`,
`<answer>`, "####") becomes the words "Answer:".
"""

from __future__ import annotations

import re
import unicodedata

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad*`", ""),
        **dict.fromkeys("\u2018\u2019\u201b\u02bc\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb「」『』【】《》", '"'),
        **dict.fromkeys("\u2010\u2012\ufe58", "-"),
        "\u3002": ". ",
        "\u3001": ", ",
        "\u2192": "->",
        "\u21d2": "->",
    }
)
_SIGN = re.compile(r"\u2212\s?|(?<![\w)]) ?[\u2013\u2014](?=\d)")
_MARKING = re.compile(
    r"\\(?:boxed|fbox|framebox)\s*(?=\{)|<(?:final[_ ]?)?(?:answer|label|output|response|result)>"
    r"|^[ \t]{0,8}####[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_LATEX = re.compile(
    r"\\(?:text|math)(?:bf|it|rm|sf|tt|normal|up)?(?![a-z])|\\(?:mbox|hbox|emph|underline|bf)\b"
    r"|\\[()\[\],;!]|\\?\$"
)
_ESCAPED = re.compile(r"\\([_\-#&%{}.>])")
_TAG = re.compile(r"</\w{1,30}>|</?(?:b|i|u|em|strong|code|p|br|span|div|s|pad|bos)\s?/?>")
_FENCE = re.compile(r"^[ \t]*```\w*[ \t]*$", re.MULTILINE)
_BULLET = re.compile(r"^[ \t]*(?:[-+>\u2022\u25cf\u25aa\u25e6\u2023][ \t]+|#{1,6}[ \t]*)+", re.M)


def plain_dress(answer: str) -> str:
    """Return the answer's words without their dress; line ends stay."""
    text = _FENCE.sub("", answer)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = _MARKING.sub(" Answer: ", text)
    text = _ESCAPED.sub(r"\1", _LATEX.sub(" ", text))
    text = _TAG.sub(" ", text).translate(_PLAIN)
    text = _BULLET.sub("", text)
    text = _SIGN.sub(" -", text)
    return re.sub(r"[\u2013\u2014\u2015]+", " - ", text)


def comparable(text: str) -> str:
    """Return the form in which words are compared: case-folded, one form for each character."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text).casefold()
