"""Options that stand in the input under letters, as in "(A) a robin" or "B. a crow".

In: an example's input. Out: the words of each option, so that an answer that gives an option's
words rather than its letter can be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from icl_harness.tasks.scoring.base import plain
from icl_harness.tasks.scoring.numbers import lone_number, only_number

_OPTION = re.compile(r"^\W{0,3}(?P<letter>[A-Za-z])[).:]\s+(?P<words>\S.*)$", re.MULTILINE)


def option_words(text: str, labels: Sequence[str]) -> dict[str, str]:
    """Return words → label of the options in a text; only of those whose words differ."""
    by_letter = {label.strip("() .").casefold(): label for label in labels}
    found: dict[str, str] = {}
    twice: set[str] = set()
    for option in _OPTION.finditer(text):
        label = by_letter.get(option["letter"].casefold())
        words = plain(option["words"])
        if label is None or not words:
            continue
        if found.get(words, label) != label:
            twice.add(words)
        found[words] = label
    return {words: label for words, label in found.items() if words not in twice}


def option_of(said: str, text: str, labels: Sequence[str]) -> str | None:
    """Return the label of the option whose words are what is said, to the letter but for dress, a
    leading article and, of numbers, their unit.
    """
    if not labels or any(len(label.strip("() .")) != 1 for label in labels):
        return None
    options = option_words(text, labels)
    found = options.get(plain(said)) or _only(
        options, _without_article(plain(said)), _without_article
    )
    if found is None and (number := only_number(said)) is not None:
        return _only(options, number, lone_number)
    return found


def _only(options: Mapping[str, str], wanted: object, form: Callable[[str], object]) -> str | None:
    """Return the label of the one option that is `wanted` in a form of its words."""
    found = [label for words, label in options.items() if form(words) == wanted]
    return found[0] if len(found) == 1 else None


def _without_article(words: str) -> str:
    return re.sub(r"^(?:an?|the) ", "", words)
