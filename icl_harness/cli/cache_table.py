"""What a run keeps in caches at its providers: `icl caches` lists it and deletes it.

In: a run folder. Out: a row for each cache of its ledger: whether the provider still has it, and
until when. A run deletes its caches itself; what stays was left by a crash, and ends by itself. One
that the provider does not show before its time is over is kept in the ledger: another key, or
another server, may show it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from icl_harness.errors import AccountError, ProviderError, StoreError
from icl_harness.models import open_model
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import CacheEntry, Ledger
from icl_harness.store.identity import servers
from icl_harness.store.records import RunStore

HEADING = ("cache", "model", "shots", "tokens", "state")
NUMBERS = (2, 3)  # columns of the heading
UNCONFIRMED_S = 3600.0  # how long one may last whose making was not confirmed


def caches(folder: Path, *, delete: bool = False) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the heading and a row for each that a run keeps, and what must be said before; with
    `delete` they are deleted. Raises `StoreError`, `ProviderError`.
    """
    store = RunStore.open(folder)
    header = store.header
    store.close()
    with contextlib.closing(Ledger(folder)) as ledger, _claimed(folder) as free:
        if delete and not free:
            raise StoreError(
                f"{folder}: a run is going on, which deletes its caches itself. Wait for it, or "
                "stop it."
            )
        entries = sorted(ledger.caches(), key=lambda entry: entry.model)
        if not entries:
            return [], [f"{folder} keeps no caches at a provider."]
        rows: list[tuple[str, ...]] = [HEADING]
        for model, its in groupby(entries, key=lambda entry: entry.model):
            rows += asyncio.run(_rows(model, header, list(its), ledger if delete else None))
        return rows, [] if free else [
            f"{folder}: a run is going on, which deletes its caches itself."
        ]


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock if no run is going on there; give whether it is held."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError:
        yield True  # a folder that cannot be written: no run is going on there
        return
    try:
        yield True
    finally:
        lock.release()


async def _rows(
    model_id: str, header: Mapping[str, Any], entries: Sequence[CacheEntry], ledger: Ledger | None
) -> list[tuple[str, ...]]:
    """Return a row for each entry of a model; with a ledger, delete what they stand for."""
    from icl_harness.models.google.gemini import GoogleModel

    model = open_model(
        model_id, base_url=servers(header)[model_id], model_args=header["spec"]["model_args"]
    )
    assert isinstance(model, GoogleModel)  # no other provider's caches have names
    try:
        there = await model.cached_contents.find_all()
        rows = []
        for entry in entries:
            found = there.get(entry.token)
            if ledger is not None:
                if found is not None and found.name:
                    await model.cached_contents.delete(found.name)
                if found is not None or _has_ended(entry):
                    ledger.cache_gone(entry.token)
            rows.append(_row(entry, found, deleted=ledger is not None))
        return rows
    except Fault as fault:
        kind = AccountError if fault.fate == "account" else ProviderError
        raise kind(f"{model_id}: {model.account.describe(fault)}.") from None
    finally:
        await model.close()


def _has_ended(entry: CacheEntry) -> bool:
    return time.time() >= (entry.expires or entry.made + UNCONFIRMED_S)


def _row(entry: CacheEntry, found: Any, *, deleted: bool) -> tuple[str, ...]:
    name = found.name if found else entry.name or "(never confirmed)"
    tokens = "-" if entry.tokens is None else f"{entry.tokens:,}"
    if found is not None:
        state = "deleted" if deleted else f"until {_stamp(found.expire_time.timestamp())}"
    elif _has_ended(entry):
        state = "not there any more"
    else:
        until = f"until {_stamp(entry.expires)}" if entry.expires else "if it was made at all"
        state = f"not shown to this key by this server; there {until} unless it was deleted"
    return name, entry.model, f"{entry.shots:,}", tokens, state


def _stamp(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"
