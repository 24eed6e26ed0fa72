"""A model's batches at its provider: handed in, found again, polled, fetched, each with patience.

In: batches that are written down in the ledger. Out: what the provider says of them, written down
too, and their results one by one. A batch whose handing in broke off is looked for before it is
handed in again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar

from icl_harness.models.api.asks import persist
from icl_harness.models.api.batch_api import BatchApi, Seen
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import BatchEntry, Ledger

if TYPE_CHECKING:
    from icl_harness.models.api.backend import ApiModel

R = TypeVar("R")
FIRST_POLL_S, LONGEST_POLL_S = 2.0, 60.0  # between polls of a batch, growing
FETCHES = 3  # of results that seem to lack some
POLL_TRIES = 60  # attempts at a poll: a run goes through an hour without the provider
UNSURE_S = 10.0  # a batch whose handing in broke off may appear as late as this


@dataclass(kw_only=True, eq=False)
class Batch(Generic[R]):
    """A batch, and by number those of its requests that are waited for. `sure`: that `seen` is this
    one; `in_doubt`: that its handing in broke off, and it may be there all the same.
    """

    entry: BatchEntry
    claims: dict[int, R] = field(default_factory=dict)
    seen: Seen | None = None
    sure: bool = True
    in_doubt: bool = False
    strangers: set[str] = field(default_factory=set)
    task: asyncio.Task[None] | None = None

    @property
    def is_underway(self) -> bool:
        """Whether the provider is at it."""
        return self.seen is not None and not self.seen.ended


class Desk:
    """Where a model's batches are handed in."""

    def __init__(self, model: ApiModel, ledger: Ledger) -> None:
        self.model = model
        self.ledger = ledger
        self.api: BatchApi = model.batch_api()

    async def create(self, batch: Batch[Any], file: IO[bytes]) -> None:
        """Hand in a batch. Raises `Fault`; where the batch is in doubt then, it may have been taken
        all the same.
        """

        async def once(_: Any) -> Seen:
            client = self.model.connected()
            if batch.in_doubt and (found := await self._find_once(batch)) is not None:
                return found
            batch.in_doubt = False
            file.seek(0)
            try:
                return await self.api.create(client, batch.entry, file)
            except Fault as fault:
                batch.in_doubt = fault.fate == "transient" and not (
                    fault.unreached or fault.status == 429
                )
                raise

        batch.seen = await persist(self.model, once)
        self.note(batch)

    async def end_of(self, batch: Batch[Any]) -> Seen | None:
        """Return a batch when it has ended; None where there is none."""
        wait_s = FIRST_POLL_S
        if batch.seen is None and batch.entry.name:
            batch.seen = await self.look(batch.entry.name)
        elif batch.seen is None:
            batch.seen = await persist(
                self.model, lambda _: self._find_once(batch), tries=POLL_TRIES
            )
        while batch.is_underway:
            assert batch.seen is not None
            self.note(batch)
            await asyncio.sleep(wait_s)
            wait_s = min(1.5 * wait_s, LONGEST_POLL_S)
            batch.seen = await self.look(batch.seen.name)
        self.note(batch)
        return batch.seen

    async def fetch(self, batch: Batch[Any], take: Callable[[int, Any], None]) -> bool:
        """Give the number and the result of each request to `take`; some may come twice. Return
        whether the batch is the one that was handed in.
        """
        seen = batch.seen
        assert seen is not None
        for _ in range(FETCHES):
            numbers: set[int] = await persist(
                self.model, lambda _: self._fetch_once(batch, seen, take), tries=POLL_TRIES
            )
            if len(numbers) >= batch.entry.n_requests or seen.fault is not None or not batch.sure:
                break  # else the end may be missing: no format of results tells where it is
            await asyncio.sleep(FIRST_POLL_S)
        if not batch.sure:
            batch.strangers.add(seen.name)
            batch.seen = None
        return batch.sure

    async def _fetch_once(
        self, batch: Batch[Any], seen: Seen, take: Callable[[int, Any], None]
    ) -> set[int]:
        """Return the numbers of the requests that have a result."""
        numbers = set()
        async with aclosing(self.api.results(self.model.connected(), seen)) as results:
            async for custom_id, found in results:
                token, _, number = custom_id.rpartition("-")
                if token == batch.entry.token and number.isdecimal():
                    if not batch.sure:
                        batch.sure = True
                        self.note(batch)
                    numbers.add(int(number))
                    take(int(number), found)
        return numbers

    def note(self, batch: Batch[Any]) -> None:
        """Write down what the provider says of a batch, unless it may be another's."""
        self.model.reached = True
        seen, entry = batch.seen, batch.entry
        if seen is not None and batch.sure and (entry.name, entry.told) != (seen.name, seen.told):
            self.ledger.batch_is(entry.token, "open", name=seen.name, told=seen.told)
            batch.entry = replace(entry, state="open", name=seen.name, told=seen.told)

    async def _find_once(self, batch: Batch[Any]) -> Seen | None:
        await asyncio.sleep(batch.entry.made + UNSURE_S - time.time())
        others = {entry.name for entry in self.ledger.batches() if entry.name}
        found = await self.api.find(self.model.connected(), batch.entry, others | batch.strangers)
        batch.sure = found is None or self.api.names_tokens
        return found

    async def look(self, name: str, tries: int = POLL_TRIES) -> Seen | None:
        """Return what the provider says of a batch; None where it has none of that name."""
        try:
            return await persist(
                self.model, lambda _: self.api.look(self.model.connected(), name), tries=tries
            )
        except Fault as fault:
            if fault.status == 404:
                return None
            raise
