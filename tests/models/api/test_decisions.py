"""`--scoring decisions`: many queries in one request to a provider's decision endpoint, answered
apart.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from icl_harness.errors import AccountError, SpecError
from icl_harness.models import open_model
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import Answer, Sampling, sum_usage
from icl_harness.prompts.tree import Node, Query
from tests.models.api.apis import NODE
from tests.servers import LoopbackServer
from tests.servers.decisions import SURE, DecisionsWire, GoogleDecisionsWire
from tests.servers.wire import Json, Made, Refused, Request

pytestmark = pytest.mark.usefixtures("planted_keys")
DECIDE = Sampling(scoring="decisions")
CHOICES = ("red", "blue", "green")
NAMES = {"openai": "openai/gpt-6-luna", "google": "google/gemini-decision-1"}


@pytest.fixture(params=["openai", "google"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(provider: str) -> Iterator[LoopbackServer]:
    def reply(prompt: str) -> str:
        number = int(re.findall(r"\d+", prompt)[-1])
        return CHOICES[number % 3]

    with LoopbackServer(reply) as running:
        yield running


def use(server: LoopbackServer, wire: type[DecisionsWire]) -> None:
    """Let a server speak another dialect of decisions."""
    server.wires[:] = [wire(server) if isinstance(w, DecisionsWire) else w for w in server.wires]


def queries(n: int, choices: tuple[str, ...] = CHOICES) -> list[Query]:
    ends = tuple(f" {choice}" for choice in choices)
    return [
        Query(id=f"q{i}", text=f"word {i} ->", choices=choices, continuations=ends)
        for i in range(n)
    ]


def ask(
    provider: str, server: LoopbackServer, asked: Sequence[Query], notes: list[str] | None = None,
    node: Node = NODE, name: str = "", **args: str,
) -> list[Answer]:  # fmt: skip
    terms = Terms(say=(notes if notes is not None else []).append)
    model = open_model(
        name or NAMES[provider],
        base_url=server.base_url(provider),
        model_args={"max_retries": "0", **args},
        terms=terms,
    )

    async def collect() -> list[Answer]:
        try:
            return [a async for answers in model.answers(node, asked, DECIDE) for a in answers]
        finally:
            await model.close()

    return asyncio.run(collect())


@pytest.mark.slow
def test_one_request_answers_all_queries_each_with_its_own_probabilities(
    provider: str, server: LoopbackServer
) -> None:
    answers = ask(provider, server, queries(7))
    assert len(server.requests) == 1
    assert [answer.query_id for answer in answers] == [f"q{i}" for i in range(7)]
    for i, answer in enumerate(answers):
        assert answer.text == CHOICES[i % 3]
        rest = (1 - SURE) / 2
        expected = {
            choice: math.log(SURE if choice == CHOICES[i % 3] else rest) for choice in CHOICES
        }
        assert answer.logprobs == pytest.approx(expected)


def test_the_input_is_the_prefix_and_a_question_names_no_query(
    provider: str, server: LoopbackServer
) -> None:
    ask(provider, server, queries(2), node=Node("Sort.\n").child("a -> red\n"))
    body = server.requests[0].body
    assert server.requests[0].path == "/v1/decisions"
    assert server.requests[0].parts[0] == "Sort.\na -> red\n"
    if provider == "openai":
        assert body["questions"][1] == {
            "type": "choice", "name": "2", "instructions": "word 1 ->",
            "choices": [{"value": c} for c in CHOICES],
        }  # fmt: skip
    else:
        criteria = dict.fromkeys(CHOICES, "")
        assert body["questions"]["2"] == {
            "type": "choice",
            "instructions": "word 1 ->",
            "criteria": criteria,
        }


def test_the_shares_of_the_queries_sum_to_the_bill(provider: str, server: LoopbackServer) -> None:
    server.n_cached = 4
    answers = ask(provider, server, queries(7), priced_as="openai/gpt-6-luna")
    whole = sum_usage([answer.usage for answer in answers])
    assert whole.prompt_tokens == server.ledger.count(server.requests[0].prompt) > 7
    assert (whole.cached_tokens, whole.completion_tokens) == (4, 7 if provider == "openai" else 0)
    per_token = {"plain": 0.1e-6, "cached": 0.01e-6, "out": 0.5e-6}
    counts = {"plain": whole.prompt_tokens - 4, "cached": 4, "out": whole.completion_tokens}
    assert whole.cost_usd == pytest.approx(sum(per_token[kind] * n for kind, n in counts.items()))


def test_more_queries_than_a_request_takes_go_into_several(
    provider: str, server: LoopbackServer
) -> None:
    answers = ask(provider, server, queries(850))
    assert [len(request.body["questions"]) for request in server.requests] == [400, 400, 50]
    assert [answer.text for answer in answers] == [CHOICES[i % 3] for i in range(850)]


def test_it_is_said_once_that_this_is_experimental(provider: str, server: LoopbackServer) -> None:
    notes: list[str] = []
    ask(provider, server, queries(850), notes)
    [note] = notes
    assert "experimental" in note


@pytest.mark.slow
def test_a_request_that_fails_is_asked_again(provider: str, server: LoopbackServer) -> None:
    server.fail_next("503", "rate")
    answers = ask(provider, server, queries(3), max_retries="2")
    assert ({answer.status for answer in answers}, len(server.requests)) == ({"ok"}, 3)


def test_the_sdk_does_not_try_again_by_itself(provider: str, server: LoopbackServer) -> None:
    server.fail_always("503")
    answers = ask(provider, server, queries(2), max_retries="0")
    assert ({answer.status for answer in answers}, len(server.requests)) == ({"failed"}, 1)
    assert all(answer.error is not None and answer.error.startswith("503") for answer in answers)


def test_a_wrong_key_stops_the_run(provider: str, server: LoopbackServer) -> None:
    server.fail_always("auth")
    with pytest.raises(AccountError):
        ask(provider, server, queries(2))


@pytest.mark.parametrize("fault", ["garbage", "shapeless", "reset"])
def test_an_answer_that_is_none_is_no_answer(
    provider: str, server: LoopbackServer, fault: str
) -> None:
    server.fail_next(fault)
    answers = ask(provider, server, queries(3))
    assert [answer.status for answer in answers] == ["failed"] * 3
    assert sum(answer.n_lost for answer in answers) == 1
    assert {a.status for a in ask(provider, server, queries(3))} == {"ok"}


def test_queries_without_two_choices_fail_alone(provider: str, server: LoopbackServer) -> None:
    single, many = queries(1, ("red",)), queries(3)[2:]
    statuses = {
        answer.query_id: answer.status for answer in ask(provider, server, [*single, *many])
    }
    assert statuses == {"q0": "failed", "q2": "ok"}


def test_queries_without_choices_are_refused_in_one_line(
    provider: str, server: LoopbackServer
) -> None:
    with pytest.raises(SpecError, match="weighs a query's choices"):
        ask(provider, server, queries(2, ()))


@pytest.mark.parametrize("args", [{}, {"api": "completions"}])
def test_who_has_no_such_endpoint_says_so(args: dict[str, str]) -> None:
    name = "openai/m" if args else "anthropic/m"
    with (
        LoopbackServer() as server,
        pytest.raises(SpecError, match="offers no scoring 'decisions'; use scoring gen"),
    ):
        ask(name.partition("/")[0], server, queries(2), name=name, **args)


class Window(DecisionsWire):
    """A server whose window holds a few questions only."""

    def check(self, request: Request) -> None:
        super().check(request)
        if len(request.body["questions"]) > 3:
            raise Refused("overflow", "")


def test_questions_that_overflow_the_window_together_are_asked_in_smaller_requests() -> None:
    with LoopbackServer(lambda prompt: "red") as server:
        use(server, Window)
        answers = ask("openai", server, queries(10))
    assert [answer.query_id for answer in answers] == [f"q{i}" for i in range(10)]
    assert {answer.text for answer in answers} == {"red"}
    assert [len(request.body["questions"]) for request in server.requests] == [10, 5, 2, 3, 5, 2, 3]


class Declining(DecisionsWire):
    """A model that declines every second question."""

    def answer(self, made: Made, body: Json) -> Json:
        told = super().answer(made, body)
        for i, question in enumerate(body["questions"]):
            if i % 2:
                told["answers"][i] = {"type": "refusal", "name": question["name"]}
        return told


class Certain(DecisionsWire):
    """A model that is sure, and leaves nothing to the other choices."""

    def answer(self, made: Made, body: Json) -> Json:
        told = super().answer(made, body)
        for answer in told["answers"]:
            for share in answer["probabilities"]:
                share["probability"] = float(share["value"] == answer["choice"])
        return told


class Forgetful(DecisionsWire):
    """A provider that leaves out a choice."""

    def answer(self, made: Made, body: Json) -> Json:
        told = super().answer(made, body)
        del told["answers"][0]["probabilities"][0]
        return told


class Blocking(GoogleDecisionsWire):
    """A filter that lets nothing through."""

    def answer(self, made: Made, body: Json) -> Json:
        return {"prompt_feedback": {"block_reason": "safety"}}


def answered(provider: str, wire: Any, n: int = 4) -> list[Answer]:
    with LoopbackServer(lambda prompt: "red") as server:
        use(server, wire)
        return ask(provider, server, queries(n))


def test_a_question_that_is_declined_is_refused_alone() -> None:
    answers = answered("openai", Declining)
    assert [answer.status for answer in answers] == ["ok", "refused", "ok", "refused"]
    assert answers[1].error == "refused: this question was declined"


def test_a_blocked_input_refuses_all_its_questions() -> None:
    answers = answered("google", Blocking)
    assert {answer.error for answer in answers} == {"refused: prompt blocked, safety"}


def test_a_probability_of_nought_stays_a_number() -> None:
    for answer in answered("openai", Certain):
        assert answer.logprobs is not None
        assert answer.logprobs["red"] == 0
        assert -1000 < answer.logprobs["blue"] < -100


def test_a_choice_without_a_probability_is_no_answer() -> None:
    assert {answer.status for answer in answered("openai", Forgetful)} == {"failed"}
