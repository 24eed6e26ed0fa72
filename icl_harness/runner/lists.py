"""Lists as people write them: names and shot counts, in texts with commas or in lists.

In: what a command line, YAML or Python gives. Out: a tuple, or a `SpecError` that says which part
of it is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from icl_harness.errors import SpecError


def parse_names(value: Any, what: str = "names") -> tuple[str, ...]:
    """Return the names in a text with commas, or in a list of such texts."""
    if isinstance(value, Mapping):
        raise SpecError(f"{what}: give a name or a list of names, not a mapping.")
    parts = list(_parts(value))
    for part in parts:
        if isinstance(part, Mapping | list | tuple):
            raise SpecError(f"{what}: {part!r} is not a name. Write one as in noise=0.2 or trec.")
    names: list[str] = []
    for part in parts:
        names += map(str.strip, str(part).split(","))
    return tuple(filter(None, names))


def parse_shots(value: Any) -> tuple[int, ...]:
    """Return the shot counts of ``0,1,4`` or ``1..1024`` (powers of two from 1; both ends belong to
    it), or of a list, in rising order.

    Raises `SpecError` naming the part that is no shot count.
    """
    counts: set[int] = set()
    for part in _parts(value):
        for written in str(part).split(","):
            counts |= _counts(written.strip())
    return tuple(sorted(counts))


def _parts(value: Any) -> Sequence[Any]:
    """Return the members of a list, or the one value that is none."""
    if value is None:
        return []
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        return [value]
    # a list, a range, an array, a column of a table; a set has no order of its own
    parts = value.tolist() if hasattr(value, "tolist") else list(value)
    if not isinstance(parts, list):  # an array without a dimension
        return [parts]
    return sorted(parts, key=str) if isinstance(value, set | frozenset) else parts


def _counts(written: str) -> set[int]:
    low, dots, high = written.partition("..")
    try:
        return _powers(int(low), int(high)) if dots else {_whole(written)}
    except ValueError:
        raise SpecError(
            f"--shots: {written!r} is not a shot count. Give whole numbers such as 0,1,4,16 or a"
            " range 1..1024."
        ) from None


def _whole(written: str) -> int:
    """Return a whole number; 4.0 of a column of numbers is one."""
    return int(written.removesuffix(".0"))


def _powers(low: int, high: int) -> set[int]:
    if low < 0 or high < low:
        raise SpecError(f"--shots: {low}..{high} is empty. A range rises, from 0 or more.")
    powers = {1 << exponent for exponent in range(high.bit_length())}
    return {low, high} | {power for power in powers if low <= power <= high}


def check_names(names: tuple[str, ...], what: str) -> None:
    """Refuse no names, the same name twice and names that cannot be printed. Raises `SpecError`."""
    if not names:
        raise SpecError(f"no {what} is named. Name at least one.")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise SpecError(f"{what} {name!r} is named twice. Name each once.")
        if not name.isprintable():  # a line break, half a surrogate pair
            raise SpecError(f"{what} {name!a} is no name: it holds what cannot be printed.")
