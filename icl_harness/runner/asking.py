"""Sending a cell's requests to one model, and storing the answers.

In: a bundle, the shot count that it is sent with, a run store. Out: records, or a request that the
provider finds too long. At temperature 0 the seed is left out, so any draw's identical request
matches: it is sent once a run, and its answer is copied. Left out: which shot count to send
(overflow.py), what to send next (schedule.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from icl_harness.examples import Example
from icl_harness.models.base import Answer, Model, Sampling, spent_tokens
from icl_harness.prompts.tree import Node, Prompt
from icl_harness.runner.choice_scores import BareWeights, corrected_responses
from icl_harness.runner.fine_tuning import note_trainings
from icl_harness.runner.gold_likelihoods import responses_with_gold
from icl_harness.runner.groups import Request
from icl_harness.runner.ordering import GridOrder, LineState
from icl_harness.runner.recording import copied_records, missing_records, scored_records
from icl_harness.runner.responses import Responses, no_answer
from icl_harness.runner.schedule import Bundle
from icl_harness.store.records import Cell, RunStore, StoredAnswer
from icl_harness.tasks.task import Task

RE_QUEUED = "to be asked again with fewer shots"


@dataclass(frozen=True, kw_only=True)
class CellAsker:
    """Sends the requests of one cell. `count` is given what was done: cells, queries, tokens.

    `in_batch`: the cells of all lines are sent at the same time, not one after the other. `bare`:
    where choices are not taken by their log-likelihood alone.
    """

    store: RunStore
    cell: Cell
    state: LineState
    order: GridOrder
    model: Model
    examples: Mapping[str, Example]
    count: Callable[..., None]
    in_batch: bool = False
    bare: BareWeights | None = None

    @property
    def task(self) -> Task:
        """Return the cell's task."""
        return self.state.line.task

    def pending(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests of which the store lacks an answer."""
        done = self.store.done(self.cell)
        pending = []
        for request in requests:
            if any(key not in done for key in request.keys):
                pending.append(request)
        return pending

    async def send(self, bundle: Bundle, k: int, requests: Sequence[Request]) -> Request | None:
        """Send requests with `k` shots, at temperature 0 identical ones once; store the answers.

        Returns a request that the provider finds too long, if there is one: then others may be left
        without an answer.
        """
        node, sampling = bundle.node(k), bundle.sampling
        if sampling.temperature != 0:
            return await self._send_all(node, requests, sampling)
        # Generated tasks ask other queries in each draw: hardly any is copied, and a batch is not
        # to wait hours for another.
        apart = self.in_batch and self.task.per_draw
        await self.order.wait(self.state, node, k, self.cell.shots, other_lines=not apart)
        requests = self._copy(node, requests)
        if sampling.scoring != "generate":
            # of choices, the store does not hold all that a copy within the cell may need
            return await self._send_all(node, requests, sampling)
        firsts, repeats = _distinct(requests)
        too_long = await self._send_all(node, firsts, sampling)
        if too_long is None and repeats:
            return await self._send_all(node, self._copy(node, repeats), sampling)
        return too_long

    async def send_one(self, bundle: Bundle, k: int, request: Request) -> Answer:
        """Return the answer to a request with `k` shots; nothing is stored."""
        sent = self._responses(bundle.node(k), [request], bundle.sampling)
        async with aclosing(sent) as stream:
            async for answered in stream:
                for _, answer in answered:
                    return answer
        return no_answer(request)

    def add(self, node: Node, answered: Sequence[tuple[Request, Answer]]) -> int:
        """Score answers and store them; return how many queries they answer."""
        task = self.task
        records = []
        for request, answer in answered:
            records += scored_records(task, node, request, answer, self.examples)
        if records:
            self.store.add(self.cell, records)
        answers = [answer for _, answer in answered]
        note_trainings(self.store.path, self.cell, answers, node.n_shots)
        return len(records)

    def miss(self, node: Node, requests: Sequence[Request], answer: Answer) -> None:
        """Store requests without an answer, with the status and error of `answer`."""
        self.count(queries=self._add_missing(node, requests, answer))

    def requeue(self, bundle: Bundle, requests: Sequence[Request], keep: int | None = None) -> None:
        """Re-queue answers that used another shot count than `keep`; their cost stays."""
        done = self.store.done(self.cell)
        stale = []
        for request in bundle.same(requests, 0):
            if any(done.get(key, keep) != keep for key in request.keys):
                stale.append(request)
        answer = Answer(query_id="", status="failed", error=RE_QUEUED)
        self.count(queries=-self._add_missing(bundle.node(0), stale, answer))

    def _add_missing(self, node: Node, requests: Sequence[Request], answer: Answer) -> int:
        records = []
        for request in requests:
            records += missing_records(node, request, answer)
        self.store.add(self.cell, records)
        return len(records)

    async def _send_all(
        self, node: Node, requests: Sequence[Request], sampling: Sampling
    ) -> Request | None:
        too_long: list[Request] = []
        async with aclosing(self._responses(node, requests, sampling)) as stream:
            async for answered in stream:
                too_long += [request for request, a in answered if a.status == "overflow"]
                kept = [(request, a) for request, a in answered if a.status != "overflow"]
                tokens = sum(spent_tokens(answer.usage) for _, answer in kept)
                self.count(queries=self.add(node, kept), tokens=tokens)
                if too_long and not self.in_batch:
                    break  # a batch is paid for: it is read to its end
        return max(too_long, key=n_bytes, default=None)

    def _responses(self, node: Node, requests: Sequence[Request], sampling: Sampling) -> Responses:
        if self.bare is not None:
            return corrected_responses(self.model, node, requests, sampling, self.bare)
        return responses_with_gold(self.model, node, requests, sampling, self.examples)

    def _copy(self, node: Node, requests: Sequence[Request]) -> list[Request]:
        """Store the answers that the run already has to identical requests; return the others."""
        known: dict[str, Mapping[str, Mapping[str, StoredAnswer]]] = {}
        copies, others = [], []
        for request in requests:
            leaf = Prompt(node, request.query).leaf
            if leaf.hash not in known:
                known[leaf.hash] = self.store.answered(self.cell, leaf)
            copy = copied_records(self.task, node, request, known[leaf.hash], self.examples)
            copies += copy
            if not copy:
                others.append(request)
        if copies:
            self.store.add(self.cell, copies)
            self.count(queries=len(copies))
        return others


def n_bytes(request: Request) -> int:
    """Return the length of a request beside the shared prefix, in bytes: where scripts differ that
    is nearer to its tokens than its characters are.
    """
    return len(request.query.tail.encode())


def _distinct(requests: Sequence[Request]) -> tuple[list[Request], list[Request]]:
    """Return the first request of each wording, and those that repeat one; groups never do."""
    firsts, repeats, seen = [], [], set()
    for request in requests:
        wording = (request.query.own, request.query.text)
        if not request.is_group and wording in seen:
            repeats.append(request)
        else:
            firsts.append(request)
            seen.add(wording)
    return firsts, repeats
