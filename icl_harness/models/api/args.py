"""Readers of single values of `--model-arg`, as the local back ends take them."""

from __future__ import annotations

from collections.abc import Callable


def whole(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `least` up."""

    def read(text: str) -> int:
        number = int(text)
        if number < least:
            raise ValueError
        return number

    read.__doc__ = f"a whole number from {least} up"
    return read


def word(text: str) -> str:
    """a word"""
    if not text:
        raise ValueError
    return text
