"""Anthropic's batches of messages: the requests are submitted as one body.

A batch bears no name of ours: the custom ids of its results show whose it is. Limits and forms:
platform.claude.com/docs/en/build-with-claude/batch-processing, November 2026: 256 MB and 100,000
requests a batch, and so many requests in processing as the account's tier allows.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from typing import IO, TYPE_CHECKING

from icl_harness.models.anthropic.wire import faults
from icl_harness.models.api.account import Account
from icl_harness.models.api.batch_api import BatchApi, Seen, is_older
from icl_harness.models.api.body import Body
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.client import Connection
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import BatchEntry
from icl_harness.models.base import Sampling
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import Message
    from anthropic.types.messages import MessageBatch
    from anthropic.types.messages.message_batch_result import MessageBatchResult

CHUNK = 1 << 16
# A result names its error, but not the status that the error has as an answer.
STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class AnthropicBatches(BatchApi[Body, "Message"]):
    """The batches of a model of Anthropic's; `request` makes what a prefix's requests share."""

    most_requests = 100_000
    most_bytes = 256_000_000
    results_days = 29
    frame = (b'{"requests":[', b",", b"]}")
    names_tokens = False

    def __init__(
        self,
        account: Account,
        connection: Connection[AsyncAnthropic],
        request: Callable[[Prefix, Sampling], Body],
    ) -> None:
        self.account = account
        self._connection = connection
        self._request = request

    def request(self, prefix: Prefix, sampling: Sampling) -> Body:
        """Return what all requests of a prefix share."""
        return self._request(prefix, sampling)

    def line(self, custom_id: str, request: Body, query: Query) -> list[bytes]:
        """Return one request as the file has it, in parts."""
        head = f'{{"custom_id":"{custom_id}","params":'
        return [head.encode(), *request.fill(query).parts, b"}"]

    async def create(self, entry: BatchEntry, file: IO[bytes]) -> Seen:
        """Submit the file."""
        from anthropic.types.messages import MessageBatch

        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(file.seek(0, os.SEEK_END)),
        }
        file.seek(0)
        with faults():
            path = "/v1/messages/batches"
            batch = await self._connection.client().post(
                path, cast_to=MessageBatch, content=_chunks(file), options={"headers": headers}
            )
            return _seen(batch)

    async def find(self, entry: BatchEntry, not_these: Collection[str]) -> Seen | None:
        """Return a batch of as many requests that is nobody else's."""
        with faults():
            async for batch in self._connection.client().messages.batches.list(limit=100):
                if is_older(batch.created_at.timestamp(), entry):  # the newest come first
                    return None
                n_requests = sum(count for _, count in batch.request_counts)
                if n_requests == entry.n_requests and batch.id not in not_these:
                    return _seen(batch)
        return None

    async def look(self, name: str) -> Seen:
        """Return what the provider says of a batch now."""
        with faults():
            return _seen(await self._connection.client().messages.batches.retrieve(name))

    async def results(self, seen: Seen) -> AsyncGenerator[tuple[str, Message | Fault], None]:
        """Yield the messages, and the faults of those that have none."""
        with faults():
            async for line in await self._connection.client().messages.batches.results(seen.name):
                yield line.custom_id, _result(line.result)


def _result(result: MessageBatchResult) -> Message | Fault:
    if result.type == "succeeded":
        return result.message
    if result.type != "errored":  # expired or cancelled
        return Fault(f"the request was {result.type}")
    error = result.error.error
    return Fault(error.message, status=STATUS.get(error.type, 400), codes=frozenset([error.type]))


def _seen(batch: MessageBatch) -> Seen:
    if not isinstance(batch.id, str) or not isinstance(batch.processing_status, str):
        raise Fault("malformed body: a batch without a name or a status", lost=True)
    counts = batch.request_counts
    return Seen(
        name=batch.id,
        state=batch.processing_status,
        ended=batch.processing_status == "ended",
        n_done=counts.succeeded,
        n_failed=counts.errored + counts.expired + counts.canceled,
    )


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
