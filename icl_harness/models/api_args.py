"""Arguments of the API back ends: `--model-arg name=text` read and checked, keys found, SDKs imported (floor 2)."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from icl_harness.errors import ModelError, nearest


def whole(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `least` up."""

    def read(text: str) -> int:
        number = int(text)
        if number < least:
            raise ValueError
        return number

    read.__doc__ = f"a whole number from {least} up"
    return read


def seconds(text: str) -> float:
    """a number of seconds above 0"""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def yes_no(text: str) -> bool:
    """yes or no"""
    return {"yes": True, "no": False}[text]


def word(text: str) -> str:
    """a word"""
    if not text:
        raise ValueError
    return text


COMMON_ARGS: Mapping[str, Callable[[str], Any]] = {
    "concurrency": whole(1),
    "context_window": whole(1),
    "timeout_s": seconds,
    "max_retries": whole(0),
    "reasoning_tokens": whole(0),  # room for reasoning, added to max_tokens
    "send_temperature": yes_no,
}


def read_args(given: Mapping[str, str], extra: Mapping[str, Callable[[str], Any]], id: str) -> dict[str, Any]:
    """Return the values of `--model-arg`. Raises `ModelError` naming what is allowed."""
    readers = {**COMMON_ARGS, **extra}
    values = {}
    for name, text in given.items():
        if name not in readers:
            known = ", ".join(sorted(readers))
            raise ModelError(f"{id} has no model-arg {name!r}; it takes {known}.{nearest(name, readers)}")
        try:
            values[name] = readers[name](text)
        except (ValueError, KeyError):
            raise ModelError(f"{id}: model-arg {name} is {text!r}; it must be {readers[name].__doc__}.") from None
    return values


def find_key(names: Sequence[str], id: str) -> str:
    """Return the first key set in the environment, "" if none. Raises `ModelError` for one that no header can carry."""
    for name in names:
        key = os.environ.get(name, "").strip()  # a trailing newline would surface as an error that quotes the header
        if key and not re.fullmatch(r"[!-~]+", key):
            raise ModelError(f"{id}: {name} holds characters that no key has; set it again.")
        if key:
            return key
    return ""


def load_sdk(module: str, install: str, id: str) -> Any:
    """Import a provider's SDK. Raises `ModelError` saying what to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ModelError(f"{id} needs the Python package {module}: pip install {install!r}.") from None
