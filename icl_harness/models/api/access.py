"""What an API back end needs before it can be asked: a key, a server's URL, the provider's SDK."""

from __future__ import annotations

import importlib
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from icl_harness.errors import ModelError


def find_key(names: Sequence[str], id: str) -> str:
    """Return the first key set in the environment or else in `./.env`, "" if none.

    Raises `ModelError` for one that no header can carry.
    """
    written = _dotenv()
    for name in names:
        # Stripped: a trailing newline would surface as an error that quotes the header.
        key = (os.environ.get(name) or written.get(name) or "").strip()
        if key and not re.fullmatch(r"[!-~]+", key):
            raise ModelError(f"{id}: {name} holds characters that no key has; set it again.")
        if key:
            return key
    return ""


def _dotenv() -> dict[str, str | None]:
    """Return what `.env` in the working directory says; the environment of this process is left as
    it is.
    """
    if not Path(".env").is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return dotenv_values(".env", encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ModelError(".env cannot be read: it is no UTF-8 text. Save it as UTF-8.") from None


def find_base_url(given: str | None, variable: str, id: str) -> str | None:
    """Return the server's URL, given or from the environment; None for the provider's own. Raises
    `ModelError`.

    No message quotes the URL: it may hold a password.
    """
    url = given if given is not None else os.environ.get(variable) or None
    if url is not None and (wrong := _wrong_url(url)):
        source = f"the base URL (from {variable})" if given is None else "the base URL"
        raise ModelError(f"{id}: {source} {wrong}. It must be like http://localhost:8000/v1.")
    return url


def _wrong_url(url: str) -> str:
    """Return what is wrong with a base URL, "" if nothing; an SDK would meet it as a traceback or
    another server.
    """
    if not url:
        return "is empty; leave it out for the provider's own server"
    if not url.isprintable() or " " in url:
        return "holds a space, a line break or another character that no URL has"
    try:
        split = urlsplit(url)
        host, port = split.hostname or "", split.port
        if ":" in host or re.fullmatch(r"[\d.]+", host):
            ipaddress.ip_address(host)
        elif not re.fullmatch(r"[\w.-]+", host.encode("idna").decode()):
            host = ""
    except ValueError:
        # brackets that do not match, a port beyond 65535, no address, an empty part of a name
        return "has no valid host or port"
    if split.scheme not in ("http", "https"):
        return "does not begin with http:// or https://"
    if split.username is not None or split.password is not None:
        return (
            "holds a user or password, which would be written down; put the key into the "
            "environment variable"
        )
    if split.query or split.fragment:
        return "holds a ? or #; it must end with its path"
    return "" if host and port != 0 else "has no valid host or port"


def load_sdk(module: str, install: str, id: str) -> ModuleType:
    """Import a provider's SDK. Raises `ModelError` saying what to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ModelError(
            f"{id} needs the Python package {module}: pip install {install!r}."
        ) from None
