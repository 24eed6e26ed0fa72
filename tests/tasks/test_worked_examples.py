"""BIG-Bench Hard with and without its published rationales: the switch is the same in all modes."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl_harness import run
from icl_harness.cli.describe import task_list
from icl_harness.errors import DataError, SpecError
from icl_harness.prompts.modes import MODES, PromptPath, gold_shots
from icl_harness.prompts.template import load_template
from icl_harness.prompts.tree import Prompt
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.line import Line
from icl_harness.runner.rationales import limited_pool, shown_in, worked_of
from icl_harness.runner.scopes import bank_scope
from icl_harness.runner.spec import Spec
from icl_harness.tasks.loading import find_tasks, load_examples
from icl_harness.tasks.worked_examples import worked_rows

NAMES = [task.name.partition(":")[2] for task in find_tasks("bbh")]
ALONE, STEPS = "Give the answer alone", "Work step by step"


def zero_shot(name: str, mode: str) -> str:
    (task,) = find_tasks(f"bbh:{name}")
    path = PromptPath(load_template(task), mode, [], {**task.fields, "labels": ()})
    return path.node(0).text


@pytest.mark.parametrize("name", NAMES)
def test_modes_do_not_differ_without_shots(name: str) -> None:
    for mode in MODES:
        alone, reasoned = zero_shot(name, mode), zero_shot(f"{name}:cot", mode)
        assert (ALONE in alone, STEPS in alone) == (True, False), mode
        assert (ALONE in reasoned, STEPS in reasoned) == (False, True), mode
    assert zero_shot(name, "supervised") == zero_shot(name, "reinforced")
    assert zero_shot(f"{name}:cot", "supervised") == zero_shot(f"{name}:cot", "reinforced")


def test_answers_alone_are_asked_for_in_the_words_of_earlier_versions(shared_data: Path) -> None:
    (alone,) = find_tasks("bbh:navigate")
    (reasoned,) = find_tasks("bbh:navigate:cot")
    before = {**reasoned.fields, "rationales": False, "labels": ()}
    found = load_examples(alone, data=shared_data)
    texts = []
    for template, fields in (
        (load_template(alone), {**alone.fields, "labels": ()}),
        (load_template(reasoned), before),
    ):
        shots = gold_shots(found.pool[:2], "supervised")
        path = PromptPath(template, "supervised", shots, fields)
        texts.append(Prompt(path.node(2), path.query(found.queries[0])).text)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", NAMES)
def test_each_task_has_three_worked_examples_whose_answers_are_right(
    shared_data: Path, name: str
) -> None:
    (task,) = find_tasks(f"bbh:{name}:cot")
    found = load_examples(task, data=shared_data)
    worked = worked_of(found.pool)
    (plain,) = find_tasks(f"bbh:{name}")
    assert len(worked) == 3
    assert len(found.pool) == len(load_examples(plain, data=shared_data).pool) + 3
    for example in worked:
        assert example.rationale
        assert "step by step" not in example.rationale
        assert "So the answer is" not in example.rationale
        assert "\nQ:" not in example.input + example.rationale
        answer = f" {example.rationale}\nThe final answer is {example.target}."
        assert task.scorer(answer, example).value == 1.0
        wrong = next((c for c in example.choices if c != example.target), "7000")
        answer = f" {example.rationale}\nThe final answer is {wrong}."
        assert task.scorer(answer, example).value == 0.0


def test_groups_name_the_tasks_with_and_without_rationales() -> None:
    sizes = {"bbh": 27, "bbh:paper": 8, "bbh:cot": 27, "bbh:paper:cot": 8, "bbh:snarks:cot": 1}
    for name, size in sizes.items():
        names = [task.name for task in find_tasks(name)]
        assert len(names) == size
        assert all(found.endswith(":cot") == name.endswith("cot") for found in names)


def experiment(data: Path, **given: object) -> Experiment:
    options = {"tasks": "bbh:word_sorting:cot", "models": "baseline/majority", **given}
    return Experiment(Spec.model_validate({"data": str(data), "shots": "0,3", **options}))


def line(found: Experiment, mode: str) -> Line:
    return next(line for line in found.lines() if line.mode == mode)


def test_supervised_shots_are_worked_and_those_of_other_modes_come_from_the_whole_pool(
    shared_data: Path,
) -> None:
    found = experiment(shared_data, modes="supervised,unsupervised", shots="0,3", worked=2)
    supervised = found.path(line(found, "supervised"))
    assert len(supervised.shots) == 3
    assert supervised.node(3).text.count("The final answer is") == 4  # the preamble's and three
    unsupervised = found.path(line(found, "unsupervised"))
    assert len(unsupervised.shots) == 151
    last = unsupervised.node(2).text.rpartition("Now solve one more problem")[2]
    assert last.count("The first letter:") == 2  # worked examples of the format block


def test_attempts_for_a_bank_follow_the_worked_examples(shared_data: Path) -> None:
    found = experiment(shared_data, modes="reinforced", shots="0,100", bank_shots=3)
    scope = bank_scope(found, line(found, "reinforced"))
    assert scope.path.node(3).text.count("The first letter:") == 3
    assert len(scope.examples) == 150


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"shots": "0,4"}, "has 3 problems with a rationale.* --shots asks for 4"),
        ({"modes": "unsupervised", "worked": 4}, "3 problems .* --worked asks for 4"),
        ({"modes": "reinforced", "bank_shots": 5}, "3 problems .* --bank-shots asks for 5"),
    ],
)
def test_more_than_there_are_is_refused_in_one_line(
    shared_data: Path, given: dict[str, object], says: str
) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        experiment(shared_data, **given)
    assert "\n" not in str(caught.value)


def test_a_smaller_pool_keeps_the_worked_examples(shared_data: Path) -> None:
    (task,) = find_tasks("bbh:word_sorting:cot")
    pool = load_examples(task, data=shared_data).pool
    small = limited_pool(pool, 10, 0, "toy")
    assert len(small) == 10
    assert len(shown_in("supervised", small)) == 3
    assert len(shown_in("unsupervised", small)) == 10
    alike = [example for example in pool if example.rationale is None]
    assert shown_in("supervised", alike) == alike


def test_a_grid_with_rationales_runs_on_the_real_files(shared_data: Path, tmp_path: Path) -> None:
    done = run(
        "bbh:snarks:cot",
        lambda prompt: "Step by step.\nThe final answer is (A).",
        modes=["supervised", "unsupervised"],
        shots=[0, 3],
        draws=1,
        queries=20,
        data=shared_data,
        out=tmp_path / "run",
    )
    table = done.curves()
    assert len(table) == 4
    assert table["n_unparsed"].sum() == 0


TEXT = """canary
-----
Add.

