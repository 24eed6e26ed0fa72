"""Replicas of local models in the workers of a Ray cluster.

In: a node and its queries, which go to a worker once. Out: its lists of answers, streamed back.
What the replica raises is raised here as it is; that its worker died is `WorkerLost`. Left out:
models behind an API and reference learners (they stay in the caller's process); a model over
several workers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from icl_harness.errors import IclError, ModelError, WorkerLost
from icl_harness.models import open_model
from icl_harness.models.base import Answer, Capabilities, GoldLikelihood, Model, Sampling
from icl_harness.prompts.tree import Node, Query


@dataclass(frozen=True, kw_only=True)
class About:
    """What a replica says of itself when it is open."""

    capabilities: Capabilities
    description: dict[str, Any]


class Host:
    """What runs in a worker: the replicas, and one node asked at a time, however many lines share
    the worker.
    """

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._turn = asyncio.Lock()

    def open(self, places: Mapping[str, str], how: Mapping[str, Any]) -> dict[str, About]:
        """Open the models: the id of each, and the one that finds it here; `how`: more arguments of
        `open_model`.

        Raises `ModelError` naming this machine.
        """
        for model_id, place in places.items():
            try:
                self._models[model_id] = open_model(place, **how)
            except IclError as error:
                raise ModelError(f"{error} (So says the worker on {_address()}.)") from error
        return {
            model_id: About(
                capabilities=model.capabilities,
                description={**model.describe(), "worker": _address()},
            )
            for model_id, model in self._models.items()
        }

    def count(self, model_id: str, node: Node, queries: Sequence[str]) -> int | None:
        """Return the tokens of the longest prompt."""
        return self._models[model_id].count_longest(node, queries)

    async def answers(
        self, model_id: str, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield what the replica yields."""
        async with (
            self._turn,
            aclosing(self._models[model_id].answers(node, queries, sampling)) as stream,
        ):
            async for answers in stream:
                yield answers


@dataclass(frozen=True, kw_only=True, eq=False)
class Worker:
    """A worker as its caller sees it: the actor, and the models that it will have opened."""

    actor: Any
    opened: Any


class Replica(Model):
    """One model of one worker. Raises `WorkerLost` where the worker dies."""

    gold_likelihood: GoldLikelihood = "weighed"

    def __init__(self, model_id: str, worker: Worker, about: About) -> None:
        self.id = model_id
        self.capabilities = about.capabilities
        self._worker = worker
        self._about = about

    def on(self, worker: Worker) -> Replica:
        """Return the same model on another worker."""
        return Replica(self.id, worker, self._about)

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield the worker's answers as they come."""
        import ray

        ask = self._worker.actor.answers.options(num_returns="streaming")
        stream = ask.remote(self.id, node, queries, sampling)
        ended = False
        try:
            with retold():
                async for answers in stream:
                    yield await answers
            ended = True
        finally:
            if not ended:
                ray.cancel(stream)

    def count_tokens(self, node: Node, query: str = "") -> int | None:
        """Return what the worker counts."""
        return self.count_longest(node, [query])

    def count_longest(self, node: Node, queries: Sequence[str]) -> int | None:
        """Return what the worker counts; it has the tokens then for what follows."""
        import ray

        with retold():
            count: int | None = ray.get(
                self._worker.actor.count.remote(self.id, node, list(queries))
            )
        return count

    def describe(self) -> dict[str, Any]:
        """Return what the first worker's replica says of itself."""
        return self._about.description


@contextlib.contextmanager
def retold() -> Iterator[None]:
    """Raise what a worker raised as if it had been raised here, and `WorkerLost` for a worker that
    died.
    """
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        raise (error.cause or error) from None
    except RayError as error:
        raise WorkerLost(f"a worker died: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())
