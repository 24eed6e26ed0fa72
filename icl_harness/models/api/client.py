"""Connections to a provider: the HTTP client that its SDK is given, and the SDK's client itself.

There is no limit on connections but the limiter's, which sees every answer's headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from icl_harness.models.api.account import Account

if TYPE_CHECKING:
    import httpx2

C = TypeVar("C")
H = TypeVar("H", bound="httpx2.AsyncClient")


class Connection(Generic[C]):
    """A provider's client, opened when it is first needed, one for each event loop."""

    def __init__(self, open: Callable[[], C], close: Callable[[C], Awaitable[None]]) -> None:
        self._open, self._close = open, close
        self._client: C | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def client(self) -> C:
        """Return the client of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = self._open(), loop
        return self._client

    async def close(self) -> None:
        """Close the client; a later call of `client` opens a new one."""
        client, self._client = self._client, None
        if client is not None:
            await self._close(client)


def http_client(kind: type[H], account: Account) -> H:
    """Return a new HTTP client of a kind: httpx2's, or the one on aiohttp that the SDKs of OpenAI
    and Anthropic bring, which takes half the CPU seconds. It is held to its bounds.
    """
    import httpx2

    from icl_harness.models.api.bounded_client import BoundedClient

    limits = httpx2.Limits(
        max_connections=None if kind is httpx2.AsyncClient else 0,
        max_keepalive_connections=account.args.concurrency,
    )
    bounded: Any = type("BoundedClient", (BoundedClient, kind), {"account": account})
    client: Any = bounded(limits=limits, timeout=account.args.timeout_s, follow_redirects=False)
    client.event_hooks = {"response": [client.bound]}
    return cast(H, client)
