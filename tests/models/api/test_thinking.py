"""Models that think: what turns it on and off, which room it has, and that the answer is the answer
alone.
"""

from __future__ import annotations

from typing import Any

import pytest

from icl_harness.errors import ModelError
from icl_harness.models.base import Sampling
from tests.models.api.apis import ask, open_model
from tests.servers import LoopbackServer

pytestmark = pytest.mark.usefixtures("planted_keys")
SAMPLING = Sampling(max_tokens=50, temperature=0.0)


def body(sdk: str, name: str, **args: str) -> tuple[dict[str, Any], Any]:
    """Return what is sent but for the prompt, and the answer."""
    with LoopbackServer(lambda prompt: "fine") as server:
        server.n_reasoning = 7
        [answer] = ask(open_model(sdk, server, name, **args), 1, SAMPLING)
    sent = server.requests[0].body
    return {
        name: value for name, value in sent.items() if name not in {"messages", "contents", "model"}
    }, answer


def test_a_budget_turns_thinking_on_gives_it_room_and_takes_the_temperature_away() -> None:
    sent, answer = body("anthropic", "claude-sonnet-4-5", thinking_budget="2048")
    assert sent == {"max_tokens": 50 + 2048, "thinking": {"type": "enabled", "budget_tokens": 2048}}
    assert answer.text == "fine"  # and not what stands in the block of thinking before it
    assert (answer.usage.completion_tokens, answer.usage.reasoning_tokens) == (8, 7)


def test_room_that_is_asked_for_comes_before_the_budgets() -> None:
    sent, _ = body(
        "anthropic", "claude-sonnet-4-5", thinking_budget="2048", reasoning_tokens="3000"
    )
    assert sent["max_tokens"] == 50 + 3000


def test_adaptive_thinking_has_room_and_an_effort() -> None:
    sent, answer = body("anthropic", "claude-opus-4-8", thinking="adaptive", effort="low")
    assert sent == {
        "max_tokens": 50 + 8192, "thinking": {"type": "adaptive"},
        "output_config": {"effort": "low"},
    }  # fmt: skip
    assert answer.text == "fine"
    assert answer.usage.reasoning_tokens == 7


@pytest.mark.parametrize(
    ("name", "temperature", "room"),
    [
        ("claude-3-5-haiku-latest", True, 0),
        ("claude-opus-4-20250514", True, 0),
        ("claude-haiku-4-5", True, 0),
        ("claude-opus-4-6", True, 0),
        ("claude-opus-4-7", False, 0),
        ("claude-opus-4-8", False, 0),
        ("anthropic/claude-opus-4.8", False, 0),
        ("claude-opus-5", False, 8192),
        ("claude-haiku-5-5", False, 8192),
        ("claude-sonnet-5-5-20261001", False, 8192),
        ("claude-fable-5-1", False, 8192),
    ],
)
def test_which_of_anthropics_models_take_a_temperature_and_which_think_unasked(
    name: str, temperature: bool, room: int
) -> None:
    sent, _ = body("anthropic", name)
    assert ("temperature" in sent, sent["max_tokens"]) == (temperature, 50 + room)
    assert "thinking" not in sent


def test_thinking_that_is_on_by_itself_can_be_turned_off() -> None:
    sent, _ = body("anthropic", "claude-opus-5", thinking="disabled")
    assert sent == {"max_tokens": 50, "thinking": {"type": "disabled"}}


@pytest.mark.parametrize(
    "args",
    [
        {"thinking": "sometimes"},
        {"thinking_budget": "10"},
        {"thinking": "disabled", "thinking_budget": "2048"},
    ],
)
def test_what_makes_no_sense_is_one_line(args: dict[str, str]) -> None:
    with LoopbackServer() as server, pytest.raises(ModelError, match="thinking"):
        open_model("anthropic", server, "claude-sonnet-4-5", **args)


def test_geminis_budget_and_level() -> None:
    sent, answer = body("google", "gemini-2.5-flash", thinking_budget="512")
    config = sent["generationConfig"]
    assert config["maxOutputTokens"] == 50 + 512
    assert config["thinkingConfig"] == {
        "thinking_budget": 512
    }  # as the SDK writes it; both spellings are read
    assert (answer.text, answer.usage.reasoning_tokens, answer.usage.completion_tokens) == (
        "fine",
        7,
        8,
    )
    sent, _ = body("google", "gemini-3-pro", thinking_level="low")
    assert sent["generationConfig"]["maxOutputTokens"] == 50 + 8192
    assert sent["generationConfig"]["thinkingConfig"] == {"thinking_level": "LOW"}


@pytest.mark.parametrize(("budget", "room"), [("0", 0), ("-1", 8192)])
def test_gemini_without_thinking_or_with_as_much_as_it_likes(budget: str, room: int) -> None:
    sent, _ = body("google", "gemini-2.5-flash", thinking_budget=budget)
    assert sent["generationConfig"]["maxOutputTokens"] == 50 + room


def test_an_unknown_level_is_one_line() -> None:
    with LoopbackServer() as server, pytest.raises(ModelError, match="minimal or low"):
        open_model("google", server, "gemini-3-pro", thinking_level="some")


def test_openais_reasoning_is_counted_and_no_part_of_the_answer() -> None:
    sent, answer = body("openai", "gpt-5-mini", reasoning_effort="minimal")
    assert sent == {"max_completion_tokens": 50 + 8192, "reasoning_effort": "minimal"}
    assert (answer.text, answer.usage.completion_tokens, answer.usage.reasoning_tokens) == (
        "fine",
        8,
        7,
    )


@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
def test_all_room_spent_on_thoughts_is_no_wrong_answer(sdk: str) -> None:
    with LoopbackServer() as server:
        server.fail_next("length")
        [answer] = ask(open_model(sdk, server), 1, SAMPLING)
    assert (answer.status, answer.text) == ("failed", None)
    assert "reasoning_tokens=N" in str(answer.error)
