"""What goes wrong with a request, provoked on the wire of every provider, and its fate."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from icl_harness.errors import AccountError
from icl_harness.models.api.faults import Fault, one_line
from tests import servers
from tests.models.api.apis import KEY, ask, every_sdk, open_model
from tests.servers import LoopbackServer

pytestmark = pytest.mark.usefixtures("planted_keys")


@every_sdk
@pytest.mark.parametrize(
    "fault", ["rate", "500", "503", "529", "reset", "truncated", "garbage", "shapeless", "invalid"]
)
def test_a_fault_of_the_provider_is_a_missing_answer(sdk: str, fault: str) -> None:
    with LoopbackServer(lambda _: "fine") as server:
        server.fail_next(fault)
        failed, good = sorted(
            ask(open_model(sdk, server, concurrency="1"), 2), key=lambda a: a.query_id
        )
    assert (failed.status, failed.text, good.text) == ("failed", None, "fine")
    assert failed.error
    assert "\n" not in failed.error
    assert len(server.requests) == 2


@every_sdk
def test_a_timeout_is_a_missing_answer(sdk: str) -> None:
    with LoopbackServer() as server:
        server.fail_next("slow")
        [answer] = ask(open_model(sdk, server, timeout_s="0.2"))
    assert answer.status == "failed"


@every_sdk
@pytest.mark.parametrize("fault", ["rate", "529", "reset"])
def test_a_passing_fault_is_asked_again_as_often_as_told(sdk: str, fault: str) -> None:
    with LoopbackServer(lambda _: "fine") as server:
        server.fail_next(fault, None, fault, fault)
        model = open_model(sdk, server, max_retries="1", concurrency="1")
        answers = ask(model, 2)
    assert [a.status for a in answers] == ["ok", "failed"]
    assert len(server.requests) == 4


@pytest.mark.slow
@every_sdk
def test_retry_after_is_honoured(sdk: str) -> None:
    with LoopbackServer(lambda _: "fine", retry_after="1") as server:
        server.fail_next("rate")
        [answer] = ask(open_model(sdk, server, max_retries="1"))
    assert answer.text == "fine"
    assert answer.latency_s is not None
    assert answer.latency_s > 0.95


@every_sdk
def test_a_prompt_beyond_the_context_window_is_an_overflow(sdk: str) -> None:
    with LoopbackServer() as server:
        server.fail_next("overflow")
        [answer] = ask(open_model(sdk, server, max_retries="3"))
    assert (answer.status, answer.text, len(server.requests)) == ("overflow", None, 1)


@every_sdk
@pytest.mark.parametrize("fault", ["auth", "billing", "forbidden", "model"])
def test_what_no_further_request_can_mend_stops_the_run_in_one_line(sdk: str, fault: str) -> None:
    with LoopbackServer() as server:
        server.fail_always(fault)
        model = open_model(sdk, server, max_retries="3", concurrency="2")
        with pytest.raises(AccountError) as caught:
            ask(model, 50)
    message = str(caught.value)
    assert ("the model's name" if fault == "model" else model.service.key_names[0]) in message
    assert "\n" not in message
    assert len(server.requests) <= 6


@every_sdk
def test_a_spent_quota_stops_the_run(sdk: str) -> None:
    with LoopbackServer() as server:
        server.fail_always("quota")
        model = open_model(sdk, server, max_retries="3", concurrency="2")
        with pytest.raises(
            AccountError, match=rf"(quota|credit balance).* Check {model.service.key_names[0]}"
        ):
            ask(model, 50)
    assert len(server.requests) <= 2


@every_sdk
def test_a_key_reaches_no_error_and_no_description(sdk: str) -> None:
    with LoopbackServer() as server:
        server.fail_always("auth")
        model = open_model(sdk, server)
        with pytest.raises(AccountError) as caught:
            ask(model)
    assert KEY not in f"{caught.value!r} {caught.value.__cause__!r} {model.describe()}"
    if sdk != "openai":
        assert "***" in str(caught.value)


@every_sdk
def test_withheld_text_is_missing_and_so_is_an_answer_that_never_began(sdk: str) -> None:
    with LoopbackServer() as server:
        server.fail_next("filtered", "length")
        withheld, exhausted = ask(open_model(sdk, server, concurrency="1"), 2)
    assert withheld.status == "refused"
    assert (withheld.error or "").startswith("refused: ")
    assert withheld.usage.prompt_tokens == 9
    assert exhausted.status == "failed"
    assert "--model-arg reasoning_tokens=N" in (exhausted.error or "")


@every_sdk
def test_a_refusal_that_the_provider_marks_is_no_answer(sdk: str) -> None:
    with LoopbackServer() as server:
        server.fail_next("refused")
        [answer] = ask(open_model(sdk, server))
    assert (answer.status, answer.text) == ("refused", None)
    # Gemini refuses without words
    assert ("SAFETY" if sdk in {"google", "legacy"} else "I cannot help with that") in (
        answer.error or ""
    )


MESSAGES = [
    "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
    "The decoder prompt (length 9) is longer than the maximum model length of 8.",
    "The input (9 tokens) is longer than the model's context length (8 tokens).",
    "prompt is too long: 213462 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "Request payload size exceeds the limit: 20971520 bytes.",
    "the request exceeds the available context size, try increasing it",
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_overflows_without_a_code_are_known_by_their_words(message: str) -> None:
    assert Fault(message, status=400).fate == "overflow"
    assert Fault(message, status=429).fate == "transient"


def fate(status: int, message: str = "", *codes: str) -> str:
    return Fault(message, status=status, codes=frozenset(codes)).fate


def test_fates_follow_codes_before_words() -> None:
    assert fate(400, "", "context_length_exceeded") == fate(413) == "overflow"
    assert fate(429, "", "insufficient_quota") == fate(400, "API key not valid.") == "account"
    assert fate(400, "", "content_filter") == fate(403, "Your input was flagged") == "refused"
    assert fate(429) == fate(408) == fate(529) == "transient"
    assert fate(400) == fate(422) == "failed"


# as providers word them: a limit that the user set, credits, a model that the free tier has none
# of, a place
SPENT = [
    (
        400,
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 "
        "at 00:00 UTC.",
    ),
    (429, "Your prepayment credits are depleted. Please go to the billing page."),
    (
        429,
        "* Quota exceeded for metric: generate_content_free_tier_requests, limit: 0, model: "
        "gemini-x\nPlease retry.",
    ),
    (400, "User location is not supported for the API use."),
]


@pytest.mark.parametrize(("status", "message"), SPENT)
def test_an_account_that_may_ask_nothing_is_known_by_its_words(status: int, message: str) -> None:
    assert fate(status, message) == "account"


def test_a_quota_of_a_day_is_the_accounts_end_and_one_of_a_minute_is_waited_for() -> None:
    def told(*quotas: str) -> Fault:
        failure = {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": q} for q in quotas],
        }
        details = [
            failure,
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"},
        ]
        error = {
            "code": 429,
            "message": "Quota exceeded, limit: 20",
            "status": "RESOURCE_EXHAUSTED",
            "details": details,
        }
        return Fault.from_body(429, {"error": error}, "", {})

    minute, day = (
        "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
        "GenerateRequestsPerDayPerProjectPerModel",
    )
    assert (told(minute).fate, told(minute).retry_after_s) == ("transient", 36)
    assert told(day).fate == told(minute, day).fate == "account"


@pytest.mark.parametrize(
    "message",
    [
        "Request too large for gpt-x on tokens per min (TPM): Limit 30000, Requested 50000. The "
        "input must be reduced.",
        "Extra usage is required for long context requests.",
    ],
)
def test_a_request_that_an_account_could_never_send_is_not_sent_again(message: str) -> None:
    with LoopbackServer(lambda _: "fine") as server:
        model = open_model("openai", server)
        ask(model, 60)
        most = model.account.limiter.limit
        server.wire_of("/v1/chat/completions").errors = {"rate": ("rate_limit_exceeded", message)}
        server.fail_always("rate")
        assert {answer.status for answer in ask(model, 10)} == {"failed"}
    assert len(server.requests) == 70
    assert model.account.limiter.limit == most, "it says nothing of how much the account takes"
    assert (
        fate(429, "Rate limit reached on tokens per min (TPM): Limit 30000, Used 29000", "x")
        == "transient"
    )


def test_error_bodies_of_every_shape_are_read() -> None:
    read: Callable[[Any], Fault] = lambda body: Fault.from_body(  # noqa: E731
        400, body, "fallback", {"retry-after": "2"}
    )
    assert (
        str(read([{"error": {"message": "m", "details": [{"reason": "API_KEY_INVALID"}]}}])) == "m"
    )
    assert read([{"error": {"details": [{"reason": "API_KEY_INVALID"}]}}]).fate == "account"
    assert str(read({"detail": "Not Found"})) == "Not Found"
    assert str(read("<html>")) == "a page of HTML or XML"
    assert str(read(None)) == "fallback"
    assert read({}).retry_after_s == 2


def test_one_line_has_no_breaks_keys_or_passwords() -> None:
    text = one_line(
        f"a\n b {KEY} sk-proj-12345678 Bearer abc http://user:pw@host/ {'x' * 400}", KEY
    )
    assert text.startswith("a b *** *** Bearer *** http://***@host/ x")
    assert len(text) == 300


@every_sdk
def test_a_server_that_is_not_there_is_said_to_be_out_of_reach_and_charged_nothing(
    sdk: str,
) -> None:
    with LoopbackServer() as server:
        pass
    [answer] = ask(open_model(sdk, server))
    assert (answer.error or "").startswith("no connection: ")
    assert answer.n_lost == 0


@pytest.mark.slow
@every_sdk
@pytest.mark.parametrize("fault", ["reset", "truncated", "garbage", "slow"])
def test_what_broke_off_once_it_was_sent_is_counted_as_it_may_be_charged_for(
    sdk: str, fault: str
) -> None:
    with LoopbackServer(lambda _: "fine") as server:
        server.fail_next(fault, fault, "500")
        timeout_s = "2" if fault == "slow" else "30"  # a busy machine may take a second for nothing
        [answer] = ask(open_model(sdk, server, max_retries="3", timeout_s=timeout_s))
    assert (answer.text, answer.n_lost) == ("fine", 2)


@pytest.mark.parametrize(
    "body", [{}, {"choices": []}, {"choices": "x"}, [], None, {"choices": [{"message": None}]}]
)
def test_a_body_of_another_shape_is_a_missing_answer(
    body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers.OpenAIWire, "answer", lambda *_: body)
    with LoopbackServer() as server:
        [answer] = ask(open_model("openai", server))
    assert answer.status == "failed"
    assert (answer.error or "").startswith("malformed body: ")


@pytest.mark.parametrize("content", [7, {"text": "x"}, [7], [{"type": "text", "text": 7}]])
def test_a_content_that_is_no_text_is_a_missing_answer(
    content: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]
    }
    monkeypatch.setattr(servers.OpenAIWire, "answer", lambda *_: body)
    with LoopbackServer() as server:
        [answer] = ask(open_model("openai", server))
    assert (answer.error or "").startswith("malformed body: ")


@every_sdk
def test_every_text_that_comes_can_be_stored(sdk: str) -> None:
    with LoopbackServer(lambda _: "\ud800 a") as server:
        [answer] = ask(open_model(sdk, server))
    if answer.status == "ok":
        assert answer.text == "? a"
    else:  # the legacy SDK's own parser refuses it
        assert sdk == "legacy"
        assert (answer.error or "").encode()


def test_an_error_message_can_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        servers.OpenAIWire,
        "error",
        lambda *_: {"error": {"message": "\udc80 bad", "code": "\ud800"}},
    )
    with LoopbackServer() as server:
        server.fail_next("500")
        [answer] = ask(open_model("openai", server))
    assert answer.error == "500 ?: ? bad"


@pytest.mark.parametrize("n", [10**30, 2**63, -1])
@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
def test_a_count_of_tokens_that_cannot_be_one_is_a_missing_answer(
    sdk: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = LoopbackServer.make
    monkeypatch.setattr(LoopbackServer, "make", lambda *args: replace(make(*args), n_prompt=n))
    with LoopbackServer(lambda _: "fine") as server:
        [answer] = ask(open_model(sdk, server))
    assert answer.status == "failed"
    assert re.match(
        r"malformed body: usage: \w+ is -?\d+, (more than can be counted|less than nothing)",
        answer.error or "",
    )


def test_the_largest_count_that_can_be_stored_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    make = LoopbackServer.make
    monkeypatch.setattr(
        LoopbackServer, "make", lambda *args: replace(make(*args), n_prompt=2**63 - 1)
    )
    with LoopbackServer(lambda _: "fine") as server:
        [answer] = ask(open_model("openai", server))
    assert answer.usage.prompt_tokens == 2**63 - 1


@every_sdk
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("payload", [b"[" * 100_000, b'{"error":' * 800 + b"1" + b"}" * 800])
def test_a_body_nested_too_deeply_is_a_missing_answer(
    sdk: str, status: int, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(self: Any, *_: Any) -> None:
        self.send_bytes(status, payload, {}, n_promised=len(payload))

    monkeypatch.setattr(servers.Handler, "respond", respond)
    with LoopbackServer() as server:
        [answer] = ask(open_model(sdk, server))
    assert answer.status == "failed"
    assert answer.error
    assert "\n" not in answer.error


def test_a_strange_wait_is_no_wait() -> None:
    assert Fault.from_body(429, None, "busy", {"retry-after": "²"}).retry_after_s == 0
