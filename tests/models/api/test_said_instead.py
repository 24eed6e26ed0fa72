"""What servers say in the place of an answer, with a status of 200: each has its own fate."""

from __future__ import annotations

from typing import Any

import pytest

from icl_harness.errors import AccountError
from icl_harness.models import open_model
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import Answer
from icl_harness.models.openai.wire import content_text
from tests.models.api.apis import ask
from tests.quick import QUICK
from tests.servers import LoopbackServer
from tests.servers.anthropic_wire import AnthropicWire
from tests.servers.openai_wire import CompletionsWire, OpenAIWire
from tests.servers.wire import Json, Made

pytestmark = pytest.mark.usefixtures("planted_keys")


def asked(change: Any, wire: type = OpenAIWire, retries: str = "1", **args: str) -> list[Answer]:
    """Return the answer to one query; `change` turns the first response into another."""

    class Changed(wire):  # type: ignore[misc, valid-type]
        n = 0

        def answer(self, made: Made, body: Json) -> Json:
            Changed.n += 1
            return change(super().answer(made, body), Changed.n)

    provider = "anthropic" if wire is AnthropicWire else "openai"
    with LoopbackServer(lambda prompt: "even") as server:
        server.wires[:] = [Changed(server) if type(w) is wire else w for w in server.wires]
        model = open_model(
            f"{provider}/some-model",
            base_url=server.base_url(provider),
            model_args={"max_retries": retries, **args},
            terms=Terms(timing=QUICK),
        )
        answers = ask(model)  # type: ignore[arg-type]
    return answers


def first_only(change: Any) -> Any:
    return lambda body, n: change(body) if n == 1 else body


def choice(**fields: Any) -> Any:
    def change(body: Json) -> Json:
        body["choices"][0].update(fields)
        return body

    return change


def message(**fields: Any) -> Any:
    def change(body: Json) -> Json:
        body["choices"][0]["message"].update(fields)
        return body

    return change


def error(**fields: Any) -> Any:
    return lambda body: {"error": fields}


@pytest.mark.parametrize(
    "change",
    [
        choice(finish_reason="error"),
        choice(finish_reason="error", message={"role": "assistant", "content": ""}),
        choice(finish_reason="error", error={"code": 502, "message": "upstream"}),
        error(code=503, message="overloaded"),
        error(code="502", message="bad gateway"),
        error(message="something broke"),
        lambda body: {"error": "something broke"},
    ],
)
@pytest.mark.parametrize("path", ["chat", "completions"])
def test_an_error_that_may_pass_is_sent_again(change: Any, path: str) -> None:
    wire, args = (OpenAIWire, {}) if path == "chat" else (CompletionsWire, {"api": "completions"})
    [answer] = asked(first_only(change), wire, **args)
    assert (answer.status, answer.text, answer.n_lost) == ("ok", "even", 1)


def test_one_that_stays_is_missing_with_its_words() -> None:
    [answer] = asked(lambda body, n: {"error": {"code": 503, "message": "overloaded"}})
    assert answer.status == "failed"
    assert "overloaded" in str(answer.error)


@pytest.mark.parametrize("wire", [OpenAIWire, AnthropicWire])
@pytest.mark.parametrize(
    "fields",
    [
        {"code": 402, "message": "Insufficient credits"},
        {"code": "402", "message": "Insufficient credits"},
        {"code": 401, "message": "Insufficient credits or key"},
        {"type": "billing_error", "message": "Insufficient credits"},
    ],
)
def test_an_account_at_its_end_stops_the_run_in_one_line(wire: type, fields: Json) -> None:
    with pytest.raises(AccountError, match="Insufficient credits") as stopped:
        asked(lambda body, n: {"type": "error", "error": fields}, wire)
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize("wire", [OpenAIWire, AnthropicWire])
def test_a_prompt_that_is_too_long_is_an_overflow(wire: type) -> None:
    fields = {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8"}
    [answer] = asked(lambda body, n: {"type": "error", "error": fields}, wire)
    assert answer.status == "overflow"


def test_a_filter_refuses() -> None:
    fields = {"code": "content_filter", "message": "flagged"}
    [answer] = asked(lambda body, n: {"error": fields})
    assert answer.status == "refused"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"content": None}, "the server gave no content"),
        ({"content": None, "reasoning_content": "hm"}, "the model thought and gave no answer"),
        ({"content": None, "reasoning": "hm"}, "the model thought and gave no answer"),
    ],
)
def test_no_content_is_missing_and_says_why(fields: Json, why: str) -> None:
    [answer] = asked(lambda body, n: message(**fields)(body))
    assert (answer.status, answer.text, answer.error) == ("failed", None, why)
    assert answer.usage.completion_tokens is not None, "it was paid for"


def test_an_empty_text_is_an_answer() -> None:
    [answer] = asked(lambda body, n: message(content="")(body))
    assert (answer.status, answer.text) == ("ok", "")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "even"}],
        [{"type": "text", "text": "ev"}, {"type": "text", "text": "en"}],
        [{"type": "thinking", "thinking": [{"text": "odd?"}]}, {"type": "text", "text": "even"}],
        [{"type": "output_text", "text": "even"}],
    ],
)
def test_content_in_parts_is_read(content: list[Json]) -> None:
    [answer] = asked(lambda body, n: message(content=content)(body))
    assert (answer.status, answer.text) == ("ok", "even")


def test_parts_without_a_text_are_an_empty_one() -> None:
    assert content_text([{"type": "image"}]) == ""
    assert content_text(None) is None
