"""What the requests of a walk will take, before they are sent.

In: nodes in the order of the walk, how many queries each is asked, their tokens. Out: tokens by
kind and dollars, as the provider's caches will have it: the first query of a node writes what no
earlier node of the draw left in the cache, the others read. In batches no cache is counted on.
Caches are taken to last from one shot count to the next. Left out: requests that fail, caches that
do not take, the hourly price of Gemini's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from icl_harness.models.api.account import Account
from icl_harness.models.api.caching import ttl_for
from icl_harness.models.api.prices import Tokens
from icl_harness.models.forecast import Count, Forecast, Foreseen
from icl_harness.prompts.tree import Node

Caching = Literal["breakpoints", "automatic", "kept", "none"]
STEP = 128  # tokens: what OpenAI's automatic caches grow by


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """Tokens of a node's requests: those that the first reads and writes, those that each other
    reads, and those that are sent to be kept beforehand.
    """

    read: int = 0
    written: int = 0
    read_by_others: int = 0
    kept: int = 0


class Foresight(Forecast):
    """The caches of one model as a walk goes on. `caching`: how its provider caches: at breakpoints
    that it charges for, by itself, as contents that are kept, not at all.
    """

    def __init__(self, account: Account, caching: Caching) -> None:
        self.rates = account.terms.rates
        self.paces_cached = account.service.paces_cached
        self._account = account
        self._caching = caching
        self._fewest = account.service.fewest_tokens(account.name)
        # of the provider's caches: (draw, the node's hash)
        self._held: set[tuple[str, str]] = set()

    def ask(self, node: Node, count: Count, completion: int) -> Foreseen:
        """Return what it takes to ask the queries that were counted; `completion`: the room for
        each answer.
        """
        account, n = self._account, len(count.queries)
        if node.n_bytes:
            account.tokens_per_byte = count.prefix / node.n_bytes  # as its answers will show
        total = n * count.prefix + sum(count.queries)
        use = self._cached(node, count.prefix, n)
        is_long = ttl_for(count.prefix, account.terms.rates) == "1h"
        first = Tokens(
            prompt=round(total / n),
            cached=use.read,
            written=use.written,
            written_1h=use.written if is_long and account.service.keeps_hours else 0,
            completion=completion,
        )
        rest = Tokens(prompt=first.prompt, cached=use.read_by_others, completion=completion)
        return Foreseen(
            prompt_tokens=total + use.kept,
            cached_tokens=use.read + (n - 1) * use.read_by_others,
            cache_write_tokens=use.written + use.kept,
            **self._dollars(first, rest, n, use.kept),
        )

    def _dollars(self, first: Tokens, rest: Tokens, n: int, kept: int) -> dict[str, float | None]:
        price = self._account.price
        if price is None:
            return {}
        plain = Tokens(prompt=rest.prompt, completion=rest.completion)
        made = price.input_usd(Tokens(prompt=kept, written=kept)) or 0.0
        usd = price.input_usd
        return {
            "usd_cached": (usd(first) or 0.0) + (n - 1) * (usd(rest) or 0.0) + made,
            "usd_plain": n * (usd(plain) or 0.0),
            "usd_batch": n * (usd(plain, batch=True) or 0.0),
            "usd_output": n * ((price.cost_usd(plain) or 0.0) - (usd(plain) or 0.0)),
        }

    def _cached(self, node: Node, prefix: int, n: int) -> CacheUse:
        """Return what the requests of a node read from caches and write to them."""
        sent = self._account.prefix(node, n)
        draw = sent.key if self._account.service.keys_draws and sent.cached else ""
        if self._caching == "automatic":
            return self._by_itself(draw, node, prefix)
        if not sent.cached or self._caching == "none":
            return CacheUse()
        if self._caching == "kept":
            return CacheUse(read=prefix, read_by_others=prefix, kept=prefix)
        read = self._read(draw, node, prefix)
        marks = [*[at for at in node.path[:-1] if at.cut][-3:], node]
        long_enough = [at for at in marks if self._tokens(at, node, prefix) >= self._fewest]
        self._held |= {(draw, at.hash) for at in long_enough}
        return CacheUse(read=read, written=prefix - read, read_by_others=prefix)

    def _by_itself(self, draw: str, node: Node, prefix: int) -> CacheUse:
        """Return what a cache that the provider keeps of every prefix serves, in whole steps."""
        read = self._read(draw, node, prefix) // STEP * STEP
        whole = prefix // STEP * STEP
        self._held |= {(draw, at.hash) for at in node.path}
        return CacheUse(
            read=read if read >= self._fewest else 0,
            read_by_others=whole if whole >= self._fewest else 0,
        )

    def _read(self, draw: str, node: Node, prefix: int) -> int:
        """Return the tokens up to the last node of a path that a cache holds."""
        at: Node | None = node
        while at is not None and (draw, at.hash) not in self._held:
            at = at.parent
        return 0 if at is None else self._tokens(at, node, prefix)

    def _tokens(self, at: Node, node: Node, prefix: int) -> int:
        return round(prefix * at.n_bytes / node.n_bytes) if node.n_bytes else 0
