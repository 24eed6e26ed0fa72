"""`icl run tickets.csv`: a file of rows in the place of a task, from the command line, YAML and
Python; what a resumed run is held to, and scoring without the file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import icl_harness
from icl_harness import Example, Task, label_match, run, task
from icl_harness.cli.app import main
from icl_harness.errors import IclError
from icl_harness.runner.rescoring import rescore

DEPOTS = {"ship": "harbour", "plane": "airport"}
WAYS = tuple(DEPOTS)
ROWS = [
    {"id": f"t{n}", "message": f"{n} by {WAYS[n % 2]}", "depot": DEPOTS[WAYS[n % 2]], "note": n}
    for n in range(30)
]
FRAME = pd.DataFrame(ROWS)
COLUMNS = ("--input", "message", "--target", "depot")
MAJORITY = ("--model", "baseline/majority", "--shots", "0,4", "--draws", "1")
Icl = Callable[..., tuple[int, str, str]]


def right(prompt: str) -> str:
    return DEPOTS[prompt.rsplit("by ", 1)[1].split()[0]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ICL_DATA", raising=False)
    for module in ("cli.execute", "report.results"):  # no pictures here: they take a second each
        monkeypatch.setattr(f"icl_harness.{module}.write_results", lambda run, frame: "curves.csv")
    FRAME.to_csv("tickets.csv", index=False)
    return tmp_path


@pytest.fixture
def icl(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Icl:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icl", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capfd.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def test_a_file_runs_and_what_it_was_taken_for_is_said_before_anything_is_asked(icl: Icl) -> None:
    code, out, err = icl("run", "tickets.csv", *COLUMNS, *MAJORITY)
    assert code == 0
    assert err.splitlines()[0].startswith(
        "icl: tickets.csv: column 'depot' holds 2 labels in 30 rows (airport, harbour); asked "
        "by message; 24 rows are the pool, 6 are queries (held out by a fixed seed)"
    )
    assert "tickets.csv · baseline/majority" in out
    [folder] = Path("results").iterdir()
    assert folder.name.startswith("tickets.csv-baseline_majority-")
    header = json.loads((folder / "run.json").read_text())
    assert (header["spec"]["input"], header["spec"]["target"]) == (["message"], "depot")
    assert len(header["tasks"]["tickets.csv"]["table"]["sha256"]) == 64


def test_the_plan_and_the_page_of_a_task_take_files_too(icl: Icl) -> None:
    asked = (*COLUMNS, "--model", "openai/gpt-5.6-terra", "--shots", "0,4")
    code, out, err = icl("plan", "tickets.csv", *asked)
    assert (code, out.count("tickets.csv")) == (0, 1)
    assert "holds 2 labels" in err
    code, out, _ = icl("tasks", "tickets.csv", *COLUMNS, "--instruction", "Where to?")
    assert code == 0
    assert out.startswith("tickets.csv: column 'depot' holds 2 labels")
    assert "Where to? Answer with exactly one of these 2 labels: airport, harbour." in out
    assert out.count("\nMessage: ") == 3


def test_the_folder_of_a_file_does_not_change_its_run(icl: Icl, here: Path) -> None:
    (here / "deep").mkdir()
    FRAME.to_csv("deep/tickets.csv", index=False)
    for name in ("tickets.csv", "deep/tickets.csv", str(here / "tickets.csv")):
        code, _, err = icl("run", name, *COLUMNS, *MAJORITY)
        assert code == 0, err
    assert len(list(Path("results").iterdir())) == 1


CHANGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "a row less": lambda frame: frame[:-1],
    "a row more": lambda frame: pd.concat([frame, frame[-1:].assign(id="new", message="31 by x")]),
    "another order": lambda frame: frame[::-1],
    "another target": lambda frame: frame.assign(depot=[*frame["depot"][1:], "airport"]),
    "another input": lambda frame: frame.assign(message=frame["message"] + "!"),
    "other ids": lambda frame: frame.assign(id=[f"u{n}" for n in range(len(frame))]),
}


def test_a_run_goes_on_with_the_same_rows_and_columns_alone(icl: Icl) -> None:
    given = ("run", "tickets.csv", *COLUMNS, *MAJORITY, "--out", "out")
    assert icl(*given)[0] == 0
    for change in CHANGES.values():
        change(FRAME).to_csv("tickets.csv", index=False)
        code, _, err = icl(*given)
        assert (code, "out holds a run on other data of tickets.csv" in err) == (2, True), err
    FRAME.assign(note=range(1, 31)).to_csv("tickets.csv", index=False)  # a column that is not used
    assert icl(*given)[0] == 0
    for other, what in (
        (("--input", "message,note", "--target", "depot"), "another spec: input is"),
        (("--input", "message", "--target", "note"), "another spec: target is"),
        ((*COLUMNS, "--answers", "free"), "another spec: answers is null there"),
        ((*COLUMNS, "--instruction", "Go."), "another spec: instruction is"),
        ((*COLUMNS, "--group", "note"), "another spec: group is"),
    ):
        code, _, err = icl("run", "tickets.csv", *other, *MAJORITY, "--out", "out")
        assert (code, what in err) == (2, True), err
        assert err.count("\n") == 2  # what it was taken for, and the refusal


@pytest.mark.parametrize("answers", ["labels", "free", "number"])
def test_a_run_is_scored_again_without_its_file(
    answers: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"input": "message", "target": "depot", "answers": answers}
    if answers == "number":
        given |= {"input": "message,depot", "target": "note"}
    given |= {"shots": [0, 2], "draws": 1, "out": here / "out"}
    done = run("tickets.csv", "baseline/majority", **given)
    before, header = done.records(), done.header
    Path("tickets.csv").rename("gone")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    found = rescore(here / "out")
    assert (found.n_scored, found.n_changed, found.notes) == (len(before), 0, ())
    after = icl_harness.Run(here / "out")
    assert after.header["scoring"] == header["scoring"]
    assert after.header["tasks"] == header["tasks"]
    monkeypatch.chdir(here)
    Path("gone").rename("tickets.csv")
    assert len(run("tickets.csv", "baseline/majority", **given).records()) == len(before)


@pytest.mark.parametrize("given", ["rows", "a file", "a file of other columns"])
def test_a_run_with_a_bank_is_scored_again_whatever_became_of_its_rows(given: str) -> None:
    rows = "tickets.csv" if "file" in given else FRAME
    options: dict[str, Any] = {"modes": ["reinforced"], "bank_samples": 1, "shots": [0, 2]}
    done = run(rows, right, draws=1, out="out", say=lambda line: None, **options, **NAMED)
    if "other" in given:
        FRAME.rename(columns={"depot": "goal"}).to_csv("tickets.csv", index=False)
    found = rescore(done.path)
    assert (found.n_scored, found.n_changed) == (12, 0)
    assert found.notes[0].startswith("the rewards of the banks")
    missing = "as their data are missing" in found.notes[-1]
    assert missing == (given != "a file")


def test_rows_of_python_find_their_own_run_again_and_no_other() -> None:
    def folder(rows: Any, **columns: str) -> Path:
        return run(rows, "baseline/majority", shots=[0], draws=1, **columns).path

    first = folder(FRAME, **NAMED)
    assert folder(FRAME.copy(), **NAMED) == first
    assert folder(ROWS, **NAMED) == first
    others = [
        folder(FRAME[:-2], **NAMED),
        folder(FRAME, input="message,note", target="depot"),
        folder(FRAME, answers="free", **NAMED),
        folder(EXAMPLES),
    ]
    assert len({first, *others}) == 5


def test_a_run_of_a_file_is_extended(icl: Icl, here: Path) -> None:
    (here / "deep").mkdir()
    Path("tickets.csv").rename("deep/tickets.csv")
    assert icl("run", "deep/tickets.csv", *COLUMNS, *MAJORITY, "--out", "out")[0] == 0
    code, out, err = icl("extend", "out", "--draws", "2")
    assert code == 0, err
    assert len(icl_harness.Run("out").records()) == 2 * 2 * 6
    Path("deep/tickets.csv").unlink()
    code, out, err = icl("extend", "out", "--draws", "3")
    assert (code, out, err) == (2, "", "icl: deep/tickets.csv does not exist.\n")


def test_a_yaml_file_names_files_of_rows(icl: Icl) -> None:
    Path("other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Path("grid.yaml").write_text(
        "tasks: [tickets.csv, other.jsonl]\ninput: message\ntarget: depot\n"
        "model: baseline/majority\nshots: 0,2\ndraws: 1\n"
    )
    code, out, err = icl("run", "grid.yaml")
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines() if "accuracy" in line] == [
        "other.jsonl",
        "tickets.csv",
    ]
    assert err.count(" holds 2 labels in 30 rows") == 2


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "a column for a task of a name": (
        ("run", "trec", "--input", "message", *MAJORITY),
        "--input is for a file of rows as the task, as in icl run tickets.csv, and none is named",
    ),
    "two files of one name": (
        ("run", "tickets.csv", "a/tickets.csv", *COLUMNS, *MAJORITY),
        "two files are called tickets.csv, as their tasks would be. Rename one",
    ),
    "an address": (("run", "https://a.b/t.csv", *MAJORITY), "is an address. Download the file"),
    "no such file": (("run", "tikets.csv", *COLUMNS, *MAJORITY), "Nearest: tickets.csv"),
    "no such column": (
        ("plan", "tickets.csv", "--input", "massage", "--target", "depot", *MAJORITY),
        "Nearest: message",
    ),
    "no column": (("tasks", "tickets.csv"), "Name it with --target"),
    "a kind of answers": (("tasks", "tickets.csv", "--answers", "yes"), "unknown answers 'yes'"),
    "no column's name": (("tasks", "tickets.csv", "--input", ","), "--input is empty"),
    "choices of free answers": (
        ("run", "tickets.csv", *COLUMNS, *MAJORITY, "--answers", "free", "--scoring", "choices"),
        "no fixed choices to score",
    ),
    "too many shots": (
        ("run", "tickets.csv", *COLUMNS, "--model", "baseline/majority", "--shots", "0,25"),
        "has 24 pool examples; --shots asks for 25",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_slip_is_one_line(case: str, icl: Icl) -> None:
    arguments, message = BAD[case]
    code, out, err = icl(*arguments)
    last = err.splitlines()[-1]
    assert (code, out) == (2, "")
    assert message in last
    assert not Path("results").exists()


def plain() -> Task:
    return task(FRAME, input="message", target="depot")


@icl_harness.task
def marked() -> Task:
    """Where does it go?"""
    rows = FRAME.rename(columns={"message": "input", "depot": "target"})
    return Task(
        pool=rows[:20],
        queries=rows[20:],
        prompts="classify",
        fields={"instruction": "Where to?", "asked": "Message", "answer": "Depot"},
        labels_from_data=True,
        scorer=label_match,
    )


@icl_harness.task(subsets=("one", "two"))
def family(name: str) -> Task:
    return task(FRAME, input="message", target="depot")


EXAMPLES = [Example(id=row["id"], input=row["message"], target=row["depot"]) for row in ROWS]
NAMED = {"input": "message", "target": "depot"}
PYTHON: dict[str, tuple[Any, dict[str, str], str]] = {
    "a frame": (FRAME, NAMED, "task"),
    "rows": (ROWS, NAMED, "task"),
    "a task of a frame": (task(FRAME, name="mine", **NAMED), {}, "mine"),
    "examples": (EXAMPLES, {}, "task"),
    "a path": (Path("tickets.csv"), NAMED, "tickets.csv"),
    "a function": (plain, {}, "plain"),
    "a marked function": (marked, {}, "marked"),
    "a function with subsets": (family, {}, "family"),
    "several of them": ([marked, FRAME, "tickets.csv"], NAMED, "marked"),
}


@pytest.mark.parametrize("form", PYTHON)
def test_python_takes_rows_and_functions_as_tasks_and_a_function_as_the_model(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, options, name = PYTHON[form]
    done = run(tasks, right, shots=[0], draws=1, **options)
    assert name in done.header["tasks"]
    assert set(done.curves()["value"]) == {1.0}
    said = capsys.readouterr().err.splitlines()
    assert len(said) == sum("table" in about for about in done.header["tasks"].values())
    assert all(" 2 labels in 30 rows" in line for line in said)


def test_what_rows_were_taken_for_goes_to_whoever_listens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    heard: list[str] = []
    run(FRAME, right, shots=[0], draws=1, say=heard.append, **NAMED)
    assert [line.partition(";")[0] for line in heard] == [
        "task: column 'depot' holds 2 labels in 30 rows (airport, harbour)"
    ]
    assert not capsys.readouterr().err


def test_a_cell_of_a_notebook_defines_tasks() -> None:
    """A cell's functions are in no file."""
    cell = """
def parcels():
    return task(frame, input="message", target="depot")

@task
def marked():
    return Task(pool=pool, queries=queries, prompts="classify", labels_from_data=True,
                fields={"instruction": "i", "asked": "a", "answer": "b"}, scorer=mine)

def mine(answer, example):
    return label_match(answer, example)

def model(prompt):
    return right(prompt)
"""
    rows = FRAME.rename(columns={"message": "input", "depot": "target"})
    names = {"frame": FRAME, "pool": rows[:20], "queries": rows[20:], "right": right}
    names |= {"task": task, "Task": Task, "label_match": label_match, "__name__": "__main__"}
    exec(compile(cell, "<ipython-input-1-abc>", "exec"), names)
    done = run([names["parcels"], names["marked"]], names["model"], shots=[0, 2], draws=1)
    assert done.header["tasks"].keys() == {"parcels", "marked"}
    assert set(done.curves()["value"]) == {1.0}


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        (FRAME, {}, "which column is the gold answer"),
        (marked, {"input": "message"}, "--input is for a file of rows"),
        ([FRAME, FRAME], NAMED, "'task' is the name of two tasks"),
        ([], {}, "no task is named"),
        (lambda: 3, {}, "returns a int, not a Task"),
        (lambda missing: missing, {}, "its function failed"),
        (FRAME, {**NAMED, "answer": "free"}, "unknown key 'answer'. Nearest: answers"),
    ],
)
def test_rows_that_make_no_task_are_one_line(
    tasks: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(IclError) as caught:
        run(tasks, right, shots=[0], **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
