"""Gemini's batches: a file of requests is uploaded, then handed in.

The whole prompt stands in every request; what they share is cached by the provider itself, if at
all. Limits and forms: ai.google.dev/gemini-api/docs/batch-api, November 2026. Left out: requests
handed in without a file (a file takes those too), cached contents, and deleting the files, which
end by themselves after 48 hours.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import AsyncGenerator, Collection, Iterator
from typing import IO, Any

from icl_harness.models.api.batch_api import CLOCKS_S, BatchApi, Lines, Seen, field
from icl_harness.models.api.body import Body
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import BatchEntry
from icl_harness.models.base import Sampling
from icl_harness.models.google.caches import faults as sdk_faults
from icl_harness.models.google.gemini import google_turns
from icl_harness.prompts.tree import Query

ENDED = {"SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"}
# Of google.rpc.Code, which the errors of results bear, to the status of the same error as an
# answer. A request that was cancelled (1) or expired (4) is asked again.
STATUS = {3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 12: 400, 13: 500, 14: 503, 16: 401}


class GoogleBatches(BatchApi):
    """The batches of a Gemini model."""

    most_requests = 1_000_000  # no limit is told but that of the file
    most_bytes = 2_000_000_000
    results_days = 2
    frame = (b"", b"\n", b"\n")

    def request(self, prefix: Prefix, sampling: Sampling) -> Any:
        params: dict[str, Any] = {}
        contents = []
        for role, texts in google_turns(prefix):
            parts = [{"text": text} for text in texts]
            if role == "system":
                params["systemInstruction"] = {"parts": parts}
            else:
                contents.append({"role": role, "parts": parts})
        return Body({**params, "contents": contents}), self._config(sampling)

    def _config(self, sampling: Sampling) -> dict[str, Any]:
        from google.genai import types

        config = types.GenerationConfig(**self.model._config(sampling))
        told = config.model_dump(mode="json", by_alias=True, exclude_none=True)
        if thinking := self.model.thinking:
            room = types.ThinkingConfig(**thinking)
            told["thinkingConfig"] = room.model_dump(mode="json", by_alias=True, exclude_none=True)
        return told

    def line(self, custom_id: str, request: Any, query: Query) -> list[bytes]:
        body, config = request
        own = {"generationConfig": {**config, "seed": query.seed & 0x7FFFFFFF}}  # an int32
        return [
            f'{{"key":"{custom_id}","request":'.encode(),
            *body.fill(query.text, **own).parts,
            b"}",
        ]

    async def create(self, client: Any, entry: BatchEntry, file: IO[bytes]) -> Seen:
        from google.genai import types

        batches, files = client[0].aio.batches, client[0].aio.files
        with faults():
            config = types.UploadFileConfig(display_name=entry.token, mime_type="application/jsonl")
            uploaded = await files.upload(file=file, config=config)
            if not uploaded.name:
                raise Fault("malformed body: a file without a name")
            named = types.CreateBatchJobConfig(display_name=entry.token)
            return _seen(
                await batches.create(model=self.model.name, src=uploaded.name, config=named)
            )

    async def find(self, client: Any, entry: BatchEntry, not_these: Collection[str]) -> Seen | None:
        with faults():
            async for batch in await client[0].aio.batches.list(config={"page_size": 100}):
                if batch.display_name == entry.token:
                    return _seen(batch)
                if (
                    batch.create_time and batch.create_time.timestamp() < entry.made - CLOCKS_S
                ):  # newest first
                    return None
        return None

    async def look(self, client: Any, name: str) -> Seen:
        with faults():
            return _seen(await client[0].aio.batches.get(name=name))

    async def results(self, client: Any, seen: Seen) -> AsyncGenerator[tuple[str, Any], None]:
        for name in seen.files:
            with tempfile.TemporaryFile() as file:
                with faults():
                    await client[0].aio.files.download(file=name, destination=file)
                file.seek(0)
                lines = Lines()
                while chunk := file.read(io.DEFAULT_BUFFER_SIZE):
                    for told in lines.feed(chunk):
                        yield _result(told)
                for told in lines.end():
                    yield _result(told)


def _result(told: dict[str, Any]) -> tuple[str, Any]:
    key, response = str(told.get("key")), told.get("response")
    if response is not None:
        return key, _response(response)
    code, text = field(told, "error", "code"), field(told, "error", "message")
    return key, Fault(
        str(text or "no answer"), status=STATUS.get(code, code if code and code >= 400 else None)
    )


def _response(told: Any) -> Any:
    from google.genai import types

    try:
        return types.GenerateContentResponse._from_response(response=told, kwargs={})
    except ValueError as error:
        return Fault(f"malformed body: {error}", lost=True)


def _seen(batch: Any) -> Seen:
    if not batch.name:
        raise Fault("malformed body: a batch without a name", lost=True)
    state = batch.state.name.removeprefix("JOB_STATE_") if batch.state else "PENDING"
    fault = None
    if state == "FAILED":
        fault = Fault((batch.error and batch.error.message) or "the batch failed", status=400)
    file = batch.dest and batch.dest.file_name
    return Seen(
        name=batch.name,
        state=state,
        ended=state in ENDED,
        fault=fault,
        files=(file,) if file else (),
    )


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Turn what the SDK raises into a `Fault`; a body of another shape shows where the SDK reads
    it.
    """
    try:
        with sdk_faults():
            yield
    except (AttributeError, LookupError, TypeError) as error:
        raise Fault(f"malformed body: {error}", lost=True) from None
