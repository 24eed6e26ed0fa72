"""Where a text mentions labels.

In: a text in plain dress and the labels. Out: a `Mention` for each place where a label's words
stand, whatever their case and whatever stands between them: `card_arrival`, "Card Arrival",
"cardArrival". Of labels that begin at the same word the longest is meant. Labels of one letter or
digit, and numbers, are "short": as "a" is a word and "2" may count anything, whoever reads them
also looks at what stands around them. Chinese, Japanese and Korean characters are a word each.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from icl_harness.tasks.scoring.dress import comparable

_EAST_ASIAN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_EAST_ASIAN}]|[^\W_{_EAST_ASIAN}]+")
# With numbers among the labels signs and decimals are part of the word.
_NUMBER = r"(?:(?<![\w)])[-+])?\d+(?:\.\d+)?(?![^\W_])"
_WORD_OR_NUMBER = re.compile(rf"{_NUMBER}|{_WORD.pattern}")
_IS_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_GAP = re.compile(r"[^\w.!?;\n]{1,5}|_{1,2}|\. ?(?=\w)|")
_JOINED = re.compile(r"[-_]| ?- ?|")
_Key = TypeVar("_Key")
_NUMBERED_LABEL = re.compile(r"\b(?:label|class|option|choice|answer)_$", re.IGNORECASE)
MOST_MENTIONS = 64  # that are looked at: the first and the last of them, in an endless answer
SAID_SIGN = re.compile(r"\b(?:minus|negative)[ -](\d+|zero|one|two|three|four|five)\b", re.I)
_NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"
)  # fmt: skip
DIGITS = {word: str(value) for value, word in enumerate(_NUMBER_WORDS)}


@dataclass(frozen=True, slots=True)
class Mention:
    """A label, and from where to where it stands in the text."""

    label: str
    start: int
    end: int
    is_short: bool = False
    exact: bool = True  # a short label in its own case


@dataclass(frozen=True, slots=True)
class Forms:
    """The words of each label, in the ways in which they are looked up."""

    by_words: dict[tuple[str, ...], tuple[str, ...]]
    by_squeezed: dict[str, tuple[str, ...]]
    by_first: dict[str, list[tuple[str, ...]]]
    short: dict[str, str]  # a letter in its case, or a number
    short_folded: dict[str, tuple[str, ...]]
    has_numbers: bool
    highest: str


def words_of(text: str, has_numbers: bool = False) -> list[re.Match[str]]:
    return list((_WORD_OR_NUMBER if has_numbers else _WORD).finditer(text))


@lru_cache(maxsize=256)
def label_forms(labels: tuple[str, ...]) -> Forms:
    """Return the forms of the labels; made once for each set of them."""
    numbers = [label for label in labels if _IS_NUMBER.fullmatch(_signed(label).strip())]
    has_numbers = bool(numbers)
    forms = Forms({}, {}, {}, {}, {}, has_numbers, max(numbers, key=float, default=""))
    for label in labels:
        text = _signed(label)
        words = tuple(comparable(word[0]) for word in words_of(text, has_numbers))
        if not words:
            continue
        short = _bare(text, has_numbers)
        if len(words) == 1 and (len(short) == 1 or _IS_NUMBER.fullmatch(short)):
            key = _number(short)
            forms.short.setdefault(key, label)
            _add(forms.short_folded, comparable(key), label)
            if forms.short[key] != label:  # "C" and "C#" cannot be told apart by their words
                _add(forms.short_folded, key + "!", label)
            continue
        _add(forms.by_words, words, label)
        _add(forms.by_squeezed, "".join(words), label)
        forms.by_first.setdefault(words[0], []).append(words)
    for found in forms.by_first.values():
        found.sort(key=len, reverse=True)
    return forms


def _signed(label: str) -> str:
    """Return a label with plain signs, its accents composed as those of an answer are."""
    label = label.replace("\u2212", "-").replace("\u2013", "-")
    return label if label.isascii() else unicodedata.normalize("NFC", label)


def _bare(text: str, has_numbers: bool) -> str:
    return words_of(text, has_numbers)[0][0]


def _add(table: dict[_Key, tuple[str, ...]], key: _Key, label: str) -> None:
    table[key] = (*table.get(key, ()), label)


def _number(word: str) -> str:
    """Return the form in which numbers are looked up: 1 for "01", "+1" and "1.0"."""
    if not _IS_NUMBER.fullmatch(word):
        return word
    value = float(word)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(value)


def whole(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that a text is, but for dress; None where it is none, or says more."""
    forms = label_forms(tuple(labels))
    words = [word[0] for word in words_of(_signed(text), forms.has_numbers)]
    if not words:
        return None
    folded = tuple(comparable(word) for word in words)
    found = forms.by_words.get(folded) or forms.by_squeezed.get("".join(folded)) or ()
    if len(words) == 1 and not re.search(r"\w[+#%]|±", text):
        found = found or _whole_short(words[0], forms)
    return found[0] if len(found) == 1 else None


