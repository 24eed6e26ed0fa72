"""The first queries of a node go alone: they write the provider's cache, and their usage must show
it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from icl_harness.models.api.asks import Asks
from icl_harness.models.api.caching import fewest_tokens
from icl_harness.models.base import Answer
from icl_harness.prompts.tree import Query

WARM_TRIES = (
    3  # queries asked alone until one shows a cached prefix: the second, where writing is not told
)


async def warm(asks: Asks, rest: list[Query]) -> AsyncGenerator[Answer, None]:
    """Ask queries alone, taking them off `rest`, until an answer shows that the prefix is cached."""
    if not asks.prefix.cached:
        return
    shown, told = False, False
    for _ in range(min(WARM_TRIES, len(rest))):
        answer = await asks.answer(rest.pop(0))
        yield answer
        if answer.usage.prompt_tokens is None:  # it failed
            continue
        if answer.usage.prompt_tokens < fewest_tokens(asks.model.provider, asks.model.name):
            return  # it was taken to be longer
        shown, told = asks.shows_cache(answer), answer.usage.cached_tokens is not None
        if shown or not told:  # a server that tells nothing of caches may have one
            break
    if rest and told and not shown:
        _say_uncached(asks, len(rest))


def _say_uncached(asks: Asks, n_left: int) -> None:
    model, shots = asks.model, asks.prefix.node.n_shots
    dear, cheap = (asks.prefix_usd(cached=cached) for cached in (False, True))
    price = ""
    if dear is not None and cheap is not None:
        price = f", ${n_left * dear:.2f} instead of ${n_left * cheap:.2f}"
    model.say_once(
        f"{model.id}: caching does not take at {shots:,} shots, as the usage shows; the {n_left:,} queries left of "
        f"this cell pay for the whole prefix{price}, and so may later ones. Ctrl-C stops.",
        "uncached",
    )
