"""The whole engine from the command line: real data, the bundled model, reference learners, kills,
the progress bar.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pandas as pd
import pytest

import icl_harness
from icl_harness.cli.app import main
from tests.servers import LoopbackServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("banking77", "gsm8k", "trec")


def command_line(folder: Path, monkeypatch, capfd):
    """Return a function that runs `icl` in a folder and returns (exit code, standard output,
    standard error).
    """
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ICL_DATA", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icl", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), *capfd.readouterr()

    return call


def read_csv(path: Path) -> pd.DataFrame:
    """Return a curves.csv with a value in every row that has an ok record."""
    table = pd.read_csv(path)
    assert table["value"].notna().equals(table["n_ok"] > 0)
    return table


@pytest.fixture
def icl(tmp_path, monkeypatch, capfd):
    return command_line(tmp_path, monkeypatch, capfd)


def test_the_bundled_model_runs_on_real_data(icl, shared_data: Path) -> None:
    code, _, err = icl(
        "run", *TASKS, "--data", str(shared_data), "--model", "demo",
        "--modes", "supervised,unsupervised", "--shots", "0,2", "--queries", "2", "--draws", "1",
        "--out", "out",
    )  # fmt: skip
    assert (code, err) == (0, "")
    records, table = icl_harness.Run("out").records(), read_csv(Path("out/curves.csv"))
    assert len(records) == 3 * 2 * 2 * 2
    assert (records["status"] == "ok").all()
    assert (records["shots_used"] == records["shots"]).all()
    assert (records["prompt_tokens"] > 0).all()
    assert (table["n_ok"] == 2).all()
    assert (table["n_failed"] + table["n_overflow"] == 0).all()
    unparsed = records[records["parsed"].isna()]
    assert (unparsed["score"] == 0).all()
    assert table["n_unparsed"].sum() == len(unparsed)


def test_reference_learners_rise_with_shots_on_real_data(icl, shared_data: Path) -> None:
    models = [
        part for name in ("knn", "logreg", "majority") for part in ("--model", f"baseline/{name}")
    ]
    code, _, err = icl(
        "run", "banking77", "trec", "--data", str(shared_data), *models,
        "--shots", "4,64,512", "--queries", "100", "--draws", "1", "--out", "out",
    )  # fmt: skip
    assert (code, err) == (0, "")
    table = read_csv(Path("out/curves.csv")).set_index(["task", "model", "shots"])["value"]
    for task in ("banking77", "trec"):
        for model in ("baseline/knn", "baseline/logreg"):
            few, some, many = (table[task, model, shots] for shots in (4, 64, 512))
            assert few < some < many, (task, model)
            assert many > few + 0.35, (task, model)
        majority = table[task, "baseline/majority"]
        assert majority.max() - majority.min() < 0.1
        assert majority.max() < table[task, "baseline/logreg", 512] - 0.3


GRID = {"modes": ["supervised", "unsupervised"], "shots": [0, 4, 16], "draws": 4, "queries": 8}
OPTIONS = (
    "--modes",
    "supervised,unsupervised",
    "--shots",
    "0,4,16",
    "--draws",
    "4",
    "--queries",
    "8",
)
# Batches of 3 cut a cell of 8 queries, so that a kill leaves a part of it.
WORKER = f"""
import os, signal, sys, icl_harness

def watch(now):
    if now.queries_done >= int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

