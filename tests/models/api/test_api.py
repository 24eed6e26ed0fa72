"""The API back ends through their real SDKs against a loopback server: answers, usage, concurrency,
closing.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from icl_harness.errors import SpecError
from icl_harness.models.api.model import ApiModel
from icl_harness.models.base import Sampling, Usage
from icl_harness.models.openai.chat import OpenAIModel
from icl_harness.prompts.tree import Node, Shot
from tests import servers
from tests.models.api.apis import NODE, ask, every_sdk, open_model, queries
from tests.servers import LoopbackServer

pytestmark = pytest.mark.usefixtures("planted_keys")


@every_sdk
def test_answers_and_usage_come_back_as_the_provider_reports_them(sdk: str) -> None:
    with LoopbackServer(lambda prompt: prompt.split()[-2].upper()) as server:
        server.n_cached, server.n_reasoning = 4, 3
        answers = ask(open_model(sdk, server), 5)
    assert {a.query_id: a.text for a in answers} == {f"q{i}": f"WORD{i}" for i in range(5)}
    # 9 words of prompt, 4 of them cached; 1 word of text and 3 of reasoning. Google's old SDK does
    # not name those.
    written = None if sdk in {"google", "legacy"} else 0
    thought = None if sdk == "legacy" else 3
    expected = Usage(
        prompt_tokens=9,
        cached_tokens=4,
        cache_write_tokens=written,
        completion_tokens=4,
        reasoning_tokens=thought,
    )
    assert {a.usage for a in answers} == {expected}
    assert all(a.status == "ok" and a.latency_s is not None and a.latency_s > 0 for a in answers)


def together(n: int) -> Callable[[str], str]:
    """Return a reply that waits until `n` requests are there at once; fewer break it."""
    barrier = threading.Barrier(n)

    def reply(_: str) -> str:
        barrier.wait(timeout=60)
        return "fine"

    return reply


def open_wide(sdk: str, server: LoopbackServer, n: int) -> ApiModel:
    """Return a model whose limiter has risen to `n` already."""
    model = open_model(sdk, server, concurrency=str(n))
    model.account.limiter.limit = n
    return model


@every_sdk
def test_concurrency_is_reached_and_never_passed(sdk: str) -> None:
    with LoopbackServer(together(12)) as server:
        answers = ask(open_wide(sdk, server, 12), 36)
    assert {(a.query_id, a.text) for a in answers} == {(f"q{i}", "fine") for i in range(36)}
    assert server.max_in_flight == 12


@pytest.mark.slow
@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
def test_more_than_a_hundred_requests_fly_at_once(sdk: str) -> None:
    with LoopbackServer(together(120)) as server:
        answers = ask(open_wide(sdk, server, 120), 120)
    assert {a.text for a in answers} == {"fine"}


@every_sdk
def test_answers_come_while_others_are_still_asked(sdk: str) -> None:
    first_is_here = threading.Event()

    def reply(prompt: str) -> str:
        assert "word0" in prompt or first_is_here.wait(timeout=60)
        return "fine"

    async def arrivals(model: ApiModel) -> list[str]:
        ids = []
        async with contextlib.aclosing(model.answers(NODE, queries(3), Sampling())) as stream:
            async for answered in stream:
                ids += [answer.query_id for answer in answered]
                first_is_here.set()
        await model.close()
        return ids

    with LoopbackServer(reply) as server:
        ids = asyncio.run(arrivals(open_model(sdk, server)))
    assert (ids[0], sorted(ids)) == ("q0", ["q0", "q1", "q2"])


@every_sdk
def test_a_consumer_that_stops_cancels_what_flies(sdk: str) -> None:
    async def stop_early(model: ApiModel) -> int:
        async with contextlib.aclosing(model.answers(NODE, queries(100), Sampling())) as stream:
            await anext(stream)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await model.close()
        return len([task for task in others if "worker" in repr(task)])

    with LoopbackServer(delay_s=0.05) as server:
        assert asyncio.run(stop_early(open_model(sdk, server, concurrency="4"))) == 0
        time.sleep(0.1)
        assert len(server.requests) < 20


@every_sdk
def test_a_model_serves_two_event_loops_one_after_the_other(sdk: str) -> None:
    with LoopbackServer(lambda _: "fine") as server:
        model = open_model(sdk, server)
        assert [ask(model)[0].text, ask(model)[0].text] == ["fine", "fine"]


@every_sdk
def test_log_likelihoods_are_refused_in_one_line(sdk: str) -> None:
    with LoopbackServer() as server:
        model = open_model(sdk, server)
        with pytest.raises(SpecError, match="use scoring generate"):
            ask(model, 1, Sampling(scoring="choices"))


def test_the_server_runs_by_hand_and_answers_with_the_commonest_label() -> None:
    command = [sys.executable, "-m", "tests.servers", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        urls = {
            provider: url
            for provider, _, url in (process.stdout.readline().split() for _ in range(3))
        }
        model = OpenAIModel("m", id="openai/m", base_url=urls["openai"])
        node = Node("Sort these.\n").child("a -> x\n").child("b -> y\n").child("c -> y\n")
        assert ask(model, node=node)[0].text == "y"
        process.terminate()
    assert (
        servers.majority_reply(
            "Q: 1\nLabel: red\n\nQ: 2\nLabel: red\nQ: 3\nLabel: blue\nQ: 4\nLabel:"
        )
        == "red"
    )


def words() -> Node:
    return Node("one two ").child("three ", Shot(id="a", input="a", target="b"))


@every_sdk
def test_without_a_context_window_no_tokens_are_counted_and_with_one_they_are_estimated(
    sdk: str,
) -> None:
    with LoopbackServer() as server:
        assert open_model(sdk, server).count_tokens(words(), "four") is None
        counted = open_model(sdk, server, context_window="100").count_tokens(words(), "four é")
    assert counted == -(-len("one two three four é".encode()) // 3)


def test_openai_counts_with_tiktoken_each_edge_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken

    ranks = {bytes([i]): i for i in range(256)} | {b"thr": 256, b"ee": 257, b"three": 258}
    encoding = tiktoken.Encoding(
        "bytes", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={}
    )
    monkeypatch.setattr(
        tiktoken, "encoding_for_model", lambda name: encoding
    )  # its own files need the network
    with LoopbackServer() as server:
        model = open_model("openai", server, context_window="100")
    node = words()
    plain = [len(encoding.encode_ordinary(text)) for text in ("one two ", "three ", "four")]
    assert model.count_tokens(node, "four") == sum(plain)
    assert model.count_tokens(node.parent) == plain[0]
    longer = node.child("x" * 10)
    assert model.count_tokens(longer) == sum(plain[:2]) + 10
