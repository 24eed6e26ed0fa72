"""Why a cache was not read: a provider that says so is asked once a request has missed."""

from __future__ import annotations

import time
from typing import Any

import pytest

from icl_harness.models import open_model
from icl_harness.models.api.faults import Miss
from icl_harness.models.api.misses import NOT_SAID, SAME, Misses
from icl_harness.models.api.terms import Terms
from tests.models.api.apis import ask
from tests.models.api.test_caching import long_node
from tests.quick import QUICK
from tests.servers import LoopbackServer
from tests.servers.wire import Refused

pytestmark = pytest.mark.usefixtures("planted_keys")
MODELS: dict[str, dict[str, str]] = {
    "anthropic/claude-sonnet-4-5": {},
    "openai/gpt-5.6": {"api": "responses"},
}
NODE = long_node(2, "word " * 1_500)


def asked(id: str, server: LoopbackServer, n: int = 8) -> list[str]:
    notes: list[str] = []
    model = open_model(
        id,
        base_url=server.base_url(id.partition("/")[0]),
        model_args={"max_retries": "1", "concurrency": "2", **MODELS[id]},
        terms=Terms(timing=QUICK, say=notes.append),
    )
    answers = ask(model, n, node=NODE)  # type: ignore[arg-type]
    assert {answer.status for answer in answers} == {"ok"}
    return [note for note in notes if "missed it" in note]


def asks_why(body: dict[str, Any]) -> bool:
    options = body.get("prompt_cache_options") or {}
    return "diagnostics" in body or "comparison_response_id" in options


@pytest.mark.parametrize("id", MODELS)
def test_a_run_whose_caches_take_sends_nothing_more_and_says_nothing(id: str) -> None:
    with LoopbackServer(lambda _: "fine") as server:
        assert asked(id, server) == []
    assert not any(asks_why(request.body) for request in server.requests)


@pytest.mark.parametrize("id", MODELS)
def test_once_a_request_has_missed_the_reasons_are_counted_in_one_line(id: str) -> None:
    with LoopbackServer(lambda _: "fine", cache_minimum=10**9) as server:
        [note] = asked(id, server)
    assert note.startswith(f"{id}: 7 of 7 requests that could read the cache missed it: ")
    assert ": different " in note
    assert sum(asks_why(request.body) for request in server.requests) >= 5
    assert not asks_why(server.requests[0].body)


@pytest.mark.parametrize(
    ("id", "words"),
    [
        ("anthropic/claude-sonnet-4-5", "diagnostics: Extra inputs are not permitted"),
        ("openai/gpt-5.6", "Unknown parameter: 'prompt_cache_options.comparison_response_id'."),
    ],
)
def test_a_server_that_knows_no_such_field_is_asked_without_it(id: str, words: str) -> None:
    class Strict(LoopbackServer):
        def weigh(self, wire: Any, request: Any) -> None:
            if asks_why(request.body):
                time.sleep(0.1)  # by then, others are in flight that ask, too
                raise Refused("invalid", words)
            super().weigh(wire, request)

    with Strict(lambda _: "fine", cache_minimum=10**9) as server:
        [note] = asked(id, server)
    assert note.endswith(f"missed it: {NOT_SAID} (7)")
    n_refused = sum(asks_why(request.body) for request in server.requests)
    assert n_refused <= 2


@pytest.mark.parametrize(
    ("miss", "words"),
    [
        (None, NOT_SAID),
        (Miss("unavailable"), NOT_SAID),
        (Miss("previous_message_not_found"), NOT_SAID),
        (Miss("cache_hit"), SAME),
        (Miss("messages_changed", 30), SAME),  # the query alone
        (Miss("messages_changed", 900), "different messages"),
        (Miss("system_changed", 1000), "different system"),
        (Miss("prompt_cache_key_changed", 900), "different prompt cache key"),
        (Miss("reasoning_effort_changed"), "different reasoning effort"),
    ],
)
def test_each_reason_has_its_words(miss: Miss | None, words: str) -> None:
    misses = Misses()
    misses.count(False, miss, 1000)
    assert misses.line() == ""
    misses.count(True, miss, 1000)
    assert misses.line() == (f"1 of 2 requests that could read the cache missed it: {words} (1)")
