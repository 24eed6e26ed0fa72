"""How requests of one kind are made, sent and read: what a provider's endpoint is to the others.

In: a node as it is sent, then queries. Out: replies. A model is the endpoint of its own answers;
other endpoints of its provider (log-probabilities of a prompt, decisions) are objects beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

from icl_harness.models.api.bounds import answer_bytes
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault, Reply, counted, shown, storable
from icl_harness.models.base import TOKEN_KINDS, Answer, Sampling
from icl_harness.prompts.tree import Query

R = TypeVar("R")  # what all requests of a prefix share, in the provider's form
S = TypeVar("S")  # a response, as the SDK gives it
P = TypeVar("P", bound=Reply)  # what is read from it


class Endpoint(ABC, Generic[R, S, P]):
    """One endpoint of a provider."""

    @property
    def diagnoses(self) -> bool:
        """Whether the provider says why a cache was not read: `Prefix.baseline`, `Reply.miss`."""
        return False

    @abstractmethod
    def request(self, prefix: Prefix, sampling: Sampling) -> R:
        """Return what all requests of a prefix share, made once."""

    def keys(self, query: Query) -> list[tuple[str, int]]:
        """Return the id and sample of each answer that a request brings: most bring one."""
        return [(query.id, query.sample)]

    def most_bytes(self, limit: int, prompt_bytes: int) -> int:
        """Return the most bytes of a response whose answer may take `limit` tokens."""
        return answer_bytes(limit)

    async def before(self, request: R) -> None:
        """Do what must be done before a request may be sent, each time. Most need nothing."""

    @abstractmethod
    async def send(self, request: R, query: Query) -> S:
        """Send one request and return the SDK's response. Raises `Fault`."""

    @abstractmethod
    def read(self, response: S) -> P:
        """Return what a response says. Raises `Fault` where it says nothing."""

    def after(self, request: R, answer: Answer) -> Answer:
        """Return an answer with what else it cost. Most cost nothing else."""
        return answer


def read_reply(read: Callable[[S], P], response: S) -> P:
    """Return what a response says. Raises `Fault` where its shape is not the provider's."""
    try:
        reply = read(response)
        if not isinstance(reply.text, str | None):
            raise TypeError(f"the answer is no text but {shown(reply.text)}")
        _check_counts(reply)
        return replace(reply, text=reply.text and storable(reply.text))
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        # SDKs build their classes from any JSON: a body of another shape shows only where it is
        # read.
        raise Fault(f"malformed body: {error}", lost=True) from None


def _check_counts(reply: Reply) -> None:
    """Raise `ValueError` where the tokens of a reply are no numbers that the store can hold."""
    for name in TOKEN_KINDS:
        counted(getattr(reply.usage, name), name)
    counted(reply.written_1h, "cache_write_tokens")
