"""What a provider's batches look like to us: one class for each provider derives from `BatchApi`.

In: requests, line by line, in a file. Out: a batch at the provider, what it says of it, and its
results by custom id. A custom id is the batch's token in the ledger and the request's number, so
that no result is taken for another's.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, ClassVar

from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import BatchEntry
from icl_harness.models.base import Sampling
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    from icl_harness.models.api.backend import ApiModel

CLOCKS_S = 600.0  # by how much the provider's clock may differ from ours


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a provider says of a batch. `fault`: why all of it failed; `files`: where its results
    lie.
    """

    name: str
    state: str  # in the provider's words
    ended: bool
    n_done: int | None = None
    n_failed: int | None = None
    fault: Fault | None = None
    files: tuple[str, ...] = ()

    @property
    def told(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        return {"state": self.state, "done": self.n_done, "failed": self.n_failed}


class BatchApi(ABC):
    """A provider's batches. All that asks the provider raises `Fault`."""

    most_requests: ClassVar[int]  # in one batch
    most_bytes: ClassVar[int]
    frame: ClassVar[
        tuple[bytes, bytes, bytes]
    ]  # what stands before the requests, between them, and after them
    results_days: ClassVar[int]  # that a batch is kept once it has ended
    names_tokens: ClassVar[bool] = (
        True  # whether the token can be seen at a batch, not only at its results
    )

    def __init__(self, model: ApiModel) -> None:
        self.model: Any = model  # as the provider's own class

    @abstractmethod
    def request(self, prefix: Prefix, sampling: Sampling) -> Any:
        """Return what all requests of a prefix share."""

    @abstractmethod
    def line(self, custom_id: str, request: Any, query: Query) -> list[bytes]:
        """Return one request as it stands in the file, in parts."""

    @abstractmethod
    async def create(self, client: Any, entry: BatchEntry, file: IO[bytes]) -> Seen:
        """Hand in the file as a batch under the entry's token."""

    @abstractmethod
    async def find(self, client: Any, entry: BatchEntry, not_these: Collection[str]) -> Seen | None:
        """Return the batch that was handed in under a token; one that may be it where tokens cannot
        be seen.
        """

    @abstractmethod
    async def look(self, client: Any, name: str) -> Seen:
        """Return what the provider says of a batch now."""

    @abstractmethod
    def results(self, client: Any, seen: Seen) -> AsyncGenerator[tuple[str, Any], None]:
        """Yield (custom id, the SDK's response or a `Fault`) of what has one, in any order."""


class Lines:
    """Bytes that come in chunks, read as JSON lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """Yield what the lines say that this chunk ends. Raises `Fault` for one that is no JSON."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return map(parsed, filter(bytes.strip, lines))

    def end(self) -> Iterator[Any]:
        """Yield what the last line says, where no newline ends it."""
        return self.feed(b"\n")


def parsed(line: bytes) -> dict[str, Any]:
    """Return a line's JSON object. Raises `Fault` where it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Fault("malformed results: a line is no JSON object")
    return found


def field(told: Any, *names: str) -> Any:
    """Return what lies at a path of names in JSON; None where there is nothing."""
    for name in names:
        told = told.get(name) if isinstance(told, dict) else None
    return told
