"""Rows of a Hugging Face hub data set, through `datasets`."""

from __future__ import annotations

import contextlib
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from icl_harness.errors import DataError
from icl_harness.tasks.row_files import class_name

PROBE_S = 5.0  # how long to wait for the hub's door before only the cache is asked


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A data set on the Hugging Face hub, of one config or of several together. `data_dir` picks a
    folder of it, for branches without configs.
    """

    id: str
    config: str | tuple[str, ...] | None = None
    revision: str | None = None
    data_dir: str | None = None


def hub_rows(hub: Hub, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, row) with class ids turned into their names. Raises `DataError`."""
    configs = hub.config if isinstance(hub.config, tuple) else (hub.config,)
    for config in configs:
        yield from _rows_of(hub, config, split)


def _rows_of(hub: Hub, config: str | None, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    loaded = _load(hub, config, split)
    names = {c: f.names for c, f in loaded.features.items() if isinstance(f, datasets.ClassLabel)}
    for number, row in enumerate(loaded):
        named = {column: class_name(names[column], row[column]) for column in names}
        yield f"{hub.id} ({split}), row {number}", {**row, **named}


def _load(hub: Hub, config: str | None, split: str) -> Any:
    import datasets

    name = f"{hub.id} {config or hub.data_dir or ''}".strip()
    try:
        with offline_if_unreachable():
            return datasets.load_dataset(
                hub.id, config, split=split, revision=hub.revision, data_dir=hub.data_dir
            )
    except ConnectionError as error:
        raise DataError(
            f"data set {name} is not on this machine and the hub cannot be reached. "
            "Give a folder with its files: --data DIR (or ICL_DATA)."
        ) from error
    except Exception as error:
        # datasets, huggingface_hub, pyarrow and HTTP errors: none has a common base
        first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"data set {name}, split {split}, cannot be loaded from the hub: {first}. "
            "Or give a folder with its files: --data DIR (or ICL_DATA)."
        ) from error


@contextlib.contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Switch both libraries to their offline mode where the hub does not answer.

    They would retry each request for half a minute before they looked into their cache.
    """
    import datasets
    from huggingface_hub import constants

    before = (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)
    if not _reachable(constants.ENDPOINT):
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _reachable(endpoint: str) -> bool:
    url = urllib.parse.urlsplit(endpoint)
    if url.scheme in urllib.request.getproxies() or os.environ.get("ALL_PROXY"):
        return True  # only the proxy knows
    door = (url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
    try:
        socket.create_connection(door, PROBE_S).close()
    except OSError:
        return False
    return True
