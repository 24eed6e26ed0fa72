"""OpenAI's responses: what is sent, and what an answer is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from icl_harness.models import open_model
from icl_harness.models.base import Answer, Model, Sampling
from icl_harness.prompts.tree import Node
from tests.models.api.apis import NODE, queries
from tests.servers import LoopbackServer
from tests.servers.openai_wire import ResponsesWire
from tests.servers.wire import Json, Made

pytestmark = pytest.mark.usefixtures("planted_keys")
SAMPLING = Sampling(max_tokens=40, temperature=0.5, stop=("Q",))


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer(lambda prompt: "fine", cache_minimum=20) as running:
        yield running


def responses(server: LoopbackServer, name: str = "some-model", **args: str) -> Model:
    args = {"api": "responses", "max_retries": "0", **args}
    return open_model(f"openai/{name}", base_url=server.base_url("openai"), model_args=args)


def ask(model: Model, n: int = 1, sampling: Sampling = SAMPLING, node: Node = NODE) -> list[Answer]:
    async def collect() -> list[Answer]:
        try:
            return [
                a async for answers in model.answers(node, queries(n), sampling) for a in answers
            ]
        finally:
            await model.close()

    return asyncio.run(collect())


def test_a_foreign_server_gets_strings_and_standard_fields(server: LoopbackServer) -> None:
    [answer] = ask(responses(server))
    assert answer.text == "fine"
    assert server.requests[0].path == "/v1/responses"
    assert server.requests[0].body == {
        "model": "some-model", "max_output_tokens": 40, "store": False, "stream": False,
        "temperature": 0.5, "input": [{"role": "user", "content": NODE.text + "word0 ->"}],
    }  # fmt: skip


def test_a_reasoning_model_gets_its_effort_and_no_temperature(server: LoopbackServer) -> None:
    model = responses(server, "gpt-5-mini", reasoning_effort="low")
    [answer] = ask(model)
    body = {name: value for name, value in server.requests[0].body.items() if name != "input"}
    assert body == {
        "model": "gpt-5-mini", "max_output_tokens": 40 + 8192, "store": False, "stream": False,
        "reasoning": {"effort": "low"},
    }  # fmt: skip
    assert answer.status == "ok"
    assert model.describe()["api"] == "responses"


def test_no_fewer_tokens_are_asked_for_than_openai_allows(server: LoopbackServer) -> None:
    [answer] = ask(responses(server, "gpt-4o"), 1, Sampling(max_tokens=3))
    assert (answer.status, server.requests[0].body["max_output_tokens"]) == ("ok", 16)


def test_usage_is_all_that_the_response_tells(server: LoopbackServer) -> None:
    server.n_cached, server.n_reasoning = 4, 3
    [answer] = ask(responses(server, "gpt-5"))
    usage = answer.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens) == (9, 4, 0)
    assert (usage.completion_tokens, usage.reasoning_tokens) == (4, 3)


def test_the_answer_stops_at_stop_strings_that_are_not_sent(server: LoopbackServer) -> None:
    server.reply = lambda prompt: "red Q: more"
    assert ask(responses(server))[0].text == "red "


def shots(n: int, *, chat: bool = False) -> Node:
    """Return a node of `n` shots with a cut at the last, each in a turn of its own if `chat`."""
    node = Node("Answer each of these, please.\n", role="system" if chat else "")
    for i in range(n):
        if chat:
            node = node.child(f"in{i} and some more words ->", role="user")
            node = node.child(f"out{i}", role="assistant", cut=i == n - 1)
        else:
            node = node.child(f"in{i} and some more words -> out{i}\n", cut=i == n - 1)
    return node


@pytest.mark.parametrize("chat", [False, True])
def test_a_new_model_writes_a_draws_prefix_once_and_reads_it_at_every_query(
    server: LoopbackServer, chat: bool
) -> None:
    node = shots(150, chat=chat)
    answers = ask(responses(server, "gpt-6-luna"), 4, SAMPLING, node)
    first, *others = answers
    assert first.usage.cache_write_tokens
    assert not first.usage.cached_tokens
    assert all(answer.usage.cached_tokens == first.usage.cache_write_tokens for answer in others)
    # All but the query's two words, and in a chat the last shot's output: no output may end in a
    # breakpoint.
    assert first.usage.prompt_tokens - first.usage.cache_write_tokens == (3 if chat else 2)
    [key] = {request.body["prompt_cache_key"] for request in server.requests}
    assert key
    assert {request.body["prompt_cache_options"]["mode"] for request in server.requests} == {
        "explicit"
    }


def test_turns_of_a_chat_keep_their_roles(server: LoopbackServer) -> None:
    ask(responses(server, "gpt-5"), 1, SAMPLING, shots(2, chat=True))
    messages = server.requests[0].body["input"]
    assert [message["role"] for message in messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert [message["content"] for message in messages[3:]] == [
        "in1 and some more words ->",
        "out1",
        "word0 ->",
    ]


def test_an_older_model_is_sent_a_key_for_its_draw_alone(server: LoopbackServer) -> None:
    ask(responses(server, "gpt-5"), 3, SAMPLING, shots(150))
    body = server.requests[0].body
    [message] = body["input"]
    assert [set(part) for part in message["content"]] == [{"type", "text"}] * 2, (
        "prefix and query, no breakpoints"
    )
    assert "prompt_cache_options" not in body
    assert body["prompt_cache_key"]


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        ("filtered", "refused", "content_filter"),
        ("length", "failed", "no answer within"),
        ("overflow", "overflow", ""),
    ],
)
def test_an_answer_that_is_none_says_why(
    server: LoopbackServer, fault: str, status: str, error: str
) -> None:
    server.fail_next(fault)
    [answer] = ask(responses(server))
    assert (answer.status, answer.text) == (status, None)
    assert answer.error is not None
    assert error in answer.error


def test_words_of_refusal_are_no_answer(server: LoopbackServer) -> None:
    server.fail_next("refused")
    [answer] = ask(responses(server))
    assert (answer.status, answer.error) == ("refused", "refused: I cannot help with that")


class Commenting(ResponsesWire):
    """A model that thinks aloud, and comments on what it does, before it answers."""

    def answer(self, made: Made, body: Json) -> Json:
        told = super().answer(made, body)
        [final] = told["output"]
        thought = {
            "id": "rs",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "Perhaps red."}],
        }
        told["output"] = [
            thought,
            {**final, "phase": "commentary"},
            {**final, "phase": "final_answer"},
        ]
        return told


class Failing(ResponsesWire):
    """A provider that fails inside a response."""

    error_code = "server_error"

    def answer(self, made: Made, body: Json) -> Json:
        error = {"code": self.error_code, "message": "The model failed."}
        return {**super().answer(made, body), "status": "failed", "error": error, "output": []}


class Prohibited(Failing):
    """The same, for what was asked."""

    error_code = "invalid_prompt"


def use(server: LoopbackServer, wire: Any) -> None:
    server.wires[:] = [wire(server) if type(w) is ResponsesWire else w for w in server.wires]


def test_only_final_messages_are_the_answer(server: LoopbackServer) -> None:
    use(server, Commenting)
    assert ask(responses(server))[0].text == "fine"


def test_a_response_that_failed_is_asked_again(server: LoopbackServer) -> None:
    use(server, Failing)
    [answer] = ask(responses(server, max_retries="1"))
    assert (answer.status, len(server.requests)) == ("failed", 2)
    assert answer.error == "server_error: The model failed"


def test_a_prompt_that_may_not_be_asked_is_refused(server: LoopbackServer) -> None:
    use(server, Prohibited)
    [answer] = ask(responses(server, max_retries="1"))
    assert (answer.status, len(server.requests)) == ("refused", 1)
