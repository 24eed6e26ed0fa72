"""`--metric` on a stored run, from the command line."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import f1_score

import icl_harness
from icl_harness import Prompt, ScriptedModel
from icl_harness.cli.app import main
from tests.conftest import ROOT

Call = Callable[..., tuple[int, str, str]]


def answer(number: int) -> str:
    """Right where the number is below 108, not parsed at 109, else "even"."""
    if number == 109:
        return "no idea"
    return "odd" if number % 2 and number < 108 else "even"


def reply(prompt: Prompt) -> str:
    return answer(int((prompt.query.input or "").removeprefix("n ")))


@pytest.fixture
def icl(toy: Path, capsys, monkeypatch) -> Call:
    """Run the command line beside a run in `out`; return exit code, standard output and error."""
    icl_harness.run(
        "toy", ScriptedModel(reply), out="out", modes=["supervised", "unsupervised"],
        shots=[0, 2], draws=2, data="data",
    )  # fmt: skip

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icl", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def test_the_stored_answers_are_measured_by_another_metric(icl: Call) -> None:
    numbers = range(100, 112)
    targets = [("even", "odd")[n % 2] for n in numbers]
    parsed = [answer(n).replace("no idea", "") for n in numbers]
    expected = f1_score(targets, parsed, average="macro", labels=["even", "odd"])
    code, out, _ = icl("curves", "out", "--metric", "macro_f1", "--csv", "-")
    table = pd.read_csv(io.StringIO(out))
    assert code == 0
    assert set(table["metric"]) == {"macro_f1"}
    assert table["value"].tolist() == pytest.approx([expected] * 4, abs=1e-6)
    assert (table["ci_low"] < expected).all()
    assert (
        "toy · scripted · macro_f1 [95 % interval]"
        in icl("curves", "out", "--metric", "macro_f1")[1]
    )
    assert "toy · scripted · accuracy [95 % interval]" in icl("curves", "out")[1]


def test_compare_and_plot_take_a_metric_too(icl: Call) -> None:
    code, out, _ = icl("compare", "out", "--metric", "macro_f1")
    assert code == 0
    assert "macro_f1: unsupervised - supervised" in out
    code, out, _ = icl("plot", "out", "--metric", "macro_f1", "--out", "f1.svg")
    assert (code, out) == (0, "f1.svg\n")
    assert "macro_f1" in Path("f1.svg").read_text()


def test_an_unknown_metric_is_one_line_with_the_nearest(icl: Call) -> None:
    for command in (["curves"], ["compare"], ["plot", "--out", "a.png"]):
        code, out, err = icl(command[0], "out", *command[1:], "--metric", "macrof1")
        assert (code, out) == (2, "")
        assert err == (
            "icl: there is no metric 'macrof1'. Nearest: macro_f1. Known: accuracy, macro_f1, "
            "mcc, chrF2++, rmse, r2, majority, gold_nll, gold_nll_per_token, perplexity, "
            "confidence, brier, ece, best_of_n, p_yes_gap, p_yes_right, p_yes_wrong, pass@N.\n"
        )


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_a_run_loads_pandas_scipy_and_matplotlib_for_its_tables_alone() -> None:
    code = (
        "import sys, icl_harness\n"
        "def even(prompt):\n"
        "    late = ('pandas', 'scipy', 'matplotlib', 'sklearn')\n"
        "    assert not [name for name in late if name in sys.modules]\n"
        "    return 'even'\n"
        "run = icl_harness.run('toy', icl_harness.ScriptedModel(even), "
        "modes=['supervised'], shots=[0, 2], draws=1, data='data', out='light')\n"
        "assert len(run.curves()) == 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT)})


def test_compare_subtracts_the_baseline_that_is_named(icl: Call) -> None:
    code, out, _ = icl("compare", "out", "--baseline", "unsupervised")
    assert code == 0
    assert "accuracy: supervised - unsupervised" in out
    code, out, err = icl("compare", "out", "--by", "shots", "--baseline", "4")
    assert (code, out) == (2, "")
    assert err == "icl: --baseline 4: no shots of these records. There are 0, 2.\n"


def test_compare_says_over_how_many_comparisons_holm_is(icl: Call) -> None:
    assert "  p (Holm)  " in icl("compare", "out", "--by", "shots")[1]
    code, out, _ = icl("compare", "out", "--by", "shots", "--family", "all")
    assert code == 0
    assert "p (Holm of 2)" in out
    code, out, err = icl("compare", "out", "--family", "task")
    assert (code, out) == (2, "")
    assert err == (
        "icl: unknown family 'task'; choose from shots, tasks, models, all. Nearest: tasks.\n"
    )
