"""The task verifier from its files to its metrics: what is sent, stored, copied, and measured."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import icl_harness
from icl_harness import Example, Prompt, ScriptedModel
from icl_harness.cli.app import main
from icl_harness.draws import sample_clusters
from icl_harness.errors import DataError, SpecError
from icl_harness.report.run import find_record
from tests.runner.test_choice_scores import Weighing, hashed_nats

LABELS = ("Yes", "No")
Call = Callable[..., tuple[int, str, str]]


def rows(names: str, n: int = 4) -> list[dict[str, Any]]:
    return [
        {"problem": f"What is {name}?", "solution": f"It is {i}.", "correct": i == ord(name) % 5}
        for name in names
        for i in range(n)
    ]


def write(folder: Path, **splits: list[dict[str, Any]]) -> None:
    (folder / "verifier").mkdir(parents=True, exist_ok=True)
    for split, found in splits.items():
        lines = [json.dumps(row) + "\n" for row in found]
        (folder / f"verifier/{split}.jsonl").write_text("".join(lines))


@pytest.fixture
def icl(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command line in an empty folder; return exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icl", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def judge(scoring: str = "choices", **fields: Any) -> Any:
    spec = {"shots": [0, 2], "draws": 2, "data": "data", "out": f"out-{scoring}", **fields}
    return icl_harness.run("verifier", Weighing(), scoring=scoring, **spec)


def plain(done: Any, shots: int, scoring: str = "choices") -> list[dict[str, Any]]:
    """What the metrics are of, by plain arithmetic from the prompts; a copied answer once."""
    found = {}
    records = done.records()
    for row in records[records["shots"] == shots].to_dict("records"):
        cell = {"shots": shots, "draw": row["draw"]}
        prompt = find_record(done.path, row["query_id"], cell)[0].text
        nats = {label: hashed_nats(prompt, f" {label}") for label in LABELS}
        if scoring == "choices-pmi":
            cue = "Is the solution correct?"
            nats = {label: nats[label] - hashed_nats(cue, f" {label}") for label in LABELS}
        weights = {label: math.exp(one) for label, one in nats.items()}
        p = {label: one / sum(weights.values()) for label, one in weights.items()}
        found[prompt] = {**row, "p": p}
    return list(found.values())


def expected(found: list[dict[str, Any]]) -> dict[str, float]:
    yes = {right: [one["p"]["Yes"] for one in found if one["target"] == right] for right in LABELS}
    by_problem: dict[Any, list[tuple[float, bool]]] = {}
    for one in found:
        key = (one["node_hash"], one["cluster"])
        by_problem.setdefault(key, []).append((one["p"]["Yes"], one["target"] == "Yes"))
    return {
        "confidence": float(np.mean([max(one["p"].values()) for one in found])),
        "brier": float(np.mean([2 * (1 - one["p"][one["target"]]) ** 2 for one in found])),
        "p_yes_gap": float(np.mean(yes["Yes"]) - np.mean(yes["No"])),
        "best_of_n": float(np.mean([max(problem)[1] for problem in by_problem.values()])),
    }


@pytest.mark.parametrize("scoring", ["choices", "choices-pmi"])
def test_the_metrics_are_of_the_scores_by_which_answers_were_chosen(
    icl: Call, scoring: str
) -> None:
    write(Path("data"), train=rows("abcde"), test=rows("vwxyz"))
    done = judge(scoring)
    for shots in (0, 2):
        for name, value in expected(plain(done, shots, scoring)).items():
            table = done.curves(name)
            assert table[table["shots"] == shots]["value"].tolist() == pytest.approx([value])
    again = judge(scoring).curves("brier")  # all is there: nothing is asked
    assert again["value"].tolist() == done.curves("brier")["value"].tolist()
    code, out, err = icl("curves", f"out-{scoring}", "--metric", "best_of_n")
    assert code == 0, err
    assert "5 problems with 4 solutions each; one drawn at random is right in 0.200" in out
    assert "lack" not in out


def test_runs_read_together_and_answers_without_probabilities_are_said(icl: Call) -> None:
    write(Path("data"), train=rows("abcde"), test=rows("vwxyz"))
    done = judge()
    write_verdicts = ScriptedModel(lambda prompt: "Yes" if "It is 3" in prompt.query.text else "No")
    icl_harness.run("verifier", write_verdicts, shots=[0], data="data", out="written")
    code, out, err = icl("curves", str(done.path), "written", "--metric", "brier")
    assert code == 0, err
    assert "scripted: no answer has probabilities of choices, and they are missing here" in out
    code, out, err = icl("curves", "written", "--metric", "best_of_n")
    assert "verdicts count as P(Yes) of 1 or 0, equal ones share" in out
    assert ".200" in out  # of v, w, x, y, z the answer to v alone is 3
    code, _, err = icl("curves", "written", "--metric", "ece")
    assert code == 2
    assert "ece: no answer to verifier has the probabilities of its choices" in err
    assert err.count("\n") == 1
