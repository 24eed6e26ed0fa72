"""Gemini's cached contents through the real SDK against the loopback server: made, used, renewed,
deleted, paid.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from google.genai import types

from icl_harness.errors import AccountError, BudgetSpent
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.api.limiter import Rates
from icl_harness.models.api.terms import Budget, Terms
from icl_harness.models.base import Sampling
from icl_harness.models.google import cached_contents, kept_cache
from icl_harness.models.google.gemini import GoogleModel
from icl_harness.prompts.tree import Node
from tests.models.api.apis import ask, queries
from tests.servers import LoopbackServer

pytestmark = pytest.mark.usefixtures("planted_keys")
NAME = "gemini-2.5-flash"
SHOTS = "".join(
    f"word{i} -> yes\n" for i in range(1000)
)  # 3,000 words, 14 KB: 4,600 tokens by the estimate
NODE = Node("Answer.\n").child(SHOTS)
N_TOKENS = 3001


def open_model(
    server: LoopbackServer, *, terms: Terms | None = None, **model_args: str
) -> GoogleModel:
    args = {"max_retries": "3", "priced_as": f"google/{NAME}", **model_args}
    return GoogleModel(
        NAME, id=f"google/{NAME}", base_url=server.base_url("google"), terms=terms, **args
    )


def calls(server: LoopbackServer) -> Counter[str]:
    """Count the requests by what they were for."""
    return Counter(
        "ask" if "generateContent" in request.path
        else "make" if "contents" in request.body
        else "renew" if "ttl" in request.body
        else "list" if request.path.endswith("cachedContents")
        else "delete"
        for request in server.requests
    )  # fmt: skip


@pytest.fixture
def server():
    with LoopbackServer(cache_minimum=2048) as one:
        yield one


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock of the model's and the server's that a test moves."""
    clock = SimpleNamespace(now=time.time())
    clock.time = lambda: clock.now
    monkeypatch.setattr(kept_cache, "time", clock)
    monkeypatch.setattr(cached_contents, "time", clock)
    return clock


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def terms(tmp_path, notes) -> Terms:
    return Terms(ledger=Ledger(tmp_path), say=notes.append)


class TestUse:
    def test_the_prefix_is_sent_once_and_each_request_holds_its_query_alone(
        self, server, terms
    ) -> None:
        answers = ask(open_model(server, terms=terms), 6, node=NODE)
        assert [answer.text for answer in answers] == ["yes"] * 6
        assert calls(server) == {"make": 1, "ask": 6, "delete": 1}
        made, *asked, _ = server.requests
        assert made.body["contents"] == [{"role": "user", "parts": [{"text": NODE.text}]}]
        assert all(int(request.headers["content-length"]) < 400 for request in asked)
        assert {answer.usage.cached_tokens for answer in answers} == {N_TOKENS}

    def test_the_prompt_is_the_same_as_without_a_cache(self, server, terms) -> None:
        ask(open_model(server, terms=terms), 3, node=NODE)
        prompts = sorted(
            request.prompt for request in server.requests if "generateContent" in request.path
        )
        assert prompts == [NODE.text + query.text for query in queries(3)]

    @pytest.mark.slow
    def test_a_chat_keeps_its_system_text_and_turns_in_the_cache(self, server, terms) -> None:
        node = (
            Node("Answer.", role="system").child(SHOTS, role="user").child("yes", role="assistant")
        )
        ask(open_model(server, terms=terms), 2, node=node)
        made, asked = server.requests[:2]
        assert made.body["systemInstruction"]["parts"] == [{"text": "Answer."}]
        assert [turn["role"] for turn in made.body["contents"]] == ["user", "model"]
        assert "systemInstruction" not in asked.body
        assert asked.body["contents"] == [{"role": "user", "parts": [{"text": "word0 ->"}]}]

    def test_one_query_alone_makes_none(self, server, terms) -> None:
        ask(open_model(server, terms=terms), 1, node=NODE)
        assert calls(server) == {"ask": 1}

    def test_a_prefix_below_the_minimum_by_the_estimate_makes_none(self, server, terms) -> None:
        ask(open_model(server, terms=terms), 3, node=Node("a b -> yes\n"))
        assert calls(server) == {"ask": 3}

    def test_a_prefix_below_the_minimum_by_the_provider_is_asked_whole(self, terms, notes) -> None:
        with LoopbackServer(cache_minimum=4096) as server:
            answers = ask(open_model(server, terms=terms), 3, node=NODE)
        assert [answer.text for answer in answers] == ["yes"] * 3
        assert calls(server) == {"make": 1, "ask": 3}
        assert terms.ledger.caches() == []
        (note,) = notes
        assert (
            "no cached content is kept at 0 shots: 400 INVALID_ARGUMENT: Cached content is too "
            "small" in note
        )
        assert note.endswith("Its queries pay for the whole prefix, $0.0015 each.")

    def test_a_model_without_caches_is_asked_without_and_says_so_once(
        self, server, terms, notes
    ) -> None:
        server.fail_next("model")
        model = open_model(server, terms=terms)
        for node in (NODE, Node("Say.\n").child(SHOTS)):
            assert [answer.text for answer in ask(model, 2, node=node)] == ["yes"] * 2
        assert calls(server)["make"] == 1
        assert len([note for note in notes if "has no cached contents" in note]) == 1

    @pytest.mark.slow
    def test_it_lasts_longer_where_requests_are_far_apart(self, server) -> None:
        terms = Terms(rates=Rates(tpm=1_000_000, rpm=0.5))

        async def first() -> None:
            model = open_model(server, terms=terms)
            server.fail_always("invalid")  # none is made: only what was asked for counts
            try:
                async for _ in model.answers(NODE, queries(2), Sampling()):
                    break
            finally:
                await model.close()

        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(first(), 1))
        assert server.requests[0].body["ttl"] == "720.000s"


