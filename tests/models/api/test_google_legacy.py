"""What only the old Gemini SDK does: its import warns, its async fails over REST, its own retries
have no end.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from icl_harness.models import open_model
from icl_harness.models.base import Answer, Sampling
from icl_harness.models.google.legacy import GoogleLegacyModel
from icl_harness.prompts.tree import Node, Query
from tests.servers import LoopbackServer

pytest.importorskip("google.generativeai", reason="the extra gemini-legacy is not installed")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "planted-key")
    monkeypatch.delenv("GOOGLE_GEMINI_BASE_URL", raising=False)


def open_legacy(server: LoopbackServer, **model_args: str) -> GoogleLegacyModel:
    return GoogleLegacyModel("m", id="google/m", base_url=server.url, **model_args)


async def collect(model: GoogleLegacyModel, n: int, sampling: Sampling) -> list[Answer]:
    queries = [Query(id=f"q{i}", text=f"q{i} ->") for i in range(n)]
    return [
        answer
        async for answered in model.answers(Node("shots\n"), queries, sampling)
        for answer in answered
    ]


def ask(model: GoogleLegacyModel, n: int = 1, sampling: Sampling | None = None) -> list[Answer]:
    async def whole() -> list[Answer]:
        try:
            return await collect(model, n, sampling or Sampling())
        finally:
            await model.close()

    return asyncio.run(whole())


def test_sdk_legacy_is_chosen_by_a_model_arg() -> None:
    model = open_model("google/m", model_args={"sdk": "legacy"})
    assert isinstance(model, GoogleLegacyModel)
    assert str(model.describe()["sdk"]).startswith("google-generativeai 0.8")


@pytest.mark.slow
def test_opening_it_warns_of_nothing() -> None:
    # In a process of its own, since the SDK warns at its first import only.
    code = (
        "from icl_harness.models.google.legacy import GoogleLegacyModel; "
        "GoogleLegacyModel('m', id='google/m')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", code], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_sampling_on_the_wire() -> None:
    with LoopbackServer() as server:
        ask(
            open_legacy(server),
            1,
            Sampling(max_tokens=7, temperature=0.5, stop=("\n", "a", "b", "c", "d", "e", "f")),
        )
    request = server.requests[0]
    assert request.path == "/v1beta/models/m:generateContent"
    assert request.parts == ["shots\n", "q0 ->"]
    config = request.body["generationConfig"]
    assert config == {
        "maxOutputTokens": 7,
        "temperature": 0.5,
        "stopSequences": ["a", "b", "c", "d", "e"],
    }


@pytest.mark.slow
def test_a_server_that_stays_unavailable_is_asked_a_bounded_number_of_times() -> None:
    with LoopbackServer() as server:
        server.fail_always("503")
        [answer] = ask(open_legacy(server, max_retries="2"))
    assert (answer.status, len(server.requests)) == ("failed", 3)
    assert answer.error == "503 UNAVAILABLE: The model is overloaded"


def test_two_models_keep_their_own_servers() -> None:
    async def interleaved(first: GoogleLegacyModel, second: GoogleLegacyModel) -> list[str | None]:
        told = [(await collect(model, 1, Sampling()))[0].text for model in (first, second, first)]
        await first.close()
        await second.close()
        return told

    with LoopbackServer(lambda _: "one") as a, LoopbackServer(lambda _: "two") as b:
        assert asyncio.run(interleaved(open_legacy(a), open_legacy(b))) == ["one", "two", "one"]


def test_its_threads_are_as_many_as_the_concurrency() -> None:
    async def run(model: GoogleLegacyModel) -> int:
        await collect(model, 20, Sampling())
        n_threads = sum(thread.name.startswith("gemini") for thread in threading.enumerate())
        await model.close()
        return n_threads

    with LoopbackServer() as server:
        assert asyncio.run(run(open_legacy(server, concurrency="3"))) == 3
