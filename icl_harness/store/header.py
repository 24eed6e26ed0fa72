"""What a run says of itself, `run.json`: written once, compared when the run resumes.

`spec`, `data` and `weights` never change: the records carry their hash. `wording` is the hash of
what is sent beside the examples, `scoring` of how answers are scored; `icl rescore` changes the
latter, and notes what it was in `rescored`. Runs of version 0.1 have one hash for both, `prompts`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from icl_harness.errors import StoreError
from icl_harness.files import write_atomically
from icl_harness.models.api.access import masked
from icl_harness.store.extension import extending_options, grows, refuse_regrouping, with_growth
from icl_harness.store.identity import servers

RUN_FILE = "run.json"
RECORDS_FILE = "records.db"

# What a run that was stopped before its run.json was there may have left.
LEFT_BY_A_STOPPED_START = {
    ".lock",
    "records.crc",
    *(RECORDS_FILE + end for end in ("", "-wal", "-shm", "-journal")),
}


def check_complete(path: Path) -> None:
    """Raise `StoreError` where a run has lost its records: run.json is written after them."""
    if not (path / RECORDS_FILE).exists():
        raise StoreError(
            f"{path} holds {RUN_FILE} but no {RECORDS_FILE}: its answers are gone. Put the file "
            "back, or choose another --out to ask all again."
        )


def claim(path: Path) -> Any:
    """Make the folder, or see that it is a run's; return its held lock."""
    from filelock import FileLock, Timeout

    try:
        path.mkdir(parents=True, exist_ok=True)
        strangers = sorted(
            p.name
            for p in path.iterdir()
            if p.name not in LEFT_BY_A_STOPPED_START and not p.name.startswith(".icl-")
        )
        if strangers and not (path / RUN_FILE).exists():
            raise StoreError(
                f"{path} is not empty and not a run folder (it holds {strangers[0]}). "
                "Choose another --out."
            )
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(
            f"{path} is being written by another icl run. Wait for it or choose another --out."
        ) from None
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror}. Choose another --out."
        ) from error
    return lock


def read_header(path: Path) -> dict[str, Any] | None:
    """Return what `run.json` holds, None where there is none. Raises `StoreError` for one that is
    damaged.
    """
    file = path / RUN_FILE
    if not file.exists():
        return None
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file} is damaged: it is not JSON ({error}).") from error
    if not isinstance(header, dict) or not header.keys() >= {"spec", "data", "tasks"}:
        raise StoreError(
            f"{file} is damaged, or not a run's: it lacks what every run says of itself."
        )
    return header


def write_header(path: Path, header: Mapping[str, Any]) -> None:
    """Write `run.json` in one step. Raises `StoreError`."""
    text = json.dumps(header, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path / RUN_FILE, text.encode())


def refuse_imported(path: Path, found: Mapping[str, Any], why: str) -> None:
    """Raise `StoreError` where a run was imported: its answers come from elsewhere."""
    if "imported" in found:
        files = ", ".join(file["file"] for file in found["imported"]["files"])
        raise StoreError(f"{path} was imported from {files}, so {why}. Choose another folder.")


def check_same(
    path: Path,
    found: Mapping[str, Any],
    header: Mapping[str, Any],
    spec_defaults: Mapping[str, Any] | None = None,
    *,
    extends: bool = False,
) -> None:
    """Raise `StoreError` naming the first difference of spec, data, wording, weights, servers or
    scoring; versions may differ, numbers of one run not.

    `spec_defaults`: what options meant before they were there, for a run.json of then. `extends`:
    the spec may add draws, queries, samples, shots, modes and variants to what is there.
    """
    refuse_imported(path, found, "icl run cannot go on with it")
    if "spec" in header:
        spec = {**(spec_defaults or {}), **found.get("spec", {})}
        if spec.get("base_url"):
            spec["base_url"] = masked(spec["base_url"])  # earlier versions did not
        _check_spec(path, spec, header["spec"], extends=extends)
    for key in _differing(found, header, "data", extends=extends):
        raise StoreError(
            f"{path} holds a run on other data of {key}: its files have changed since. "
            "Choose another --out, or delete the folder."
        )
    if "wording" not in found and "prompts" in found:
        raise StoreError(
            f"{path} was made by version 0.1, which did not tell wording and scoring apart. "
            f"Run `icl rescore {quote(str(path))}` once; it asks no model."
        )
    for key in _differing(found, header, "wording", extends=extends):
        raise StoreError(
            f"{path} holds a run of another wording of {key}: its template, fields, labels, stop "
            "or max_tokens have changed since. Choose another --out, or take the change back."
        )
    _refuse_another(path, "model's weights", found.get("weights", {}), header.get("weights", {}))
    _refuse_another(path, "server", servers(found), servers(header))
    for key in others_of(found, header, "function"):
        raise StoreError(
            f"{path} holds answers of another function than this {key!r}: its source, or what it "
            "was made with, has changed since. Choose another out, or take the change back."
        )
    for key in _differing(found, header, "scoring"):
        again = f"Run `icl rescore {quote(str(path))}`"
        if header.get("tasks", {}).get(key, {}).get("in_python"):
            again = f"Call icl_harness.rescore({str(path)!r}, task)"
        raise StoreError(
            f"{path}: how answers to {key} are scored has changed since (task file, scorer or "
            f"metric). {again} to score the stored answers so; it asks no model."
        )


def _check_spec(
    path: Path, old: Mapping[str, Any], new: Mapping[str, Any], *, extends: bool
) -> None:
    if extends:
        refuse_regrouping(path, old, new)
        _refuse_another(path, "spec", with_growth(old, new), new)
    elif grows(old, new):
        added = extending_options(old, new)
        hint = f"`icl extend {quote(str(path))} {added}` adds what is new, or choose another --out."
        _refuse_another(path, "spec", old, new, hint)
    else:
        _refuse_another(path, "spec", old, new)


def others_of(found: Mapping[str, Any], header: Mapping[str, Any], fact: str) -> list[str]:
    """Return the models of which both say a fact, and not the same."""
    old, new = found.get("models", {}), header.get("models", {})
    both = [(name, old.get(name, {}).get(fact), new[name].get(fact)) for name in new]
    return [name for name, before, now in both if before and now and before != now]


def _differing(
    found: Mapping[str, Any], header: Mapping[str, Any], part: str, *, extends: bool = False
) -> list[str]:
    """Return the keys of which both do not say the same; of a larger grid also new ones are right:
    a variant may name another wording, or another task's pool.
    """
    old, new = found.get(part, {}), header.get(part, {})
    keys = sorted(old) if extends and old else sorted({*old, *new})
    return [key for key in keys if old.get(key) != new.get(key)]


def _refuse_another(
    path: Path,
    what: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    remedy: str = "Choose another --out, or ask for the same.",
) -> None:
    for key in _differing({"": old}, {"": new}, ""):
        there, here = json.dumps(old.get(key)), json.dumps(new.get(key))
        raise StoreError(
            f"{path} holds a run of another {what}: {key} is {there} there and {here} here. "
            f"{remedy}"
        )
