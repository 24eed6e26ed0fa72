"""What of a prefix is worth a cache, for how long, and how it is cut on the wire."""

from __future__ import annotations

import pytest

from icl_harness.models.api.caching import fewest_tokens, ttl_for
from icl_harness.models.api.limiter import Rates
from icl_harness.models.api.terms import Terms
from icl_harness.prompts import Node
from tests.models.api.apis import ask, open_model
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
        model = open_model("anthropic", server, "claude-sonnet-4-5", priced_as="anthropic/claude-sonnet-4-5")
        model.terms = Terms(rates=Rates(tpm=tpm))
        model.limiter.allow(Rates(), 64)  # so that the test does not wait
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


def test_a_string_that_another_server_finds_too_long_is_an_overflow() -> None:
    with LoopbackServer(max_string=1_000) as server:
        [answer] = ask(open_model("openai", server), 1, node=long_node(1))
    assert answer.status == "overflow"


def test_what_providers_cache_at_least() -> None:
    assert fewest_tokens("anthropic", "claude-opus-4-5") == 4096
    assert fewest_tokens("anthropic", "claude-sonnet-4-5") == 1024
    assert fewest_tokens("google", "gemini-2.5-flash") == 2048
    assert fewest_tokens("openai", "gpt-5.6") == 1024
