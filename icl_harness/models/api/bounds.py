"""How large a response may be, and in what words one is described that is no answer.

The caller of an SDK says what it waits for (`room_for`); the HTTP client (bounded_client.py) holds
the response to it, decoded: a few bytes may unpack to gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

TOKEN_BYTES = 256  # more than any token takes in JSON, escaped
BESIDE_BYTES = 1 << 20  # what may stand beside an answer's tokens: ids, usage, filters' reports
ERROR_BYTES = 1 << 16  # an error's body is cut here
TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
MARKUP = re.compile(r"\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
EVENTS = re.compile(r"\s*(data|event|id|retry|):", re.IGNORECASE)
SHOWN = 60  # characters of what came


@dataclass(frozen=True)
class Room:
    """The most bytes of a response, and of one line of it. By default those of a list: a page of
    batches or caches.
    """

    most_bytes: int = 16 << 20
    line_bytes: int = 16 << 20


LIST = Room()
_room: ContextVar[Room] = ContextVar("room", default=LIST)


def room_now() -> Room:
    """Return what the response that is waited for may hold."""
    return _room.get()


def answer_bytes(tokens: int) -> int:
    """Return the most bytes of a response with an answer of so many tokens."""
    return BESIDE_BYTES + TOKEN_BYTES * tokens


@contextmanager
def room_for(answer_bytes: int, n_lines: int = 1) -> Iterator[None]:
    """Hold the responses that are waited for inside to an answer of so many bytes, or to as many
    lines of one each.
    """
    before = _room.set(Room(answer_bytes * max(1, n_lines), answer_bytes))
    try:
        yield
    finally:
        _room.reset(before)


def in_words(text: str) -> str:
    """Return what a text is that a person cannot read at a glance: a page of HTML, a stream of
    events; other texts as they are.
    """
    if MARKUP.match(text):
        title = TITLE.search(text)
        named = " ".join(title[1].split())[:SHOWN] if title else ""
        return f"a page of HTML or XML, titled {named!r}" if named else "a page of HTML or XML"
    if EVENTS.match(text):
        first = text.split("\n", 1)[0][:SHOWN]
        return f"a stream of events, which was not asked for: {first}"
    return text


def no_json_object(body: bytes) -> str:
    """Return what a response's body is where it is no JSON object or list; "" where it may be one,
    or is empty.
    """
    head = body[: 1 << 12].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")
    if not head or head[:1] in b"{[":
        return ""
    text = head.decode("utf-8", "replace")
    words = in_words(text)
    return f"{text[:SHOWN]!r} where a JSON object is due" if words == text else words
