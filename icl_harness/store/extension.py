"""Extending a run: a larger grid takes the place of the one in run.json, its answers stay.

In: what run.json says and what the larger run would say. Out: what it says from then on. A draw, a
query and a shot count are the same in the larger grid (draws.py), so an extended run is the run
that the larger grid would have been. run.json changes first, and notes by which identity the
records know it until they are opened for writing: between the two a kill does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from icl_harness.errors import StoreError
from icl_harness.store.identity import identities

NUMBERS = ("draws", "queries", "samples")  # None of queries: all
LISTS = ("modes", "variants")  # new ones at the end, so that the earlier are still asked first
MOST = 1_000_000_000  # queries: all there are
GROWING = (*NUMBERS, "shots", *LISTS)


def with_growth(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return an old spec in which what the new one only adds to is as in the new one."""
    grown = {name: new[name] for name in GROWING if name in new and _grows(name, old, new)}
    return {**old, **grown}


def grows(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether a spec differs from an old one in what it adds alone."""
    return old != new and with_growth(old, new) == new


def extending_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the options of `icl extend` that make a new spec of an old one."""
    options = []
    for name in GROWING:
        if old.get(name) != new[name]:
            value = new[name] if isinstance(new[name], list) else [new[name] or MOST]
            options.append(f"--{name} {','.join(map(str, value))}")
    return " ".join(options)


def _grows(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    before, now = old.get(name), new[name]
    if name in NUMBERS:
        return now is None or (before is not None and now >= before)
    if name == "shots":
        return set(before or ()) <= set(now)
    return list(now[: len(before or ())]) == list(before or ())


def refuse_regrouping(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise `StoreError` where more queries would change the requests that earlier ones share."""
    if old.get("queries_per_request", 1) > 1 and old.get("queries") != new.get("queries"):
        raise StoreError(
            f"{path}: {old['queries_per_request']} queries share a request there, and with more "
            "queries other ones would. Extend its draws or shots, or run all in another folder."
        )


def extended(found: Mapping[str, Any], header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what run.json says of an extended run: all as it was, the larger grid, and what was
    there before.
    """
    old, new = found["spec"], header["spec"]
    tasks = {name: {**found["tasks"][name], **task} for name, task in header["tasks"].items()}
    note = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec": {name: old.get(name) for name in GROWING if old.get(name) != new[name]},
        "versions": found.get("versions", {}),
        "identities": identities(found),
    }
    notes = [*found.get("extended", []), note]
    return {**found, **header, "tasks": tasks, "extended": notes}


def earlier_identities(header: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the hashes by which a run's records may still know it."""
    return [note["identities"] for note in header.get("extended", [])]
