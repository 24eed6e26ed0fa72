"""What the API back ends send: prompts, keys and sampling, each in its provider's form."""

from __future__ import annotations

import json

import pytest

from icl_harness.models.api.caching import prefix_of
from icl_harness.models.api.model import stops
from icl_harness.models.base import Sampling
from icl_harness.models.openai.chat import OpenAIModel
from icl_harness.prompts.tree import Node, Query
from tests.models.api.apis import KEY, NODE, ask, every_sdk, open_model
from tests.servers import LoopbackServer

pytestmark = pytest.mark.usefixtures("planted_keys")


@every_sdk
def test_the_key_goes_where_the_provider_looks_for_it(sdk: str) -> None:
    with LoopbackServer() as server:
        ask(open_model(sdk, server))
    headers = server.requests[0].headers
    sent = headers["x-goog-api-key"] if sdk in {"google", "legacy"} else headers["authorization"]
    assert sent.removeprefix("Bearer ") == KEY


def test_the_prompt_on_the_wire_ends_its_first_part_where_the_shots_end() -> None:
    for sdk in ("openai", "anthropic", "google"):
        with LoopbackServer() as server:
            ask(open_model(sdk, server))
            ask(open_model(sdk, server), node=Node(""))
        whole, empty = (request.parts for request in server.requests)
        assert whole == ([NODE.text + "word0 ->"] if sdk == "openai" else [NODE.text, "word0 ->"])
        assert empty == ["word0 ->"]


SAMPLING = Sampling(max_tokens=7, temperature=0.5, stop=("\n", "a b", "c", "d", "e", "f", "g"))


def test_openai_sampling_on_the_wire() -> None:
    with LoopbackServer() as server:
        ask(open_model("openai", server, reasoning_tokens="100", concurrency="1"), 2, SAMPLING)
    body = dict(server.requests[1].body)
    assert body.pop("messages")[0]["role"] == "user"
    assert body == {
        "model": "some-model",
        "max_tokens": 107,
        "temperature": 0.5,
        "seed": 1,
        "stop": ["a b", "c", "d", "e"],
    }


@pytest.mark.parametrize("name", ["gpt-5-mini", "o3", "openai/gpt-5"])
def test_openai_reasoning_models_are_asked_without_what_they_refuse(name: str) -> None:
    with LoopbackServer() as server:
        model = open_model("openai", server, name, reasoning_effort="low")
        [answer] = ask(model, 1, SAMPLING)
    body = {k: v for k, v in server.requests[0].body.items() if k != "messages"}
    assert body == {"model": name, "max_completion_tokens": 7 + 8192, "reasoning_effort": "low"}
    assert answer.status == "ok"
    assert model.describe()["temperature_sent"] is False


def test_openai_itself_takes_max_completion_tokens() -> None:
    model = OpenAIModel("gpt-4o", id="openai/gpt-4o")
    body = model.request(prefix_of(NODE, cached=False), Sampling(max_tokens=3))
    params = json.loads(bytes(body.fill(Query(id="q", text="c ->"))))
    del params["messages"]
    assert params == {"model": "gpt-4o", "max_completion_tokens": 3, "temperature": 0.0}


def test_anthropic_sampling_on_the_wire() -> None:
    with LoopbackServer() as server:
        ask(open_model("anthropic", server, effort="low"), 1, SAMPLING)
        ask(open_model("anthropic", server, send_temperature="no"))
    body, plain = (
        {k: v for k, v in request.body.items() if k != "messages"} for request in server.requests
    )
    assert body == {
        "model": "some-model",
        "max_tokens": 7,
        "temperature": 0.5,
        "stop_sequences": ["a b", "c", "d", "e", "f", "g"],
        "output_config": {"effort": "low"},
    }
    assert plain == {"model": "some-model", "max_tokens": 256}


def test_anthropic_takes_more_tokens_than_its_sdk_allows_without_a_timeout() -> None:
    with LoopbackServer() as server:
        [answer] = ask(open_model("anthropic", server), 1, Sampling(max_tokens=60_000))
    assert answer.status == "ok"


def test_google_sampling_on_the_wire() -> None:
    with LoopbackServer() as server:
        ask(open_model("google", server, thinking_budget="0"), 1, SAMPLING)
    assert server.requests[0].body["generationConfig"] == {
        "maxOutputTokens": 7,
        "temperature": 0.5,
        "seed": 0,
        "stopSequences": ["a b", "c", "d", "e", "f"],
        "thinkingConfig": {"thinking_budget": 0},  # as the SDK writes it; both spellings are read
    }
    assert server.requests[0].body["contents"][0]["role"] == "user"
    assert server.requests[0].path == "/v1/models/some-model:generateContent"


@every_sdk
def test_every_stop_string_cuts_also_those_that_are_not_sent(sdk: str) -> None:
    with LoopbackServer(lambda _: "\nred\nblue g green") as server:
        [blank] = ask(open_model(sdk, server), 1, Sampling(stop=("\n",)))
        [seventh] = ask(
            open_model(sdk, server), 1, Sampling(stop=("A", "B", "C", "D", "E", "F", " green"))
        )
    assert (blank.text, seventh.text) == ("\nred", "\nred\nblue g")


def test_stops_leave_out_what_is_blank_and_cuts_do_not() -> None:
    assert stops(Sampling(stop=("\n", "a")), 4) == ["a"]
