"""Labels: is the answer this one of a fixed set?

Case, spaces and punctuation do not matter, nor do the words around a label, as long as one label
only is named. A label that its sentence denies ("not negative") is not read. Labels of one letter
are: "a" is a word too, so these count in their own case alone, as the whole line or after a cue
("Answer: B", "It is a B."), never by being mentioned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from icl_harness.examples import Example
from icl_harness.tasks.scoring.base import UNPARSED, Score, first_line, negated

_WORD = re.compile(r"[^\W_]+")
_OPENING = r"[\s\"'“‘*_`(\[]{0,8}"  # bounded, as long runs of brackets would take quadratic time
_CUED = re.compile(
    rf"(?:[:=]|\b(?i:is|be)\b){_OPENING}(?:(?:an?|the)\s+)?"
    rf"(?:(?:answer|label|option|class|category|letter)\s+)?{_OPENING}"
    # What follows must not make a word or a phrase of the letter: "A-rated", "A's", "A good sign",
    # "C++".
    r"(?P<letter>[^\W_])(?!['’-]\w)(?=[^\w\s+#]|_*\s*$|\s+[(–—-])"
)


def label_match(answer: str, example: Example) -> Score:
    """Compare the first line with the example's choices (its target alone, where it has none)."""
    found = find_label(first_line(answer), example.choices or (example.target,))
    return UNPARSED if found is None else Score(found, float(found == example.target))


def find_label(line: str, labels: Sequence[str]) -> str | None:
    """Return the label that `line` is, begins with, or alone mentions; None where there is no such
    label.
    """
    if line in labels:
        return line
    letters = {label: _bare(label) for label in labels if len(_bare(label)) == 1}
    worded = {label: _words(label) for label in labels if label not in letters and _words(label)}
    same = [label for label, letter in letters.items() if letter == _bare(line)]
    same += [label for label, words in worded.items() if words == _words(line)]
    if same:
        return same[0] if len(same) == 1 else None
    cued, named = _cued_letter(line, letters), _named(line, worded)
    if cued and named:
        return None
    return cued or named


def _named(line: str, labels: Mapping[str, tuple[str, ...]]) -> str | None:
    """The one label that the line mentions; of several, the one that it begins with."""
    words = _words(line)
    found = {label: _find(words, form) for label, form in labels.items()}
    mentioned = {label: labels[label] for label, at in found.items() if at is not None}
    named = [label for label, form in mentioned.items() if not _in_longer(form, mentioned)]
    if not named:
        return None
    at, _, label = min((found[label] or 0, labels[label], label) for label in named)
    if at == 0:
        return label
    starts = [word.start() for word in _WORD.finditer(line)]
    return None if len(named) > 1 or negated(line[: starts[at]]) else label


def _in_longer(form: tuple[str, ...], mentioned: Mapping[str, tuple[str, ...]]) -> bool:
    """Return whether a label is within a longer one that is mentioned too: "top_up" in
    "top_up_failed".
    """
    longer = [other for other in mentioned.values() if len(other) > len(form)]
    return any(_find(other, form) is not None for other in longer)


def _cued_letter(line: str, labels: Mapping[str, str]) -> str | None:
    """The label of one letter that a cue names, where the line holds no other one."""
    cues = [cue for cue in _CUED.finditer(line) if cue["letter"] in labels.values()]
    mentioned = {word for word in _WORD.findall(line) if word in labels.values()}
    if not cues or len(mentioned) > 1 or negated(line[: cues[-1].start("letter")]):
        return None
    found = [label for label, letter in labels.items() if letter in mentioned]
    return found[0] if len(found) == 1 else None


def _bare(text: str) -> str:
    """The text from its first to its last letter or digit."""
    words = list(_WORD.finditer(text))
    return text[words[0].start() : words[-1].end()] if words else ""


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.casefold() for word in _WORD.findall(text))


def _find(words: tuple[str, ...], part: tuple[str, ...]) -> int | None:
    n = len(part)
    return next((i for i in range(len(words) - n + 1) if words[i : i + n] == part), None)
