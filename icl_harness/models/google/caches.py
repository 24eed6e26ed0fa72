"""Gemini's cached contents, at the provider and in the run's ledger: make, renew, list, delete.

In: a node's contents. Out: a cached content's name and tokens. Each is written down in the ledger
before it is made; its display name is the ledger's token, by which one whose making broke off is
found again. One that a crash left is taken over by the next process that comes to its node, or
deleted by it. Storage is billed by the hour: it counts for --max-cost and is said at the end, but
no record holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from icl_harness.errors import IclError
from icl_harness.models.api.asks import persist
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import CacheEntry, Ledger
from icl_harness.models.api.prices import Tokens

if TYPE_CHECKING:
    from icl_harness.models.google.gemini import GoogleModel

SWEEP_TRIES = 3  # attempts at renewing and deleting: it ends by itself
SWEEP_S = 30.0
UNSURE_S = 60.0  # one whose making broke off may appear as late as this

NO_ROOM = re.compile(r"CachedContentStorage", re.IGNORECASE)  # the free tier's limit on tokens kept
GONE = re.compile(r"cached? ?content\b.*(not found|not exist|permission|expired)", re.IGNORECASE)


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Turn what google-genai raises into a `Fault`."""
    import httpx2
    from google.genai import errors

    try:
        yield
    except errors.APIError as error:
        headers = getattr(error.response, "headers", None) or {}
        raise Fault.from_body(error.code, error.details, str(error.message), headers) from None
    except (httpx2.HTTPError, ValueError) as error:  # no response; or one that is no JSON
        raise Fault.from_exception(error) from None


def is_gone(fault: Fault) -> bool:
    """Whether a fault says that the cached content has ended or was deleted."""
    return fault.status in {400, 403, 404} and GONE.search(str(fault)) is not None


