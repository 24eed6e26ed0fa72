"""Lists of words, as patterns.

In: words and phrases with commas between, which may hold regular expressions. Out: the pattern that
matches one of them.
"""

from __future__ import annotations


def any_of(words: str) -> str:
    """Return the pattern that matches one of the words."""
    return "(?:" + "|".join(" ".join(word.split()) for word in words.split(",")) + ")"
