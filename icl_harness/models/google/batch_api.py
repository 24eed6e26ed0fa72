"""Gemini's batches: a file of requests is uploaded, then submitted.

Every request holds the whole prompt; what they share is cached by the provider itself, if at
all. Limits and forms: ai.google.dev/gemini-api/docs/batch-api, November 2026. Left out: requests
submitted without a file (a file takes those too), cached contents, and deleting the files, which
end by themselves after 48 hours.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from icl_harness.models.api.account import Account
from icl_harness.models.api.batch_api import BatchApi, JsonObject, Lines, Seen, field, is_older
from icl_harness.models.api.body import Body, Json, Turn
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.client import Connection
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import BatchEntry
from icl_harness.models.base import Sampling
from icl_harness.models.google.wire import GoogleClient, faults, google_role, google_turns
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    from google.genai.types import BatchJob, GenerateContentResponse

ENDED = {"SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"}
# Of google.rpc.Code, which the errors of results bear, to the status of the same error as an
# answer. A request that was cancelled (1) or expired (4) is sent again.
STATUS = {3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 12: 400, 13: 500, 14: 503, 16: 401}


@dataclass(frozen=True, kw_only=True)
class BatchBody:
    """What the requests of a prefix share: the contents, and the generation's config as JSON."""

    contents: Body
    config: dict[str, Json]


class GoogleBatches(BatchApi[BatchBody, "GenerateContentResponse"]):
    """The batches of a Gemini model; `config` makes the generation's config as JSON."""

    most_requests = 1_000_000  # no limit is documented but that of the file
    most_bytes = 2_000_000_000
    results_days = 2
    frame = (b"", b"\n", b"\n")

    def __init__(
        self,
        account: Account,
        connection: Connection[GoogleClient],
        config: Callable[[Sampling], dict[str, Json]],
    ) -> None:
        self.account = account
        self._connection = connection
        self._config = config

    def request(self, prefix: Prefix, sampling: Sampling) -> BatchBody:
        """Return what all requests of a prefix share."""
        contents = Body(prefix.pieces, _params, _contents, google_turns)
        return BatchBody(contents=contents, config=self._config(sampling))

    def line(self, custom_id: str, request: BatchBody, query: Query) -> list[bytes]:
        """Return one request as the file has it, in parts."""
        config = {**request.config, "seed": query.seed & 0x7FFFFFFF}  # an int32
        filled = request.contents.fill(query, generationConfig=config)
        return [f'{{"key":"{custom_id}","request":'.encode(), *filled.parts, b"}"]

    async def create(self, entry: BatchEntry, file: IO[bytes]) -> Seen:
        """Upload the file and submit it."""
        from google.genai import types

        client = self._connection.client()
        batches, files = client.aio.batches, client.aio.files
        with faults():
            config = types.UploadFileConfig(display_name=entry.token, mime_type="application/jsonl")
            uploaded = await files.upload(file=cast(io.IOBase, file), config=config)
            if not uploaded.name:
                raise Fault("malformed body: a file without a name")
            named = types.CreateBatchJobConfig(display_name=entry.token)
            made = await batches.create(model=self.account.name, src=uploaded.name, config=named)
            return _seen(made)

    async def find(self, entry: BatchEntry, not_these: Collection[str]) -> Seen | None:
        """Return the batch whose display name is the token."""
        with faults():
            async for batch in await self._connection.client().aio.batches.list(
                config={"page_size": 100}
            ):
                if batch.display_name == entry.token:
                    return _seen(batch)
                made = batch.create_time
                if made and is_older(made.timestamp(), entry):  # the newest come first
                    return None
        return None

    async def look(self, name: str) -> Seen:
        """Return what the provider says of a batch now."""
        with faults():
            return _seen(await self._connection.client().aio.batches.get(name=name))

    async def results(
        self, seen: Seen
    ) -> AsyncGenerator[tuple[str, GenerateContentResponse | Fault], None]:
        """Yield the responses, and the faults of those that have none."""
        for name in seen.files:
            with tempfile.TemporaryFile() as file:
                with faults():
                    files = self._connection.client().aio.files
                    await files.download(file=name, destination=file)
                file.seek(0)
                lines = Lines()
                while chunk := file.read(io.DEFAULT_BUFFER_SIZE):
                    for line in lines.feed(chunk):
                        yield _result(line)
                for line in lines.end():
                    yield _result(line)


def _params(turns: list[Turn]) -> dict[str, Json]:
    """Return a request's parameters, its contents last."""
    system: dict[str, Json] = {}
    chat = [turn for turn in turns if turn[0] != "system"]
    for _, texts in turns[: len(turns) - len(chat)]:
        system = {"systemInstruction": {"parts": _parts(texts)}}
    return {**system, "contents": _contents(chat)}


def _contents(turns: list[Turn]) -> list[Json]:
    return [{"role": google_role(role), "parts": _parts(texts)} for role, texts in turns]


def _parts(texts: Sequence[tuple[int, str]]) -> list[Json]:
    return [{"text": text} for _, text in texts]


def _result(line: JsonObject) -> tuple[str, GenerateContentResponse | Fault]:
    key, response = str(line.get("key")), line.get("response")
    if response is not None:
        return key, _response(response)
    code, text = field(line, "error", "code"), field(line, "error", "message")
    return key, Fault(str(text or "no answer"), status=_status(code))


def _status(code: object) -> int | None:
    """Return the status that the error of a result has as an answer's."""
    if not isinstance(code, int):
        return None
    return STATUS.get(code, code if code >= 400 else None)


def _response(body: object) -> GenerateContentResponse | Fault:
    from google.genai import types

    if not isinstance(body, dict):
        return Fault("malformed body: a response is no JSON object", lost=True)
    try:
        return types.GenerateContentResponse._from_response(response=body, kwargs={})
    except ValueError as error:
        return Fault(f"malformed body: {error}", lost=True)


def _seen(batch: BatchJob) -> Seen:
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
