"""Runs from Python: tasks, rows and models as objects, numbers of numpy's, and what is left."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import icl_harness
from icl_harness import Example, Prompt, ScriptedModel, Task, label_match, run
from icl_harness.cli.app import main
from icl_harness.cli.run_options import RunOptions
from icl_harness.errors import DataError, SpecError, StoreError
from icl_harness.runner.execution import Execution
from icl_harness.runner.spec import Spec

FIELDS = {"instruction": "Even or odd?", "asked": "Number", "answer": "Answer"}


def rows(numbers: range) -> list[dict[str, Any]]:
    return [{"input": f"number {n}", "target": ("even", "odd")[n % 2]} for n in numbers]


POOL, QUERIES = rows(range(12)), rows(range(20, 26))


def parity(pool: Any = POOL, queries: Any = QUERIES, **fields: Any) -> Task:
    given = {"labels": ("even", "odd"), "prompts": "classify", "scorer": label_match, **fields}
    return Task(pool=pool, queries=queries, fields=FIELDS, **given)


def right(prompt: str) -> str:
    last = prompt.rsplit("number ", 1)[1].split()[0]
    return ("even", "odd")[int(last) % 2]


def wrong(prompt: str) -> str:
    return "odd" if right(prompt) == "even" else "even"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ICL_DATA", raising=False)
    return tmp_path


def examples(given: list[dict[str, Any]], prefix: str) -> list[Example]:
    return [Example(id=f"{prefix}{i}", **row) for i, row in enumerate(given)]


def texts(given: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(given).rename(columns={"input": "text", "target": "label"})


TASKS: dict[str, Task] = {
    "dicts": parity(),
    "tuples of dicts": parity(tuple(POOL), tuple(QUERIES)),
    "examples": parity(examples(POOL, "p"), examples(QUERIES, "q")),
    "DataFrames": parity(pd.DataFrame(POOL), pd.DataFrame(QUERIES)),
    "DataFrames of other columns": parity(
        texts(POOL),
        texts(QUERIES),
        example=lambda row: Example(id=row["id"], input=row["text"], target=row["label"]),
    ),
    "labels of the data": parity(labels=(), labels_from_data=True),
    "a name": parity(name="mine"),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", TASKS)
def test_a_task_of_rows_in_memory_runs(form: str) -> None:
    done = run(TASKS[form], right, shots=[0, 2], draws=2)
    assert done.curves()["value"].tolist() == [1.0, 1.0]
    assert done.header["tasks"].keys() == {TASKS[form].name or "task"}
    assert done.chance() == {TASKS[form].name or "task": 0.5}


def test_a_data_set_of_datasets_is_rows() -> None:
    import datasets

    pool, queries = map(datasets.Dataset.from_list, (POOL, QUERIES))
    assert run(parity(pool, queries), right, shots=[1], draws=1).curves()["value"].tolist() == [1.0]


def test_numbers_as_labels_and_inputs_are_texts() -> None:
    pool = pd.DataFrame({"input": range(8), "target": [0, 1] * 4})
    queries = pd.DataFrame({"input": range(10, 14), "target": [0, 1] * 2})
    task = parity(pool, queries, labels=("0", "1"))
    done = run(task, lambda prompt: str(int(prompt.split()[-2]) % 2), shots=[2], draws=1)
    assert done.curves()["value"].tolist() == [1.0]


def test_several_tasks_and_models_of_both_kinds_make_one_grid() -> None:
    tasks = [parity(name="a"), parity(name="b")]
    done = run(tasks, [right, wrong, "baseline/majority"], shots=[0], draws=1)
    found = done.curves().set_index(["task", "model"])["value"]
    assert found["a", "right"] == found["b", "right"] == 1.0
    assert found["a", "wrong"] == 0.0
    assert len(found) == 6


def test_a_function_is_given_the_prompt_as_a_text_or_by_its_parts() -> None:
    seen: list[Any] = []

    def look(prompt: Any) -> str:
        seen.append(prompt)
        return "even" if "number 20\n" in prompt else "odd"

    run(parity(), look, shots=[0], draws=1)
    assert all(isinstance(prompt, str) and prompt.text == prompt for prompt in seen)
    assert {prompt.query.input for prompt in seen} == {row["input"] for row in QUERIES}


def test_two_functions_without_a_name_are_two_models() -> None:
    done = run(parity(), [lambda p: "even", lambda p: "odd"], shots=[0], draws=1)
    assert done.curves()["model"].tolist() == ["function", "function-2"]


@pytest.mark.slow
def test_a_scripted_model_that_is_asked_again_answers_again() -> None:
    def go(reply: Any) -> list[float]:
        return run(parity(), ScriptedModel(reply), shots=[0], draws=1).curves()["value"].tolist()

    def by_text(prompt: Prompt) -> str:
        return right(prompt.text)

    assert go(by_text) == [1.0]
    assert go(lambda prompt: "neither") == [0.0]
    assert go(by_text) == [1.0]
    assert len(list(Path("results").iterdir())) == 3


def test_a_model_that_a_name_opens_resumes_in_the_folder_of_its_spec() -> None:
    one, other = (run(parity(), "baseline/majority", shots=[0, 2]) for _ in range(2))
    assert one.path == other.path


def test_a_run_leaves_its_table_and_its_picture() -> None:
    done = run(parity(), right, shots=[0, 2], out="here")
    assert pd.read_csv("here/curves.csv")["value"].tolist() == done.curves()["value"].tolist()
    assert (done.path / "curves.png").read_bytes().startswith(b"\x89PNG")


ALIKE: list[dict[str, Any]] = [
    {"shots": [0, 2, 4], "draws": 2, "queries": 4, "seed": 3},
    {
        "shots": np.array([0, 2, 4]),
        "draws": np.int64(2),
        "queries": np.int32(4),
        "seed": np.int8(3),
    },
    {"shots": "0,2,4", "draws": "2", "queries": "4", "seed": "3"},
    {"shots": range(0, 5, 2), "draws": 2.0, "queries": 4, "seed": 3},
    {"shots": {4, 0, 2}, "draws": 2, "queries": 4, "seed": 3},
    {"shots": pd.Series([0, 2, 4]), "draws": pd.Series([2])[0], "queries": 4, "seed": 3},
    {"shots": np.array([0.0, 2.0, 4.0]), "draws": 2, "queries": 4, "seed": 3},
    {"shots": (np.int64(0), "2", 4), "draws": 2, "queries": 4, "seed": 3, "data": None},
    {"shots": np.array([0, 2, 4]), "draws": np.array(2), "queries": 4, "seed": 3},
]


@pytest.mark.parametrize("options", ALIKE)
def test_numbers_of_numpys_and_texts_are_numbers(options: dict[str, Any]) -> None:
    one = Spec.from_dict({"tasks": "t", "models": "m", **options}, "here")
    assert one == Spec.from_dict({"tasks": "t", "models": "m", **ALIKE[0]}, "here")
    assert one.as_dict() == Spec(tasks=("t",), models=("m",), **ALIKE[0]).as_dict()


def test_numbers_of_a_task_may_be_numpys_or_texts() -> None:
    one = parity(max_tokens=np.int64(7), chance=np.float32(0.5))
    other = parity(max_tokens="7", chance="0.5")
    assert (one.max_tokens, one.chance) == (other.max_tokens, other.chance) == (7, 0.5)
    assert type(one.max_tokens) is int


def test_paths_are_taken_as_paths() -> None:
    one = Spec.from_dict({"tasks": "t", "models": "m", "data": Path("d")}, "here")
    assert one.data == "d"


REFUSED: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "no task": (3, right, {}, r"run\(\): 3 is no task"),
    "no model": (parity(), 3, {}, r"run\(\): 3 is no model"),
    "tasks of one name": ([parity(), parity()], right, {}, "'task' is the name of two tasks"),
    "an unknown option": (parity(), right, {"shot": 3}, r"unknown key 'shot'\. Nearest: shots"),
    "too many shots": (parity(), right, {"shots": 13}, "12 pool examples; --shots asks for 13"),
    "a function that returns nothing": (
        parity(),
        lambda prompt: None,
        {"shots": 0},
        "the function that answers for function returned None",
    ),
    "half a number": (parity(), right, {"draws": np.float64(1.5)}, "--draws is 1.5; it takes"),
    "numpy's yes": (parity(), right, {"draws": np.True_}, "--draws is True; it takes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_task_model_or_number_is_refused_in_one_line(case: str) -> None:
    task, model, options, message = REFUSED[case]
    with pytest.raises(SpecError, match=message) as caught:
        run(task, model, **{"shots": [0], **options})
    assert "\n" not in str(caught.value)


NO_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "no rows": ({"pool": []}, r"pool holds no rows that become examples"),
    "texts": ({"pool": ["a", "b"]}, r"pool, row 0 is 'a'; a row is a dict"),
    "other columns": ({"pool": [{"text": "a", "label": "odd"}]}, r"no column 'input'; it has text"),
    "NaN": ({"pool": [{"input": "a", "target": float("nan")}]}, r"pool, row 0: the target is NaN"),
    "null": ({"pool": [{"input": "a", "target": None}]}, r"pool, row 0: the target is null"),
    "another label": ({"pool": [{"input": "a", "target": "Odd"}]}, r"'Odd' is not among its 2"),
    "one id twice": (
        {"pool": [{"id": 1, **row} for row in POOL]},
        r"1 id occurs more than once: 1\. Ids must be unique",
    ),
    "a leak": ({"pool": QUERIES}, r"Task\(leaks=\"drop\"\)"),
    "one class": (
        {"pool": POOL[::2], "queries": QUERIES[::2], "labels": (), "labels_from_data": True},
        r"all targets of its data are 'even'",
    ),
    "no labels": ({"labels": ()}, r"lists the labels, and the task has none\. Give it labels="),
    "the text nan": (
        {"pool": [{"input": "a", "target": "nan"}], "labels": (), "labels_from_data": True},
        r"the target is 'nan', which is how tables write a missing value",
    ),
}


@pytest.mark.parametrize("case", NO_ROWS)
def test_rows_that_would_make_numbers_wrong_are_refused_in_one_line(case: str) -> None:
    fields, message = NO_ROWS[case]
    with pytest.raises((DataError, SpecError), match=message) as caught:
        run(parity(**fields), right, shots=[0])
    assert "\n" not in str(caught.value)
    assert not Path("results").exists()


def test_the_options_of_run_are_those_of_the_spec_and_of_execution() -> None:
    fields = {*Spec.model_fields, *Execution.model_fields} - {"tasks", "models"}
    assert RunOptions.__annotations__.keys() == fields | {"mode", "variant"}


# ------------------------------------------------------------------------ what has changed


def lenient(answer: str, example: icl_harness.Example) -> icl_harness.Score:
    return icl_harness.Score(answer.strip(), 0.75)


def test_a_task_of_python_is_scored_again_there_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(parity(), right, shots=[0], draws=1, out="a run")
    monkeypatch.setattr(sys, "argv", ["icl", "rescore", "a run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "task was given in Python" in said
    assert "icl_harness.rescore('a run', task)" in said
    found = icl_harness.rescore(done, parity(scorer=lenient))
    assert (found.n_scored, found.n_changed) == (len(QUERIES), len(QUERIES))
    assert set(done.records()["score"]) == {0.75}
    assert pd.read_csv("a run/curves.csv")["value"].tolist() == [0.75]
    assert icl_harness.rescore("a run", parity(scorer=lenient)).n_changed == 0


def test_a_file_of_the_same_name_does_not_score_a_task_of_python() -> None:
    done = run(parity(name="trec"), right, shots=[0], draws=1)
    with pytest.raises(SpecError, match="its task trec was given in Python, and no file holds it"):
        icl_harness.rescore(done)
    with pytest.raises(SpecError, match=r"no run of the task 'task': it has trec\. Name the task"):
        icl_harness.rescore(done, parity())
    assert set(done.records()["score"]) == {1.0}


def test_a_task_of_python_that_scores_otherwise_names_the_call_that_mends_it() -> None:
    run(parity(), right, shots=[0], draws=1, out="out")
    again = parity(scorer=lenient)
    with pytest.raises(StoreError, match=r"Call icl_harness\.rescore\('out', task\)"):
        run(again, right, shots=[0], draws=1, out="out")
    icl_harness.rescore("out", again)
    assert run(again, right, shots=[0], draws=1, out="out").curves()["value"].tolist() == [0.75]


def always(text: str) -> Any:
    return lambda prompt: text


OTHERS: dict[str, tuple[Any, Any]] = {
    "another source": (lambda prompt: "even", lambda prompt: "odd"),
    "another value inside": (always("even"), always("odd")),
    "another default": (lambda prompt, said="even": said, lambda prompt, said="odd": said),
    "another argument": (partial(str.join, "even"), partial(str.join, "odd")),
}


@pytest.mark.parametrize("case", OTHERS)
def test_the_answers_of_another_function_are_not_taken_for_its_own(case: str) -> None:
    one, other = OTHERS[case]
    first = run(parity(), one, shots=[0], draws=1, out="out").curves()["value"].tolist()
    with pytest.raises(StoreError, match="another function than this 'function': its source"):
        run(parity(), other, shots=[0], draws=1, out="out")
    assert run(parity(), one, shots=[0], draws=1, out="out").curves()["value"].tolist() == first


def test_an_open_model_with_another_function_is_said_to_keep_its_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for text in ("even", "even", "odd"):
        said = capsys.readouterr().err
        assert "another function" not in said
        run(parity(), ScriptedModel(always(text)), shots=[0], draws=1, out="out")
    said = capsys.readouterr().err
    assert "scripted: out holds answers of another function of this model, which are kept" in said
