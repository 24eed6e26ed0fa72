"""What of a prefix is worth a cache, for how long, and how it is cut on the wire."""

from __future__ import annotations

import re

import genai_prices
import pytest

from icl_harness.errors import BudgetSpent
from icl_harness.models import open_model as open_any
from icl_harness.models.anthropic.messages import AnthropicModel
from icl_harness.models.api.caching import ttl_for
from icl_harness.models.api.limiter import Rates
from icl_harness.models.api.terms import Budget, Terms
from icl_harness.models.google.gemini import GoogleModel
from icl_harness.models.openai.chat import OpenAIModel
from icl_harness.prompts.tree import Node
from tests import servers
from tests.models.api.apis import ask, no_legacy, open_model
from tests.servers import LoopbackServer

pytestmark = pytest.mark.usefixtures("planted_keys")


def long_node(n_shots: int, shot: str = "word " * 10_000) -> Node:
    node = Node("Answer.\n", cut=True)
    for i in range(n_shots):
        node = node.child(f"{i} {shot}\n", cut=i + 1 in (1, 4, n_shots))
    return node


@pytest.mark.parametrize(
    ("tokens", "rates", "ttl"),
    [
        (1_000_000, Rates(), "5m"),
        (1_000_000, Rates(tpm=400_000), "5m"),  # the next request goes after 150 s
        (1_000_000, Rates(tpm=200_000), "1h"),  # after 300 s, when a cache of 5 minutes ends
        (1_000, Rates(rpm=0.1), "1h"),
    ],
)
def test_a_cache_is_kept_for_an_hour_where_its_next_reader_comes_too_late_for_five_minutes(
    tokens: int, rates: Rates, ttl: str
) -> None:
    assert ttl_for(tokens, rates) == ttl


