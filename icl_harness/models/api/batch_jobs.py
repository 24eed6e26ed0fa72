"""A model's batches at its provider: submitted, found again, polled, fetched, each with patience.

In: batches that are written down in the ledger. Out: what the provider says of them, written down
too, and their results one by one. A batch whose submission broke off is looked for before it is
submitted again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import IO, Generic, TypeVar

from tenacity import AsyncRetrying, retry_if_result, wait_exponential

from icl_harness.models.api.batch_api import BatchApi, Seen
from icl_harness.models.api.endpoint import R, S
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import BatchEntry, Ledger
from icl_harness.models.api.limiter import Slot
from icl_harness.models.api.requests import persist

Q = TypeVar("Q")  # a request
POLL_GROWTH = 1.5  # of the wait between polls


@dataclass(kw_only=True, eq=False)
class Batch(Generic[Q]):
    """A batch, and by number those of its requests that are waited for. `sure`: that `seen` is this
    one; `in_doubt`: that its submission broke off, and it may be there all the same.
    """

    entry: BatchEntry
    claims: dict[int, Q] = field(default_factory=dict)
    seen: Seen | None = None
    sure: bool = True
    in_doubt: bool = False
    strangers: set[str] = field(default_factory=set)
    task: asyncio.Task[None] | None = None

    @property
    def is_underway(self) -> bool:
        """Whether the provider is at work on it."""
        return self.seen is not None and not self.seen.ended


class BatchJobs(Generic[R, S]):
    """A model's batches at its provider."""

    def __init__(self, api: BatchApi[R, S], ledger: Ledger) -> None:
        self.account = api.account
        self.timing = api.account.terms.timing
        self.ledger = ledger
        self.api = api

    async def create(self, batch: Batch[Q], file: IO[bytes]) -> None:
        """Submit a batch. Raises `Fault`; where the batch is in doubt then, it may have been taken
        all the same.
        """

        async def once(_: Slot) -> Seen:
            if batch.in_doubt and (found := await self._find_once(batch)) is not None:
                return found
            batch.in_doubt = False
            file.seek(0)
            try:
                return await self.api.create(batch.entry, file)
            except Fault as fault:
                is_refused = fault.unreached or fault.status == 429
                batch.in_doubt = fault.fate == "transient" and not is_refused
                raise

        batch.seen = await persist(self.account, once)
        self.note(batch)

    async def end_of(self, batch: Batch[Q]) -> Seen | None:
        """Return a batch when it has ended; None where there is none."""
        if batch.seen is None and batch.entry.name:
            batch.seen = await self.look(batch.entry.name)
        elif batch.seen is None:
            batch.seen = await self._find(batch)
        self.note(batch)
        if batch.is_underway:
            await self._poll(batch)
        return batch.seen

    async def _poll(self, batch: Batch[Q]) -> None:
        """Ask how far a batch is until it has ended, less and less often."""
        timing = self.timing
        polls = AsyncRetrying(
            retry=retry_if_result(lambda is_underway: is_underway),
            wait=wait_exponential(
                multiplier=timing.first_poll_s, exp_base=POLL_GROWTH, max=timing.longest_poll_s
            ),
        )

        async def poll() -> bool:
            assert batch.seen is not None
            batch.seen = await self.look(batch.seen.name)
            self.note(batch)
            return batch.is_underway

        await asyncio.sleep(timing.first_poll_s)
        await polls(poll)

    async def fetch(self, batch: Batch[Q], take: Callable[[int, S | Fault], None]) -> bool:
        """Give the number and the result of each request to `take`; some may come twice. Return
        whether the batch is the one that was submitted.
        """
        seen = batch.seen
        assert seen is not None

        async def once(_: Slot) -> set[int]:
            return await self._fetch_once(batch, seen, take)

        for _ in range(self.timing.fetches):
            numbers = await persist(self.account, once, tries=self.timing.poll_tries)
            if len(numbers) >= batch.entry.n_requests or seen.fault is not None or not batch.sure:
                break  # else the end may be missing: no format of results tells where it is
            await asyncio.sleep(self.timing.first_poll_s)
        if not batch.sure:
            batch.strangers.add(seen.name)
            batch.seen = None
        return batch.sure

    async def _fetch_once(
        self, batch: Batch[Q], seen: Seen, take: Callable[[int, S | Fault], None]
    ) -> set[int]:
        """Return the numbers of the requests that have a result."""
        numbers = set()
        async with aclosing(self.api.results(seen)) as results:
            async for custom_id, found in results:
                token, _, number = custom_id.rpartition("-")
                if token == batch.entry.token and number.isdecimal():
                    if not batch.sure:
                        batch.sure = True
                        self.note(batch)
                    numbers.add(int(number))
                    take(int(number), found)
        return numbers

    def note(self, batch: Batch[Q]) -> None:
        """Write down what the provider says of a batch, unless it may be another's."""
        self.account.reached = True
        seen, entry = batch.seen, batch.entry
        if seen is None or not batch.sure:
            return
        if (entry.name, entry.status) != (seen.name, seen.status):
            self.ledger.batch_is(entry.token, "open", name=seen.name, status=seen.status)
            batch.entry = replace(entry, state="open", name=seen.name, status=seen.status)

    async def _find(self, batch: Batch[Q]) -> Seen | None:
        async def once(_: Slot) -> Seen | None:
            return await self._find_once(batch)

        return await persist(self.account, once, tries=self.timing.poll_tries)

    async def _find_once(self, batch: Batch[Q]) -> Seen | None:
        left_s = batch.entry.made + self.timing.unsure_batch_s - time.time()
        await asyncio.sleep(min(left_s, self.timing.unsure_batch_s))  # a clock may be set back
        others = {entry.name for entry in self.ledger.batches() if entry.name}
        found = await self.api.find(batch.entry, others | batch.strangers)
        batch.sure = found is None or self.api.names_tokens
        return found

    async def look(self, name: str, tries: int | None = None) -> Seen | None:
        """Return what the provider says of a batch; None where it has none of that name."""

        async def once(_: Slot) -> Seen:
            return await self.api.look(name)

        try:
            return await persist(self.account, once, tries=tries or self.timing.poll_tries)
        except Fault as fault:
            if fault.status == 404:
                return None
            raise
