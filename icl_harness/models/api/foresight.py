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

from icl_harness.models.api.backend import ApiModel
from icl_harness.models.api.caching import fewest_tokens, ttl_for
from icl_harness.models.api.counting import Count
from icl_harness.models.api.limiter import Rates
from icl_harness.models.api.prices import Tokens
from icl_harness.prompts.tree import Node

Caching = Literal["breakpoints", "automatic", "kept", "none"]
STEP = 128  # tokens: what OpenAI's automatic caches grow by


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """What the requests of a cell take; dollars are None without a price: those of the prompts in
    three ways, and those of the answers at most.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    usd_cached: float | None = None
    usd_plain: float | None = None
    usd_batch: float | None = None
    usd_output: float | None = None  # half as much in a batch


def caching_of(model: ApiModel) -> Caching:
    """Return how a model's provider caches: at breakpoints that it charges for, by itself, as
    contents kept, not.
    """
    if model.sdk[0] == "google.genai":
        return "kept"
    if model.charges_writes:
        return "breakpoints"
    return "automatic" if getattr(model, "is_own", False) else "none"


class Foresight:
    """The caches of one model as a walk goes on."""

    def __init__(self, model: ApiModel) -> None:
        self._model = model
        self._caching = caching_of(model)
        self._fewest = fewest_tokens(model.provider, model.name)
        self._held: set[tuple[str, str]] = (
            set()
        )  # of the provider's caches: (draw, the node's hash)

    @property
    def rates(self) -> Rates:
        """Return the account's rates, as far as the user gave them."""
        return self._model.terms.rates

    @property
    def paces_cached(self) -> bool:
        """Whether tokens that are read from a cache count against those rates."""
        return self._model.paces_cached

    def ask(self, node: Node, count: Count, completion: int) -> Foreseen:
        """Return what it takes to ask the queries that were counted; `completion`: the room for
        each answer.
        """
        model, n = self._model, len(count.queries)
        if node.n_bytes:
            model.tokens_per_byte = count.prefix / node.n_bytes  # as its answers will tell
        total = n * count.prefix + sum(count.queries)
        read, written, others, extra = self._cached(node, count.prefix, n)
        is_long = ttl_for(count.prefix, model.terms.rates) == "1h" and model.provider == "anthropic"
        mean, written_1h = round(total / n), written if is_long else 0
        first = Tokens(
            prompt=mean, cached=read, written=written, written_1h=written_1h, completion=completion
        )
        rest = Tokens(prompt=mean, cached=others, completion=completion)
        return Foreseen(
            prompt_tokens=total + extra,
            cached_tokens=read + (n - 1) * others,
            cache_write_tokens=written + extra,
            **self._dollars(first, rest, n, extra),
        )

    def _dollars(self, first: Tokens, rest: Tokens, n: int, extra: int) -> dict[str, float | None]:
        price = self._model.price
        if price is None:
            return {}
        plain = Tokens(prompt=rest.prompt, completion=rest.completion)
        made = price.input_usd(Tokens(prompt=extra, written=extra)) or 0.0
        usd = price.input_usd
        return {
            "usd_cached": (usd(first) or 0.0) + (n - 1) * (usd(rest) or 0.0) + made,
            "usd_plain": n * (usd(plain) or 0.0),
            "usd_batch": n * (usd(plain, batch=True) or 0.0),
            "usd_output": n * ((price.cost_usd(plain) or 0.0) - (usd(plain) or 0.0)),
        }

    def _cached(self, node: Node, prefix: int, n: int) -> tuple[int, int, int, int]:
        """Return the tokens that the first query reads, those it writes, those that each other
        query reads, and those that are sent to be kept beforehand.
        """
        sent = self._model.prefix(node, n)
        draw = sent.key if self._model.provider == "openai" and sent.cached else ""
        if self._caching == "automatic":
            read = self._read(draw, node, prefix) // STEP * STEP
            self._held |= {(draw, at.hash) for at in node.path}
            whole = prefix // STEP * STEP
            return tuple(k if k >= self._fewest else 0 for k in (read, 0, whole, 0))  # type: ignore[return-value]
        if not sent.cached or self._caching == "none":
            return 0, 0, 0, 0
        if self._caching == "kept":
            return prefix, 0, prefix, prefix
        read = self._read(draw, node, prefix)
        marks = [*[at for at in node.path[:-1] if at.cut][-3:], node]
        self._held |= {
            (draw, at.hash) for at in marks if self._tokens(at, node, prefix) >= self._fewest
        }
        return read, prefix - read, prefix, 0

    def _read(self, draw: str, node: Node, prefix: int) -> int:
        """Return the tokens up to the last node of a path that a cache holds."""
        at: Node | None = node
        while at is not None and (draw, at.hash) not in self._held:
            at = at.parent
        return 0 if at is None else self._tokens(at, node, prefix)

    def _tokens(self, at: Node, node: Node, prefix: int) -> int:
        return round(prefix * at.n_bytes / node.n_bytes) if node.n_bytes else 0
