"""`icl paper` lists presets and their costs; `icl run PRESET` runs one, and each of its parts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from icl_harness.cli.app import main
from icl_harness.report.run import Run

Icl = Callable[..., tuple[int, str, str]]
TOY = "title: Even or odd\nalso: mine/alias\ntasks: toy\nshots: 0,4\ndraws: 2\nqueries: 5\n"
PARTS = """\
title: Two tasks
shots: 4
draws: 1
parts:
  - tasks: toy
  - tasks: absent_rows
  - {tasks: toy, queries: 3, shots: 2}
"""
ABSENT = """\
from icl_harness import Example, Task, label_match, rows, task


@task
def absent_rows() -> Task:
    return Task(pool=rows("train"), queries=rows("test"), prompts="toy", labels=("even", "odd"),
                scorer=label_match)
"""
API = ("--model", "anthropic/claude-sonnet-4-5")


@pytest.fixture
def icl(toy: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Icl:
    """The command line, in a directory with presets of its own."""
    (toy / "presets/mine").mkdir(parents=True)
    (toy / "presets/mine/toy.yaml").write_text(TOY)
    (toy / "presets/mine/parts.yaml").write_text(PARTS)
    (toy / "tasks/absent_rows.py").write_text(ABSENT)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    for module in ("cli.execute", "report.results"):  # no pictures here: they take a second each
        monkeypatch.setattr(f"icl_harness.{module}.write_results", lambda run, frame: "curves.csv")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icl", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capfd.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def test_presets_are_listed_with_title_tasks_shots_draws_and_queries(icl: Icl) -> None:
    code, out, _ = icl("paper")
    assert code == 0
    assert (
        "mine/toy, mine/alias  Even or odd\n    toy · shots 0–4 (2) · draws 2 · queries 5\n" in out
    )
    assert "paper/linear, paper/fig11  Figure 11: " in out
    _, only_mine, _ = icl("paper", "mine")
    assert "    toy, absent_rows · shots 4; 2 · draws 1 · queries all; 3\n" in only_mine
    assert "paper/linear" not in only_mine


def test_costs_stand_beside_each_preset_and_absent_rows_are_said_in_its_line(icl: Icl) -> None:
    code, out, err = icl("paper", "mine", *API)
    assert (code, err) == (0, "")
    heading, parts, toy, *_ = out.splitlines()
    assert heading.split()[:2] == ["preset", "requests"]
    assert toy.split()[:2] == ["mine/toy", "15"]  # without shots 5, with 4 in 2 draws 10
    assert parts.split()[:2] == ["mine/parts", "15"]  # 12 queries, and 3
    assert parts.endswith("  1 of 3 parts left out")
    assert "\nmine/parts, absent_rows: data file" in out
    cached, plain = (float(cell) for cell in toy.split()[3:5])
    assert 0 < cached <= plain


def test_a_price_that_is_not_known_is_said_and_stands_in_no_sum(icl: Icl) -> None:
    _, known, _ = icl("paper", "mine/toy", *API)
    code, out, _ = icl("paper", "mine/toy", *API, "--model", "anthropic/no-such-model")
    assert code == 0
    assert out.splitlines()[1].split()[3:] == known.splitlines()[1].split()[3:]  # dollars
    assert "mine/toy: the price of anthropic/no-such-model is not known and in no sum" in out
    assert "not known" not in known


def test_a_preset_that_cannot_be_read_is_named_and_the_others_are_listed(icl: Icl) -> None:
    Path("presets/mine/broken.yaml").write_text("a: [\n")
    code, out, _ = icl("paper", "mine")
    assert code == 0
    assert "mine/toy" in out
    assert "not listed: " in out
    assert "broken.yaml is not YAML" in out
    assert icl("run", "mine/toy", "--model", "baseline/majority")[0] == 0


@pytest.mark.parametrize("command", ["paper", "run"])
def test_an_unknown_preset_is_one_line_with_the_nearest(icl: Icl, command: str) -> None:
    more = ("--model", "baseline/majority")
    code, out, err = icl(command, "mine/toi", *more)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "there is no preset 'mine/toi'. Nearest: mine/toy" in err


def test_a_preset_without_its_folder_is_named_in_the_message(icl: Icl) -> None:
    code, _, err = icl("run", "alias", "--model", "baseline/majority")
    assert code == 2
    assert "there is no task 'alias'; a preset is called mine/alias." in err


def test_a_preset_runs_by_its_other_name_and_options_win(icl: Icl) -> None:
    model = ("--model", "baseline/majority")
    code, out, _ = icl("run", "mine/alias", *model, "--queries", "3", "--out", "out")
    assert code == 0
    assert "toy · baseline/majority · accuracy" in out
    code, _, err = icl("run", "mine/toy", "toy", *model)
    assert code == 2
    assert "mine/toy names its own tasks. Leave 'toy' out" in err


def test_parts_run_in_folders_of_their_own_and_one_without_rows_is_left_out(icl: Icl) -> None:
    model = ("--model", "baseline/majority")
    code, out, err = icl("run", "mine/parts", *model, "--out", "out")
    assert code == 2  # one is missing
    assert "part 2 of 3: absent_rows" in err
    assert "part 2 is left out: data file" in err
    folders = sorted(str(path) for path in Path("out").iterdir())
    assert len(folders) == 2
    assert out.splitlines()[-1].startswith("2 of 3 runs; icl plot out/")
    assert all(folder in out.splitlines()[-1] for folder in folders)


@pytest.mark.parametrize("option", [("--csv", "x.csv"), ("--max-cost", "5")])
def test_what_is_for_one_run_is_refused_where_there_are_several(
    icl: Icl, option: tuple[str, str]
) -> None:
    code, out, err = icl("plan", "mine/parts", *API, *option)
    assert (code, out) == (2, "")
    assert f"{option[0]} is for one run, and here are 3" in err


def test_parts_that_ask_the_same_are_laid_over_each_other(icl: Icl) -> None:
    text = "tasks: toy\nshots: 4\ndraws: 1\nparts:\n  - {queries: 4}\n  - {queries: 5}\n"
    Path("presets/mine/same.yaml").write_text(text)
    code, out, _ = icl("run", "mine/same", "--model", "baseline/majority", "--out", "out")
    assert code == 0
    assert " --overlay out/" in out.splitlines()[-1]


@pytest.mark.slow
def test_a_picture_has_an_overlay_from_the_command_line_and_from_python(icl: Icl) -> None:
    icl("run", "mine/toy", "--model", "baseline/majority", "--out", "out")
    Path("theirs.csv").write_text("task,label,shots,value\ntoy,theirs,4,70\n")
    code, out, _ = icl("plot", "out", "--overlay", "theirs.csv", "--out", "curves.png")
    assert (code, out) == (0, "curves.png\n")
    code, _, err = icl("plot", "out", "--overlay", "their.csv", "--out", "other.png")
    assert code == 2
    assert "there is no overlay 'their.csv', and no such file" in err
    assert not Path("other.png").exists()
    figure = Run("out").plot(overlay=Path("theirs.csv"))
    assert "theirs" in [text.get_text() for text in figure.legends[0].get_texts()]