@pytest.mark.parametrize(("tpm", "ttl"), [(None, "5m"), (20_000.0, "1h")])
def test_the_time_to_live_and_its_tokens_come_back_in_the_bill(tpm: float | None, ttl: str) -> None:
    with LoopbackServer(lambda _: "fine", count=lambda text: len(text.encode()) // 3) as server:
        model = open_model(
            "anthropic", server, "claude-sonnet-4-5", priced_as="anthropic/claude-sonnet-4-5"
        )
        model.account.terms = Terms(rates=Rates(tpm=tpm))
        model.account.limiter.allow(Rates(), 64)  # so that the test does not wait
        first, second = ask(model, 2, node=long_node(5))
    [bill, _] = server.bill
    assert bill.cache_write.keys() == {ttl}
    dearer = {"5m": 3.75, "1h": 6.0}[ttl]  # dollars a million tokens, written
    prompt, written = first.usage.prompt_tokens, first.usage.cache_write_tokens
    assert written == second.usage.cached_tokens
    plain = (prompt - written) * 3.0 + first.usage.completion_tokens * 15.0
    assert first.usage.cost_usd == pytest.approx((written * dearer + plain) / 1e6)


@pytest.mark.parametrize("name", ["gpt-4.1-mini", "gpt-5.6"])
def test_no_string_is_longer_than_openai_takes_and_each_ends_where_a_shot_does(name: str) -> None:
    node = long_node(60)  # 3 million characters
    with LoopbackServer(lambda _: "fine", max_string=1_048_576) as server:
        [answer] = ask(open_model("openai", server, name), 1, node=node)
    assert answer.text == "fine"
    [message] = server.requests[0].body["messages"]
    texts = [part["text"] for part in message["content"]]
    assert "".join(texts) == node.text + "word0 ->"
    assert all(text.endswith("\n") for text in texts[:-1])
    assert len(texts) > 4


def test_another_server_gets_one_string_as_long_as_one_may_be() -> None:
    with LoopbackServer(lambda _: "fine", max_string=1_048_576) as server:
        for n_shots in (10, 60):
            model = open_model("openai", server, "llama")
            model.most_string = 1_000_000
            [answer] = ask(model, 1, node=long_node(n_shots))
            assert answer.text == "fine"
    short, long = (request.body["messages"][0]["content"] for request in server.requests)
    assert short == long_node(10).text + "word0 ->"
    assert "".join(part["text"] for part in long) == long_node(60).text + "word0 ->"
    assert all(part["text"].endswith("\n") for part in long[:-1])


def test_what_it_costs_that_caching_does_not_take_is_told_of_the_prompts_alone() -> None:
    notes: list[str] = []
    with LoopbackServer(lambda _: "fine", cache_minimum=10**9) as server:
        model = open_model(
            "openai", server, "gpt-5.6", priced_as="openai/gpt-5.6"
        )  # with room for 8,192 of thought
        model.account.terms = Terms(say=notes.append)
        ask(model, 20, node=long_node(4))
    note, misses = notes
    assert "missed it: no reason given" in misses
    told = re.search(
        r"cell \(17 queries\) .* whole prefix, \$(\d+\.\d\d) instead of \$(\d+\.\d\d),",
        note,
    )
    assert told is not None, note
    dear, cheap = map(float, told.groups())
    n_tokens = sum(bill.input for bill in server.bill) / len(server.bill)
    usage = genai_prices.Usage(input_tokens=round(n_tokens))
    plain = float(genai_prices.calc_price(usage, "gpt-5.6", provider_id="openai").input_price)
    assert dear == pytest.approx(17 * 1.25 * plain, rel=0.05)  # written each time
    assert cheap < dear / 5


@no_legacy
def test_the_old_sdk_of_google_asks_for_no_cache_and_none_goes_alone() -> None:
    notes: list[str] = []
    with LoopbackServer(lambda _: "fine", cache_minimum=10) as server:
        model = open_model("legacy", server, "gemini-2.5-flash")
        model.account.terms = Terms(say=notes.append)
        assert {answer.text for answer in ask(model, 6, node=long_node(4))} == {"fine"}
    assert model.account.prefix(long_node(4), 6).cached is False
    assert notes == []


def test_an_answer_whose_usage_is_not_told_is_held_against_the_dollars_at_its_whole_price(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = servers.OpenAIWire.answer
    monkeypatch.setattr(servers.OpenAIWire, "answer", lambda *args: {**told(*args), "usage": None})
    budget = Budget(0.02)
    with LoopbackServer(lambda _: "fine") as server:
        model = open_model("openai", server, priced_as="openai/gpt-4o-mini")
        model.account.terms = Terms(budget=budget)
        with pytest.raises(BudgetSpent):
            ask(model, 50, node=long_node(1))  # some 16,000 tokens each, at $0.15 a million
    assert 0.015 < budget.spent_usd <= 0.02
    assert 4 < len(server.requests) < 10


def test_a_string_that_another_server_finds_too_long_is_an_overflow() -> None:
    with LoopbackServer(max_string=1_000) as server:
        [answer] = ask(open_model("openai", server), 1, node=long_node(1))
    assert answer.status == "overflow"


@pytest.mark.parametrize(("name", "status"), [("gpt-4.1", "overflow"), ("llama", "ok")])
def test_a_prompt_that_openai_takes_in_no_string_is_refused_before_it_is_sent(
    name: str, status: str
) -> None:
    node = Node("Answer.\n").child("x" * 10_485_760)
    with LoopbackServer(lambda _: "fine", max_string=10**9) as server:
        model = open_any(
            f"openai/{name}",
            base_url=server.base_url("openai"),
            model_args={"api": "completions", "max_retries": "0"},
        )
        [answer] = ask(model, 1, node=node)
    assert answer.status == status
    assert len(server.requests) == (status == "ok")
    if status == "overflow":
        assert "a prompt of 10,485,776 characters in one string, of which OpenAI takes" in str(
            answer.error
        )


def test_what_providers_cache_at_least() -> None:
    assert AnthropicModel.service.fewest_tokens("claude-opus-4-5") == 4096
    assert AnthropicModel.service.fewest_tokens("claude-sonnet-4-5") == 1024
    assert GoogleModel.service.fewest_tokens("gemini-2.5-flash") == 2048
    assert OpenAIModel.service.fewest_tokens("gpt-5.6") == 1024
