"""What tokens cost: the dollars of an answer from its token counts, by kind.

In: a provider, a model's name there, and the counts that came with an answer (or that a plan
foresees). Out: US dollars at list prices, in batch or not, and the model's context window. The
prices are those in genai-prices on the day a model is first looked up: of cache reads and writes,
of writes kept for an hour, of batches, and of long prompts, whose length (cached tokens too)
decides what all tokens of the answer cost. A kind with no price of its own is paid as input. Added
here, as constants with their source, is what genai-prices does not know: the discount of models
without a batch price, hour-long writes where only short ones have a price, the storage of Gemini's
caches, and the context windows of Gemini's Pro models. Left out: service tiers (flex, priority),
fees per request or search, tokens that are not text, private discounts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

BATCH = {"processing": "batch"}  # how genai-prices calls it

# Of every price: platform.claude.com/docs/en/build-with-claude/batch-processing#pricing; OpenAI and
# Google likewise
BATCH_SHARE = 0.5

# Of the input price: platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing
WRITE_1H_RATIO = 2.0

# Tokens: ai.google.dev/gemini-api/docs/models
CONTEXT_WINDOWS = dict.fromkeys(
    ("gemini-2.5-pro", "gemini-3-pro-preview", "gemini-3.1-pro-preview"), 1_048_576
)

# Dollars for a million tokens kept for an hour, through 2026 and after:
# ai.google.dev/gemini-api/docs/pricing
STORAGE_PRICES = {
    **dict.fromkeys(
        ("gemini-2.5-pro", "gemini-3-pro-preview", "gemini-3.1-pro-preview"), (4.5, 4.5)
    ),
    **dict.fromkeys(
        (
            "gemini-2.5-flash",
            "gemini-2.5-flash-lite",
            "gemini-3-flash-preview",
            "gemini-3.1-flash-lite",
        ),
        (1.0, 1.0),
    ),
    **dict.fromkeys(("gemini-3.6-flash", "gemini-3.7-flash", "gemini-3.8-flash"), (0.5, 1.0)),
}


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens of one answer, by kind."""

    prompt: int  # all of it: cached and written ones too
    cached: int = 0
    written: int = 0
    written_1h: int = 0  # those of `written` that are kept for an hour
    completion: int = 0  # reasoning too

    @property
    def consistent(self) -> bool:
        """Whether the parts can be parts of the whole."""
        counts = (self.prompt, self.cached, self.written, self.written_1h, self.completion)
        return (
            min(counts) >= 0
            and self.cached + self.written <= self.prompt
            and self.written_1h <= self.written
        )


@dataclass(frozen=True, kw_only=True)
class Tier:
    """Dollars for one token of each kind, in prompts of more than `above` tokens."""

    above: int
    plain: float
    cached: float
    written: float
    written_1h: float
    completion: float


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a model's tokens cost: the rates of each tier, those of the longest prompts first."""

    standard: tuple[Tier, ...]
    batch: tuple[Tier, ...]
    context_window: int | None  # in tokens
    storage: float | None  # dollars for a token kept for an hour

    def cost_usd(self, tokens: Tokens, *, batch: bool = False) -> float | None:
        """Return the dollars of an answer; None for counts that contradict each other."""
        prompt = self.input_usd(tokens, batch=batch)
        return (
            None
            if prompt is None
            else prompt + tokens.completion * self._rates(tokens, batch).completion
        )

    def input_usd(self, tokens: Tokens, *, batch: bool = False) -> float | None:
        """Return the dollars of an answer's prompt alone; None for counts that contradict each
        other.
        """
        if not tokens.consistent:
            return None
        rates = self._rates(tokens, batch)
        return (
            (tokens.prompt - tokens.cached - tokens.written) * rates.plain
            + tokens.cached * rates.cached
            + (tokens.written - tokens.written_1h) * rates.written
            + tokens.written_1h * rates.written_1h
        )

    def storage_usd(self, tokens: int, hours: float) -> float | None:
        """Return the dollars of keeping an explicit cache; None where no price for it is known."""
        return None if self.storage is None else tokens * hours * self.storage

    def _rates(self, tokens: Tokens, batch: bool) -> Tier:
        return next(
            rates
            for rates in (self.batch if batch else self.standard)
            if tokens.prompt > rates.above
        )


# a look-up takes about a millisecond, the import before the first a fifth of a second
@functools.cache
def find_price(provider: str, model: str) -> Price | None:
    """Return what a model costs at a provider (openai, anthropic, google, openrouter, …); None
    where it is unknown.
    """
    import genai_prices

    name = model.removeprefix("models/")  # which Gemini's own listing puts first
    empty = genai_prices.Usage()
    try:
        found = genai_prices.calc_price(empty, name, provider_id=provider)
        in_batch = genai_prices.calc_price(empty, name, provider_id=provider, price_context=BATCH)
    except LookupError:
        return None
    if found.model_price.input_mtok is None or found.model_price.output_mtok is None:
        return None  # what is not known costs something
    has_batch_price = any(variant.when == BATCH for variant in found.model.price_variants or ())
    storage = STORAGE_PRICES.get(found.model.id) if found.provider.id == "google" else None
    return Price(
        standard=_tiers(found.model_price),
        batch=_tiers(in_batch.model_price, 1.0 if has_batch_price else BATCH_SHARE),
        context_window=found.model.context_window or CONTEXT_WINDOWS.get(found.model.id),
        storage=storage and storage[datetime.now(UTC).date() >= date(2027, 1, 1)] / 1e6,
    )


def _tiers(prices: ModelPrice, share: float = 1.0) -> tuple[Tier, ...]:
    from genai_prices.types import TieredPrices

    starts: set[int] = set()
    for price in vars(prices).values():
        if isinstance(price, TieredPrices):
            starts.update(tier.start for tier in price.tiers)
    return tuple(
        _rates_above(start, prices, share) for start in (*sorted(starts, reverse=True), -1)
    )


def _rates_above(start: int, prices: ModelPrice, share: float) -> Tier:
    from genai_prices.types import TieredPrices

    def usd(kind: str, otherwise: float) -> float:
        price = getattr(prices, f"{kind}_mtok")
        if isinstance(price, TieredPrices):
            price = next(
                (tier.price for tier in reversed(price.tiers) if start >= tier.start), price.base
            )
        return otherwise if price is None else float(price) * share / 1e6

    plain = usd("input", 0.0)
    has_writes = prices.cache_write_mtok is not None
    return Tier(
        above=start,
        plain=plain,
        cached=usd("cache_read", plain),
        written=usd("cache_write", plain),
        written_1h=usd("cache_write_1h", WRITE_1H_RATIO * plain if has_writes else plain),
        completion=usd("output", 0.0),
    )