class TestFaults:
    @pytest.mark.slow
    @pytest.mark.parametrize("fault", ["lost", "reset_after", "truncated", "garbage"])
    def test_an_answer_lost_after_it_was_made_does_not_make_a_second(
        self, server, terms, fault
    ) -> None:
        server.fail_next(fault)
        ask(open_model(server, terms=terms), 2, node=NODE)
        assert calls(server) == {"make": 1, "list": 1, "ask": 2, "delete": 1}
        assert server.cached_contents == {}

    @pytest.mark.slow
    @pytest.mark.parametrize("fault", ["503", "rate", "reset"])
    def test_a_fault_before_it_was_made_makes_it_again(self, server, terms, fault) -> None:
        server.fail_next(fault)
        answers = ask(open_model(server, terms=terms), 2, node=NODE)
        assert {answer.usage.cached_tokens for answer in answers} == {N_TOKENS}
        assert calls(server) == {"make": 2, "list": 1, "ask": 2, "delete": 1}

    def test_one_that_cannot_be_made_is_said_and_the_queries_go_whole(
        self, server, terms, notes
    ) -> None:
        server.fail_next("503", "503")
        answers = ask(open_model(server, terms=terms, max_retries="1"), 3, node=NODE)
        assert [answer.text for answer in answers] == ["yes"] * 3
        assert "no cached content is kept at 0 shots: 503" in notes[0]
        assert terms.ledger.caches()[0].name is None  # it may appear yet

    def test_a_wrong_key_is_one_error(self, server, terms, notes) -> None:
        server.fail_always("auth")
        with pytest.raises(AccountError, match="GEMINI_API_KEY"):
            ask(open_model(server, terms=terms), 3, node=NODE)
        assert notes == []

    @pytest.mark.slow
    @pytest.mark.parametrize(("at_once", "n_made"), [("1", 3), ("64", 2)])
    def test_one_that_ends_meanwhile_is_made_anew_and_no_query_is_lost(
        self, server, terms, at_once, n_made
    ) -> None:
        def reply(prompt: str) -> str:
            # Asked one by one, it ends twice; asked at once behind the first, all find that it has
            # ended.
            if prompt.endswith(("word0 ->", "word4 ->") if at_once == "1" else "word0 ->"):
                server.cached_contents.clear()
            return "yes"

        server.reply = reply
        answers = ask(open_model(server, terms=terms, concurrency=at_once), 9, node=NODE)
        assert sorted(answer.query_id for answer in answers) == [f"q{i}" for i in range(9)]
        assert {(answer.status, answer.usage.cached_tokens) for answer in answers} == {
            ("ok", N_TOKENS)
        }
        assert calls(server)["make"] == n_made
        assert server.cached_contents == {}
        assert sum(answer.usage.cache_write_tokens or 0 for answer in answers) == N_TOKENS * n_made

    @pytest.mark.slow
    def test_one_that_ends_all_the_time_is_given_up(self, server, terms, notes) -> None:
        class Nothing(dict):
            def __setitem__(self, *_: object) -> None:
                """Keep nothing."""

        server.cached_contents = Nothing()
        answers = ask(open_model(server, terms=terms, max_retries="8"), 2, node=NODE)
        assert [answer.text for answer in answers] == ["yes"] * 2
        assert calls(server)["make"] == kept_cache.MOST_MADE
        assert "gone again and again" in notes[0]

    @pytest.mark.slow
    def test_under_faults_all_is_answered_and_nothing_stays(self, server, terms) -> None:
        met = server.misbehave(
            7, kinds=("rate", "500", "reset", "lost", "reset_after", "truncated", "garbage")
        ).met
        answers = ask(open_model(server, terms=terms, max_retries="12"), 25, node=NODE)
        assert {(answer.status, answer.text) for answer in answers} == {("ok", "yes")}
        assert sum(met.values()) > 5
        assert server.cached_contents == {}
        assert terms.ledger.caches() == []


