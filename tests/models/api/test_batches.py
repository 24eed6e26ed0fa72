"""Batches of all three providers, through the real SDKs, against a loopback server that keeps
accounts.
"""

import asyncio
import io
import itertools
import json
import sqlite3
import tracemalloc
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icl_harness.errors import AccountError, BudgetSpent, ModelError, ProviderError, SpecError
from icl_harness.models import open_model
from icl_harness.models.anthropic.batch_api import AnthropicBatches
from icl_harness.models.api.batch_file import BatchRequest, Shared, fill_file, most_usd
from icl_harness.models.api.batch_jobs import BatchJobs
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.api.model import ApiModel
from icl_harness.models.api.prices import Tokens, find_price
from icl_harness.models.api.terms import Budget, Terms
from icl_harness.models.api.timing import Timing
from icl_harness.models.base import Answer, Sampling
from icl_harness.models.google.batch_api import GoogleBatches
from icl_harness.models.openai import batch_api as openai_batches
from icl_harness.models.openai.batch_api import OpenAIBatches
from icl_harness.prompts.tree import Node, Query
from tests.models.api.apis import no_legacy
from tests.quick import QUICK, tries
from tests.servers import LoopbackServer
from tests.servers import batches as served
from tests.servers.anthropic_wire import AnthropicWire
from tests.servers.google_wire import GeminiWire
from tests.servers.openai_wire import OpenAIWire

NAMES = {"openai": "gpt-4.1", "anthropic": "claude-sonnet-4-5", "google": "gemini-2.5-flash"}
APIS = {"openai": OpenAIBatches, "anthropic": AnthropicBatches, "google": GoogleBatches}
WIRES: dict[str, Any] = {"openai": OpenAIWire, "anthropic": AnthropicWire, "google": GeminiWire}
NODES = [Node(f"Task {i}.\n").child("a -> x\n").child("b -> y\n") for i in range(3)]
pytestmark = pytest.mark.usefixtures("planted_keys")
every_provider = pytest.mark.parametrize("provider", list(NAMES))

Cells = Sequence[tuple[Node, Sequence[Query]]]


class Crash(Exception):
    """The run ends here."""


class Run:
    """What a run keeps: its folder with the ledger, and the answers that it has stored."""

    def __init__(self, folder: Path, server: LoopbackServer, provider: str) -> None:
        self.folder, self.server, self.provider = folder, server, provider
        self.stored: dict[tuple[str, str], Answer] = {}
        self.notes: list[str] = []
        self.storing_s = 0.0

    def open(
        self,
        budget: Budget | None = None,
        name: str = "",
        timing: Timing = QUICK,
        **model_args: str,
    ) -> ApiModel:
        name = name or NAMES[self.provider]
        terms = Terms(
            batch=True,
            ledger=Ledger(self.folder),
            budget=budget,
            timing=timing,
            say=self.notes.append,
        )
        args = {"priced_as": f"{self.provider}/{name}", "timeout_s": "30", **model_args}
        url = self.server.base_url(self.provider)
        return open_model(f"{self.provider}/{name}", base_url=url, terms=terms, model_args=args)  # type: ignore[return-value]

    def go(self, cells: Cells, **how: Any) -> None:
        """Ask what is not stored, all cells at once, as a run does; store what comes."""
        model = self.open(**how)

        async def cell(node: Node, queries: Sequence[Query]) -> None:
            left = [query for query in queries if (node.hash, query.id) not in self.stored]
            if left:
                async for answered in model.answers(node, left, Sampling(max_tokens=16)):
                    for answer in answered:
                        assert (node.hash, answer.query_id) not in self.stored
                        self.stored[node.hash, answer.query_id] = answer
                    await asyncio.sleep(self.storing_s)

        async def walk() -> None:
            try:
                await asyncio.gather(*(cell(node, queries) for node, queries in cells))
            finally:
                await model.close()

        asyncio.run(walk())

    @property
    def states(self) -> list[str]:
        return [entry.state for entry in Ledger(self.folder).batches()]

    def check(self, cells: Cells) -> None:
        """Every query has its own answer, the provider answered each request once, and both sides
        count alike.
        """
        wanted = {
            (node.hash, query.id): f"to {query.text}"
            for node, queries in cells
            for query in queries
        }
        assert {key: answer.text for key, answer in self.stored.items()} == wanted
        answered = Counter(
            json.dumps(outcome.item.body, sort_keys=True)
            for batch in self.server.batches.values()
            for outcome in {
                o.item.name: o for o in batch.outcomes if o.kind == "succeeded"
            }.values()
        )
        assert set(answered.values()) == {1}
        assert len(self.server.bill) == len(answered) == len(wanted)
        spent = sum(answer.usage.cost_usd or 0.0 for answer in self.stored.values())
        assert spent == pytest.approx(self.billed_usd(), rel=1e-9)

    def billed_usd(self) -> float:
        total = 0.0
        for bill in self.server.bill:
            price = find_price(self.provider, bill.model)
            assert price is not None
            assert bill.batch
            assert not bill.cache_write
            tokens = Tokens(
                prompt=bill.input + bill.cache_read, cached=bill.cache_read, completion=bill.output
            )
            total += price.cost_usd(tokens, batch=True) or 0.0
        return total


