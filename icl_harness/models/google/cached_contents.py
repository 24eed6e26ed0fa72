"""Gemini's cached contents, at the provider and in the run's ledger: make, renew, list, delete.

In: a node's contents. Out: a cached content's name and tokens. Each is written down in the ledger
before it is made; its display name is the ledger's token, by which one whose making broke off is
found again. One that a crash left is taken over by the next process that comes to its node, or
deleted by it. Storage is billed by the hour: it counts for --max-cost and is said at the end, but
no record holds it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from icl_harness.errors import IclError
from icl_harness.models.api.account import Account
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.client import Connection
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import CacheEntry, Ledger
from icl_harness.models.api.limiter import Slot
from icl_harness.models.api.prices import Tokens
from icl_harness.models.api.requests import persist
from icl_harness.models.google.wire import GoogleClient, faults

if TYPE_CHECKING:
    from google.genai.caches import AsyncCaches
    from google.genai.types import CachedContent, CreateCachedContentConfig

T = TypeVar("T")
NO_ROOM = re.compile(r"CachedContentStorage", re.IGNORECASE)  # the free tier's limit on tokens kept
GONE = re.compile(r"cached? ?content\b.*(not found|not exist|permission|expired)", re.IGNORECASE)


def is_gone(fault: Fault) -> bool:
    """Whether a fault says that the cached content has ended or was deleted."""
    return fault.status in {400, 403, 404} and GONE.search(str(fault)) is not None


class CachedContents:
    """The cached contents of one model, at the provider and in the ledger."""

    def __init__(self, account: Account, connection: Connection[GoogleClient]) -> None:
        self.account = account
        self.offered = True
        self._connection = connection
        self._own = Ledger()  # of a model that is used without a run
        self._made: set[str] = set()  # tokens of this process
        self._swept = False
        self._storage_usd = 0.0

    @property
    def ledger(self) -> Ledger:
        """Return the run's ledger, or one that ends with the process."""
        return self.account.terms.ledger or self._own

    def plan(self, prefix: Prefix) -> CacheEntry:
        """Write down that a cached content is about to be made."""
        entry = self.ledger.plan_cache(self.account.id, prefix.node.hash, prefix.node.n_shots)
        self._made.add(entry.token)
        return entry

    async def create(
        self, entry: CacheEntry, config: CreateCachedContentConfig, tokens: int
    ) -> tuple[str, int]:
        """Make a cached content and return its name and tokens; `tokens` is an estimate."""
        tried, lost, usd = False, [0], self.usd(tokens)

        async def once(slot: Slot) -> tuple[str, int]:
            nonlocal tried
            made = None
            if tried:  # the attempt before may have made it
                made = (await self.listed()).get(entry.token)
            tried = True
            if made is None:
                made = await self._call(
                    lambda caches: caches.create(model=self.account.name, config=config)
                )
            if not made.name:
                raise Fault("malformed body: a cached content without a name", lost=True)
            n = n_tokens(made) or tokens
            slot.used(n)
            return made.name, n

        try:
            return await persist(self.account, once, tokens=tokens, usd=usd, lost=lost)
        finally:
            self.account.terms.flights.lose(lost[0] * usd)
            if not tried:  # the dollars or the user stopped it before
                self.gone(entry)

    async def renew(self, name: str, ttl_s: float) -> None:
        """Let a cached content last for `ttl_s` from now."""

        async def once(slot: Slot) -> None:
            ttl = f"{ttl_s:.3f}s"
            await self._call(lambda caches: caches.update(name=name, config={"ttl": ttl}))

        await persist(self.account, once, tries=self.account.terms.timing.sweep_tries)

    async def find_all(self) -> dict[str, CachedContent]:
        """Return all cached contents of the account, by their display names, asking as often as
        need be.
        """

        async def once(slot: Slot) -> dict[str, CachedContent]:
            return await self.listed()

        return await persist(self.account, once, tries=self.account.terms.timing.sweep_tries)

    async def listed(self) -> dict[str, CachedContent]:
        """Ask once for all cached contents of the account, by their display names."""
        with faults():
            pages = await self._connection.client().aio.caches.list(config={"page_size": 100})
            return {found.display_name: found async for found in pages if found.display_name}

    async def delete(self, name: str) -> None:
        """Delete a cached content at the provider; one that has ended is none."""

        async def once(slot: Slot) -> None:
            await self._call(lambda caches: caches.delete(name=name))

        try:
            await persist(self.account, once, tries=self.account.terms.timing.sweep_tries)
        except Fault as fault:
            if not (is_gone(fault) or fault.status == 404):
                raise

    async def drop(self, entry: CacheEntry) -> None:
        """Delete a cached content and its entry; where that fails the entry stays, and the user is
        shown a note.
        """
        timing = self.account.terms.timing
        try:
            async with asyncio.timeout(timing.sweep_s):
                found = None if entry.name else (await self.find_all()).get(entry.token)
                name = found.name if found else entry.name
                if name:
                    await self.delete(name)
        except (Fault, IclError, TimeoutError) as error:
            self._say_left(entry, error)  # a node that is done must not fail for this
            return
        if name or time.time() > entry.made + timing.unsure_cache_s:
            self.gone(entry)

    def _say_left(self, entry: CacheEntry, error: Exception) -> None:
        account, until = self.account, "soon"
        why = account.describe(error) if isinstance(error, Fault) else type(error).__name__
        if entry.expires:
            until = f"at {datetime.fromtimestamp(entry.expires):%H:%M} at the latest"
        account.terms.say(
            f"{account.id}: a cached content could not be deleted: {why}. It ends by itself "
            f"{until}; icl caches RUN --delete tries again."
        )

    def gone(self, entry: CacheEntry) -> None:
        """Forget a cached content that is gone, and count what its storage cost."""
        price, now = self.account.price, time.time()
        if price is not None and entry.tokens and entry.expires:
            hours = (min(now, entry.expires) - entry.made) / 3600
            usd = price.storage_usd(entry.tokens, hours) or 0.0
            self._storage_usd += usd
            self.account.terms.flights.lose(usd)
            if self.account.terms.budget:
                self.account.terms.budget.spent_usd += usd
        self._made.discard(entry.token)
        self.ledger.cache_gone(entry.token)

    async def leftover(self, prefix: Prefix) -> CacheEntry | None:
        """Return what an earlier process left of a node, if it lasts still; the first time, delete
        its others.
        """
        found = None
        if self._swept:
            return None
        self._swept = True
        for entry in self._leftovers():
            is_here = entry.node == prefix.node.hash and entry.name
            if found is None and is_here and time.time() < (entry.expires or 0):
                found = entry
                self._made.add(entry.token)
            else:
                await self.drop(entry)
        return found

    async def end(self) -> None:
        """Delete what is left of this run and say what keeping cost."""
        if self.ledger is not self._own or self._made:
            for entry in self.ledger.caches():
                if entry.model == self.account.id:
                    await self.drop(entry)
        if self._storage_usd >= 0.005:
            self.account.terms.say(
                f"{self.account.id}: keeping cached contents took about "
                f"${self._storage_usd:.2f}, which no record holds."
            )
        self._storage_usd = 0.0

    def usd(self, tokens: int) -> float:
        """Return what making a cached content costs; 0 where no price is known."""
        price = self.account.price
        if price is None:
            return 0.0
        return price.input_usd(Tokens(prompt=tokens, written=tokens)) or 0.0

    def _leftovers(self) -> list[CacheEntry]:
        """Return the entries of this model that another process wrote."""
        entries = [entry for entry in self.ledger.caches() if entry.model == self.account.id]
        return [entry for entry in entries if entry.token not in self._made]

    async def _call(self, call: Callable[[AsyncCaches], Awaitable[T]]) -> T:
        """Call a method of the SDK's caches once. Raises `Fault`."""
        try:
            with faults():
                done = await call(self._connection.client().aio.caches)
        except Fault as fault:
            if fault.status == 429 and NO_ROOM.search(str(fault)):
                raise Fault(str(fault), status=400) from None  # waiting makes no room
            raise
        self.account.reached = True
        return done


def n_tokens(cached: CachedContent) -> int | None:
    """Return the tokens of a cached content as the provider counts them."""
    used = cached.usage_metadata
    return used.total_token_count if used else None
