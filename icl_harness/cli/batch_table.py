"""The batches of a run: `icl batch` shows how far they are.

In: a run folder. Out: a row for each batch of its ledger, with what the provider says of it now,
where it can be asked. Nothing is written, so it may be called while the run goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from shlex import quote
from typing import Any

from icl_harness.errors import IclError, ProviderError, SpecError
from icl_harness.models import open_model
from icl_harness.models.api.batch_jobs import BatchJobs
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import BatchEntry, BatchStatus, Ledger
from icl_harness.models.api.model import ApiModel
from icl_harness.models.api.terms import Terms
from icl_harness.store.identity import servers
from icl_harness.store.records import RunStore

STATES = {"making": "not confirmed", "done": "in the records", "gone": "not at the provider"}
LOOK_TRIES = 3

HEADING = ("batch", "model", "state", "requests", "done", "failed", "MB", "submitted")
NUMBERS = (3, 4, 5, 6)  # columns of the heading


def batches(folder: Path) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return a heading and a row per batch of a run, oldest first, and what must be said below.
    Raises `StoreError`.
    """
    store = RunStore.open(folder)
    header = store.header
    store.close()
    with contextlib.closing(Ledger(folder)) as ledger:
        entries = ledger.batches()
    if not entries:
        return [], [f"{folder} has submitted no batches."]
    status, notes = {entry.token: entry.status for entry in entries}, []
    by_model = sorted(entries, key=lambda entry: entry.model)
    for model, its in groupby(by_model, key=lambda entry: entry.model):
        is_open = [entry for entry in its if entry.state == "open"]
        try:
            if is_open:
                status |= asyncio.run(_look(model, header, is_open))
        except IclError as error:
            notes.append(f"The states are those last seen: {error}")
    return [HEADING, *(_row(entry, status[entry.token]) for entry in entries)], notes


def refuse_to_leave(folder: Path) -> None:
    """Raise `SpecError` where a run has batches at a provider, whose requests would be asked, and
    paid for, twice.
    """
    with contextlib.closing(Ledger(folder)) as ledger:
        left = [entry for entry in ledger.batches() if entry.state in ("making", "open")]
    if left:
        raise SpecError(
            f"{folder}: batches of this run are still out ({len(left):,}; `icl batch "
            f"{quote(str(folder))}` shows them). Give --batch to go on with them."
        )


async def _look(
    model_id: str, header: Mapping[str, Any], entries: Sequence[BatchEntry]
) -> dict[str, BatchStatus]:
    """Return what the provider says of batches, by token."""
    url, args = servers(header)[model_id], header["spec"]["model_args"]
    model = open_model(model_id, base_url=url, model_args=args, terms=Terms(batch=True))
    assert isinstance(model, ApiModel)  # no other takes batches
    jobs = BatchJobs(model.batch_api(), Ledger())
    found: dict[str, BatchStatus] = {}
    try:
        for entry in entries:
            assert entry.name is not None  # it is open
            seen = await jobs.look(entry.name, tries=LOOK_TRIES)
            found[entry.token] = {"state": "not at the provider"} if seen is None else seen.status
    except Fault as fault:
        raise ProviderError(f"{model_id}: {model.account.describe(fault)}.") from None
    finally:
        await model.close()
    return found


def _row(entry: BatchEntry, status: BatchStatus) -> tuple[str, ...]:
    state = STATES.get(entry.state) or str(status.get("state", ""))
    done, failed = (_number(status.get(name)) for name in ("done", "failed"))
    return (
        entry.name or "(no name yet)",
        entry.model,
        state.lower().replace("_", " "),
        f"{entry.n_requests:,}",
        done,
        failed,
        f"{entry.n_bytes / 1e6:,.1f}",
        f"{datetime.fromtimestamp(entry.made):%Y-%m-%d %H:%M}",
    )


def _number(count: object) -> str:
    return f"{count:,}" if isinstance(count, int) else "-"
