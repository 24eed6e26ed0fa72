"""Whole runs whose server says something else than an answer, with a status of 200: each thing has
its own fate, on every back end.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import icl_harness
from icl_harness.models.api.timing import Timing
from tests.api_runs import Wire, plant_keys
from tests.models.api.apis import no_legacy
from tests.quick import quicken_command_line
from tests.servers import LoopbackServer
from tests.servers.wire import Json
from tests.test_end_to_end import command_line

pytestmark = pytest.mark.slow

GRID = ("run", "toy", "--data", "data", "--shots", "0", "--draws", "1")
FIRST = 100  # the number of the first query
Change = Callable[[Json], Json]


def chat(finish: str = "stop", **message: Any) -> Change:
    def change(body: Json) -> Json:
        body["choices"][0]["finish_reason"] = finish
        body["choices"][0]["message"].update(message)
        return body

    return change


def completion(finish: str = "stop", **choice: Any) -> Change:
    def change(body: Json) -> Json:
        body["choices"][0].update(finish_reason=finish, **choice)
        return body

    return change


def response(*output: Json, **fields: Any) -> Change:
    return lambda body: {**body, "output": list(output), **fields}


def fields(**new: Any) -> Change:
    return lambda body: {**body, **new}


def said(*content: Json, **more: Any) -> Json:
    """Return a message of a response."""
    head = {"type": "message", "id": "m", "role": "assistant", "status": "completed"}
    return {**head, "content": list(content), **more}


def candidate(finish: str | None = "STOP", **new: Any) -> Change:
    def change(body: Json) -> Json:
        body["candidates"][0].update(new, finishReason=finish)
        return body

    return change


def parts(*texts: Json) -> Json:
    return {"role": "model", "parts": list(texts)}


def error(**about: Any) -> Change:
    return lambda body: {"error": about}


REASONED = {"type": "reasoning", "id": "r", "summary": []}
EVEN = {"type": "output_text", "text": "even", "annotations": []}
BROKE = "broke the answer off"
NONE, THOUGHT = "the server gave no content", "the model thought and gave no answer"

# wire -> (what comes in the place of every answer, what becomes of the query, words of its error)
CASES: dict[str, list[tuple[Change, str, str]]] = {
    "chat": [
        (chat("error"), "again", BROKE),
        (chat("error", content=""), "again", BROKE),
        (chat("network_error", content="ev"), "again", BROKE),
        (chat("insufficient_system_resource"), "again", "insufficient_system_resource"),
        (chat(content=None), "missing", NONE),
        (chat(content=None, reasoning_content="hm"), "missing", THOUGHT),
        (chat("sensitive"), "refused", "sensitive"),
        (chat("length", content=None), "missing", "no answer within 4 tokens"),
        (chat("model_context_window_exceeded", content=""), "missing", "no answer within"),
        (chat(content=[{"type": "text", "text": "ev"}, {"type": "text", "text": "en"}]), "ok", ""),
        (chat(content=[{"type": "thinking", "thinking": "odd"}, {"type": "text", "text": "even"}]),
         "ok", ""),
        (chat(content=7), "again", "neither a text nor parts"),
        (fields(choices=[]), "again", "neither an answer nor an error"),
        (fields(choices=None), "again", "neither an answer nor an error"),
    ],
    "completions": [
        (completion("error"), "again", BROKE),
        (completion("abort", text="ev"), "again", BROKE),
        (completion(text=None), "missing", NONE),
        (completion("content_filter", text=""), "refused", "content_filter"),
        (completion(text=[{"type": "text", "text": "even"}]), "ok", ""),
        (fields(choices=[]), "again", "neither an answer nor an error"),
    ],
    "responses": [
        (response(status="failed", error={"code": "server_error", "message": "sorry"}), "again",
         "sorry"),
        (response(status="failed", error=None), "again", "failed"),
        (response(status="in_progress"), "again", "in_progress"),
        (response(status="queued"), "again", "queued"),
        (response(status="cancelled"), "again", "cancelled"),
        (response(said(EVEN), status="cancelled"), "again", "cancelled"),
        (response(status="incomplete", incomplete_details={"reason": "error"}), "again", BROKE),
        (response(REASONED), "missing", THOUGHT),
        (response(), "missing", NONE),
        (fields(output=None), "missing", NONE),
        (response(said(content=None)), "unparsed", ""),
        (response(said(content="even")), "ok", ""),
        (response(said({"type": "text", "text": "ev"}, {"type": "output_text", "text": "en"})),
         "ok", ""),
        (response(said({"type": "refusal", "refusal": "no"})), "refused", "no"),
        (response(status="incomplete", incomplete_details={"reason": "content_filter"}), "refused",
         "content_filter"),
    ],
    "messages": [
        (fields(stop_reason="error"), "again", BROKE),
        (fields(stop_reason="pause_turn", content=[]), "again", BROKE),
        (fields(content=None), "missing", NONE),
        (fields(content=[{"type": "thinking", "thinking": "hm", "signature": "x"}]), "missing",
         THOUGHT),
        (fields(content=[{"type": "tool_use", "id": "t", "name": "n", "input": {}}]), "missing",
         "called a tool"),
        (fields(content=[]), "unparsed", ""),
        (fields(content=[], stop_reason="model_context_window_exceeded"), "missing",
         "no answer within 4 tokens"),
        (fields(content="even"), "ok", ""),
        (fields(content=[{"type": "text", "text": "ev"}, {"type": "text", "text": "en"}]), "ok",
         ""),
        (fields(content=[], stop_reason="refusal"), "refused", "refusal"),
    ],
    "gemini": [
        (candidate("ERROR"), "again", BROKE),
        (candidate("MALFORMED_RESPONSE", content=parts()), "again", BROKE),
        (candidate("OTHER"), "again", BROKE),
        (candidate("OTHER", content=parts()), "refused", "OTHER"),
        (candidate("SAFETY"), "refused", "SAFETY"),
        (candidate("UNEXPECTED_TOOL_CALL", content=parts()), "missing", "called a tool"),
        (candidate(content=None), "missing", NONE),
        (candidate(content=parts({"text": "hm", "thought": True})), "missing", THOUGHT),
        (candidate(content=parts({"text": "ev"}, {"text": "en"})), "ok", ""),
        (candidate(content=parts({"text": "odd?", "thought": True}, {"text": "even"})), "ok", ""),
        (candidate(content=parts()), "unparsed", ""),
        (fields(candidates=[]), "again", "neither a candidate"),
    ],
}  # fmt: skip
CASES["legacy"] = [
    (candidate("ERROR", content=parts()), "missing", NONE),
    (candidate("MALFORMED_RESPONSE", content=parts()), "missing", NONE),  # it knows no such reason
    (candidate("OTHER"), "again", BROKE),
    (candidate("SAFETY"), "refused", "SAFETY"),
    (candidate(content=None), "missing", NONE),
    (candidate(content=parts({"text": "ev"}, {"text": "en"})), "ok", ""),
]
# In the place of any answer, of any provider. Words that end a run name what to check.
ERRORS: list[tuple[Change, str, str]] = [
    (error(code=503, message="busy"), "again", "busy"),
    (error(message="something broke"), "again", "something broke"),
    (lambda body: {"error": "something broke"}, "again", "something broke"),
    (error(code=402, message="Insufficient credits"), "stops", "Insufficient credits"),
    (error(code="401", message="No such key"), "stops", "No such key"),
    (error(code=403, message="Not allowed", status="PERMISSION_DENIED"), "stops", "Not allowed"),
    (error(status="UNAUTHENTICATED", message="No such key"), "stops", "No such key"),
    (error(type="authentication_error", message="No such key"), "stops", "No such key"),
    (error(code="content_filter", message="flagged"), "refused", "flagged"),
    (error(type="invalid_request_error", message="bad field"), "failed", "bad field"),
    (lambda body: [{"error": {"code": 429, "message": "slowly"}}], "again", "slowly"),
    (lambda body: {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
     "again", "busy"),
]  # fmt: skip
WIRES = {
    "chat": Wire("openai", "gpt-4.1", r"/chat/completions$"),
    "responses": Wire("openai", "gpt-4.1", r"/responses$", {"api": "responses"}),
    "completions": Wire("openai", "gpt-4.1", r"/completions$", {"api": "completions"}),
    "messages": Wire("anthropic", "claude-sonnet-4-5", r"/messages$"),
    "gemini": Wire("google", "gemini-2.0-flash", r":generateContent$"),
    "legacy": Wire("google", "gemini-2.0-flash", r":generateContent$", {"sdk": "legacy"}),
}
every_wire = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=no_legacy if name == "legacy" else ()) for name in WIRES]
)


@pytest.fixture
def icl(toy, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    plant_keys(monkeypatch)
    quicken_command_line(monkeypatch, Timing(first_wait_s=0.001, longest_wait_s=0.01))
    return command_line(toy, monkeypatch, capfd)


def write_queries(n: int) -> None:
    rows = [
        {"id": f"q{i}", "text": f"n {i}", "label": ("even", "odd")[i % 2]}
        for i in range(FIRST, FIRST + n)
    ]
    Path("data/toy/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(icl: Any, name: str, change_of: Callable[[int], tuple[Change, int]]) -> tuple[int, str]:
    """Run a grid whose first responses to a query are changed, by the query's number; return exit
    code and errors.
    """
    wire, n_asked = WIRES[name], Counter[int]()

    def changed(honest: Callable[..., Json], *about: Any) -> Json:
        number = int(re.findall(r"n (\d+) ->", json.dumps(about[-1]))[-1]) - FIRST
        n_asked[number] += 1
        change, most = change_of(number)
        body = honest(*about)
        return change(body) if n_asked[number] <= most else body

    with LoopbackServer(lambda prompt: "even") as server:
        for one in server.wires:
            one.answer = partial(changed, one.answer)
        options = wire.options(server, max_retries="1", timeout_s="30", concurrency="4")
        code, _, err = icl(*GRID, "--out", "out", *options)
    return code, err


def status(fate: str) -> str:
    return {"again": "failed", "missing": "failed", "unparsed": "ok"}.get(fate, fate)


@every_wire
def test_each_thing_that_comes_in_the_place_of_an_answer_has_its_fate(icl, name: str) -> None:
    cases = [case for case in [*CASES[name], *ERRORS] if case[1] != "stops"]
    write_queries(2 * len(cases))

    def change_of(number: int) -> tuple[Change, int]:
        """A case's change: to every response to its first query, to one to its second."""
        return cases[number // 2][0], 1 if number % 2 else 100

    code, err = run(icl, name, change_of)
    assert code == 1, err
    records = icl_harness.Run("out").records().set_index("query_id").astype(object)
    records = records.where(records.notna(), None)
    for number, (_, fate, words) in enumerate(cases):
        always = records.loc[f"q{FIRST + 2 * number}"]
        once = records.loc[f"q{FIRST + 2 * number + 1}"]
        where = (name, number, always["error"])
        assert always["status"] == status(fate), where
        assert words in (always["error"] or ""), where
        assert once["status"] == ("ok" if fate == "again" else status(fate)), where
        if fate == "unparsed":
            assert always["parsed"] is None, where
        if fate in {"again", "ok"}:
            assert once["parsed"] == "even", where
        if fate == "again":
            assert once["n_lost"] == 1, (where, "it may have been charged for")


STOPS = [case for case in ERRORS if case[1] == "stops"]


@pytest.mark.parametrize(
    ("name", "number"),
    [*((name, 0) for name in CASES if name != "legacy"), *(("gemini", n) for n in range(1, 5)),
     pytest.param("legacy", 2, marks=no_legacy)],
)  # fmt: skip
def test_an_account_at_its_end_stops_the_run_in_one_line(icl, name: str, number: int) -> None:
    change, _, words = STOPS[number]
    code, err = run(icl, name, lambda _: (change, 100))
    assert code == 1
    assert err.count("\n") == 1, err
    assert words in err
    assert "Check " in err
