"""Counts in messages: a number, its noun and its verb."""

from __future__ import annotations

import re


def n_of(n: int, noun: str) -> str:
    """Return a number with its noun, which is given in the singular: 1 query, 2,000 queries."""
    if re.search("[^aeiou]y$", noun):
        return f"{n:,} {agree(n, noun, noun[:-1] + 'ies')}"
    ending = "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{n:,} {agree(n, noun, noun + ending)}"


def agree(n: int, one: str, more: str) -> str:
    """Return the word that goes with a number: 1 request `is` missing, 2 `are`."""
    return one if n == 1 else more
