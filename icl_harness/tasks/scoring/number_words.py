"""Number words: "seventy-two" is 72, "two and a half" 2 1/2, "twelve hundred" 1200.

In: a text. Out: the same with its English number words as digits. Words in a row that make no
number ("five six") stay apart. "The two" and "one of" name no amount and are left as they are.
"""

from __future__ import annotations

import re

# fmt: off
_SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
# fmt: on
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_VALUES = {word: i for i, word in enumerate(_SMALL)} | {
    word: 10 * i for i, word in enumerate(_TENS, start=2)
}
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6,
    "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
}  # fmt: skip
_ANY_OF_SCALES = f"(?:{'|'.join(_SCALES)})"
_ANY_OF_VALUES = f"(?:{'|'.join(sorted(_VALUES, key=len, reverse=True))})"
_WORD = f"(?:{_ANY_OF_VALUES}|{_ANY_OF_SCALES})"
_PART = f"(?:{'s?|'.join(_PARTS)}s?)"
_WORDS = re.compile(
    rf"(?<![\w-])(?:an?\s+{_ANY_OF_SCALES}|{_ANY_OF_VALUES})"
    rf"(?:(?:[\s-]+|(?<=hundred)\s+and\s+|(?<=thousand)\s+and\s+|,\s(?=\w+\shundred)){_WORD})*"
    r"(?![\w])(?!\s+(?:of|another)\b)(?:\s+point\s+(?P<decimals>(?:(?:"
    + "|".join(_SMALL[:10])
    + r")(?:\s+(?!\w*\s+point))?\b)+))?",
    re.IGNORECASE,
)
_DETERMINED = re.compile(
    r"\b(?:the|these|those|all|any|every|each|other|no|his|her|their|our|my|its|this|that|which"
    r"|another|some|first|last|next|only)\s+(?:of\s+)?$",
    re.IGNORECASE,
)
_FRACTION_WORDS = re.compile(
    rf"\b(?P<above>an?|{'|'.join(_SMALL[1:10])})[\s-]+(?P<part>{_PART})\b(?!\s+(?:of|as)\b)",
    re.IGNORECASE,
)
_AND_FRACTION = re.compile(r"\b(\d+)\s+(?:and|&)\s+(?=\d+/\d+)")


def words_to_digits(text: str) -> str:
    """Return the text with its number words as digits."""
    if not re.search("[a-z]", text, re.IGNORECASE):
        return text
    text = re.sub(r"\bhalf an?\s(?=hundred|thousand|million|billion)", "0.5 ", text)
    text = _FRACTION_WORDS.sub(_as_fraction, text)
    text = _WORDS.sub(_as_digits, text)
    text = re.sub(r"^(\W*)half(?=\W*$)", r"\g<1>1/2", text, flags=re.IGNORECASE)
    return _AND_FRACTION.sub(r"\1 ", text)


def _as_digits(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - 20) : match.start()]
    if _DETERMINED.search(before):
        return match[0]
    words = re.findall(r"[a-z]+", match[0].casefold().partition(" point ")[0])
    values = _evaluated([word for word in words if word not in ("and", "a", "an")])
    shown = ", ".join(map(str, values))
    if match["decimals"]:
        digits = [str(_VALUES[word]) for word in match["decimals"].casefold().split()]
        tail = " " if match[0].endswith(" ") else ""
        return f"{shown}.{''.join(digits)}{tail}"
    return shown


def _evaluated(words: list[str]) -> list[int]:
    """Return the numbers that number words in a row make: one, or several where they do not fit."""
    found, total, current, is_open = [], 0, 0, False
    for word in words:
        if word == "hundred":
            current = (current or 1) * 100
        elif word in _SCALES:
            total, current = total + (current or 1) * _SCALES[word], 0
        else:
            value, rest = _VALUES[word], current % 100
            fits_ten = rest >= 20 and rest % 10 == 0 and 0 < value < 10
            if is_open and (value == 0 or (rest and not fits_ten)):
                found.append(total + current)
                total, current = 0, 0
            elif is_open and current == 0 and total == 0:  # "zero five"
                found.append(0)
            current += value
        is_open = True
    return [*found, total + current]


def _as_fraction(match: re.Match[str]) -> str:
    part = match["part"].casefold()
    below = _PARTS.get(part) or _PARTS[part.removesuffix("s")]
    return f"{_VALUES.get(match['above'].casefold(), 1)}/{below}"