icl_harness.run(
    "dialects", ["demo", "baseline/bayes"], out="killed", watch=watch,
    model_args={{"batch_size": "3"}}, **{GRID!r}
)
"""


def test_the_demo_twice_and_killed_midway_is_the_same_to_the_byte(icl, tmp_path: Path) -> None:
    models = ("--model", "demo", "--model", "baseline/bayes", "--model-arg", "batch_size=3")
    command = ("run", "dialects", *models, *OPTIONS, "--out")
    outputs = [icl(*command, out) for out in ("run_a", "run_b")]
    assert [code for code, _, _ in outputs] == [0, 0]
    assert outputs[0][1].replace("run_a", "run_b") == outputs[1][1]
    assert Path("run_a/curves.csv").read_bytes() == Path("run_b/curves.csv").read_bytes()
    whole = icl_harness.Run("run_a").records().drop(columns="latency_s")
    assert len(whole) == 2 * 2 * 3 * 4 * 8
    counts = []
    for kill_at in (99, 147):  # both in the middle of a cell of the demo's
        worker = subprocess.run(
            [sys.executable, "-c", WORKER, str(kill_at)], cwd=tmp_path, capture_output=True
        )
        assert (worker.returncode, worker.stderr) == (-signal.SIGKILL, b"")
        counts.append(len(icl_harness.Run("killed").records()))
    assert counts == [99, 147]
    assert icl("curves", "killed")[0] == 0
    assert icl(*command, "killed")[0] == 0
    pd.testing.assert_frame_equal(
        icl_harness.Run("killed").records().drop(columns="latency_s"), whole
    )
    assert Path("killed/curves.csv").read_bytes() == Path("run_a/curves.csv").read_bytes()


def drawn(command: list[str], columns: int, stream: str = "stderr") -> str:
    """Return what a command draws on a terminal through a stream, without control sequences."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {
        k: v
        for k, v in os.environ.items()
        if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    }
    env |= {"TERM": "xterm", "OPENAI_API_KEY": "planted"}
    found = b""
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: slave}
    with subprocess.Popen(command, env=env, **streams) as worker:
        os.close(slave)
        try:
            while chunk := os.read(master, 65536):
                found += chunk
        except OSError:
            pass  # Linux says EIO where the other end is closed
        os.close(master)
    assert worker.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", found.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.usefixtures("toy")
def test_the_progress_bar_shows_cells_queries_tokens_and_the_time_left(columns: int) -> None:
    with LoopbackServer(lambda prompt: " even", delay_s=0.05) as server:
        command = [
            sys.executable,
            "-c",
            "from icl_harness.cli.app import main; main()",
            "run",
            "toy",
            "--data",
            "data",
        ]
        command += [
            "--model",
            "openai/some-model",
            "--base-url",
            server.base_url("openai"),
            "--shots",
            "0,2,8",
        ]
        text = drawn(
            [*command, "--draws", "2", "--model-arg", "concurrency=4", "--out", "out"], columns
        )
    cells = {int(n) for n in re.findall(r"(\d+)/6 cells", text)}
    queries = {int(n) for n in re.findall(r"(\d+)/72 queries", text)}
    tokens = {int(n.replace(",", "")) for n in re.findall(r"([\d,]+) tokens", text)}
    assert len(cells) > 1, text
    assert max(cells) == 6
    assert len(queries) > 1
    assert max(queries) == 72
    records = icl_harness.Run("out").records()
    asked = records[~records["reused"].astype(bool)]
    assert max(tokens) == asked[["prompt_tokens", "completion_tokens"]].sum().sum()
    assert re.search(r"\d:\d\d:\d\d", text)


def test_all_prompts_of_4000_shots_by_1000_queries_fit_into_200_mb() -> None:
    # By way of a shell: Linux counts the memory of the process that forks (pytest, with torch) as
    # the child's peak.
    benchmark = [sys.executable, str(ROOT / "benchmarks/prompt_memory.py")]
    shell = ["sh", "-c", '"$@"; exit $?', "sh", *benchmark]
    out = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^queries +1000$", out, re.MULTILINE)
    assert float(re.search(r"^longest prompt +([\d.]+) MB$", out, re.MULTILINE)[1]) >= 3.9
    assert (
        int(
            re.search(r"^prompts built and hashed +([\d,]+)$", out, re.MULTILINE)[1].replace(
                ",", ""
            )
        )
        == 14_000
    )
    assert float(re.search(r"^CPU seconds +([\d.]+)$", out, re.MULTILINE)[1]) > 0
    assert int(re.search(r"^peak RSS +(\d+) MB", out, re.MULTILINE)[1]) < 200
