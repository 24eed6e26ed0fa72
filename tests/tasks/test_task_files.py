"""Task files as people write them: what they may read, and what is said of those that give none."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner

import icl_harness
from icl_harness import Example, Task, label_match
from icl_harness.cli.app import app
from icl_harness.errors import DataError, SpecError, StoreError
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.spec import Spec
from icl_harness.tasks.loading import load_examples
from tests.conftest import ROOT

HEAD = '"""Mine."""\nfrom icl_harness import *\n'
FIELDS = 'prompts="toy", scorer=label_match'
SOURCES = 'pool=rows("train"), queries=rows("test"), example=make'
MAKE = 'def make(row):\n    return Example(id=row["id"], input=row["text"], target=row["label"])\n'


def write(toy: Path, name: str, body: str) -> None:
    (toy / f"tasks/{name}.py").write_text(HEAD + MAKE + body)
    (toy / "data" / name).symlink_to(toy / "data/toy")


READING = {
    "in the function": """
@task
def mine():
    found = {row["label"] for row in rows("train")}
    return Task(labels=tuple(sorted(found)), SOURCES, FIELDS)
""",
    "in the module": """
LABELS = tuple(sorted({row["label"] for row in rows("train")}))
@task
def mine():
    return Task(labels=LABELS, SOURCES, FIELDS)
""",
    "by its folder": """
import json
@task
def mine():
    lines = (data_folder() / "mine/train.jsonl").read_text().splitlines()
    return Task(labels=tuple(sorted({json.loads(x)["label"] for x in lines})), SOURCES, FIELDS)
""",
    "by labels_from_data": """
@task
def mine():
    return Task(labels_from_data=True, SOURCES, FIELDS)
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("way", READING)
@pytest.mark.parametrize("given", ["--data", "ICL_DATA", "here"])
def test_a_task_file_reads_the_rows_of_the_folder_that_is_given(
    toy: Path, monkeypatch: pytest.MonkeyPatch, way: str, given: str
) -> None:
    write(toy, "mine", READING[way].replace("SOURCES", SOURCES).replace("FIELDS", FIELDS))
    if given != "here":
        (toy / "data").rename(toy / "elsewhere")
        (toy / "elsewhere/mine").unlink()
        (toy / "elsewhere/mine").symlink_to(toy / "elsewhere/toy")
    if given == "ICL_DATA":
        monkeypatch.setenv("ICL_DATA", "elsewhere")
    data = {"data": "elsewhere"} if given == "--data" else {}
    done = icl_harness.run("mine", "baseline/majority", shots=[2], draws=1, **data)
    assert done.records()["choices"].iloc[0] == ("even", "odd")
    assert done.chance() == {"mine": 0.5}


def test_rows_outside_a_task_are_those_of_the_file_that_is_named(toy: Path) -> None:
    assert len(list(icl_harness.rows("train", "toy/train"))) == 40
    with pytest.raises(DataError, match=r"belongs to no task here\. Name its file"):
        list(icl_harness.rows("train"))


BROKEN = {
    "a syntax error": ("def broken(:\n", "invalid syntax"),
    "helpers": ("def helper():\n    pass\n", "defines no task"),
    "no module": ("import no_such_module\n", "No module named"),
    "exits": ("raise SystemExit\n", "it ends the program"),
    "fails when called": ("@task\ndef broken():\n    return 1 / 0\n", "division by zero"),
    "no Task": ("@task\ndef broken():\n    return 3\n", "returns a int, not a Task"),
    "reads what is not there": ("X = list(rows('train', 'no/file'))\n", "is missing"),
    "an odd byte": ("# \udcff", "defines no task"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_gives_no_task_is_named_under_the_list_of_the_others(
    toy: Path, case: str
) -> None:
    body, why = BROKEN[case]
    (toy / "tasks/broken.py").write_bytes((HEAD + body).encode("utf-8", "surrogateescape"))
    shown = CliRunner().invoke(app, ["tasks"])
    assert shown.exit_code == 0
    *_, last = shown.output.splitlines()
    assert last.startswith("not listed: ")
    assert "broken" in last
    assert why in last
    assert re.search(r"^toy ", shown.output, re.MULTILINE)
    assert re.search(r"^trec ", shown.output, re.MULTILINE)


def test_a_task_without_labels_and_chance_is_listed(toy: Path) -> None:
    body = "@task\ndef mine():\n    return Task(SOURCES, prompts='toy', scorer=exact_match)\n"
    write(toy, "mine", body.replace("SOURCES", SOURCES))
    assert re.search(r"^mine +Mine\. \[accuracy\]", CliRunner().invoke(app, ["tasks"]).output, re.M)


@pytest.mark.parametrize("scorer", ["label_match", "exact_match", "final_match"])
def test_a_task_that_forgets_its_labels_is_refused(toy: Path, scorer: str) -> None:
    fields = "fields={'instruction': 'i', 'asked': 'a', 'answer': 'b'}"
    body = f"@task\ndef mine():\n    return Task({SOURCES}, {fields}, prompts='classify', "
    write(toy, "mine", f"{body}scorer={scorer})\n")
    with pytest.raises(SpecError, match=r"task mine: prompts/classify\.jinja lists the labels"):
        icl_harness.run("mine", "baseline/majority", data="data")


def test_the_help_and_the_docs_say_what_every_field_of_a_task_means() -> None:
    page = (ROOT / "docs/tasks.md").read_text()
    for name in vars(Task)["__dataclass_fields__"]:
        if name not in ("name", "doc", "source_hash", "table", "origin"):
            assert f"`{name}" in (Task.__doc__ or ""), name
            assert f"`{name}" in page or name in ("variants", "learner"), name
    assert "holdout(" in (Task.__doc__ or "")
    assert "holdout(" in page


def test_the_python_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tasks.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "file.py").write_text(blocks[0])
    names = runpy.run_path("file.py")
    assert len(names["same"].curves()) == len(names["done"].curves()) == 2
    (tmp_path / "block.py").write_text(blocks[1])
    names = runpy.run_path("block.py")
    assert len(names["run"].curves()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 10, 64, 65])
