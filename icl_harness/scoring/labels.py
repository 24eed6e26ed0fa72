"""Labels: is the answer this one of a fixed set? (floor 1)"""

from __future__ import annotations

import re
from collections.abc import Sequence

from icl_harness.examples import Example
from icl_harness.scoring.base import UNPARSED, Score, first_line


def label_match(answer: str, example: Example) -> Score:
    """Compare the first line with the example's choices (its target alone, where it has none).

    Case, spaces and punctuation do not matter. Words around the label do not either, as long as one label only is
    named; of two labels at one place the longer is meant.
    """
    found = find_label(first_line(answer), example.choices or (example.target,))
    return UNPARSED if found is None else Score(found, float(found == example.target))


def find_label(line: str, labels: Sequence[str]) -> str | None:
    """Return the label that `line` is, begins with, or alone mentions; None where there is no such label."""
    if line in labels:
        return line
    words = _words(line)
    folded = {label: _words(label) for label in labels if _words(label)}
    same = [label for label, form in folded.items() if form == words]
    if same:
        return same[0] if len(same) == 1 else None
    places = [(at, form, label) for label, form in folded.items() if (at := _find(words, form)) is not None]
    # A label inside a longer one that is named too ("top_up" in "top_up_failed") is not named itself.
    named = [p for p in places if not any(len(q[1]) > len(p[1]) and _find(q[1], p[1]) is not None for q in places)]
    if not named:
        return None
    if len(named) == 1:
        return named[0][2]
    first = min(named)
    return first[2] if first[0] == 0 else None


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+", text.casefold()))


def _find(words: tuple[str, ...], part: tuple[str, ...]) -> int | None:
    n = len(part)
    return next((i for i in range(len(words) - n + 1) if words[i : i + n] == part), None)
