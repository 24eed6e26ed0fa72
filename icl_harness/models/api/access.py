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

MASK = "***"  # in the place of a key in a URL
SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
KEY_START = re.compile(r"(sk|pk|rk|key|api|tok|token|secret|bearer|gsk|hf|AIza)[-_]?\w*[\d]\w{5,}")

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


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
    set_url = os.environ.get(variable) or None
    if given is not None and MASK in given.split("/"):
        if set_url is None or masked(set_url) != given:
            raise ModelError(
                f"{id}: its base URL holds a key, which is not written down. Set {variable} to the "
                "whole URL."
            )
        given = set_url
    url = given if given is not None else set_url
    if url is not None and (wrong := _wrong_url(url)):
        source = f"the base URL (from {variable})" if given is None else "the base URL"
        raise ModelError(f"{id}: {source} {wrong}. It must be like http://localhost:8000/v1.")
    return url


def masked(url: str) -> str:
    """Return a base URL without the keys in its path: a part that is a secret of the environment,
    or looks like a key.
    """
    keys = url_keys(url)
    place, parts = url, ""
    if "://" in url:
        scheme, _, rest = url.partition("://")
        host, slash, parts = rest.partition("/")
        place = f"{scheme}://{host}{slash}"
    shown = [MASK if part in keys else part for part in parts.split("/")]
    return place + "/".join(shown)


def url_keys(url: str) -> list[str]:
    """Return the keys in the path of a base URL, as servers may quote them."""
    secrets = {value for name, value in os.environ.items() if SECRET_NAME.search(name) and value}
    _, _, rest = url.partition("://")
    parts = rest.split("/")[1:]
    return [part for part in parts if part and (part in secrets or _is_key(part))]


def _is_key(part: str) -> bool:
    """Return whether a part of a path looks like a key: a UUID, or long and of letters and digits
    without the breaks that a name has.
    """
    if KEY_START.match(part) or UUID.fullmatch(part):
        return True
    longest = max(re.split(r"[-_.]", part), key=len)
    has_both = re.search(r"\d", longest) and re.search(r"[A-Za-z]", longest)
    return has_both is not None and len(longest) >= 16


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