Q: 1 + 1
A: Let's think step by step.
It is two. So the answer is 2.

Q: Which?
Options:
(A) x
(B) y
A: Let's think step by step.
Not (A).

So the answer is (B)."""


def test_worked_examples_are_read_from_a_prompt_text() -> None:
    for text in (TEXT, TEXT + "\n", TEXT.replace("\n", "\r\n")):
        assert list(worked_rows(text)) == [
            {"input": "1 + 1", "target": "2", "rationale": "It is two."},
            {"input": "Which?\nOptions:\n(A) x\n(B) y", "target": "(B)", "rationale": "Not (A)."},
        ]
    assert list(worked_rows("Q: no answer")) == []


def test_a_data_folder_without_the_prompts_is_one_line(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "bbh").mkdir()
    (tmp_path / "bbh/tasks").symlink_to(shared_data / "bbh/tasks")
    (task,) = find_tasks("bbh:snarks:cot")
    with pytest.raises(DataError, match=r"cot-prompts/snarks\.txt, .* cannot be read: No such"):
        load_examples(task, data=tmp_path)
    (tmp_path / "bbh/cot-prompts").mkdir()
    (tmp_path / "bbh/cot-prompts/snarks.txt").write_text("nothing")
    with pytest.raises(DataError, match="holds no worked example"):
        load_examples(task, data=tmp_path)


def test_the_list_of_tasks_names_each_once_and_says_that_all_have_a_twin() -> None:
    tasks = [task for name in ("bbh", "bbh:cot", "trec:all") for task in find_tasks(name)]
    rows = dict(zip(*[iter(text for _, text in task_list(tasks))] * 2, strict=True))
    bbh, trec = rows.values()
    assert bbh.count("bbh:") == 27
    assert bbh.endswith("bbh:web_of_lies, bbh:word_sorting; each also with :cot")
    assert trec == "trec:fine"
