"""The hash of a local model's files, so that a run folder says which weights it measured."""

from __future__ import annotations

import hashlib
import textwrap
from itertools import chain
from pathlib import Path

FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja")  # weights, config, tokenizer, chat template


def file_hashes(place: Path) -> dict[str, str]:
    """Return the SHA-256 of a GGUF file, or of each file in a folder that decides what its model
    says.
    """
    if place.is_file():
        return {place.name: _sha256(place)}
    files = sorted(chain.from_iterable(map(place.glob, FILES)))
    return {file.name: _sha256(file) for file in files}


def one_line(error: Exception) -> str:
    """Return what an exception says in at most 240 characters, ending with a full stop."""
    return textwrap.shorten(str(error), 240, placeholder=" …").rstrip(". ") + "."


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
