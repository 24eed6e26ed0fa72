"""Requests handed in as batches, at half the price, and fetched hours later.

In: what all cells that are walked at the same time ask of a model. Out: their answers. Requests are
gathered until no more come, split by the provider's limits, written down in the run's ledger, and
handed in (batch_desk.py); results are matched to requests by custom id. A run that was killed and
asks the same again is given the results of the batches that hold its requests: none is handed in
twice. What a batch failed to answer goes into another one. Caches that are charged for when written
are not asked for: the requests of a batch run at the same time, and each would write its own. Left
out: cancelling.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from icl_harness.errors import AccountError, ProviderError, SpecError
from icl_harness.models.api.asks import answer_to, missing_answer, understood
from icl_harness.models.api.batch_desk import Batch, Desk
from icl_harness.models.api.batch_file import Request, Shared, fill_file, most_usd
from icl_harness.models.api.faults import Fault, one_line
from icl_harness.models.api.ledger import BatchEntry, new_token
from icl_harness.models.api.terms import Budget
from icl_harness.models.base import Answer, Sampling
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    from icl_harness.models.api.backend import ApiModel

SETTLE_S = 1.0  # requests are handed in once no more have come for this long
MOST_TRIES = 4  # batches that one request may be in
WINDOW_DAYS = 1  # that a batch may take


class Batcher:
    """The batches of a model in a run. It serves one event loop."""

    def __init__(self, model: ApiModel) -> None:
        if model.terms.ledger is None:
            raise SpecError(
                f"{model.id}: batches are written down in a run's folder before they are handed in. Ask in a run, as "
                "in run(tasks, model, batch=True)."
            )
        self.model = model
        self.ledger = model.terms.ledger
        self.budget = model.terms.budget or Budget(float("inf"))
        self.desk = Desk(model, self.ledger)
        self.most_bytes = self.desk.api.most_bytes
        self._waiting: deque[Request] = deque()
        self._handing_in: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._followed: set[Batch[Request]] = set()
        # The requests that an earlier run has handed in, and whose answers are not in the records.
        self._expected: defaultdict[str, list[tuple[Batch[Request], int]]] = defaultdict(list)
        for entry in self.ledger.batches():
            if entry.model == model.id and entry.state in ("making", "open"):
                batch: Batch[Request] = Batch(entry=entry)
                for number, key in self.ledger.awaited(entry.token):
                    self._expected[key].append((batch, number))

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield answers as batches end. Closed early, what is not handed in yet never will be."""
        if sampling.scoring != "generate":
            raise SpecError(
                f"{self.model.id}: batches take --scoring generate. Use that, or leave --batch out."
            )
        shared = Shared(node=node, sampling=sampling, n_queries=len(queries))
        arrived: asyncio.Queue[Request] = asyncio.Queue()
        left = dict.fromkeys(
            Request(shared=shared, query=query, arrived=arrived) for query in queries
        )
        self._ask(left)
        try:
            while left:
                ready = [await arrived.get()]
                while not arrived.empty():
                    ready.append(arrived.get_nowait())
                yield [_answer(request) for request in ready]
                self.ledger.answered(
                    request.place for request in ready if request.place
                )  # the records hold them
                for request in ready:
                    del left[request]
        finally:
            for request in left:
                request.wanted = False

    async def close(self) -> None:
        """Stop following; what is handed in stays at the provider."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, requests: Iterable[Request]) -> None:
        """Wait for what an earlier run has handed in already; hand in the rest."""
        for request in requests:
            if expected := self._expected.get(request.key):
                batch, number = expected.pop()
                batch.claims[number] = request
                self.budget.owe(request, most_usd(self.model, request))
                self._follow(batch)
            else:
                self._wait(request)

    def _wait(self, request: Request) -> None:
        self._waiting.append(request)
        if self._handing_in is None or self._handing_in.done():
            self._handing_in = self._start(self._hand_in())

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hand_in(self) -> None:
        """Hand in all that waits, and what has come meanwhile."""
        n_batches = n_requests = 0
        try:
            while self._waiting:
                n = -1
                while n != len(self._waiting):
                    n = len(self._waiting)
                    await asyncio.sleep(SETTLE_S)
                while self._waiting:
                    n = await self._hand_in_one()
                    n_batches, n_requests = n_batches + bool(n), n_requests + n
        except Exception as error:  # noqa: BLE001
            _fail(self._waiting, error)
            self._waiting.clear()
        if n_batches:
            batches = "1 batch" if n_batches == 1 else f"{n_batches:,} batches"
            self.model.terms.say(
                f"{self.model.id}: {batches} handed in, {n_requests:,} requests. They may take a day: icl batch RUN "
                "shows their state; after Ctrl-C, the same command goes on with them."
            )

    async def _hand_in_one(self) -> int:
        """Hand in as much as one batch takes, and follow it; return how many requests those are."""
        token = new_token()
        with tempfile.TemporaryFile() as file:
            taken, n_bytes, usd = fill_file(
                file, token, self._waiting, self.desk.api, self.most_bytes
            )
            if not taken:
                return 0
            flying = [batch.task for batch in self._followed if batch.task is not None]
            if flying and usd > self.budget.left_usd:
                self._waiting.extendleft(reversed(taken))  # what then fits
                await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                return 0
            try:
                async with AsyncExitStack() as held:
                    await held.enter_async_context(self.budget.hold(usd))
                    places = [request.place for request in taken if request.place]
                    keys = [request.key for request in taken]
                    entry = self.ledger.plan_batch(
                        token, self.model.id, keys, n_bytes, instead_of=places
                    )
                    batch = Batch(entry=entry, claims=dict(enumerate(taken)))
                    if not await self._is_taken(batch, file):
                        return 0
                    self._follow(batch, held.pop_all())
            except Exception as error:
                _fail(taken, error)
                raise
        return len(taken)

    async def _is_taken(self, batch: Batch[Request], file: IO[bytes]) -> bool:
        """Hand in a batch; where the provider does not take it, answer for it. Raises where it
        would take no other.
        """
        model = self.model
        while True:
            try:
                await self.desk.create(batch, file)
                return True
            except Fault as fault:
                if (
                    fault.status == 429 and fault.fate == "transient" and await self._landed()
                ):  # there is room then
                    continue
                if (
                    batch.in_doubt or fault.fate == "transient"
                ):  # it may have been taken: the next run looks
                    told = (
                        f"{model.id}: a batch could not be handed in: {fault.describe(model.key)}."
                    )
                    raise (AccountError if fault.fate == "account" else ProviderError)(
                        told
                    ) from None
                self.ledger.batch_is(batch.entry.token, "gone")
                if fault.status in (404, 405, 501) and model.base_url:
                    where, told = one_line(model.base_url, model.key), fault.describe(model.key)
                    raise SpecError(
                        f"{model.id}: {where} takes no batches: {told}. Leave --batch out."
                    ) from None
                if fault.fate == "overflow" and len(batch.claims) > 1:
                    self._smaller(batch)
                for number in list(batch.claims):
                    self._end(batch, number, fault)
                return False

    def _follow(self, batch: Batch[Request], held: AsyncExitStack | None = None) -> None:
        if batch not in self._followed:
            self._followed.add(batch)
            batch.task = self._start(self._see_through(batch, held or AsyncExitStack()))

    async def _see_through(self, batch: Batch[Request], held: AsyncExitStack) -> None:
        """Wait for a batch's end and give its results to who waits for them."""
        model = self.model
        async with held:
            try:
                while batch.claims:
                    await self._see(batch)
            except Fault as fault:
                told = f"{model.id}: {fault.describe(model.key)}."
                is_last = fault.fate == "account"
                error = (
                    AccountError(f"{told} Check {model.suspects(fault)}.")
                    if is_last
                    else ProviderError(told)
                )
                _fail(batch.claims.values(), error)
            except Exception as error:  # noqa: BLE001
                _fail(batch.claims.values(), error)
            finally:
                self._followed.discard(batch)
                for request in batch.claims.values():
                    self.budget.settle(request)

    async def _see(self, batch: Batch[Request]) -> None:
        seen = await self.desk.end_of(batch)
        if seen is None:  # it was never handed in, or is kept no more
            self._refuse_to_lose(batch.entry)
            self.ledger.batch_is(batch.entry.token, "gone")
            self._again(batch)
            return
        wanted = set(batch.claims)
        if not await self.desk.fetch(batch, lambda number, found: self._end(batch, number, found)):
            return
        if (
            seen.fault is not None and seen.fault.status == 429
        ):  # more tokens than the account's batches may hold
            if not await self._landed():
                self._smaller(batch)
            elif batch.claims:
                self._again(batch)
        for number in wanted & batch.claims.keys():
            self._end(
                batch,
                number,
                seen.fault or Fault(f"the batch is {seen.state}, without an answer to this"),
            )

    def _refuse_to_lose(self, entry: BatchEntry) -> None:
        """Raise `SpecError` for a batch that the provider must still have: handed in again, it is
        paid for twice.
        """
        api = self.desk.api
        if entry.name is not None and time.time() < entry.made + 86_400 * (
            WINDOW_DAYS + api.results_days
        ):
            raise SpecError(
                f"{self.model.id}: the provider knows no batch {entry.name}, which this run has handed in. Is this the "
                "key and the server that it was handed in with? If it was deleted there, start anew with another --out."
            )

    async def _landed(self) -> bool:
        """Wait until one of the batches that are underway has ended; return whether there was one."""
        tasks = [
            batch.task for batch in self._followed if batch.task is not None and batch.is_underway
        ]
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return bool(tasks)

    def _smaller(self, batch: Batch[Request]) -> None:
        """Hand in the requests of a batch, if they are more than one, in smaller ones."""
        if len(batch.claims) > 1:
            self.most_bytes = batch.entry.n_bytes // 2
            self._again(batch)

    def _again(self, batch: Batch[Request], *numbers: int) -> None:
        """Let requests of a batch, all if none are named, wait for another one."""
        for number in numbers or list(batch.claims):
            request = self._unclaim(batch, number)
            request.place = (batch.entry.token, number)
            self._wait(request)

    def _unclaim(self, batch: Batch[Request], number: int) -> Request:
        """Return a request that a batch is to answer no more."""
        request = batch.claims.pop(number)
        self.budget.settle(request)
        return request

    def _end(self, batch: Batch[Request], number: int, found: Any) -> None:
        """Answer a request with its result, if it waits for one; what may pass is asked again in
        another batch.
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
            # An account that was at its end when the batch was made may not be now; if it is,
            # handing in tells.
            passes = ("transient", "account") if batch.seen is not None else ("transient",)
            if fault.fate in passes and request.n_tries < MOST_TRIES and request.wanted:
                request.n_tries += 1
                self._again(batch, number)
                return
            answer = missing_answer(self.model, request.query, fault)
        self._unclaim(batch, number)
        request.place = (batch.entry.token, number)
        request.end(replace(answer, n_lost=request.n_lost, place=request.place))

    def _read(self, request: Request, response: Any) -> Answer:
        model = self.model
        reply = understood(model, response)
        answer = answer_to(model, request.shared.sampling, request.query, reply)
        if reply.usage.prompt_tokens and request.n_bytes:
            model.learn(request.n_bytes, reply.usage.prompt_tokens)
        self._spend(request, answer.usage.cost_usd)
        return answer

    def _spend(self, request: Request, usd: float | None) -> None:
        """Count an answer's dollars; where they are not told, which is no gift, its whole price."""
        self.budget.spent_usd += most_usd(self.model, request) if usd is None else usd


def _answer(request: Request) -> Answer:
    if isinstance(request.outcome, Answer):
        return request.outcome
    raise request.outcome or AssertionError("a request ended without an outcome")


def _fail(requests: Iterable[Request], error: Exception) -> None:
    for request in requests:
        request.end(error)