class Caches:
    """The cached contents of one model, at the provider and in the ledger."""

    def __init__(self, model: GoogleModel) -> None:
        self.offered = True
        self._model = model
        self._own = Ledger()  # of a model that is used without a run
        self._made: set[str] = set()  # tokens of this process
        self._swept = False
        self._storage_usd = 0.0

    @property
    def ledger(self) -> Ledger:
        """Return the run's ledger, or one that ends with the process."""
        return self._model.terms.ledger or self._own

    def plan(self, prefix: Prefix) -> CacheEntry:
        """Write down that a cached content is about to be made."""
        entry = self.ledger.plan_cache(self._model.id, prefix.node.hash, prefix.node.n_shots)
        self._made.add(entry.token)
        return entry

    async def create(
        self, entry: CacheEntry, content: dict[str, Any], ttl_s: float, tokens: int
    ) -> tuple[str, int]:
        """Make a cached content and return its name and tokens; `tokens` is an estimate."""
        tried = False

        async def once(slot: Any) -> tuple[str, int]:
            nonlocal tried
            found = (
                (await self.listed()).get(entry.token) if tried else None
            )  # the attempt before may have made it
            tried = True
            made = found or await self._call(
                "create", model=self._model.name, config=self._config(entry, content, ttl_s)
            )
            if not made.name:
                raise Fault("malformed body: a cached content without a name", lost=True)
            slot.used(n := n_tokens(made) or tokens)
            return made.name, n

        try:
            return await persist(self._model, once, tokens=tokens, usd=self.usd(tokens))
        finally:
            if not tried:  # the dollars or the user stopped it before
                self.gone(entry)

    async def renew(self, name: str, ttl_s: float) -> None:
        """Let a cached content last for `ttl_s` from now."""

        async def once(slot: Any) -> None:
            await self._call("update", name=name, config={"ttl": f"{ttl_s:.3f}s"})

        await persist(self._model, once, tries=SWEEP_TRIES)

    async def find_all(self) -> dict[str, Any]:
        """Return all cached contents of the account, by their display names, asking as often as
        need be.
        """

        async def once(slot: Any) -> dict[str, Any]:
            return await self.listed()

        return await persist(self._model, once, tries=SWEEP_TRIES)

    async def listed(self) -> dict[str, Any]:
        """Ask once for all cached contents of the account, by their display names."""
        with faults():
            pages = await self._model.connected()[0].aio.caches.list(config={"page_size": 100})
            return {found.display_name: found async for found in pages if found.display_name}

    async def delete(self, name: str) -> None:
        """Delete a cached content at the provider; one that has ended is none."""

        async def once(slot: Any) -> None:
            await self._call("delete", name=name)

        try:
            await persist(self._model, once, tries=SWEEP_TRIES)
        except Fault as fault:
            if not (is_gone(fault) or fault.status == 404):
                raise

    async def drop(self, entry: CacheEntry) -> None:
        """Delete a cached content and its entry; where that fails the entry stays, and the user is
        told.
        """
        try:
            async with asyncio.timeout(SWEEP_S):
                found = None if entry.name else (await self.find_all()).get(entry.token)
                name = found.name if found else entry.name
                if name:
                    await self.delete(name)
        except (
            Fault,
            IclError,
            TimeoutError,
        ) as error:  # a node that is done must not fail for this
            told = (
                error.describe(self._model.key)
                if isinstance(error, Fault)
                else type(error).__name__
            )
            until = (
                f"at {datetime.fromtimestamp(entry.expires):%H:%M} at the latest"
                if entry.expires
                else "soon"
            )
            self._model.terms.say(
                f"{self._model.id}: a cached content could not be deleted: {told}. It ends by itself {until}; "
                "icl caches RUN --delete tries again."
            )
            return
        if name or time.time() > entry.made + UNSURE_S:
            self.gone(entry)

    def gone(self, entry: CacheEntry) -> None:
        """Forget a cached content that is there no more, and count what keeping it cost."""
        price, now = self._model.price, time.time()
        if price is not None and entry.tokens and entry.expires:
            usd = (
                price.storage_usd(entry.tokens, (min(now, entry.expires) - entry.made) / 3600)
                or 0.0
            )
            self._storage_usd += usd
            if self._model.terms.budget:
                self._model.terms.budget.spent_usd += usd
        self._made.discard(entry.token)
        self.ledger.cache_gone(entry.token)

    async def leftover(self, prefix: Prefix) -> CacheEntry | None:
        """Return what an earlier process left of a node, if it lasts still; the first time, delete
        its others.
        """
        found = None
        if not self._swept:
            self._swept = True
            for entry in self._leftovers():
                if (
                    found is None
                    and entry.node == prefix.node.hash
                    and entry.name
                    and time.time() < (entry.expires or 0)
                ):
                    found = entry
                    self._made.add(entry.token)
                else:
                    await self.drop(entry)
        return found

    async def end(self) -> None:
        """Delete what is left of this run and say what keeping cost."""
        if self.ledger is not self._own or self._made:
            for entry in self.ledger.caches():
                if entry.model == self._model.id:
                    await self.drop(entry)
        if self._storage_usd >= 0.005:
            self._model.terms.say(
                f"{self._model.id}: keeping cached contents took about ${self._storage_usd:.2f}, which no record holds."
            )
        self._storage_usd = 0.0

    def usd(self, tokens: int) -> float:
        """Return what making a cached content costs; 0 where no price is known."""
        price = self._model.price
        return (price.input_usd(Tokens(prompt=tokens, written=tokens)) or 0.0) if price else 0.0

    def _leftovers(self) -> list[CacheEntry]:
        found = self.ledger.caches()
        return [
            entry
            for entry in found
            if entry.model == self._model.id and entry.token not in self._made
        ]

    def _config(self, entry: CacheEntry, content: dict[str, Any], ttl_s: float) -> dict[str, Any]:
        return {"display_name": entry.token, "ttl": f"{ttl_s:.3f}s", **content}

    async def _call(self, method: str, **how: Any) -> Any:
        call: Callable[..., Awaitable[Any]] = getattr(self._model.connected()[0].aio.caches, method)
        try:
            with faults():
                done = await call(**how)
        except Fault as fault:
            if fault.status == 429 and NO_ROOM.search(str(fault)):
                raise Fault(str(fault), status=400) from None  # waiting makes no room
            raise
        self._model.reached = True
        return done


def n_tokens(cached: Any) -> int | None:
    """Return the tokens of a cached content as the provider tells them."""
    used = cached.usage_metadata
    return used.total_token_count if used else None