class TestTime:
    @pytest.mark.parametrize(
        ("step_s", "n_queries", "n_made", "n_renewed"),
        [(50, 8, 1, 0), (250, 8, 1, 3), (700, 4, 4, 3)],
        ids=["little time passes", "it is due every second query", "it ends before each"],
    )
    def test_it_is_renewed_once_a_third_of_its_time_is_left(
        self, terms, clock, step_s, n_queries, n_made, n_renewed
    ) -> None:
        def reply(prompt: str) -> str:
            clock.now += step_s
            return "yes"

        with LoopbackServer(reply, cache_minimum=2048, clock=clock.time) as server:
            answers = ask(open_model(server, terms=terms, concurrency="1"), n_queries, node=NODE)
        assert {(answer.text, answer.usage.cached_tokens) for answer in answers} == {
            ("yes", N_TOKENS)
        }
        assert (calls(server)["make"], calls(server)["renew"]) == (n_made, n_renewed)
        assert [
            cached for cached in server.cached_contents.values() if cached.expires > clock.now
        ] == []

    def test_many_requests_at_once_renew_it_once(self, server, terms, clock) -> None:

        async def run() -> None:
            model = open_model(server, terms=terms)
            async with model.kept(model.account.prefix(NODE, 2)) as prefix:
                request = model.request(prefix, Sampling())
                clock.now += 0.8 * kept_cache.TTL_S  # it is due
                await asyncio.gather(*[model.before(request) for _ in range(20)])
            await model.close()

        asyncio.run(run())
        assert calls(server) == {"make": 1, "renew": 1, "delete": 1}


class TestEnd:
    def test_it_is_deleted_when_the_consumer_has_had_enough(self, server, terms) -> None:
        async def one() -> None:
            model = open_model(server, terms=terms)
            stream = model.answers(NODE, queries(20), Sampling())
            await anext(stream)
            assert len(server.cached_contents) == 1
            assert [entry.node for entry in terms.ledger.caches()] == [NODE.hash]
            await stream.aclose()
            assert (server.cached_contents, terms.ledger.caches()) == ({}, [])
            await model.close()

        asyncio.run(one())

    @pytest.mark.slow
    def test_it_is_deleted_when_the_walk_is_cancelled(self, server, terms) -> None:
        async def walk() -> None:
            model = open_model(server, terms=terms)
            try:
                async for _ in model.answers(NODE, queries(20), Sampling()):
                    await asyncio.Event().wait()
            finally:
                await model.close()

        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(walk(), 1))
        assert calls(server)["make"] == 1
        assert server.cached_contents == {}
        assert terms.ledger.caches() == []

    def test_it_is_deleted_when_the_dollars_are_spent(self, server, terms) -> None:
        model = open_model(server, terms=replace(terms, budget=Budget(0.009)))
        with pytest.raises(BudgetSpent):
            ask(model, 500, Sampling(max_tokens=1), node=NODE)
        assert calls(server)["make"] == 1
        assert server.cached_contents == {}
        assert terms.ledger.caches() == []

    def test_one_that_is_too_dear_is_not_made(self, server, terms) -> None:
        with pytest.raises(BudgetSpent):
            ask(open_model(server, terms=replace(terms, budget=Budget(1e-5))), 5, node=NODE)
        assert calls(server) == {}
        assert terms.ledger.caches() == []

    @pytest.mark.slow
    def test_one_that_cannot_be_deleted_is_said_and_stays_in_the_ledger(
        self, server, terms, notes
    ) -> None:
        async def run() -> None:
            model = open_model(server, terms=terms)
            stream = model.answers(NODE, queries(3), Sampling())
            async for _ in stream:
                server.fail_always("503" if calls(server)["ask"] == 3 else None)
            await model.close()

        asyncio.run(run())
        assert len(terms.ledger.caches()) == 1
        assert "could not be deleted: 503" in notes[0]

    def test_without_a_run_nothing_stays_either(self, server) -> None:
        ask(open_model(server), 3, node=NODE)
        assert calls(server) == {"make": 1, "ask": 3, "delete": 1}
        assert server.cached_contents == {}