def test_a_smaller_pool_of_a_balanced_task_is_balanced(n: int) -> None:
    spec = Spec(tasks=("linear_classification:2",), models=("x",), shots=(2,), pool=n, queries=1)
    model = icl_harness.ScriptedModel(lambda prompt: "Foo", id="x")
    experiment = Experiment(spec, {"x": model})
    for draw in range(3):
        pool = experiment.dataset(experiment.tasks[0], "default", draw).pool
        n_foo = sum(example.target == "Foo" for example in pool)
        assert len(pool) == n
        assert abs(2 * n_foo - n) <= n % 2


def test_repeated_test_rows_are_said(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = toy / "data/toy/test.jsonl"
    extra = '{"id": "again", "text": "N 100!", "label": "even"}\n'
    file.write_text(file.read_text() + extra)
    arguments = ["run", "toy", "--model", "baseline/majority", "--shots", "2", "--data", "data"]
    said = "toy: 1 of its test rows repeats the text of another"
    assert said in CliRunner().invoke(app, [*arguments, "--out", "out"]).output
    for command in (["curves", "out"], ["compare", "out", "--by", "shots"]):
        assert (said in CliRunner().invoke(app, command).output) == (command[0] == "curves")
    icl_harness.run("toy", "baseline/majority", shots=[0, 2], data="data", out="two")
    assert said in capsys.readouterr().err
    assert said in CliRunner().invoke(app, ["compare", "two", "--by", "shots"]).output


def reinforced(model: object, **options: object) -> icl_harness.Run:
    given = {"modes": ["reinforced"], "shots": [4], "data": "data", "draws": 1, **options}
    return icl_harness.run("toy", model, **given)  # type: ignore[arg-type]


def test_an_empty_bank_ends_the_run_in_one_line(toy: Path) -> None:
    for _ in range(2):  # the second time it is read, not made
        with pytest.raises(DataError) as caught:
            reinforced(lambda prompt: "neither", out="out", bank_samples=1)
        said = str(caught.value)
        assert "none of 40 attempts at 40 problems earned a reward of 1 from label_match" in said
        assert "'neither'" in said
        assert "\n" not in said
    assert not Path("out/curves.csv").exists()


def test_an_empty_bank_does_not_matter_where_no_shots_are_asked_for(toy: Path) -> None:
    done = reinforced(lambda prompt: "neither", shots=[0], bank_samples=1)
    assert done.curves()["value"].tolist() == [0.0]


def test_a_bank_that_is_not_there_is_said_to_be_what_it_is(toy: Path) -> None:
    icl_harness.run("toy", "baseline/majority", shots=[0], data="data", out="without")
    (toy / "empty").mkdir()
    for place, message in (
        ("nowhere", "there is no such folder or file"),
        ("empty", "it is no run folder"),
        ("without", "it holds no bank at all"),
    ):
        with pytest.raises(StoreError, match=f"--bank {place}: .*{message}"):
            reinforced(lambda prompt: "even", bank=place)


@pytest.mark.slow
def test_a_bank_that_lacks_a_draw_says_which_it_has(toy: Path) -> None:
    def go(**options: object) -> icl_harness.Run:
        given = {"modes": ["reinforced"], "shots": [1], "queries": 2, "pool": 8, **options}
        return icl_harness.run("linear_classification:2", foo, **given)  # type: ignore[arg-type]

    def foo(prompt: str) -> str:
        return "Foo"

    go(out="two", draws=2, bank_samples=1)
    with pytest.raises(StoreError, match=r"those of draws 0, 1, and draw 2 .* at most 2 draws"):
        go(draws=3, bank="two")


@pytest.mark.parametrize("text", ["Caf\u00e9 au lait!", "cafe\u0301 au lait"])
def test_a_leak_is_found_however_accents_are_written(text: str) -> None:
    leaking = Task(
        pool=[Example(id="a", input=text, target="s"), Example(id="b", input="z", target="t")],
        queries=[Example(id="q", input="caf\u00e9 au lait", target="s")],
        labels=("s", "t"), prompts="toy", scorer=label_match, name="mine",
    )  # fmt: skip
    with pytest.raises(DataError, match="a = q"):
        load_examples(leaking)


def test_a_leak_names_its_remedy_and_the_remedy_works() -> None:
    def leaking(**fields: str) -> Task:
        one = [Example(id="a", input="x y", target="s"), Example(id="b", input="z", target="t")]
        other = [Example(id="q", input="X, y!", target="s")]
        given = {"labels": ("s", "t"), "prompts": "toy", "scorer": label_match, **fields}
        return Task(pool=one, queries=other, name="mine", **given)  # type: ignore[arg-type]

    with pytest.raises(DataError, match=r'a = q.* say Task\(leaks="drop"\)'):
        load_examples(leaking())
    assert load_examples(leaking(leaks="drop")).n_dropped == 1
