"""The accounts of a provider: prompt caches, tokens and requests per minute, the bill.

In: a request's blocks. Out: a `Plan` of what is read from and written to the caches, made when the
request comes and committed when its answer begins, so that misses at the same time each write. Left
out: money, implicit caching of Gemini, the storage price of its caches.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from tests.servers.wire import Block, joined

LIFETIME_S = {"5m": 300.0, "10m": 600.0, "30m": 1800.0, "1h": 3600.0, "12h": 43200.0}
LOOKBACK = 20  # blocks before a breakpoint where Anthropic looks for an entry
# What OpenAI's automatic caching counts in; long texts are leapt through first.
STEP, LEAP = re.compile(r"(?:\S++\s++){128}+"), re.compile(r"(?:\S++\s++){8192}+")
N_READ, N_EXPLICIT, N_WITH_IMPLICIT = (
    80,
    4,
    3,
)  # OpenAI's breakpoints: looked at, written, written in implicit mode


@dataclass
class Bill:
    """What one answer costs, in tokens. `output` includes `reasoning`; a bill not `delivered` was
    lost on the way.
    """

    provider: str
    model: str
    path: str
    input: int = 0
    cache_read: int = 0
    cache_write: dict[str, int] = field(
        default_factory=dict
    )  # by lifetime: 5m, 1h, 30m, 12h, or any for Gemini's
    output: int = 0
    reasoning: int = 0
    batch: bool = False
    delivered: bool = True


@dataclass
class Plan:
    """The tokens of a prompt, those read from a cache, those written by lifetime, and the entries
    to be written.
    """

    n_prompt: int
    n_read: int = 0
    writes: dict[str, int] = field(default_factory=dict)
    entries: list[tuple[Hashable, float]] = field(default_factory=list)

    @property
    def n_uncached(self) -> int:
        """Return the tokens neither read nor written."""
        return self.n_prompt - self.n_read - sum(self.writes.values())


class Bucket:
    """So many per minute, refilled all the time. What is larger than the bucket never fits."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self.level = float(per_minute)
        self.stamp = now

    def wait_s(self, n: int, now: float) -> float:
        """Return the seconds until `n` are there."""
        self.level = min(self.per_minute, self.level + (now - self.stamp) * self.per_minute / 60)
        self.stamp = now
        return max(0.0, n - self.level) * 60 / self.per_minute


