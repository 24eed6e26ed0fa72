"""The cached content of one node at Gemini: made before it is asked about, renewed meanwhile,
deleted after.

In: a prefix and its contents. Out: the name to ask with, or none, with the reason said. Making it
is billed as input: the node's next answer carries those tokens (as written to a cache) and dollars,
so that the records' sum is the bill's. Left out: the making of one that no answer came from.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from icl_harness.models.api.caching import Prefix, gap_s
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import CacheEntry
from icl_harness.models.base import Answer
from icl_harness.models.google.cached_contents import CachedContents, is_gone

if TYPE_CHECKING:
    from google.genai.types import Content, ContentListUnion, CreateCachedContentConfig

TTL_S = 600.0  # how long one is kept after it was made or renewed
GAPS = 6  # and at least as long as so many requests take at the rates given
SURELY = 2  # times the least length that is kept: an estimate of less may be off
MOST_MADE = 5  # for one node: a server that loses them all the time is not paid for more

TOO_SMALL = re.compile(r"cached content is too small|minimum token count", re.IGNORECASE)
NOT_OFFERED = re.compile(
    r"createCachedContent|does not support (context |content )?cach", re.IGNORECASE
)


class KeptCache:
    """The cached content of one node, while its queries are sent. `name` is empty without one."""

    def __init__(
        self,
        caches: CachedContents,
        prefix: Prefix,
        contents: Sequence[Content],
        system: Content | None,
    ) -> None:
        self.name = ""
        self.too_small = False
        self._caches, self._prefix = caches, prefix
        self._contents, self._system = contents, system
        self._account = account = caches.account
        self._timing = account.terms.timing
        self._tokens = round(prefix.node.n_bytes * account.tokens_per_byte)
        self._ttl_s = max(TTL_S, GAPS * gap_s(self._tokens, account.terms.rates))
        self._entry: CacheEntry | None = None
        self._owed = 0  # tokens of the making that no answer carries yet
        self._n_made = 0
        self._renew_from = 0.0
        self._given_up = False
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Take what an earlier process left of the node, or make it."""
        found = await self._caches.leftover(self._prefix)
        if found is None:
            return await self.ready()
        self._keep(found, 0 if found.billed else (found.tokens or 0))
        self._renew_from = 0.0  # its time is partly over
        await self.ready()

    async def ready(self) -> None:
        """See to it that the cached content is there, as far as that is known, and lasts."""
        async with self._lock:
            if self._given_up:
                return
            if self.name and time.time() >= self._renew_from:
                await self._renew()
            if not self.name:
                await self._make()

    def lost(self, name: str) -> None:
        """Take note that the provider knows a name no more."""
        if name == self.name and self._entry is not None:
            self._caches.gone(self._entry)
            self.name, self._entry = "", None

    def billed(self, answer: Answer) -> Answer:
        """Return an answer with what the making cost, if none has carried it yet."""
        usage, n = answer.usage, self._owed
        if not n or usage.prompt_tokens is None:
            return answer
        self._owed = 0
        if self._entry is not None:
            self._caches.ledger.cache_billed(self._entry.token)
        usd = None if usage.cost_usd is None else usage.cost_usd + self._caches.usd(n)
        written = (usage.cache_write_tokens or 0) + n
        usage = replace(
            usage, prompt_tokens=usage.prompt_tokens + n, cache_write_tokens=written, cost_usd=usd
        )
        return replace(answer, usage=usage)

    async def close(self) -> None:
        """Delete it."""
        self._given_up = True
        if self._entry is not None:
            await self._caches.drop(self._entry)
            self.name, self._entry = "", None

    async def _make(self) -> None:
        if self._n_made == MOST_MADE:
            return self._go_without("it was gone again and again")
        self._n_made += 1
        entry, start = self._caches.plan(self._prefix), time.time()
        try:
            name, tokens = await self._caches.create(entry, self._config(entry), self._tokens)
        except Fault as fault:
            # After a transient fault it may be there all the same, and is looked for at the end.
            if fault.fate != "transient":
                self._caches.gone(entry)
            return self._refused(fault)
        self._keep(replace(entry, name=name, tokens=tokens, expires=start + self._ttl_s), tokens)
        if self._account.terms.budget:
            self._account.terms.budget.spent_usd += self._caches.usd(tokens)

    def _config(self, entry: CacheEntry) -> CreateCachedContentConfig:
        from google.genai.types import CreateCachedContentConfig

        contents: ContentListUnion = list(self._contents)
        return CreateCachedContentConfig(
            display_name=entry.token,
            ttl=f"{self._ttl_s:.3f}s",
            contents=contents or None,
            system_instruction=self._system,
        )

    async def _renew(self) -> None:
        assert self._entry is not None
        start = time.time()
        try:
            await self._caches.renew(self.name, self._ttl_s)
        except Fault as fault:
            if is_gone(fault) or fault.status == 404:
                self.lost(self.name)
            self._renew_from = time.time() + self._timing.renew_again_s
        else:
            self._keep(replace(self._entry, expires=start + self._ttl_s), 0)

    def _keep(self, entry: CacheEntry, owed: int) -> None:
        assert entry.name is not None
        assert entry.expires is not None
        self._entry, self.name = entry, entry.name
        self._owed += owed
        self._renew_from = entry.expires - self._timing.renew_at * self._ttl_s
        self._caches.ledger.cache_made(entry.token, entry.name, entry.tokens, entry.expires)

    def _refused(self, fault: Fault) -> None:
        """Go on without one, whatever the reason: if nothing can be asked, the queries' own
        requests tell.
        """
        account, why, text = self._account, self._account.describe(fault), str(fault)
        self.too_small = TOO_SMALL.search(text) is not None
        if self.too_small or fault.fate in ("overflow", "refused"):
            self._given_up = True
            least = account.service.fewest_tokens(account.name)
            if self.too_small and self._tokens > SURELY * least:
                account.say_once(self._note(why), "small")
        elif NOT_OFFERED.search(text) or fault.status == 404:
            self._caches.offered, self._given_up = False, True
            account.terms.say(
                f"{account.id} has no cached contents: {why}. It is asked without them."
            )
        elif fault.fate == "account" and fault.status != 403:
            self._given_up = True
        else:
            self._go_without(why)

    def _go_without(self, why: str) -> None:
        self._given_up = True
        self._account.terms.say(self._note(why))

    def _note(self, why: str) -> str:
        shots, usd = self._prefix.node.n_shots, self._caches.usd(self._tokens)
        price = f", ${usd:.2g} each" if usd else ""
        return (
            f"{self._account.id}: no cached content is kept at {shots:,} shots: {why}. Its queries "
            f"pay for the whole prefix{price}."
        )