class TestLeftovers:
    def leave(self, server: LoopbackServer, terms: Terms, node: Node, **changed: object) -> str:
        """Leave a cached content at the provider and in the ledger, as a crash does; return its
        name.
        """

        async def crash() -> str:
            model = open_model(server)
            entry = terms.ledger.plan_cache(model.id, node.hash, node.n_shots)
            contents = types.Content(role="user", parts=[types.Part(text=node.text)])
            config = types.CreateCachedContentConfig(
                display_name=entry.token, ttl="600s", contents=[contents]
            )
            name, tokens = await model.cached_contents.create(entry, config, 1)
            if changed.get("confirmed", True):
                terms.ledger.cache_made(entry.token, name, tokens, entry.made + 600)
            if changed.get("billed"):
                terms.ledger.cache_billed(entry.token)
            await model.connection.close()
            return name

        name = asyncio.run(crash())
        server.requests.clear()
        return name

    @pytest.mark.parametrize("billed", [False, True])
    def test_the_one_of_the_same_node_is_used_again_and_paid_for_once(
        self, server, terms, billed
    ) -> None:
        name = self.leave(server, terms, NODE, billed=billed)
        answers = ask(open_model(server, terms=terms), 3, node=NODE)
        assert calls(server)["make"] == 0
        assert {
            r.body["cachedContent"] for r in server.requests if "generateContent" in r.path
        } == {name}
        assert sum(answer.usage.cache_write_tokens or 0 for answer in answers) == (
            0 if billed else N_TOKENS
        )
        assert server.cached_contents == {}
        assert terms.ledger.caches() == []

    def test_those_of_other_nodes_are_deleted(self, server, terms) -> None:
        self.leave(server, terms, Node("Say.\n").child(SHOTS))
        self.leave(server, terms, Node("Tell.\n").child(SHOTS), confirmed=False)
        ask(open_model(server, terms=terms), 2, node=NODE)
        assert calls(server)["make"] == 1
        assert server.cached_contents == {}
        assert terms.ledger.caches() == []

    def test_what_another_run_keeps_is_left_alone(self, server, terms, tmp_path) -> None:
        other = Terms(ledger=Ledger(tmp_path / ".."))
        name = self.leave(server, other, NODE)
        ask(open_model(server, terms=terms), 2, node=NODE)
        assert list(server.cached_contents) == [name]

    def test_one_that_is_gone_at_the_provider_is_made_anew(self, server, terms) -> None:
        self.leave(server, terms, NODE)
        server.cached_contents.clear()
        answers = ask(open_model(server, terms=terms), 3, node=NODE)
        assert {answer.usage.cached_tokens for answer in answers} == {N_TOKENS}
        assert calls(server)["make"] == 1


class TestBill:
    def test_the_records_cost_what_the_provider_bills(self, server, terms) -> None:
        model = open_model(server, terms=replace(terms, budget=Budget(100.0)))
        answers = ask(model, 12, node=NODE)
        price = model.price
        rates = price.standard[-1]
        billed = sum(
            bill.input * rates.plain
            + bill.cache_read * rates.cached
            + sum(bill.cache_write.values()) * rates.plain
            + bill.output * rates.completion
            for bill in server.bill
        )
        assert sum(bill.cache_write.get("cached_content", 0) for bill in server.bill) == N_TOKENS
        assert sum(answer.usage.cost_usd for answer in answers) == pytest.approx(billed)
        assert model.account.terms.budget.spent_usd == pytest.approx(
            billed, rel=0.01
        )  # and seconds of storage

    def test_the_first_answer_carries_the_making(self, server, terms) -> None:
        first, *others = ask(open_model(server, terms=terms), 4, node=NODE)
        assert first.usage.cache_write_tokens == N_TOKENS
        assert first.usage.prompt_tokens == N_TOKENS + others[0].usage.prompt_tokens
        assert not any(answer.usage.cache_write_tokens for answer in others)

    def test_storage_is_said_where_it_comes_to_a_cent(
        self, server, terms, notes, monkeypatch
    ) -> None:
        plan = terms.ledger.plan_cache

        def a_week_ago(*args: object) -> object:
            return replace(plan(*args), made=plan(*args).made - 7 * 86400)

        monkeypatch.setattr(terms.ledger, "plan_cache", a_week_ago)
        ask(open_model(server, terms=terms), 2, node=NODE)
        assert "keeping cached contents took about $0.50, which no record holds" in notes[-1]