class Ledger:
    """The caches, the buckets and the bill of all three providers."""

    def __init__(
        self,
        count: Callable[[str], int],
        clock: Callable[[], float],
        minimum: Callable[[str], int],
        rpm: int | None,
        tpm: int | None,
    ) -> None:
        self.count = count
        self.clock = clock
        self.minimum = minimum
        self.per_minute = {"requests": rpm, "tokens": tpm}
        self.lock = threading.RLock()
        self.bill: list[Bill] = []
        self._entries: dict[
            Hashable, tuple[float, float]
        ] = {}  # when it expires, how long it lives
        self._counts: dict[bytes, int] = {}
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def tokens(self, text: str) -> int:
        """Return the tokens of a text; long ones are counted once."""
        if len(text) < 4096:
            return self.count(text)
        key = hashlib.sha1(text.encode(errors="surrogatepass")).digest()
        if key not in self._counts:
            self._counts[key] = self.count(text)
        return self._counts[key]

    def total(self, blocks: list[Block]) -> int:
        """Return the tokens of a prompt."""
        return sum(self.tokens(block.text) for block in blocks)

    def alive(self, key: Hashable) -> bool:
        """Return whether there is such an entry, and let it live on from now."""
        with self.lock:
            expires, lifetime = self._entries.get(key, (0.0, 0.0))
            now = self.clock()
            if lifetime and now < expires:
                self._entries[key] = (now + lifetime, lifetime)
                return True
            self._entries.pop(key, None)
            return False

    def commit(self, plan: Plan) -> None:
        """Write a plan's entries, now that its answer begins."""
        with self.lock:
            now = self.clock()
            self._entries.update(
                {key: (now + lifetime, lifetime) for key, lifetime in plan.entries}
            )

    def at_breakpoints(
        self,
        scope: Hashable,
        model: str,
        blocks: list[Block],
        reads: set[int],
        writes: dict[int, str],
    ) -> Plan:
        """Plan the longest read at one of the blocks `reads`, and the `writes` after it with their
        lifetimes.
        """
        digest, n, sums, keys = hashlib.sha1(), 0, [], []
        for block in blocks:
            digest.update(f"\0{block.role}\0".encode())
            digest.update(block.text.encode(errors="surrogatepass"))
            n += self.tokens(block.text)
            sums.append(n)
            keys.append((scope, model, digest.digest()))
        read_at = next((at for at in sorted(reads, reverse=True) if self.alive(keys[at])), -1)
        plan = Plan(n, sums[read_at] if read_at >= 0 else 0)
        done = plan.n_read
        for at in sorted(writes):
            if at > read_at and sums[at] >= self.minimum(model):
                plan.writes[writes[at]] = plan.writes.get(writes[at], 0) + sums[at] - done
                plan.entries.append((keys[at], LIFETIME_S[writes[at]]))
                done = sums[at]
        return plan

    def anthropic(self, model: str, blocks: list[Block]) -> Plan:
        """Plan as Anthropic does: write at breakpoints, read there or up to 20 blocks before."""
        marks = {at: block.ttl for at, block in enumerate(blocks) if block.ttl}
        reads = {at for mark in marks for at in range(max(0, mark - LOOKBACK), mark + 1)}
        return self.at_breakpoints("anthropic", model, blocks, reads, marks)

    def openai_explicit(
        self, model: str, cache_key: str | None, blocks: list[Block], mode: str, ttl: str
    ) -> Plan:
        """Plan as OpenAI's newer models do: reads and writes at breakpoints only, one of them set
        by OpenAI itself.
        """
        marks = {at: block.ttl for at, block in enumerate(blocks) if block.ttl}
        ends = list(
            {block.message: at for at, block in enumerate(blocks)}.values()
        )  # each message's last block
        implicit = mode == "implicit"
        written = dict(sorted(marks.items())[-(N_WITH_IMPLICIT if implicit else N_EXPLICIT) :])
        if implicit and ends:
            written.setdefault(ends[-1], ttl)
        reads = sorted({*marks, *(ends if implicit else [])})[-N_READ:]
        return self.at_breakpoints(("openai", cache_key), model, blocks, set(reads), written)

    def openai_automatic(self, model: str, cache_key: str | None, blocks: list[Block]) -> Plan:
        """Plan as OpenAI's older models do: the longest common prefix with an earlier prompt, in
        steps of 128 words.
        """
        plan = Plan(self.total(blocks))
        if plan.n_prompt < self.minimum(model):
            return plan
        text = joined(blocks)
        scope = ("automatic", cache_key, model)
        read_to, digest = self._walk(plan, scope, LEAP, text, 0, hashlib.sha1())
        read_to, _ = self._walk(plan, scope, STEP, text, read_to, digest)
        n_read = self.tokens(text[:read_to]) // 128 * 128
        plan.n_read = n_read if n_read >= self.minimum(model) else 0
        return plan

    def _walk(
        self,
        plan: Plan,
        scope: Hashable,
        stride: re.Pattern[str],
        text: str,
        start: int,
        digest: Any,
    ) -> Any:
        """Return how far the text is known from `start` on, and its digest there; plan to write
        what is not.
        """
        known, known_digest, end = start, digest.copy(), start
        while step := stride.match(text, end):
            digest.update(step[0].encode(errors="surrogatepass"))
            key, end = (scope, digest.digest()), step.end()
            if known == step.start() and self.alive(key):
                known, known_digest = end, digest.copy()
            else:
                plan.entries.append((key, LIFETIME_S["10m"]))
        return known, known_digest

    def admit(self, provider: str, n_tokens: int) -> float:
        """Take a request and its tokens from the buckets and return 0, or return the seconds until
        they are there.
        """
        with self.lock:
            needs = [
                (self._bucket(provider, unit), n)
                for unit, n in (("requests", 1), ("tokens", n_tokens))
            ]
            wait = max(
                (bucket.wait_s(n, self.clock()) for bucket, n in needs if bucket), default=0.0
            )
            for bucket, n in needs:
                if bucket and not wait:
                    bucket.level -= n
            return wait

    def state(self, provider: str) -> dict[str, tuple[int, int, float]]:
        """Return for each bucket that is set its size, what is in it, and the seconds until it is
        full.
        """
        with self.lock:
            now, found = self.clock(), {}
            for unit in self.per_minute:
                if bucket := self._bucket(provider, unit):
                    full_s = bucket.wait_s(bucket.per_minute, now)
                    found[unit] = (bucket.per_minute, math.floor(bucket.level), full_s)
            return found

    def _bucket(self, provider: str, unit: str) -> Bucket | None:
        per_minute = self.per_minute[unit]
        if per_minute is None:
            return None
        return self._buckets.setdefault((provider, unit), Bucket(per_minute, self.clock()))

    def charge(self, bill: Bill) -> Bill:
        """Put a bill on the account."""
        with self.lock:
            self.bill.append(bill)
        return bill
