"""The JSON of a node's requests, made once; only the query's own text is escaped for each.

In: the parameters, with `HOLE` in the last text where the query goes. Out: bytes in parts, of which
the first, with all the shots in them, are the same objects for every query.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from icl_harness.prompts.tree import Piece

HOLE = "\x00the query\x00"
SLICE_BYTES = 256 * 1024


def turns(pieces: Sequence[Piece]) -> list[tuple[str, list[tuple[int, str]]]]:
    """Return the prompt's turns: a role, and its texts with the number of their piece; the last
    text is `HOLE`.
    """
    numbered = [(i, piece.role, piece.text) for i, piece in enumerate(pieces)]
    numbered.append((len(pieces), "user", HOLE))
    return [
        (role, [(i, text) for i, _, text in turn])
        for role, turn in groupby(numbered, key=lambda entry: entry[1])
    ]


class Body:
    """A request's JSON with a hole. The texts of the prompt come last in `params`, so that the last
    hole is the one.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        head, hole, tail = to_json(params).rpartition(to_json(HOLE)[1:-1])
        if not hole or not tail.endswith(b"}"):
            raise ValueError("the parameters hold no place for the query")
        self._head = sliced(head)
        self._tail = tail[:-1]

    def fill(self, query: str, **own: Any) -> Filled:
        """Return the request of one query; `own` are parameters that differ between queries."""
        return Filled((*self._head, to_json(query)[1:-1], self._tail + to_members(own) + b"}"))


class Filled:
    """A request's bytes in parts; it can be sent as often as need be."""

    def __init__(self, parts: tuple[bytes, ...]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that a body in parts needs, lest it be sent in chunks of unknown
        length.
        """
        return {"Content-Type": "application/json", "Content-Length": str(len(self))}


def sliced(data: bytes) -> tuple[bytes, ...]:
    """Return data in slices: what a socket does not take at once is copied, but no more than a
    slice of it.
    """
    return tuple(data[i : i + SLICE_BYTES] for i in range(0, len(data), SLICE_BYTES))


def to_members(params: Mapping[str, Any]) -> bytes:
    """Return the JSON of parameters that follow others in their object."""
    return b"".join(b',"%s":%s' % (name.encode(), to_json(value)) for name, value in params.items())


def to_json(value: Any) -> bytes:
    """Return a value as the bytes of its JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
