"""The first queries of a node go alone: they write the provider's cache, and their usage must show
it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from icl_harness.counts import n_of
from icl_harness.models.api.endpoint import P, R, S
from icl_harness.models.api.requests import Requests
from icl_harness.models.base import Answer
from icl_harness.prompts.tree import Query

# queries sent alone until one shows a cached prefix: the second, where writes are not in the usage
WARM_TRIES = 3


async def warm(requests: Requests[R, S, P], rest: list[Query]) -> AsyncGenerator[Answer, None]:
    """Send queries alone, off `rest`, until an answer shows that the prefix is cached."""
    if not requests.prefix.cached:
        return
    account = requests.account
    is_cached = reports_caches = False
    for _ in range(min(WARM_TRIES, len(rest))):
        answer = await requests.answer(rest.pop(0))
        yield answer
        usage = answer.usage
        if usage.prompt_tokens is None:  # it failed
            continue
        if usage.prompt_tokens < account.service.fewest_tokens(account.name):
            return  # the prefix was taken to be longer
        is_cached, reports_caches = requests.shows_cache(usage), usage.cached_tokens is not None
        if is_cached or not reports_caches:  # a server that reports no cached tokens may have some
            break
    if rest and reports_caches and not is_cached:
        _say_uncached(requests, len(rest))


def _say_uncached(requests: Requests[R, S, P], n_left: int) -> None:
    account, shots = requests.account, requests.prefix.node.n_shots
    full, hit = (requests.prefix_usd(cached=cached) for cached in (False, True))
    price = ""
    if full is not None and hit is not None:
        price = f", ${n_left * full:.2f} instead of ${n_left * hit:.2f}"
    account.say_once(
        f"{account.id}: caching does not take at {n_of(shots, 'shot')}, as the usage shows; what "
        f"is left of this cell ({n_of(n_left, 'query')}) pays for the whole prefix{price}, and so "
        "may later cells. Ctrl-C stops.",
        "uncached",
    )
