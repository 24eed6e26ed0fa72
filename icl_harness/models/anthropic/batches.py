"""Anthropic's batches of messages: the requests are handed in as one body.

A batch bears no name of ours: the custom ids of its results show whose it is. Limits and forms:
platform.claude.com/ docs/en/build-with-claude/batch-processing, November 2026.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from typing import IO, Any

from icl_harness.models.api.batch_api import CLOCKS_S, BatchApi, Seen
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import BatchEntry
from icl_harness.models.base import Sampling
from icl_harness.prompts.tree import Query

CHUNK = 1 << 16
# A result names its error, but not the status that the error has as an answer.
STATUS = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "timeout_error": 504,
    "overloaded_error": 529,
}  # fmt: skip


class AnthropicBatches(BatchApi):
    """The batches of a model of Anthropic's."""

    most_requests = 100_000
    most_bytes = 256_000_000
    results_days = 29
    frame = (b'{"requests":[', b",", b"]}")
    names_tokens = False

    def request(self, prefix: Prefix, sampling: Sampling) -> Any:
        return self.model._request(prefix, sampling)

    def line(self, custom_id: str, request: Any, query: Query) -> list[bytes]:
        head = f'{{"custom_id":"{custom_id}","params":'
        return [head.encode(), *request.fill(query.text).parts, b"}"]

    async def create(self, client: Any, entry: BatchEntry, file: IO[bytes]) -> Seen:
        from anthropic.types.messages import MessageBatch

        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(file.seek(0, os.SEEK_END)),
        }
        file.seek(0)
        with faults():
            path = "/v1/messages/batches"
            batch = await client.post(
                path, cast_to=MessageBatch, content=_chunks(file), options={"headers": headers}
            )
            return _seen(batch)

    async def find(self, client: Any, entry: BatchEntry, not_these: Collection[str]) -> Seen | None:
        with faults():
            async for batch in client.messages.batches.list(limit=100):
                if batch.created_at.timestamp() < entry.made - CLOCKS_S:  # the newest come first
                    return None
                n_requests = sum(count for _, count in batch.request_counts)
                if n_requests == entry.n_requests and batch.id not in not_these:
                    return _seen(batch)
        return None

    async def look(self, client: Any, name: str) -> Seen:
        with faults():
            return _seen(await client.messages.batches.retrieve(name))

    async def results(self, client: Any, seen: Seen) -> AsyncGenerator[tuple[str, Any], None]:
        with faults():
            async for line in await client.messages.batches.results(seen.name):
                result = line.result
                yield (
                    line.custom_id,
                    result.message if result.type == "succeeded" else _fault(result),
                )


def _fault(result: Any) -> Fault:
    if result.type != "errored":  # expired or cancelled
        return Fault(f"the request was {result.type}")
    error = result.error.error
    return Fault(error.message, status=STATUS.get(error.type, 400), codes=frozenset([error.type]))


def _seen(batch: Any) -> Seen:
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


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Turn what the SDK raises into a `Fault`."""
    import anthropic
    import httpx2

    try:
        yield
    except anthropic.APIStatusError as error:
        raise Fault.from_body(
            error.status_code, error.body, error.message, error.response.headers
        ) from None
    except (
        anthropic.AnthropicError,
        httpx2.HTTPError,
        ValueError,
    ) as error:  # no response; or one that is no JSON
        raise Fault.from_exception(error) from None
    except (AttributeError, TypeError) as error:  # SDKs build their classes from any JSON
        raise Fault(f"malformed body: {error}", lost=True) from None