def reply(prompt: str) -> str:
    return f"to {prompt.splitlines()[-1]}"


def cells_of(n: int, nodes: Sequence[Node] = NODES) -> Cells:
    return [
        (node, [Query(id=f"q{i}", text=f"word{i} é ->", seed=i) for i in range(n)])
        for node in nodes
    ]


@contextmanager
def serving(**how: Any) -> Iterator[LoopbackServer]:
    with LoopbackServer(reply, **how) as server:
        yield server


def usd_at_most(model: ApiModel, cells: Cells) -> float:
    """Return what one of the requests may cost."""
    shared = Shared(node=cells[0][0], sampling=Sampling(max_tokens=16), n_queries=len(cells[0][1]))
    return most_usd(
        model.account, BatchRequest(shared=shared, query=cells[0][1][0], arrived=asyncio.Queue())
    )


def sizes(server: LoopbackServer) -> list[int]:
    return [len(batch.items) for batch in server.batches.values()]


@every_provider
def test_the_cells_of_a_run_are_one_batch_at_half_the_price(provider: str, tmp_path: Path) -> None:
    cells = cells_of(5)
    with serving() as server:
        run = Run(tmp_path, server, provider)
        run.go(cells)
        run.check(cells)
        assert sizes(server) == [15]
        assert run.states == ["done"]
        price = find_price(provider, NAMES[provider])
        bills = [Tokens(prompt=bill.input, completion=bill.output) for bill in server.bill]
        whole = sum(price.cost_usd(tokens) or 0.0 for tokens in bills) if price else 0.0
        assert run.billed_usd() == pytest.approx(whole / 2)
        assert len(run.notes) == 1
        assert "1 batch submitted, 15 requests" in run.notes[0]


