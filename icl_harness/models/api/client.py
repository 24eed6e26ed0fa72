"""The HTTP client that the SDKs are given: no limit on connections but the limiter's, which sees
every answer's headers.
"""

from __future__ import annotations

from typing import Any

import httpx2

from icl_harness.models.api.limiter import Limiter


def http_client(
    kind: type[httpx2.AsyncClient], limiter: Limiter, *, timeout_s: float, most: int
) -> Any:
    """Return a new client of a kind, for `most` requests at a time.

    The kind of OpenAI's and Anthropic's SDKs is their own one on aiohttp, which takes half the CPU
    seconds.
    """

    async def hook(response: httpx2.Response) -> None:
        limiter.told(response.headers)

    return kind(
        limits=httpx2.Limits(
            max_connections=None if kind is httpx2.AsyncClient else 0,
            max_keepalive_connections=most,
        ),
        timeout=timeout_s,
        follow_redirects=True,
        event_hooks={"response": [hook]},
    )
