"""Shots by name: those of a paper, of another harness, of one's own choice.

In: a text file with the id of a pool example in each line. As the file may change between a run and
its resume, a variant names its contents too: `ids=FILE@SHA`, the beginning of their SHA-256.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from icl_harness.errors import SpecError, nearest
from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Argument, Context, Value, operator

STAMPED = re.compile(r"(.+)@([0-9a-f]{8})")


def _read(text: str) -> Value:
    """Return the file with what identifies its contents, which may be there already."""
    if STAMPED.fullmatch(text):
        return text
    if not text:
        raise ValueError
    return f"{text}@{hashlib.sha256(_contents(text)).hexdigest()[:8]}"


FILE = Argument(
    read=_read, rule="a file with the id of a pool example in each line", sample="shots.txt"
)


@operator("shots", argument=FILE, same_in_draws=True)
def ids(shots: list[Example], context: Context, file: str) -> list[Example]:
    """Show the pool examples whose ids stand in a file, in its order; all draws the same."""
    name, stamp = _split(file)
    data = _contents(name)
    if hashlib.sha256(data).hexdigest()[:8] != stamp:
        raise SpecError(
            f"variant ids={file}: {name} has changed since. Put the old ids back, or name the "
            f"file as ids={name} in a run of its own."
        )
    by_id = {shot.id: shot for shot in shots}
    return [by_id[id] for id in _checked(name, data, context) if id in by_id]


def _checked(name: str, data: bytes, context: Context) -> list[str]:
    """Return the ids of a file, each known and there once."""
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SpecError(f"ids={name}: the file is not UTF-8 text. Write an id a line.") from None
    known = set(context.pool)
    found: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        id = line.strip()
        if not id:
            continue
        if id not in known:
            raise SpecError(
                f"ids={name}, line {number}: {id[:60]!r} is the id of no example that can be a "
                f"shot of {context.task}.{nearest(id, known)} Ids are those of the column shot_ids "
                "of a run's records."
            )
        if id in found:
            raise SpecError(
                f"ids={name}, line {number}: {id[:60]!r} stands in line {found[id]} already. Name "
                "each example once; repeat=R shows the first R again and again."
            )
        found[id] = number
    if not found:
        raise SpecError(f"ids={name}: the file names no example. Write an id a line.")
    return list(found)


def _split(file: str) -> tuple[str, str]:
    stamped = STAMPED.fullmatch(file)
    assert stamped is not None, "it was read by `_read`"
    return stamped[1], stamped[2]


def _contents(name: str) -> bytes:
    try:
        return Path(name).expanduser().read_bytes()
    except OSError as error:
        raise SpecError(
            f"ids={name}: cannot read the file ({error.strerror}). Name a file with the id of a "
            "pool example in each line."
        ) from None