@every_provider
def test_batches_are_split_by_the_number_of_requests(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(APIS[provider], "most_requests", 4)
    cells = cells_of(3)
    with serving(batch_requests=4) as server:
        run = Run(tmp_path, server, provider)
        run.go(cells)
        run.check(cells)
        assert sizes(server) == [4, 4, 1]


@every_provider
def test_batches_are_split_by_bytes_and_use_all_of_them(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(APIS[provider], "most_bytes", 2000)
    cells = cells_of(8)
    with serving(batch_bytes=2000) as server:
        run = Run(tmp_path, server, provider)
        run.go(cells)
        run.check(cells)
        written = [entry.n_bytes for entry in Ledger(tmp_path).batches()]
        assert max(written) <= 2000
        assert min(written[:-1]) > 1600
        if provider != "anthropic":
            uploaded = [
                len(file.data)
                for file in server.files.values()
                if b'"contents"' in file.data or b'"method"' in file.data
            ]
            assert written == uploaded


@every_provider
def test_batches_that_are_too_large_for_the_server_are_halved(
    provider: str, tmp_path: Path
) -> None:
    cells = cells_of(8)
    with serving(batch_bytes=2000) as server:
        run = Run(tmp_path, server, provider)
        run.go(cells)
        run.check(cells)


@every_provider
@pytest.mark.parametrize("fault", ["failed", "expired"])
def test_what_a_batch_fails_to_answer_goes_into_another_one(
    provider: str, fault: str, tmp_path: Path
) -> None:
    times: Counter[str] = Counter()

    def once(name: str) -> str | None:
        times[name] += 1
        return fault if len(times) <= 15 and name.endswith(("3", "7")) else None

    cells = cells_of(5)
    with serving(batch_fault=once) as server:
        run = Run(tmp_path, server, provider)
        run.go(cells)
        run.check(cells)
        assert sizes(server) == [15, 3]
        assert run.states == ["done", "done"]


@every_provider
def test_what_no_batch_answers_has_failed_and_is_asked_again_by_the_next_run(
    provider: str, tmp_path: Path
) -> None:
    broken = [True]
    cells = cells_of(2)
    with serving(
        batch_fault=lambda name: "failed" if broken[0] and name.endswith("-0") else None
    ) as server:
        run = Run(tmp_path, server, provider)
        run.go(cells)
        failed = {key for key, answer in run.stored.items() if answer.status == "failed"}
        assert len(failed) == 1
        assert sizes(server) == [6, 1, 1, 1]
        broken[0] = False
        for key in failed:
            del run.stored[key]
        run.go(cells)
        run.check(cells)


@every_provider
def test_results_that_come_twice_are_taken_once(provider: str, tmp_path: Path) -> None:
    cells = cells_of(4)
    with serving(batch_fault=lambda name: "duplicate") as server:
        run = Run(tmp_path, server, provider)
        run.go(cells)
        run.check(cells)


@every_provider
def test_no_answer_is_lost_on_a_run_that_takes_its_time_to_store(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(APIS[provider], "most_requests", 2)
    cells = cells_of(8, NODES[:1])
    with serving() as server:
        run = Run(tmp_path, server, provider)
        run.storing_s = 0.03
        run.go(cells)
        run.check(cells)


def test_results_that_lack_some_are_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, n_fetched = AnthropicBatches.results, 0

    async def some(self: Any, seen: Any) -> AsyncIterator[Any]:
        nonlocal n_fetched
        n_fetched += 1
        n_left = 2 if n_fetched == 1 else 100
        async for result in results(self, seen):
            if n_left > 0:
                yield result
            n_left -= 1

    monkeypatch.setattr(AnthropicBatches, "results", some)
    cells = cells_of(2)
    with serving() as server:
        run = Run(tmp_path, server, "anthropic")
        run.go(cells)
        run.check(cells)
        assert (n_fetched, sizes(server)) == (2, [6])


@every_provider
def test_prompts_that_are_too_long_overflow_alone_and_are_not_submitted_again(
    provider: str, tmp_path: Path
) -> None:
    long = Node("word " * 200)
    with serving(context_window=100) as server:
        run = Run(tmp_path, server, provider)
        run.go(cells_of(2, [NODES[0], long]))
        assert sorted(answer.status for answer in run.stored.values()) == [
            "ok",
            "ok",
            "overflow",
            "overflow",
        ]
        assert sizes(server) == [4]
        assert run.states == ["done"]


N_CALLS = {
    "openai": 2,
    "anthropic": 1,
    "google": 3,
}  # that submitting a batch takes; the last makes it


@every_provider
@pytest.mark.parametrize(
    "fault", ["reset_after", "lost", "truncated", "garbage", "500", "rate", "reset"]
)
def test_a_batch_whose_making_was_not_confirmed_is_found_and_not_made_twice(
    provider: str, fault: str, tmp_path: Path
) -> None:
    cells = cells_of(2)
    with serving() as server:
        run = Run(tmp_path, server, provider)
        server.fail_next(*[None] * (N_CALLS[provider] - 1), fault)
        run.go(cells)
        run.check(cells)
        assert sizes(server) == [6]


@every_provider
def test_a_batch_whose_making_was_not_confirmed_is_not_made_twice_where_the_key_is_refused_then(
    provider: str, tmp_path: Path
) -> None:
    cells = cells_of(2)
    with serving() as server:
        run = Run(tmp_path, server, provider)
        server.fail_next(*[None] * (N_CALLS[provider] - 1), "reset_after", "auth")
        with pytest.raises(AccountError, match="401"):
            run.go(cells)
        run.go(cells)
        run.check(cells)
        assert sizes(server) == [6]


@pytest.mark.slow
@every_provider
def test_a_batch_whose_making_was_not_confirmed_is_looked_for_where_there_was_no_room_then(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(APIS[provider], "most_requests", 3)
    slow = replace(QUICK, first_poll_s=0.5)  # no poll meets the faults
    cells = cells_of(2)
    first = [None] * N_CALLS[provider]
    with serving() as server:
        run = Run(tmp_path, server, provider)
        server.fail_next(*first, *first[1:], "reset_after", "rate")
        run.go(cells, max_retries="1", timing=slow)
        run.check(cells)
        assert sizes(server) == [3, 3]


STEPS = [
    "before it is written down",
    "before it is made",
    "before it is known to be made",
    "before it has ended",
    "amid its results",
    "before the answers are struck out",
]


@contextmanager
def crashing(step: str, provider: str) -> Iterator[None]:
    api = APIS[provider]
    plan, create, results = Ledger.plan_batch, api.create, api.results

    def end(*_: Any, **__: Any) -> Any:
        raise Crash

    def plan_and_end(*args: Any, **kwargs: Any) -> Any:
        plan(*args, **kwargs)
        raise Crash

    async def create_and_end(*args: Any) -> Any:
        await create(*args)
        raise Crash

    async def some_results(self: Any, seen: Any) -> AsyncIterator[Any]:
        n = 0
        async for result in results(self, seen):
            if n == 3:
                await asyncio.sleep(0.05)  # until what has come is stored
                raise Crash
            n += 1
            yield result

    target: dict[str, tuple[Any, str, Callable[..., Any]]] = {
        STEPS[0]: (Ledger, "plan_batch", end),
        STEPS[1]: (Ledger, "plan_batch", plan_and_end),
        STEPS[2]: (api, "create", create_and_end),
        STEPS[3]: (api, "look", end),
        STEPS[4]: (api, "results", some_results),
        STEPS[5]: (Ledger, "answered", end),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*target[step])
        with pytest.raises(Crash):
            yield


@pytest.mark.slow
@every_provider
@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_ended_at_any_step_goes_on_without_handing_in_twice(
    provider: str, step: str, tmp_path: Path
) -> None:
    cells = cells_of(3)
    with serving() as server:
        run = Run(tmp_path, server, provider)
        with crashing(step, provider):
            run.go(cells)
        made = len(server.batches)
        assert made == (STEPS.index(step) >= 2)
        run.go(cells)
        run.check(cells)
        assert sizes(server) == [9]
        if step != STEPS[5]:  # there the records are ahead of the ledger, until the run has ended
            assert set(run.states) <= {"done", "gone"}
        Ledger(tmp_path).all_answered()
        assert "open" not in run.states
        assert "making" not in run.states


def test_a_greedy_request_is_the_same_with_another_seed_and_a_sampled_one_is_not() -> None:
    for temperature, n_keys in ((0.0, 1), (0.7, 2)):
        shared = Shared(node=NODES[0], sampling=Sampling(temperature=temperature), n_queries=1)
        asked = [Query(id=f"q{seed}", text="word ->", seed=seed) for seed in range(2)]
        requests = [
            BatchRequest(shared=shared, query=query, arrived=asyncio.Queue()) for query in asked
        ]
        assert len({request.key for request in requests}) == n_keys


def test_another_runs_batch_of_as_many_requests_is_not_taken_for_ours(tmp_path: Path) -> None:
    cells = cells_of(3)
    with serving() as server:
        run, other = (Run(tmp_path / name, server, "anthropic") for name in ("ours", "theirs"))
        run.folder.mkdir()
        other.folder.mkdir()
        with crashing("before it is known to be made", "anthropic"):
            run.go(cells)
        other.go(cells_of(3, [Node(f"Other {i}.\n") for i in range(3)]))  # the newest of the list
        run.go(cells)
        assert sizes(server) == [9, 9]
        assert {answer.text for answer in run.stored.values()} == {
            f"to word{i} é ->" for i in range(3)
        }
        assert len(run.stored) == len(other.stored) == 9


def test_a_batch_that_was_never_made_is_made_where_another_run_has_one_alike(
    tmp_path: Path,
) -> None:
    cells = cells_of(3)
    with serving() as server:
        run, other = (Run(tmp_path / name, server, "anthropic") for name in ("ours", "theirs"))
        run.folder.mkdir()
        other.folder.mkdir()
        with crashing("before it is made", "anthropic"):
            run.go(cells)
        other.go(cells_of(3, [Node(f"Other {i}.\n") for i in range(3)]))
        run.go(cells)
        assert sizes(server) == [9, 9]
        assert len(run.stored) == 9
        assert run.states == ["gone", "done"]


@every_provider
def test_a_batch_is_submitted_again_once_the_provider_keeps_it_no_more(
    provider: str, tmp_path: Path
) -> None:
    cells = cells_of(2)
    with serving() as server:
        run = Run(tmp_path, server, provider)
        with crashing("before it has ended", provider):
            run.go(cells)
        server.batches.clear()
        for _ in range(2):
            with pytest.raises(
                SpecError, match=r"knows no batch .+ Is this the key and the server"
            ) as caught:
                run.go(cells)
            assert "\n" not in str(caught.value)
        assert not server.batches
        assert run.states == ["open"]
        with sqlite3.connect(tmp_path / "ledger.db") as db:
            db.execute(
                "UPDATE batches SET made = made - ?", [86_400 * (1 + APIS[provider].results_days)]
            )
        db.close()
        run.go(cells)
        run.check(cells)
        assert run.states == ["gone", "done"]


@pytest.mark.slow
@every_provider
@pytest.mark.parametrize("seed", range(tries(2)))
def test_every_query_is_answered_once_whatever_the_provider_does(
    provider: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(APIS[provider], "most_requests", 7)
    cells = cells_of(10)
    with serving(stall_s=5) as server:
        met = server.misbehave(seed, share=0.3).met
        run = Run(tmp_path, server, provider)
        run.go(cells, max_retries="30", timeout_s="4", timing=replace(QUICK, batch_tries=30))
        run.check(cells)
        assert sum(met.values()) > 5


def test_a_file_that_comes_back_without_a_name_is_submitted_again(tmp_path: Path) -> None:
    with serving() as server:
        run = Run(tmp_path, server, "openai")
        server.fail_next("shapeless")
        run.go(cells_of(1))
        run.check(cells_of(1))
        assert sizes(server) == [3]


@every_provider
def test_a_refused_key_ends_the_run_with_one_line(provider: str, tmp_path: Path) -> None:
    with serving() as server:
        run = Run(tmp_path, server, provider)
        server.fail_always("auth")
        with pytest.raises(AccountError, match="Check"):
            run.go(cells_of(1))
        server.fail_always(None)
        run.go(cells_of(1))
        run.check(cells_of(1))


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_an_account_that_was_at_its_end_amid_a_batch_is_no_end_of_the_run(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, n_asked = served.ask, itertools.count(1)

    def ask(server: LoopbackServer, item: Any, fault: str | None) -> Any:
        if next(n_asked) > 2:
            return answered(server, item, fault)
        return served.Outcome(item, "errored", server.wire_of(item.path).error("quota"), 429), None

    monkeypatch.setattr(served, "ask", ask)
    with serving() as server:
        run = Run(tmp_path, server, provider)
        run.go(cells_of(2))
        run.check(cells_of(2))
        assert sizes(server) == [6, 2]


def test_an_account_that_stays_at_its_end_ends_the_run_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = Fault(
        "Billing hard limit has been reached",
        status=400,
        codes=frozenset({"billing_hard_limit_reached"}),
    )
    seen = openai_batches._seen
    with serving() as server:
        run = Run(tmp_path, server, "openai")
        with monkeypatch.context() as dead:
            dead.setattr(
                openai_batches, "_seen", lambda batch: replace(seen(batch), fault=spent, files=())
            )
            with pytest.raises(AccountError, match="Billing hard limit"):
                run.go(cells_of(1), timing=replace(QUICK, batch_tries=2))
        assert not run.stored
        server.bill.clear()  # a batch that failed is not charged
        run.go(cells_of(1))
        assert len(run.stored) == 3
        assert {answer.status for answer in run.stored.values()} == {"ok"}


def test_a_spent_account_is_told_at_once_though_another_batch_is_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenAIBatches, "most_requests", 3)
    with serving(batch_polls=10**9) as server:
        run = Run(tmp_path, server, "openai")
        server.fail_next(*[None] * N_CALLS["openai"])
        create, n_made = BatchJobs.create, itertools.count()

        async def refuse(desk: Any, batch: Any, file: Any) -> None:
            if next(n_made):
                raise Fault(
                    "You exceeded your current quota.",
                    status=429,
                    codes=frozenset({"insufficient_quota"}),
                )
            await create(desk, batch, file)

        monkeypatch.setattr(BatchJobs, "create", refuse)
        with pytest.raises(AccountError, match="insufficient_quota"):
            run.go(cells_of(2))  # and does not wait for the first batch, which never ends
        assert sizes(server) == [3]


def test_what_was_held_back_for_a_batch_that_failed_is_free_again(tmp_path: Path) -> None:
    budget = Budget(1.0)
    with serving() as server:
        run = Run(tmp_path, server, "openai")
        with crashing("before it has ended", "openai"):
            run.go(cells_of(2))
        server.fail_always("auth")
        with pytest.raises(AccountError):
            run.go(cells_of(2), budget=budget)
    assert budget.left_usd == 1.0


def test_a_provider_that_stays_away_ends_the_run_which_can_go_on(tmp_path: Path) -> None:
    with serving() as server:
        run = Run(tmp_path, server, "openai")
        server.fail_always("503")
        with pytest.raises(ProviderError, match="could not be submitted: 503") as raised:
            run.go(cells_of(1), max_retries="1")
        assert raised.value.resumable
        server.fail_always(None)
        run.go(cells_of(1))
        run.check(cells_of(1))


def test_dollars_split_batches_and_end_the_run_before_they_are_passed(tmp_path: Path) -> None:
    cells = cells_of(20, NODES[:1])
    with serving() as server:
        run = Run(tmp_path, server, "anthropic")
        model = run.open()
        worst = model._batches()
        request = BatchRequest(
            shared=Shared(node=NODES[0], sampling=Sampling(max_tokens=16), n_queries=20),
            query=cells[0][1][0],
            arrived=asyncio.Queue(),
        )
        taken, _, usd = fill_file(io.BytesIO(), "t", deque([request]), worst.jobs.api, 10_000)
        assert taken == [request]
        with pytest.raises(BudgetSpent, match="--max-cost"):
            run.go(cells, budget=Budget(usd * 5.5))
        assert sizes(server)[0] == 5
        assert 5 <= len(run.stored) < 20
        assert run.billed_usd() <= usd * 5.5
        run.go(cells)
        run.check(cells)


def test_a_batch_waits_for_the_dollars_that_those_before_it_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AnthropicBatches, "most_requests", 5)
    cells = cells_of(10, NODES[:1])
    with serving() as server:
        run = Run(tmp_path, server, "anthropic")
        usd = usd_at_most(run.open(), cells)
        run.go(cells, budget=Budget(usd * 6))  # those first 5 leave more than 4, and less than 5
        run.check(cells)
        assert 4 < 6 - run.billed_usd() / 2 / usd < 5
        assert sizes(server) == [5, 4, 1]


def test_what_an_earlier_run_has_submitted_is_held_against_the_dollars_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = cells_of(5)
    budget, most = Budget(1.0), [0.0]
    with serving() as server:
        run = Run(tmp_path, server, "openai")
        with crashing("before it has ended", "openai"):
            run.go(cells)
        usd, end_of = usd_at_most(run.open(), cells), BatchJobs.end_of

        async def seen(*args: Any) -> Any:
            most.append(1.0 - budget.left_usd)
            return await end_of(*args)

        monkeypatch.setattr(BatchJobs, "end_of", seen)
        run.go(cells, budget=budget)
        run.check(cells)
    assert usd > 0
    assert max(most) == pytest.approx(15 * usd)
    assert budget.left_usd == pytest.approx(1.0 - run.billed_usd())


@every_provider
@pytest.mark.parametrize("told", ["nothing of the usage", "nothing that can be read"])
def test_an_answer_that_does_not_tell_its_usage_is_held_against_the_dollars_at_its_whole_price(
    provider: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = WIRES[provider]
    answer, left_out = (
        wire.answer,
        {"usage": None} if provider == "openai" else {"usage": {}, "usageMetadata": {}},
    )
    lacking = (
        left_out
        if told == "nothing of the usage"
        else dict.fromkeys(("choices", "content", "candidates"), 7)
    )
    monkeypatch.setattr(wire, "answer", lambda *args: {**answer(*args), **lacking})
    with serving() as server:
        run = Run(tmp_path, server, provider)
        cells = cells_of(20, NODES[:1])
        usd = usd_at_most(run.open(), cells)
        with pytest.raises(BudgetSpent, match="--max-cost"):
            run.go(cells, budget=Budget(usd * 5.5))
        assert sizes(server) == [5]


def test_a_batch_without_room_beside_the_others_waits_for_one_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenAIBatches, "most_requests", 4)
    cells = cells_of(4, NODES[:2])
    with serving(batch_polls=6) as server:
        run = Run(tmp_path, server, "openai")
        desk = server.batches
        look = OpenAIBatches.look

        async def crowded(self: Any, name: str) -> Any:
            found = await look(self, name)
            running = [batch for batch in desk.values() if batch.state == "running"]
            if len(running) > 1 and name == running[-1].id:
                desk[name].info["wrong"] = {
                    "code": "token_limit_exceeded",
                    "message": "Enqueued token limit reached.",
                }
                found = await look(self, name)
            return found

        monkeypatch.setattr(OpenAIBatches, "look", crowded)
        run.go(cells)
        run.check(cells)
        assert sizes(server)[:2] == [4, 4]
        assert len(sizes(server)) >= 3


def test_a_request_keeps_its_cache_key_and_writes_no_cache_that_costs(tmp_path: Path) -> None:
    node = Node("word " * 3000)
    with serving() as server:
        for name in ("gpt-4.1", "gpt-5.6"):
            run = Run(tmp_path / name, server, "openai")
            run.folder.mkdir()
            run.go(cells_of(2, [node]), name=name)
        old, new = (batch.items[0].body for batch in server.batches.values())
        assert old["prompt_cache_key"]
        assert "prompt_cache_options" not in old
        assert new["prompt_cache_options"] == {"mode": "explicit"}
        assert "breakpoint" not in json.dumps(new)
        run = Run(tmp_path / "claude", server, "anthropic")
        run.folder.mkdir()
        run.go(cells_of(2, [node]))
        assert all(not bill.cache_write for bill in server.bill)


def test_answers_by_responses_come_in_batches_too(tmp_path: Path) -> None:
    cells = cells_of(3)
    with serving() as server:
        run = Run(tmp_path, server, "openai")
        run.go(cells, api="responses")
        run.check(cells)
        assert {item.path for batch in server.batches.values() for item in batch.items} == {
            "/v1/responses"
        }


def test_a_batch_is_written_to_a_file_without_being_held_in_memory(tmp_path: Path) -> None:
    node = Node("shot of some length\n" * 50_000)  # 1 MB
    with serving() as server:
        model = Run(tmp_path, server, "openai").open()
        shared = Shared(node=node, sampling=Sampling(), n_queries=60)
        queue: asyncio.Queue[BatchRequest] = asyncio.Queue()
        waiting = deque(
            BatchRequest(shared=shared, query=query, arrived=queue) for query in cells_of(60)[0][1]
        )
        with (tmp_path / "file").open("wb") as file:
            tracemalloc.start()
            taken, n_bytes, _ = fill_file(file, "token", waiting, model.batch_api(), 200_000_000)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert len(taken) == 60
        assert n_bytes == (tmp_path / "file").stat().st_size > 60_000_000
        assert peak < 10_000_000


@pytest.mark.parametrize("model", ["demo", "baseline/majority", "hf/some/where"])
def test_what_is_no_api_takes_no_batches(model: str) -> None:
    with pytest.raises(SpecError, match="takes no batches"):
        open_model(model, terms=Terms(batch=True))


def test_endpoints_without_batches_say_so(tmp_path: Path) -> None:
    for args in ({"api": "completions"}, {"sdk": "legacy"}):
        name = "openai/some" if "api" in args else "google/gemini-2.5-flash"
        with pytest.raises((SpecError, ModelError), match=r"--batch|needs the Python package"):
            open_model(
                name, base_url="http://localhost:1/v1", terms=Terms(batch=True), model_args=args
            )


@pytest.mark.slow
def test_a_compatible_server_without_batches_is_told_in_one_line(tmp_path: Path) -> None:
    with serving() as server:
        terms = Terms(batch=True, ledger=Ledger(tmp_path))
        model = open_model("openai/some", base_url=f"{server.url}/other/v1", terms=terms)

        async def ask() -> None:
            try:
                async for _ in model.answers(*cells_of(1)[0], Sampling()):
                    pass
            finally:
                await model.close()

        with pytest.raises(SpecError, match=r"takes no batches: 404.*Leave --batch out"):
            asyncio.run(ask())


def test_no_batch_is_submitted_that_is_not_written_down() -> None:
    with serving() as server:
        model = open_model(
            "openai/some", base_url=server.base_url("openai"), terms=Terms(batch=True)
        )

        async def ask() -> None:
            async for _ in model.answers(*cells_of(1)[0], Sampling()):
                pass

        with pytest.raises(SpecError, match="written down"):
            asyncio.run(ask())
        assert not server.requests


@no_legacy
def test_the_legacy_sdk_takes_no_batches() -> None:
    with pytest.raises(SpecError, match="takes no batches"):
        open_model("google/gemini-2.5-flash", terms=Terms(batch=True), model_args={"sdk": "legacy"})
