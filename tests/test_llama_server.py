"""The OpenAI back end against llama.cpp's server with the bundled model: what `transformers serve`
does not do.

It takes token ids, tells what it read from its cache, and refuses a prompt beyond its window by a
code of its own. The same weights answer in this process (`demo`, told the same window): every
answer must be equal, of as many shots.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import icl_harness
from icl_harness.models.local.provider import DEMO_FOLDER
from tests.llama_server import WINDOW, missing, serving
from tests.test_end_to_end import command_line

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing()), reason=f"llama.cpp's server needs {' and '.join(missing())}"
    ),
]

N_QUERIES = 8
# One line, so that the server's one slot reads one path of prompts; the last does not fit.
GRID = (
    "--modes",
    "supervised",
    "--draws",
    "1",
    "--queries",
    str(N_QUERIES),
)
SHOTS = ("--shots", "0,4,16,64")
QUERY_TOKENS = 3  # two words and an arrow
IDS = ("--model-arg", "api=completions", "--model-arg", f"tokenizer={DEMO_FOLDER}")
COMPARED = [
    "shots",
    "query_id",
    "shots_used",
    "node_hash",
    "status",
    "answer",
    "parsed",
    "score",
]


@pytest.fixture
def icl(tmp_path, monkeypatch, capfd):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return command_line(tmp_path, monkeypatch, capfd)


def told(icl, model: str, out: str, *more: str) -> pd.DataFrame:
    """Run the grid from the command line; return its records."""
    code, _, err = icl(
        "run", "dialects", "--model", model, *GRID, *more, "--on-overflow", "drop", "--out", out
    )
    assert err == ""
    assert code == 0
    return icl_harness.Run(out).records()


def test_token_ids_behind_llama_cpp_give_the_bundled_models_answers_from_cache_within_its_window(
    icl, tmp_path: Path
) -> None:
    here = told(icl, "demo", "here", *SHOTS, "--model-arg", f"context_window={WINDOW}")
    assert (here["status"] == "ok").all()
    fitted = here.groupby("shots")["shots_used"].unique()
    assert [list(used) for used in fitted[:3]] == [[0], [4], [16]]
    assert 16 < fitted[64][0] < 64

    (tmp_path / "llama").mkdir()
    with serving(tmp_path / "llama") as base_url:
        for out, how in (("ids", IDS), ("chat", ())):
            records = told(icl, "openai/bundled", out, *SHOTS, "--base-url", base_url, *how)
            pd.testing.assert_frame_equal(records[COMPARED], here[COMPARED], obj=out)
            # The query that found out how many shots fit paid for the smaller prompts that it tried
            # as well.
            tried = records["prompt_tokens"] > here["prompt_tokens"]
            assert tried.sum() == 1
            assert (records["prompt_tokens"] == here["prompt_tokens"])[~tried].all()
            # Of each prefix all but the query is read from the cache, once it was written by the
            # first that came.
            cached = records["cached_tokens"] >= records["prompt_tokens"] - QUERY_TOKENS
            assert (cached.groupby(records["shots"]).sum() >= N_QUERIES - 1).all()


def test_choices_behind_llama_cpp_weigh_what_they_weigh_for_the_bundled_model(
    icl, tmp_path: Path
) -> None:
    (tmp_path / "llama").mkdir()
    # With shots the model is so sure that a choice may not be among the 20 likeliest tokens, which
    # are all it tells.
    choices = ("--scoring", "choices", "--shots", "0")
    here = told(icl, "demo", "here", "--model-arg", f"context_window={WINDOW}", *choices)
    with serving(tmp_path / "llama") as base_url:
        records = told(icl, "openai/bundled", "there", "--base-url", base_url, *IDS, *choices)
    pd.testing.assert_frame_equal(records[COMPARED], here[COMPARED])
    pd.testing.assert_series_equal(records["gold_nll"], here["gold_nll"], rtol=0, atol=1e-4)
