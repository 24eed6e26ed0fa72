"""What the SDKs do, or stopped doing, unasked: each trap has a test here, in test_api*.py or in
test_google_legacy.py.

Elsewhere: the key in its header, max_tokens beyond what the SDK allows, more than 100 requests at
once, timeouts as faults, a closed event loop, the threads of the old Gemini SDK and the end of its
retries. Behind them, compatible servers: what one is sent, and what its answers lack or add.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import pytest

from icl_harness.models.base import Sampling
from tests.models.api.apis import NODE, ask, every_sdk, open_model
from tests.servers import LoopbackServer
from tests.servers.google_wire import GeminiWire
from tests.servers.openai_wire import OpenAIWire
from tests.servers.wire import Json, Made

pytestmark = pytest.mark.usefixtures("planted_keys")


@every_sdk
@pytest.mark.parametrize(
    "fault", ["rate", "500", "503", "529", "reset", "truncated", "garbage", "slow"]
)
def test_no_sdk_tries_again_by_itself(sdk: str, fault: str) -> None:
    with LoopbackServer() as server:
        server.fail_always(fault)
        [answer] = ask(open_model(sdk, server, timeout_s="0.3"))
    assert (answer.status, len(server.requests)) == ("failed", 1)


@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
def test_every_response_comes_through_our_own_client_which_tells_the_limiter(
    sdk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Mapping[str, str]] = []
    with LoopbackServer(lambda _: "fine") as server:
        server.fail_next("503", None)
        model = open_model(sdk, server, max_retries="1")
        monkeypatch.setattr(model.account.limiter, "read_headers", heard.append)
        ask(model)
    assert len(heard) == 2
    assert all("content-length" in headers for headers in heard)


def test_anthropics_temperature_has_no_keyword_any_more_and_goes_on_the_wire_all_the_same() -> None:
    import anthropic

    keywords = inspect.signature(anthropic.resources.AsyncMessages.create).parameters
    assert "temperature" not in keywords
    with LoopbackServer() as server:
        ask(open_model("anthropic", server, "claude-haiku-4-5"), 1, Sampling(temperature=0.25))
    assert server.requests[0].body["temperature"] == 0.25


class Continuing(GeminiWire):
    """A Gemini that breaks off and would be asked to go on."""

    def answer(self, made: Made, body: Json) -> Json:
        told = super().answer(made, body)
        told["candidates"][0]["finishReason"] = "CONTINUATION"
        told["candidates"][0]["continuationToken"] = told["continuationToken"] = "more"
        return told


def test_google_does_not_go_on_by_itself_where_an_answer_breaks_off() -> None:
    with LoopbackServer(lambda _: "fine") as server:
        server.wires[:] = [Continuing(server) if type(w) is GeminiWire else w for w in server.wires]
        [answer] = ask(open_model("google", server, "gemini-2.5-flash"))
    assert len(server.requests) == 1
    assert answer.text == "fine"


FOREIGN = ["some-model", "openai/gpt-oss-20b", "gpt2", "Qwen/Qwen3-0.6B", "meta-llama/Llama-3.1-8B"]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_server_is_sent_standard_fields_and_whole_strings(name: str) -> None:
    node = NODE.child("c -> z\n" * 1000, cut=True)  # long enough for a cache of OpenAI's
    with LoopbackServer() as server:
        ask(
            open_model("openai", server, name, concurrency="1"),
            2,
            Sampling(max_tokens=9, stop=("Q",)),
            node,
        )
    for request in server.requests:
        assert request.body.keys() == {
            "model",
            "max_tokens",
            "temperature",
            "stop",
            "seed",
            "messages",
        }
        assert [type(message["content"]) for message in request.body["messages"]] == [str]
        assert request.body["messages"][0].keys() == {"role", "content"}


def test_a_model_of_openais_behind_a_gateway_is_asked_as_its_own() -> None:
    with LoopbackServer() as server:
        ask(open_model("openai", server, "openai/gpt-4.1-mini"))
    assert "max_completion_tokens" in server.requests[0].body


def served(change: Any) -> tuple[Any, LoopbackServer]:
    """Return the answer of a server whose chat completions are changed in one thing."""

    class Other(OpenAIWire):
        def answer(self, made: Made, body: Json) -> Json:
            told = super().answer(made, body)
            change(told)
            return told

    with LoopbackServer(lambda _: "fine") as server:
        server.wires[:] = [Other(server) if type(w) is OpenAIWire else w for w in server.wires]
        [answer] = ask(open_model("openai", server))
    return answer, server


def test_an_answer_without_usage_is_an_answer() -> None:
    answer, _ = served(lambda told: told.pop("usage"))
    assert (answer.text, answer.usage.prompt_tokens, answer.usage.cost_usd) == ("fine", None, None)


@pytest.mark.parametrize("details", ["prompt_tokens_details", "completion_tokens_details"])
def test_usage_without_details_is_taken_as_far_as_it_goes(details: str) -> None:
    answer, _ = served(lambda told: told["usage"].pop(details))
    assert (answer.text, answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        "fine",
        9,
        1,
    )


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_that_a_server_gives_apart_is_no_part_of_the_answer(field: str) -> None:
    answer, _ = served(lambda told: told["choices"][0]["message"].update({field: "Perhaps red."}))
    assert answer.text == "fine"


def test_reasoning_that_a_server_leaves_in_the_text_is_kept_beside_the_answer() -> None:
    def think(told: Json) -> None:
        told["choices"][0]["message"]["content"] = "<think>Perhaps red.</think>fine"

    answer, _ = served(think)
    assert (answer.text, answer.whole) == ("fine", "<think>Perhaps red.</think>fine")
