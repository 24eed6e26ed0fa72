"""OpenAI's batches: a file of requests is uploaded, then handed in.

Limits and forms: developers.openai.com/api/docs/guides/batch, and the SDK's own words, November
2026. Left out: deleting the files, which end by themselves after 30 days.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Collection, Iterator
from typing import IO, Any

from icl_harness.errors import SpecError
from icl_harness.models.api.batch_api import CLOCKS_S, BatchApi, Lines, Seen, field
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import BatchEntry
from icl_harness.models.base import Sampling
from icl_harness.prompts.tree import Query

ENDED = {"completed", "failed", "expired", "cancelled"}
PATHS = ("/chat/completions", "/responses")
NO_ROOM = "token_limit_exceeded"  # too many tokens are in the account's batches just now


class OpenAIBatches(BatchApi):
    """The batches of a model of OpenAI's, asked by chat completions or responses."""

    most_requests = 50_000
    most_bytes = 200_000_000
    results_days = 30
    frame = (b"", b"\n", b"\n")

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if model.path not in PATHS:
            raise SpecError(
                f"{model.id}: its endpoint {model.path} takes no batches here. Leave --batch out."
            )

    def request(self, prefix: Prefix, sampling: Sampling) -> Any:
        return self.model._request(prefix, sampling)

    def line(self, custom_id: str, request: Any, query: Query) -> list[bytes]:
        own: dict[str, Any] = (
            {} if self.model._reasons() or self.model.path == "/responses" else {"seed": query.seed}
        )
        if self.model.charges_writes:  # else each query's end is written to a cache, at a price
            own["prompt_cache_options"] = {"mode": "explicit"}
        head = f'{{"custom_id":"{custom_id}","method":"POST","url":"/v1{self.model.path}","body":'
        return [head.encode(), *request.fill(query.text, **own).parts, b"}"]

    async def create(self, client: Any, entry: BatchEntry, file: IO[bytes]) -> Seen:
        with faults():
            upload = (f"{entry.token}.jsonl", file, "application/jsonl")
            uploaded = await client.files.create(file=upload, purpose="batch")
            if not isinstance(uploaded.id, str):
                raise Fault("malformed body: a file without a name")
            batch = await client.batches.create(
                input_file_id=uploaded.id,
                endpoint=f"/v1{self.model.path}",
                completion_window="24h",
                metadata={"icl": entry.token},
            )
        return _seen(batch)

    async def find(self, client: Any, entry: BatchEntry, not_these: Collection[str]) -> Seen | None:
        with faults():
            async for batch in client.batches.list(limit=100):
                if (batch.metadata or {}).get("icl") == entry.token:
                    return _seen(batch)
                if batch.created_at < entry.made - CLOCKS_S:  # the newest come first
                    return None
        return None

    async def look(self, client: Any, name: str) -> Seen:
        with faults():
            return _seen(await client.batches.retrieve(name))

    async def results(self, client: Any, seen: Seen) -> AsyncGenerator[tuple[str, Any], None]:
        for file in seen.files:
            lines = Lines()
            with faults():
                async with client.files.with_streaming_response.content(file) as response:
                    async for chunk in response.iter_bytes():
                        for told in lines.feed(chunk):
                            yield self._result(told)
            for told in lines.end():
                yield self._result(told)

    def _result(self, told: dict[str, Any]) -> tuple[str, Any]:
        status, body = field(told, "response", "status_code"), field(told, "response", "body")
        if status == 200:
            return str(told.get("custom_id")), self._response(body)
        if status is None:
            body = told.get("error")
        known = status if isinstance(status, int) else None
        return str(told.get("custom_id")), Fault.from_body(known, body, "no answer", {})

    def _response(self, body: Any) -> Any:
        from openai.types.chat import ChatCompletion
        from openai.types.responses import Response

        kind: Any = Response if self.model.path == "/responses" else ChatCompletion
        return kind.construct(**body) if isinstance(body, dict) else body


def _seen(batch: Any) -> Seen:
    if not isinstance(batch.id, str) or not isinstance(batch.status, str):
        raise Fault("malformed body: a batch without a name or a status", lost=True)
    counts, fault = batch.request_counts, None
    if batch.status == "failed":
        told = [error for error in (batch.errors.data if batch.errors else None) or [] if error]
        codes = frozenset(error.code for error in told if error.code)
        text = "; ".join(error.message for error in told if error.message) or "the batch failed"
        fault = Fault(text, status=429 if NO_ROOM in codes else 400, codes=codes)
    return Seen(
        name=batch.id,
        state=batch.status,
        ended=batch.status in ENDED,
        n_done=counts.completed if counts else None,
        n_failed=counts.failed if counts else None,
        fault=fault,
        files=tuple(filter(None, (batch.output_file_id, batch.error_file_id))),
    )


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Turn what the SDK raises into a `Fault`."""
    import httpx2
    import openai

    try:
        yield
    except openai.APIStatusError as error:
        raise Fault.from_body(
            error.status_code, error.body, error.message, error.response.headers
        ) from None
    except (
        openai.OpenAIError,
        httpx2.HTTPError,
        ValueError,
    ) as error:  # no response; or one that is no JSON
        raise Fault.from_exception(error) from None
    except (AttributeError, TypeError) as error:  # SDKs build their classes from any JSON
        raise Fault(f"malformed body: {error}", lost=True) from None
