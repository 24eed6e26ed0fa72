"""What the back ends of local models share: `--model-arg` strings read into a dataclass, weights
hashed.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any, TypeVar

from icl_harness.errors import ModelError, nearest

DTYPES = ("auto", "float32", "float16", "bfloat16")
FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja")  # weights, config, tokenizer, chat template
T = TypeVar("T")


def option(default: Any, read: Callable[[str], Any]) -> Any:
    """Return a dataclass field that `read` makes of a string; its docstring says what the string
    must be.
    """
    return field(default=default, metadata={"read": read})


def dtype(text: str) -> str:
    """auto, float32, float16 or bfloat16"""
    if text not in DTYPES:
        raise ValueError
    return text


def true_false(text: str) -> bool:
    """true or false"""
    return {"true": True, "false": False}[text.lower()]


def read_options(options: Callable[..., T], model_args: Mapping[str, str], provider: str) -> T:
    """Read a dataclass of `option` fields from strings. Raises `ModelError` naming the option and
    what it may be.
    """
    readers: dict[str, Callable[[str], Any]] = {
        one.name: one.metadata["read"]
        for one in fields(options)  # type: ignore[arg-type]
    }
    values: dict[str, Any] = {}
    for name, text in model_args.items():
        if name not in readers:
            raise ModelError(
                f"--model-arg {name}: {provider} models take {', '.join(readers)}.{nearest(name, readers)}"
            )
        try:
            values[name] = readers[name](str(text))
        except (ValueError, KeyError):
            raise ModelError(
                f"--model-arg {name}={text}: it must be {readers[name].__doc__}."
            ) from None
    return options(**values)


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder that decides what its model says."""
    files = sorted(file for pattern in FILES for file in folder.glob(pattern))
    return {file.name: _sha256(file) for file in files}


def one_line(error: Exception) -> str:
    """Return what an exception says in at most 240 characters, ending with a full stop."""
    return textwrap.shorten(str(error), 240, placeholder=" …").rstrip(". ") + "."


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
