"""OpenAI's batches: a file of requests is uploaded, then submitted.

Limits and forms: developers.openai.com/api/docs/guides/batch, and the SDK's own words, November
2026: 200 MB and 50,000 requests a file, 10,485,760 characters a string, and for each model so many
tokens enqueued as the account's tier allows; over that a batch waits for another's end, and is
halved where none is underway. Left out: deleting the files, which end by themselves after 30 days.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from typing import IO, TYPE_CHECKING, Generic, Literal, cast

from icl_harness.models.api.account import Account
from icl_harness.models.api.batch_api import BatchApi, JsonObject, Lines, Seen, field, is_older
from icl_harness.models.api.body import Body, Json
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.client import Connection
from icl_harness.models.api.endpoint import S
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import BatchEntry
from icl_harness.models.base import Sampling
from icl_harness.models.openai.wire import faults
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

ENDED = {"completed", "failed", "expired", "cancelled"}
NO_ROOM = "token_limit_exceeded"  # too many tokens are in the account's batches just now


class OpenAIBatches(BatchApi[Body, S], Generic[S]):
    """The batches of a model of OpenAI's, of requests to the endpoint at `path`, whose responses
    are of the SDK's `kind`.
    """

    most_requests = 50_000
    most_bytes = 200_000_000
    results_days = 30
    frame = (b"", b"\n", b"\n")

    def __init__(
        self,
        account: Account,
        connection: Connection[AsyncOpenAI],
        *,
        path: str,
        kind: type[S],
        request: Callable[[Prefix, Sampling], Body],
        own_params: Callable[[Query], dict[str, Json]],
    ) -> None:
        self.account = account
        self._connection = connection
        self._path = f"/v1{path}"
        self._kind = kind
        self._request = request
        self._own_params = own_params

    def request(self, prefix: Prefix, sampling: Sampling) -> Body:
        """Return what all requests of a prefix share."""
        return self._request(prefix, sampling)

    def line(self, custom_id: str, request: Body, query: Query) -> list[bytes]:
        """Return one request as the file has it, in parts."""
        head = f'{{"custom_id":"{custom_id}","method":"POST","url":"{self._path}","body":'
        return [head.encode(), *request.fill(query, **self._own_params(query)).parts, b"}"]

    async def create(self, entry: BatchEntry, file: IO[bytes]) -> Seen:
        """Upload the file and submit it."""
        client = self._connection.client()
        with faults():
            upload = (f"{entry.token}.jsonl", file, "application/jsonl")
            uploaded = await client.files.create(file=upload, purpose="batch")
            if not isinstance(uploaded.id, str):
                raise Fault("malformed body: a file without a name")
            batch = await client.batches.create(
                input_file_id=uploaded.id,
                endpoint=cast(Literal["/v1/chat/completions"], self._path),
                completion_window="24h",
                metadata={"icl": entry.token},
            )
            return _seen(batch)

    async def find(self, entry: BatchEntry, not_these: Collection[str]) -> Seen | None:
        """Return the batch whose metadata bear the token."""
        with faults():
            async for batch in self._connection.client().batches.list(limit=100):
                if (batch.metadata or {}).get("icl") == entry.token:
                    return _seen(batch)
                if is_older(batch.created_at, entry):  # the newest come first
                    return None
        return None

    async def look(self, name: str) -> Seen:
        """Return what the provider says of a batch now."""
        with faults():
            return _seen(await self._connection.client().batches.retrieve(name))

    async def results(self, seen: Seen) -> AsyncGenerator[tuple[str, S | Fault], None]:
        """Yield the responses, and the faults of those that have none, of both files."""
        for file in seen.files:
            lines = Lines()
            with faults():
                streaming = self._connection.client().files.with_streaming_response
                async with streaming.content(file) as response:
                    async for chunk in response.iter_bytes():
                        for line in lines.feed(chunk):
                            yield self._result(line)
            for line in lines.end():
                yield self._result(line)

    def _result(self, line: JsonObject) -> tuple[str, S | Fault]:
        custom_id = str(line.get("custom_id"))
        status, body = field(line, "response", "status_code"), field(line, "response", "body")
        if status == 200:
            return custom_id, self._response(body)
        if status is None:
            body = line.get("error")
        known = status if isinstance(status, int) else None
        return custom_id, Fault.from_body(known, body, "no answer", {})

    def _response(self, body: object) -> S | Fault:
        """Return the SDK's class of a response, unchecked, as the SDK makes it of an answer."""
        if not isinstance(body, dict):
            return Fault("malformed body: a response is no JSON object", lost=True)
        made: S = self._kind.construct(**body)  # type: ignore[attr-defined]
        return made


def _seen(batch: Batch) -> Seen:
    if not isinstance(batch.id, str) or not isinstance(batch.status, str):
        raise Fault("malformed body: a batch without a name or a status", lost=True)
    counts = batch.request_counts
    return Seen(
        name=batch.id,
        state=batch.status,
        ended=batch.status in ENDED,
        n_done=counts.completed if counts else None,
        n_failed=counts.failed if counts else None,
        fault=_fault(batch) if batch.status == "failed" else None,
        files=tuple(filter(None, (batch.output_file_id, batch.error_file_id))),
    )


def _fault(batch: Batch) -> Fault:
    """Return why all of a batch failed."""
    errors = [error for error in (batch.errors.data if batch.errors else None) or [] if error]
    codes = frozenset(error.code for error in errors if error.code)
    text = "; ".join(error.message for error in errors if error.message) or "the batch failed"
    return Fault(text, status=429 if NO_ROOM in codes else 400, codes=codes)
