"""The JSON of a node's requests, made once; only what is a query's own is escaped for each.

In: what makes a request's parameters out of the turns of a chat, with `HOLE` where a query's text
goes. Out: bytes in parts, of which the first, with all the shots in them, are the same objects for
every query.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

from icl_harness.prompts.tree import Piece, Query

HOLE = "\x00the query\x00"
SLICE_BYTES = 256 * 1024
OWN = -1  # the number of a text that is no piece of the prefix

# What JSON can hold
Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
Turn = tuple[str, list[tuple[int, str]]]  # a role; the texts of its turn, each with its number


def turns(pieces: Sequence[Piece], role: str = "user", text: str = HOLE) -> list[Turn]:
    """Return the turns of a prefix and one more text in the last of them. A text of the prefix
    bears the number of its piece.
    """
    numbered = [(piece.role, i, piece.text) for i, piece in enumerate(pieces)]
    numbered.append((role, len(pieces), text))
    found = groupby(numbered, key=lambda entry: entry[0])
    return [(role, list(map(itemgetter(1, 2), turn))) for role, turn in found]


def query_turns(query: Query) -> list[tuple[str, str]]:
    """Return what follows the shared node as (role, text), one for each turn: the query's own
    edges, then its text, which is the user's.
    """
    edges = [(edge.role or "user", edge.text) for edge in query.own]
    found = groupby([*edges, ("user", query.text)], key=lambda edge: edge[0])
    return [(role, "".join(map(itemgetter(1), turn))) for role, turn in found]


def query_bytes(query: Query) -> int:
    """Return the length of what follows the shared node."""
    return len(query.tail.encode())


class Body:
    """A request's JSON with a hole. `make` makes the parameters of turns; their messages must come
    last, so that more of them can follow. `more` makes the messages of turns that follow.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        make: Callable[[list[Turn]], Mapping[str, Json]],
        more: Callable[[list[Turn]], Sequence[Json]],
        turns: Callable[[Sequence[Piece], str], list[Turn]] = turns,
    ) -> None:
        self._pieces, self._make, self._more, self._turns = pieces, make, more, turns
        self._made: dict[str, tuple[tuple[bytes, ...], bytes]] = {}
        self._split("user")

    def fill(self, query: Query, **own: Json) -> Filled:
        """Return the request of one query; `own` are parameters that differ between queries."""
        (role, text), *others = query_turns(query)
        head, close = self._split(role)
        end = b""
        for turn in others:
            for message in self._more([_own_turn(*turn)]):
                end += b"," + to_json(message)
        return Filled((*head, to_json(text)[1:-1], close + end + b"]" + to_members(own) + b"}"))

    def _split(self, role: str) -> tuple[tuple[bytes, ...], bytes]:
        """Return the bytes before the hole, and those that close its message, where the first text
        that is a query's own is a role's.
        """
        if role not in self._made:
            whole = to_json(self._make(self._turns(self._pieces, role)))
            head, hole, tail = whole.rpartition(to_json(HOLE)[1:-1])
            if not hole or not tail.endswith(b"]}"):
                raise ValueError("the parameters have no messages at their end with a hole in them")
            self._made[role] = sliced(head), tail[:-2]
        return self._made[role]


class TextBody:
    """A request's JSON whose prompt is one text."""

    def __init__(self, params: Mapping[str, Json], name: str, prefix: str) -> None:
        head, _, tail = to_json({**params, name: prefix + HOLE}).rpartition(to_json(HOLE)[1:-1])
        self._head, self._tail = sliced(head), tail[:-1]
        self.n_chars = len(prefix)

    def fill(self, query: Query, **own: Json) -> Filled:
        """Return the request of one query; `own` are parameters that differ between queries."""
        text = to_json(query.tail)[1:-1]
        return Filled((*self._head, text, self._tail + to_members(own) + b"}"))


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


def to_members(params: Mapping[str, Json]) -> bytes:
    """Return the JSON of parameters that follow others in their object."""
    return b"".join(b',"%s":%s' % (name.encode(), to_json(value)) for name, value in params.items())


def to_json(value: Json) -> bytes:
    """Return a value as the bytes of its JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _own_turn(role: str, text: str) -> Turn:
    return role, [(OWN, text)]