def _whole_short(word: str, forms: Forms) -> tuple[str, ...]:
    key = _number(DIGITS.get(comparable(word), word) if forms.has_numbers else word)
    if f"{key}!" in forms.short_folded:
        return ()
    if key in forms.short:
        return (forms.short[key],)
    return forms.short_folded.get(comparable(key), ())


def mentions(text: str, labels: Sequence[str]) -> list[Mention]:
    """Return the mentions of labels in a text in plain dress, in order."""
    forms = label_forms(tuple(labels))
    words = words_of(text, forms.has_numbers)
    folded = [comparable(word[0]) for word in words]
    found: list[Mention] = []
    at = 0
    while at < len(words):
        label, n = _longest(text, words, folded, at, forms)
        if label is not None:
            found.append(Mention(label, words[at].start(), words[at + n - 1].end()))
        elif (short := _short(words[at], forms)) is not None:
            found.append(short)
        at += n
    found = [mention for mention in found if not _within_longer_name(text, mention)]
    if len(found) > MOST_MENTIONS:
        found = found[: MOST_MENTIONS // 2] + found[-MOST_MENTIONS // 2 :]
    return found


def _within_longer_name(text: str, mention: Mention) -> bool:
    """Return whether a mention is part of an identifier that goes on: "card_arrival_delay"."""
    before, after = text[max(0, mention.start - 10) : mention.start], text[mention.end :][:2]
    if mention.is_short and _NUMBERED_LABEL.search(before):
        return False
    return bool(re.match(r"_[^\W_]", after) or re.search(r"[^\W_]_$", before))


def _longest(
    text: str, words: list[re.Match[str]], folded: list[str], at: int, forms: Forms
) -> tuple[str | None, int]:
    """Return the longest label that begins at a word, and its number of words (1 without one)."""
    best: tuple[str, ...] = ()
    length = 1
    for form in forms.by_first.get(folded[at], ()):
        n = len(form)
        if tuple(folded[at : at + n]) == form and _close(text, words[at : at + n], _GAP):
            best, length = forms.by_words[form], n
            break
    for n in (3, 2, 1):  # "non-toxic" for a label "nontoxic", "cardArrival" for "card_arrival"
        squeezed = "".join(folded[at : at + n])
        if n <= length and best:
            break
        if squeezed in forms.by_squeezed and at + n <= len(words):
            joint = _GAP if folded[at] == "non" else _JOINED
            if _close(text, words[at : at + n], joint):
                best, length = forms.by_squeezed[squeezed], n
                break
    return (best[0] if len(best) == 1 else None), length


def _close(text: str, words: Sequence[re.Match[str]], gap: re.Pattern[str]) -> bool:
    ends = [word.end() for word in words[:-1]]
    starts = [word.start() for word in words[1:]]
    return all(gap.fullmatch(text, end, start) for end, start in zip(ends, starts, strict=True))


def _short(word: re.Match[str], forms: Forms) -> Mention | None:
    key = _number(word[0])
    if f"{key}!" in forms.short_folded:
        return None
    if key in forms.short:
        return Mention(forms.short[key], word.start(), word.end(), is_short=True)
    other_case = forms.short_folded.get(comparable(key), ())
    if len(other_case) != 1:
        return None
    return Mention(other_case[0], word.start(), word.end(), is_short=True, exact=False)
