"""Requests submitted as batches, at half the price, and fetched hours later.

In: what all cells that are walked at the same time request of a model. Out: their answers. Requests
are gathered until no more come, split by the provider's limits, written down in the run's ledger,
and submitted (batch_jobs.py); results are matched to requests by custom id. A run that was killed
and requests the same again is given the results of the batches that hold its requests: none is
submitted twice. What a batch failed to answer goes into another one. Left out: cancelling.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import replace
from typing import IO, Generic

from icl_harness.counts import n_of
from icl_harness.errors import AccountError, ProviderError, SpecError
from icl_harness.models.api.access import masked
from icl_harness.models.api.account import Account
from icl_harness.models.api.batch_api import BatchApi
from icl_harness.models.api.batch_file import BatchRequest, Shared, fill_file, most_usd
from icl_harness.models.api.batch_jobs import Batch, BatchJobs
from icl_harness.models.api.bounds import answer_bytes, room_for
from icl_harness.models.api.endpoint import R, S, read_reply
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.api.ledger import BatchEntry, new_token
from icl_harness.models.api.requests import answer_to, missing_answer
from icl_harness.models.api.terms import Budget
from icl_harness.models.base import Answer, Sampling
from icl_harness.prompts.tree import Node, Query

WINDOW_DAYS = 1  # that a batch may take


class Batcher(Generic[R, S]):
    """The batches of a model in a run; `read` reads a response. It serves one event loop."""

    def __init__(self, account: Account, api: BatchApi[R, S], read: Callable[[S], Reply]) -> None:
        if account.terms.ledger is None:
            raise SpecError(
                f"{account.id}: batches are written down in a run's folder before they are "
                "submitted. Ask in a run, as in run(tasks, model, batch=True)."
            )
        self.account = account
        self.timing = account.terms.timing
        self.ledger = account.terms.ledger
        self.budget = account.terms.budget or Budget(float("inf"))
        self.jobs = BatchJobs(api, self.ledger)
        self.most_bytes = api.most_bytes
        self._read_response = read
        self._waiting: deque[BatchRequest] = deque()
        self._submitting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._followed: set[Batch[BatchRequest]] = set()
        # The requests that an earlier run has submitted, and whose answers are not in the records.
        self._expected: defaultdict[str, list[tuple[Batch[BatchRequest], int]]] = defaultdict(list)
        for entry in self.ledger.batches():
            if entry.model == account.id and entry.state in ("making", "open"):
                batch: Batch[BatchRequest] = Batch(entry=entry)
                for number, key in self.ledger.awaited(entry.token):
                    self._expected[key].append((batch, number))

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield answers as batches end. Closed early, what is not submitted yet never will be."""
        if sampling.scoring != "generate":
            raise SpecError(
                f"{self.account.id}: batches take --scoring generate. Use that, or leave "
                "--batch out."
            )
        shared = Shared(node=node, sampling=sampling, n_queries=len(queries))
        arrived: asyncio.Queue[BatchRequest] = asyncio.Queue()
        left = dict.fromkeys(
            BatchRequest(shared=shared, query=query, arrived=arrived) for query in queries
        )
        self._ask(left)
        try:
            while left:
                ready = [await arrived.get()]
                while not arrived.empty():
                    ready.append(arrived.get_nowait())
                yield [_answer(request) for request in ready]
                # The records hold them now.
                self.ledger.answered(request.place for request in ready if request.place)
                for request in ready:
                    del left[request]
        finally:
            for request in left:
                request.wanted = False

    async def close(self) -> None:
        """Stop following; what is submitted stays at the provider."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, requests: Iterable[BatchRequest]) -> None:
        """Wait for what an earlier run has submitted already; submit the rest."""
        for request in requests:
            if expected := self._expected.get(request.key):
                batch, number = expected.pop()
                batch.claims[number] = request
                self.budget.owe(request, most_usd(self.account, request))
                self._follow(batch)
            else:
                self._wait(request)

    def _wait(self, request: BatchRequest) -> None:
        self._waiting.append(request)
        if self._submitting is None or self._submitting.done():
            self._submitting = self._start(self._submit())

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _submit(self) -> None:
        """Submit all that waits, and what has come meanwhile."""
        n_batches = n_requests = 0
        try:
            while self._waiting:
                n = -1
                while n != len(self._waiting):
                    n = len(self._waiting)
                    await asyncio.sleep(self.timing.settle_s)
                while self._waiting:
                    n = await self._submit_one()
                    n_batches, n_requests = n_batches + bool(n), n_requests + n
        except Exception as error:  # noqa: BLE001
            _fail(self._waiting, error)
            self._waiting.clear()
        if n_batches:
            batches, requests = n_of(n_batches, "batch"), n_of(n_requests, "request")
            self.account.terms.say(
                f"{self.account.id}: {batches} submitted, {requests}. They may take a day: "
                "icl batch RUN shows their state; after Ctrl-C, the same command resumes with them."
            )

    async def _submit_one(self) -> int:
        """Submit as much as one batch takes, and follow it; return how many requests those are."""
        token = new_token()
        with tempfile.TemporaryFile() as file:
            taken, n_bytes, usd = fill_file(
                file, token, self._waiting, self.jobs.api, self.most_bytes
            )
            if not taken:
                return 0
            others = [batch.task for batch in self._followed if batch.task is not None]
            if others and usd > self.budget.left_usd:
                self._waiting.extendleft(reversed(taken))  # what then fits
                await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
                return 0
            try:
                async with AsyncExitStack() as held:
                    await held.enter_async_context(self.budget.hold(usd))
                    places = [request.place for request in taken if request.place]
                    keys = [request.key for request in taken]
                    entry = self.ledger.plan_batch(
                        token, self.account.id, keys, n_bytes, instead_of=places
                    )
                    batch = Batch(entry=entry, claims=dict(enumerate(taken)))
                    if not await self._is_taken(batch, file):
                        return 0
                    self._follow(batch, held.pop_all())
            except Exception as error:
                _fail(taken, error)
                raise
        return len(taken)

    async def _is_taken(self, batch: Batch[BatchRequest], file: IO[bytes]) -> bool:
        """Submit a batch; where the provider does not take it, answer for it. Raises where it
        would take no other.
        """
        while True:
            try:
                await self.jobs.create(batch, file)
                return True
            except Fault as fault:
                is_crowded = fault.status == 429 and fault.fate == "transient"
                if is_crowded and await self._is_room_made():
                    continue
                self._refuse_others(batch, fault)
                if fault.fate == "overflow" and len(batch.claims) > 1:
                    self._smaller(batch)
                for number in list(batch.claims):
                    self._end(batch, number, fault)
                return False

    def _refuse_others(self, batch: Batch[BatchRequest], fault: Fault) -> None:
        """Raise where the provider would take no other batch either, or this one may have been
        taken: the next run looks for it.
        """
        account, text = self.account, self.account.describe(fault)
        if batch.in_doubt or fault.fate == "transient":
            kind = AccountError if fault.fate == "account" else ProviderError
            raise kind(f"{account.id}: a batch could not be submitted: {text}.") from None
        self.ledger.batch_is(batch.entry.token, "gone")
        if fault.status in (404, 405, 501) and account.base_url:
            where = account.one_line(masked(account.base_url))
            raise SpecError(
                f"{account.id}: {where} takes no batches: {text}. Leave --batch out."
            ) from None

    def _follow(self, batch: Batch[BatchRequest], held: AsyncExitStack | None = None) -> None:
        if batch not in self._followed:
            self._followed.add(batch)
            batch.task = self._start(self._see_through(batch, held or AsyncExitStack()))

    async def _see_through(self, batch: Batch[BatchRequest], held: AsyncExitStack) -> None:
        """Wait for a batch's end and give its results to who waits for them."""
        account = self.account
        async with held:
            try:
                while batch.claims:
                    await self._see(batch)
            except Fault as fault:
                error: Exception = ProviderError(f"{account.id}: {account.describe(fault)}.")
                if fault.fate == "account":
                    error = AccountError(f"{error} Check {account.suspects(fault)}.")
                _fail(batch.claims.values(), error)
            except Exception as error:  # noqa: BLE001
                _fail(batch.claims.values(), error)
            finally:
                self._followed.discard(batch)
                for request in batch.claims.values():
                    self.budget.settle(request)

    async def _see(self, batch: Batch[BatchRequest]) -> None:
        """Wait for a batch's end once, and put back what it left without an answer."""
        seen = await self.jobs.end_of(batch)
        if seen is None:  # it was never submitted, or is kept no more
            self._refuse_to_lose(batch.entry)
            self.ledger.batch_is(batch.entry.token, "gone")
            self._again(batch)
            return
        wanted = set(batch.claims)
        with self._room(batch):
            is_ours = await self.jobs.fetch(
                batch, lambda number, found: self._end(batch, number, found)
            )
        if not is_ours:
            return
        if seen.fault is not None and seen.fault.status == 429:
            # more tokens than the account's batches may hold
            if not await self._is_room_made():
                self._smaller(batch)
            elif batch.claims:
                self._again(batch)
        missing = seen.fault or Fault(f"the batch is {seen.state}, without an answer to this")
        for number in wanted & batch.claims.keys():
            self._end(batch, number, missing)

    def _room(self, batch: Batch[BatchRequest]) -> AbstractContextManager[None]:
        """Hold a batch's results to the room for its answers."""
        samplings = {request.shared.sampling for request in batch.claims.values()}
        limit = max(map(self.account.limit, samplings))
        return room_for(answer_bytes(limit), batch.entry.n_requests)

    def _refuse_to_lose(self, entry: BatchEntry) -> None:
        """Raise `SpecError` for a batch that the provider must still have: submitted again, it is
        paid for twice.
        """
        kept_s = 86_400 * (WINDOW_DAYS + self.jobs.api.results_days)
        if entry.name is not None and time.time() < entry.made + kept_s:
            raise SpecError(
                f"{self.account.id}: the provider knows no batch {entry.name}, which this run has "
                "submitted. Is this the key and the server that it was submitted with? If it was "
                "deleted there, start anew with another --out."
            )

    async def _is_room_made(self) -> bool:
        """Wait until one of the batches underway has ended; return whether there was one."""
        underway = [batch for batch in self._followed if batch.is_underway]
        tasks = [batch.task for batch in underway if batch.task is not None]
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return bool(tasks)

    def _smaller(self, batch: Batch[BatchRequest]) -> None:
        """Submit the requests of a batch, if they are more than one, in smaller ones."""
        if len(batch.claims) > 1:
            self.most_bytes = batch.entry.n_bytes // 2
            self._again(batch)

    def _again(self, batch: Batch[BatchRequest], *numbers: int) -> None:
        """Let requests of a batch, all if none are named, wait for another one."""
        for number in numbers or list(batch.claims):
            request = self._unclaim(batch, number)
            request.place = (batch.entry.token, number)
            self._wait(request)

    def _unclaim(self, batch: Batch[BatchRequest], number: int) -> BatchRequest:
        """Return a request that a batch is to answer no more."""
        request = batch.claims.pop(number)
        self.budget.settle(request)
        return request

    def _end(self, batch: Batch[BatchRequest], number: int, found: S | Fault) -> None:
        """Answer a request with its result, if it waits for one; re-queue it for another batch
        where its fault may pass.
        """
        request = batch.claims.get(number)
        if request is None:
            return
        try:
            if isinstance(found, Fault):
                raise found
            answer = self._read(request, found)
        except Fault as fault:
            if fault.lost:  # it may have been charged for
                request.n_lost += 1
                self._spend(request, None)
                self.account.terms.flights.lose(most_usd(self.account, request))
            if self._may_pass(batch, request, fault):
                request.n_tries += 1
                self._again(batch, number)
                return
            answer = missing_answer(self.account, request.query, fault)
        self._unclaim(batch, number)
        request.place = (batch.entry.token, number)
        request.end(replace(answer, n_lost=request.n_lost, place=request.place))

    def _may_pass(self, batch: Batch[BatchRequest], request: BatchRequest, fault: Fault) -> bool:
        """Whether a request is worth another batch. An account that was at its end when the batch
        was made may not be now; if it is, submitting shows it.
        """
        if request.n_tries >= self.timing.batch_tries or not request.wanted:
            return False
        return fault.fate == "transient" or (fault.fate == "account" and batch.seen is not None)

    def _read(self, request: BatchRequest, response: S) -> Answer:
        account = self.account
        reply = read_reply(self._read_response, response)
        answer = answer_to(account, request.shared.sampling, request.query, reply)
        if reply.usage.prompt_tokens and request.n_bytes:
            account.learn(request.n_bytes, reply.usage.prompt_tokens)
        self._spend(request, answer.usage.cost_usd)
        return answer

    def _spend(self, request: BatchRequest, usd: float | None) -> None:
        """Count an answer's dollars; where they are not known, its whole price."""
        self.budget.spent_usd += most_usd(self.account, request) if usd is None else usd


def _answer(request: BatchRequest) -> Answer:
    if isinstance(request.outcome, Answer):
        return request.outcome
    raise request.outcome or AssertionError("a request ended without an outcome")


def _fail(requests: Iterable[BatchRequest], error: Exception) -> None:
    for request in requests:
        request.end(error)
