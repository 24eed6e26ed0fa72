"""Texts of others on a terminal: what drives one (escape sequences, titles, the clipboard, the
direction of writing) is shown or left out, never sent.
"""

from __future__ import annotations

import functools
import io
import re
import sys
import unicodedata
from typing import IO, TextIO

# control, format, surrogate and private characters; separators of lines and paragraphs
KINDS = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
KEPT = "\n\t"


@functools.cache
def _driving() -> re.Pattern[str]:
    """Return a pattern of the characters that drive a terminal."""
    found = [chr(i) for i in range(0x20000) if unicodedata.category(chr(i)) in KINDS]
    tags = [chr(i) for i in range(0xE0000, 0xE0080)]
    some = "".join(map(re.escape, {*found, *tags} - set(KEPT)))
    return re.compile(f"[{some}\U000f0000-\U0010ffff]")  # the last planes are private


def visible(text: str) -> str:
    """Return `text` with such characters written out, as in \\x1b; line ends and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _driving().sub(lambda match: _written(match[0]), text)


def without_controls(text: str) -> str:
    """Return `text` without such characters, for a message."""
    if text.isprintable():
        return text
    return _driving().sub(lambda match: " " if match[0] in "\r\v\f\x85\u2028\u2029" else "", text)


def for_stream(text: str, stream: TextIO | None = None) -> str:
    """Return `text` as a stream gets it, standard output by default: visible on a terminal, as it
    is elsewhere.
    """
    stream = stream or sys.stdout
    return visible(text) if stream.isatty() else text


def _written(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class VisibleBytes(io.BufferedIOBase):
    """A file for UTF-8 that shows, in another, what would drive a terminal. Each write holds whole
    characters.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def write(self, content: object, /) -> int:
        """Write whole characters."""
        assert isinstance(content, bytes | bytearray | memoryview)
        data = bytes(content)
        self._file.write(visible(data.decode("utf-8", "replace")).encode())
        return len(data)

    def flush(self) -> None:
        """Pass on what is held back."""
        self._file.flush()
