"""`icl check`: what a scorer may have missed stands under its kind, and is all there."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import icl_harness
from icl_harness.cli.app import app
from icl_harness.report.doubtful import KINDS, doubtful, kind_of
from tests.conftest import N_QUERIES

LABELS, FREE = ("even", "odd"), ()

# answer, target, choices, parsed, score, cut -> kind
CASES: list[tuple[str, str, tuple[str, ...], str | None, float, bool, str]] = [
    ("", "odd", LABELS, None, 0, False, "empty"),
    (" \n", "odd", LABELS, None, 0, False, "empty"),
    ("odd or even", "odd", LABELS, None, 0, False, "two answers"),
    ("even, odd", "odd", LABELS, None, 0, False, "two answers"),
    ("It is not even.", "odd", LABELS, None, 0, False, "choice denied"),
    ("hardly odd", "odd", LABELS, None, 0, False, "choice denied"),
    ("non-odd", "even", LABELS, None, 0, False, "choice denied"),
    ("so ODD!", "odd", LABELS, None, 0, False, "choice unread"),
    ("I'm sorry, I can't say.", "odd", LABELS, None, 0, False, "refusal"),
    ("maybe", "odd", LABELS, None, 0, False, "no cue"),
    ("The number is", "odd", LABELS, None, 0, True, "cut off"),
    ("18 or 19", "18", FREE, None, 0, False, "several numbers"),
    ("it takes 18", "18", FREE, None, 0, False, "number unread"),
    ("no idea", "18", FREE, None, 0, False, "no cue"),
    ("even … so odd", "odd", LABELS, "even", 0, False, "wrong, gold in it"),
    ("1", "18", FREE, "1", 0, True, "wrong, cut off"),
    ("odd, not even", "odd", LABELS, "odd", 1, False, "right, others in it"),
    ("odd", "odd", LABELS, "odd", 1, False, ""),
    ("even", "odd", LABELS, "even", 0, False, ""),
    ("oddly", "odd", LABELS, None, 0, False, "no cue"),
    ("card_arrival_time", "x", ("card", "card_arrival", "x"), None, 0, False, "no cue"),
    ("bank account", "x", ("bank", "bank account", "x"), None, 0, False, "choice unread"),
    ("a cat", "x", ("a", "b", "x"), None, 0, False, "choice unread"),
    ("A cat", "x", ("a", "b", "x"), None, 0, False, "no cue"),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0][:20] or "empty" for case in CASES])
def test_every_answer_has_the_kind_that_a_reader_sees_in_it(case: tuple[Any, ...]) -> None:
    names = ("answer", "target", "choices", "parsed", "score", "cut")
    row = dict(zip(names, case[:-1], strict=True))
    assert kind_of({**row, "whole_answer": None}) == case[-1]
    assert case[-1] in {*KINDS, ""}


def test_an_answer_that_is_all_thinking_is_told_from_an_empty_one() -> None:
    row = {"answer": "", "target": "odd", "choices": LABELS, "parsed": None, "score": 0.0}
    assert kind_of({**row, "cut": False, "whole_answer": "<think>odd</think>"}) == "only thinking"


@pytest.mark.parametrize(
    ("whole", "kind"),
    [
        (None, "empty"),
        (" \n", "empty"),
        ("\nProblem: and then?", "stopped at once"),
        ("\n---", "stopped at once"),
        ("<think>hm</think>\n", "only thinking"),
    ],
)
def test_an_answer_of_which_nothing_is_left_says_why(whole: str | None, kind: str) -> None:
    row = {"answer": "", "target": "odd", "choices": LABELS, "parsed": None, "score": 0.0}
    assert kind_of({**row, "cut": False, "whole_answer": whole}) == kind


@pytest.fixture
def checked(toy: Path) -> Callable[..., str]:
    replies = {"100": "maybe", "101": "odd or even", "102": "not odd", "103": "", "104": "odd"}

    def reply(prompt: icl_harness.Prompt) -> str:
        number = prompt.query.input.split()[1]
        return replies.get(number, ("even", "odd")[int(number) % 2])

    model = icl_harness.ScriptedModel(reply)
    icl_harness.run("toy", model, shots=[0, 2], draws=2, data="data", out="a run")

    def call(*arguments: str) -> str:
        shown = CliRunner().invoke(app, ["check", "a run", *arguments])
        assert shown.exit_code == 0, shown.output
        return shown.output

    return call


def test_the_kinds_are_counted_and_shown_with_query_shots_answer_and_gold(
    checked: Callable[..., str],
) -> None:
    out = checked()
    n = 4 * N_QUERIES
    assert out.startswith(f"a run: {n} answers, ")
    assert f"two answers: 4 ({4 / n:.1%})" in out
    assert "  toy test101, 0 shots: 'odd or even', gold 'odd'" in out
    assert f"empty: 4 ({4 / n:.1%})" in out
    assert out.count("test101") == 1  # four answers alike are one example


def test_every_unparsed_answer_has_a_kind_and_the_table_holds_all(
    checked: Callable[..., str], toy: Path
) -> None:
    checked("--csv", "found.csv")
    found = pd.read_csv("found.csv", keep_default_na=False)
    records = icl_harness.Run("a run").records()
    unparsed = records[records["parsed"].isna()]
    assert (found["parsed"] == "").sum() == len(unparsed) > 0
    assert len(found) == len(list(doubtful(icl_harness.Run("a run"))))


def test_the_command_that_it_ends_with_works_when_typed(checked: Callable[..., str]) -> None:
    command = checked().splitlines()[-1].partition("icl ")[2]
    shown = CliRunner().invoke(app, shlex.split(command))
    assert shown.exit_code == 0
    assert "gold" in shown.output


def test_the_command_that_it_ends_with_names_the_cell_of_the_answer(toy: Path) -> None:
    good = icl_harness.ScriptedModel(lambda prompt: "odd", id="good")
    bad = icl_harness.ScriptedModel(lambda prompt: "neither", id="a bad one")
    modes = ["supervised", "unsupervised"]
    grid = {"shots": [2], "draws": 2, "modes": modes, "queries": 1, "data": "data", "out": "o"}
    icl_harness.run("toy", [good, bad], **grid)
    said = CliRunner().invoke(app, ["check", "o"]).output
    command = said.splitlines()[-1].partition("icl ")[2]
    shown = CliRunner().invoke(app, shlex.split(command))
    assert "answer 'neither'; not parsed" in shown.output
    assert "other cell" not in shown.output, "the command names one cell"


def test_a_run_without_doubts_says_so_and_a_folder_that_is_none_is_refused(toy: Path) -> None:
    icl_harness.run("toy", "baseline/majority", shots=[2], draws=1, data="data", out="out")
    shown = CliRunner().invoke(app, ["check", "out"])
    assert shown.output == f"out: {N_QUERIES} answers, 0 unparsed (counted as wrong)\n"
    with contextlib.suppress(SystemExit):
        assert CliRunner().invoke(app, ["check", "nowhere"]).exit_code != 0
