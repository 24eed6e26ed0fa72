"""The OpenAI back end against a server that is not ours: `transformers serve` with the bundled
model on the CPU.

The same weights answer the same grid in this process (`demo`) and behind the server: every record
and every point must be equal, whichever endpoint is asked. In turns the model that is served
answers in this process too, and both give what the text gives, as its template makes the same of
it. What may differ is what only one of them has: the name, the latency, what is told of a cache;
and between turns and text the node's hash. All in one test, so that one server is started.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import icl_harness
from tests.real_server import RealServer, missing, serving
from tests.test_end_to_end import command_line, read_csv

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing()), reason=f"`transformers serve` needs {' and '.join(missing())} (extra dev)"
    ),
]

GRID = (
    "--modes",
    "supervised,unsupervised",
    "--shots",
    "0,1,4,16",
    "--draws",
    "2",
    "--queries",
    "8",
)
N_RECORDS = 2 * 4 * 2 * 8
# Responses tell zeros where demo and the other endpoints tell nothing, and of a cache that this
# server has not.
ITS_OWN = ["model", "latency_s", "cached_tokens", "cache_write_tokens", "reasoning_tokens"]
OF_TURNS = ["format", "node_hash"]

COMPLETIONS, RESPONSES = ("--model-arg", "api=completions"), ("--model-arg", "api=responses")
CHAT, FOURS = ("--format", "chat"), ("--queries-per-request", "4")
# Responses may not ask for less than 16 tokens; demo stops at 2. That makes no odds: the model ends
# with its line.
WAYS = (
    ("/chat/completions", "plain", ()),
    ("/responses", "plain", RESPONSES),
    ("/completions", "plain", COMPLETIONS),
    ("/chat/completions", "turns", CHAT),
    ("/responses", "turns", (*RESPONSES, *CHAT)),
    ("/chat/completions", "plain", FOURS),
)


@pytest.fixture
def icl(tmp_path, monkeypatch, capfd):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return command_line(tmp_path, monkeypatch, capfd)


def at(server: RealServer) -> tuple[str, ...]:
    return (
        "--base-url",
        server.base_url,
        "--model-arg",
        "max_retries=0",
    )  # what it refuses is told at once


def told(icl, model: str, out: str, *more: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the grid from the command line; return its records and its curves."""
    code, _, err = icl("run", "dialects", "--model", model, *GRID, *more, "--out", out)
    assert err == ""
    assert code == 0
    return icl_harness.Run(out).records(), read_csv(Path(out) / "curves.csv")


def need_equal(
    tables: tuple[pd.DataFrame, ...], expected: tuple[pd.DataFrame, ...], but: list[str], way: str
) -> None:
    for table, other in zip(tables, expected, strict=True):
        left, right = (frame.drop(columns=but, errors="ignore") for frame in (table, other))
        pd.testing.assert_frame_equal(left, right, obj=way)


def test_a_grid_behind_a_real_server_gives_the_records_and_the_curves_of_the_bundled_model(
    icl, tmp_path: Path
) -> None:
    here = {(): told(icl, "demo", "here"), FOURS: told(icl, "demo", "here4", *FOURS)}
    records, curves = here[()]
    assert len(records) == N_RECORDS
    assert (records["status"] == "ok").all()
    by_shots = curves[curves["mode"] == "supervised"].set_index("shots")["value"]
    assert (
        by_shots[0] < by_shots[1] < by_shots[16]
    )  # curves that empty or wrong prompts would not give

    (tmp_path / "real").mkdir()
    with serving(tmp_path / "real") as server:
        here[CHAT] = told(icl, "hf/real/turns", "here_turns", *CHAT)
        need_equal(here[CHAT], here[()], [*ITS_OWN, *OF_TURNS], "turns and text")
        for i, (path, model, how) in enumerate(WAYS):
            before = server.answered()
            tables = told(icl, f"openai/{model}", f"served{i}", *at(server), *how)
            need_equal(
                tables,
                here.get(CHAT if model == "turns" else how, here[()]),
                ITS_OWN,
                f"{path} {how}",
            )
            assert set(tables[0]["format"]) == {"chat" if model == "turns" else "text"}
            n_asked = (~tables[0]["reused"].astype(bool)).sum() // (4 if how == FOURS else 1)
            assert server.answered() - before == Counter({(path, 200): n_asked})
        need_refusals(icl, server)


def need_refusals(icl, server: RealServer) -> None:
    """Ask for what this server does not do: weigh a prompt, read token ids. It says so, and no
    number comes of it.
    """
    command = ("run", "dialects", "--model", "openai/plain", *at(server), *COMPLETIONS)
    few = ("--shots", "1", "--draws", "1", "--queries", "2")
    code, _, err = icl(*command, *few, "--scoring", "choices", "--out", "weighed")
    assert code == 2
    assert "does not tell the log-probabilities of a prompt" in err
    tokenizer = ("--model-arg", "tokenizer=real/plain")
    code, out, err = icl(*command, *few, *tokenizer, "--out", "ids")
    assert code == 1
    assert "2 requests failed (400: prompt must be a string)" in out + err
    assert icl_harness.Run("ids").records()["score"].isna().all()
