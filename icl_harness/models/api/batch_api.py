"""What a provider's batches look like to us: one class for each provider derives from `BatchApi`.

In: requests, line by line, in a file. Out: a batch at the provider, its status, and its results by
custom id. A custom id is the batch's token in the ledger and the request's number, so that no
result is taken for another's.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, ClassVar, Generic

from icl_harness.models.api.account import Account
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.endpoint import R, S
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import BatchEntry, BatchStatus
from icl_harness.models.base import Sampling
from icl_harness.prompts.tree import Query

CLOCKS_S = 600.0  # by how much the provider's clock may differ from ours


def is_older(created: float, entry: BatchEntry) -> bool:
    """Whether a batch at the provider was made before the one of an entry, as far as clocks tell:
    ours may have been set back since.
    """
    return entry.made <= time.time() and created < entry.made - CLOCKS_S


JsonObject = Mapping[str, object]


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
    def status(self) -> BatchStatus:
        """Return what the ledger keeps of it."""
        return {"state": self.state, "done": self.n_done, "failed": self.n_failed}


class BatchApi(ABC, Generic[R, S]):
    """A provider's batches. All methods that ask the provider raise `Fault`."""

    most_requests: ClassVar[int]  # in one batch
    most_bytes: ClassVar[int]
    # what stands before the requests, between them, and after them
    frame: ClassVar[tuple[bytes, bytes, bytes]]
    results_days: ClassVar[int]  # that a batch is kept once it has ended
    # whether the token can be seen at a batch, not only at its results
    names_tokens: ClassVar[bool] = True

    account: Account

    @abstractmethod
    def request(self, prefix: Prefix, sampling: Sampling) -> R:
        """Return what all requests of a prefix share."""

    @abstractmethod
    def line(self, custom_id: str, request: R, query: Query) -> list[bytes]:
        """Return one request as the file has it, in parts."""

    @abstractmethod
    async def create(self, entry: BatchEntry, file: IO[bytes]) -> Seen:
        """Submit the file as a batch under the entry's token."""

    @abstractmethod
    async def find(self, entry: BatchEntry, not_these: Collection[str]) -> Seen | None:
        """Return the batch that was submitted under a token; one that may be it where tokens cannot
        be seen.
        """

    @abstractmethod
    async def look(self, name: str) -> Seen:
        """Return what the provider says of a batch now."""

    @abstractmethod
    def results(self, seen: Seen) -> AsyncGenerator[tuple[str, S | Fault], None]:
        """Yield (custom id, the SDK's response or a `Fault`) of what has one, in any order."""


class Lines:
    """Bytes that come in chunks, read as JSON lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[JsonObject]:
        """Yield the lines that this chunk ends. Raises `Fault` for one that is no JSON object."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return map(parsed, filter(bytes.strip, lines))

    def end(self) -> Iterator[JsonObject]:
        """Yield the last line, where no newline ends it."""
        return self.feed(b"\n")


def parsed(line: bytes) -> JsonObject:
    """Return a line's JSON object. Raises `Fault` where it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Fault("malformed results: a line is no JSON object")
    return found


def field(line: object, *names: str) -> object:
    """Return what lies at a path of names in JSON; None where there is nothing."""
    for name in names:
        line = line.get(name) if isinstance(line, dict) else None
    return line
