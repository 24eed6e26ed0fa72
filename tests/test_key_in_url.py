"""A key in the path of a base URL is in nothing that a run writes or prints, however it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_harness.models.api.timing import Timing
from tests.api_runs import plant_keys
from tests.quick import quicken_command_line
from tests.servers.raw import RawServer, response
from tests.test_end_to_end import command_line

pytestmark = pytest.mark.slow

KEYS = [
    "sk-proj-4f9Kq2LmX8vT1zR7",
    "3f8a1c9e-77b2-4d10-9a55-0c1d2e3f4a5b",
    "Zq7XwV3nLp9RtY2mKd84hBcG",
]
GRID = ("run", "toy", "--data", "data", "--shots", "0", "--draws", "1", "--queries", "3")


def answers(path: str, n: int, mode: str) -> bytes:
    """Return what a server that quotes its own path says."""
    if mode == "redirect":
        return response(b"", f"location: {path}/moved", status="307 Elsewhere")
    if mode == "404" or (mode == "some" and n == 2):
        error = {"error": {"message": f"no route {path}", "code": "nope"}}
        status = "404 Not Found" if mode == "404" else "400 Bad Request"
        return response(json.dumps(error).encode(), status=status)
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "odd"},
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [choice], "usage": usage}  # fmt: skip
    return response(json.dumps(body).encode())


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("mode", ["good", "some", "404", "redirect"])
def test_a_key_in_the_path_of_the_url_is_nowhere(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    key: str, mode: str,
) -> None:  # fmt: skip
    plant_keys(monkeypatch)
    quicken_command_line(monkeypatch, Timing(first_wait_s=0.001, longest_wait_s=0.01))
    icl = command_line(toy, monkeypatch, capfd)
    n = 0

    def answer(path: str, body: bytes) -> list[bytes]:
        nonlocal n
        n += 1
        return [answers(path, n, mode)]

    said = ""
    with RawServer(answer) as server:
        url = f"{server.url}/{key}/v1"
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        for how in ([], ["--base-url", url]):
            n = 0
            options = ["--model", "openai/m", "--out", f"out{len(how)}", *how]
            code, out, err = icl(*GRID, *options, "--model-arg", "max_retries=0")
            said += out + err
            assert (code == 0) == (mode == "good"), err
    assert any(key in path for path, _, _ in server.requests), "it was sent where it belongs"
    files = [path for path in toy.rglob("*") if path.is_file()]
    for name, content in [("said", said.encode()), *((str(p), p.read_bytes()) for p in files)]:
        assert key.encode() not in content, name
        assert key[4:16].encode() not in content, name
