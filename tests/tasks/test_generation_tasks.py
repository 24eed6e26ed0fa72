"""Translation, summaries, mathematics, GPQA and tables: their rows, prompts, gold and wrong
answers, and a run of each on the real files.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from icl_harness import ScriptedModel, run
from icl_harness.errors import DataError, SpecError
from icl_harness.examples import Example
from icl_harness.prompts.modes import MODES, PromptPath, gold_shots
from icl_harness.prompts.template import load_template
from icl_harness.prompts.tree import Prompt
from icl_harness.tasks.loading import Dataset, find_tasks, load_examples, with_labels_of_data
from icl_harness.tasks.task import Task

# task -> pool, queries, pool rows left out
LARGE = ("math", "math:gsm8k", "summarization", "tabular_regression:power_plant")
SIZES = {
    "translation:kurdish": (997, 150, 0),
    "translation:bemba": (997, 150, 0),
    "translation:tam_Taml": (997, 150, 0),
    "translation:tam_Taml-bem_Latn": (997, 150, 0),
    "summarization": (1362, 150, 0),
    "math": (7498, 500, 0),
    "math:gsm8k": (7498, 500, 0),
    "tabular_classification:iris": (120, 30, 0),
    "tabular_classification:penguins": (275, 69, 0),
    "tabular_classification:penguins:island": (275, 69, 0),
    "tabular_regression:concrete": (910, 103, 17),
    "tabular_regression:energy": (691, 77, 0),
    "tabular_regression:mpg": (318, 80, 0),
    "tabular_regression:mpg:weight": (318, 80, 0),
    "tabular_regression:power_plant": (8600, 957, 11),
    "tabular_regression:wine_quality_red": (1383, 160, 56),
    "tabular_regression:yacht": (277, 31, 0),
}
COLUMNS = [
    "Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3",
    "Explanation", "Record ID",
]  # fmt: skip


def loaded(name: str, data: Path) -> tuple[Task, Dataset]:
    (task,) = find_tasks(name)
    task = with_labels_of_data(task, data)
    return task, load_examples(task, data=data)


def check_prompts(task: Task, found: Dataset) -> None:
    """In every mode two shots stand in order before the query, supervised ones with their gold."""
    pool = sorted(found.pool[:50], key=lambda e: len(e.input))[:2]
    query = next(e for e in found.queries if e.input not in (pool[0].input, pool[1].input))
    for mode in MODES:
        variables = {**task.fields, "labels": task.labels}
        path = PromptPath(load_template(task), mode, gold_shots(pool, mode), variables)
        text = Prompt(path.node(2), path.query(query)).text
        places = [text.index(e.input) for e in (*pool, query)]
        assert places == sorted(places), mode
        assert text == text.rstrip()
        shown = [e.target in path.node(2).text[places[0] :] for e in pool]
        assert mode == "unsupervised" or all(shown)


def gold_answer(example: Example) -> str:
    if example.rationale is None:
        return f" {example.target}"
    return f" {example.rationale}\nThe final answer is {example.target}."


def check_scores(task: Task, examples: list[Example]) -> None:
    """Gold answers score 1, and those to other targets less."""
    for example in examples:
        score = task.scorer(gold_answer(example), example)
        assert score.value == pytest.approx(1.0), (example, score)
        if "=" in example.target:  # math-verify takes x + y = 0 and 0 for the same
            continue
        other = next(e for e in examples if e.target != example.target)
        assert task.scorer(gold_answer(other), example).value < 1.0, (other, example)
    assert task.scorer("", examples[0]).parsed is None


def marked(names: Iterable[str], fast: Callable[[str], bool]) -> list[Any]:
    return [pytest.param(name, marks=() if fast(name) else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", marked(SIZES, lambda name: name not in LARGE))
def test_the_real_files_have_their_rows_and_gold_answers_score_1(
    shared_data: Path, name: str
) -> None:
    task, found = loaded(name, shared_data)
    assert (len(found.pool), len(found.queries), found.n_dropped) == SIZES[name]
    check_prompts(task, found)
    check_scores(task, list(found.queries[:40]))


@pytest.mark.slow
def test_the_worked_solutions_of_math_are_right_by_its_own_scorer(shared_data: Path) -> None:
    task, found = loaded("math", shared_data)
    assert all(example.rationale for example in (*found.pool, *found.queries))
    check_scores(task, list(found.pool[::15]))
    check_scores(task, list(found.queries))


@pytest.mark.slow
def test_attempts_at_math_are_rewarded_as_expressions_and_gsm8k_is_scored_by_number(
    shared_data: Path,
) -> None:
    task, found = loaded("math:gsm8k", shared_data)
    assert task.reward is not None
    fraction = next(e for e in found.pool if e.target.startswith(r"\frac{1}{2}"))
    assert task.reward("The final answer is 0.5.", fraction).value == 1.0
    query = found.queries[0]
    assert task.scorer(f"The final answer is ${query.target}.00.", query).value == 1.0
    _, own = loaded("gsm8k", shared_data)
    assert [e.input for e in found.queries] == [e.input for e in own.queries[:500]]
    assert [e.target for e in found.queries] == [e.target for e in own.queries[:500]]


def spoiled(example: Example) -> str:
    return " ".join(example.target.split()[::2])


def test_a_run_s_value_of_a_cell_is_the_corpus_s_chrf(shared_data: Path, tmp_path: Path) -> None:
    import sacrebleu

    _, found = loaded("translation:bemba", shared_data)
    queries = {example.input: example for example in found.queries}
    done = run(
        "translation:bemba",
        lambda prompt: spoiled(queries[last_input(prompt)]),
        shots=[0, 2],
        draws=1,
        data=shared_data,
        out=tmp_path / "run",
    )
    table = done.curves()
    said, gold = zip(*((spoiled(e), e.target) for e in found.queries), strict=True)
    expected = sacrebleu.corpus_chrf(said, [gold], word_order=2).score / 100
    assert table["value"].to_numpy() == pytest.approx([expected] * len(table), abs=1e-6)
    assert (table["ci_low"] < expected).all()
    assert (table["ci_high"] > expected).all()
    records = done.records()
    sentence = sacrebleu.sentence_chrf(said[0], [gold[0]], word_order=2).score / 100
    scores = records.loc[records["query_id"] == found.queries[0].id, "score"]
    assert scores.to_numpy() == pytest.approx([sentence] * len(scores), abs=1e-6)


def last_input(prompt: str) -> str:
    return prompt.rpartition("English: ")[2].partition("\n")[0]


RUNS = {
    "summarization": lambda prompt: "The minister said on Monday that it will be so.",
    "math": lambda prompt: r"It is half. The final answer is \frac{1}{2}.",
    "math:gsm8k": lambda prompt: "The final answer is 18.",
    "tabular_classification:iris": "baseline/knn",
    "tabular_classification:penguins": "baseline/logreg",
    "tabular_regression:yacht": "baseline/knn",
    "tabular_regression:wine_quality_red": lambda prompt: "5.5",
    "nlu": "baseline/knn",
    "sst2": "baseline/logreg",
    "trec:fine:bertsch": "baseline/knn",
}


@pytest.mark.parametrize("name", marked(RUNS, lambda name: name.endswith(("iris", "yacht"))))
def test_every_task_runs_on_the_real_files(shared_data: Path, tmp_path: Path, name: str) -> None:
    table = curves(name, RUNS[name], shared_data, tmp_path)
    assert table["n_ok"].tolist() == [20, 20]
    assert table["n_unparsed"].sum() == 0
    assert table["value"].notna().all()


def curves(name: str, model: Any, data: Path, folder: Path) -> pd.DataFrame:
    done = run(
        name, model, modes=["supervised"], shots=[1, 8], draws=1, queries=20, data=data,
        out=folder / "run",
    )  # fmt: skip
    return done.curves()


@pytest.mark.slow
def test_a_constant_answer_explains_nothing_of_a_table(shared_data: Path, tmp_path: Path) -> None:
    done = run(
        "tabular_regression:energy",
        lambda prompt: "22.3",
        modes=["supervised"],
        shots=[0],
        draws=1,
        data=shared_data,
        out=tmp_path / "run",
    )
    assert -0.1 < done.curves()["value"][0] <= 0
    assert 8 < done.curves(metric="rmse")["value"][0] < 12  # the standard deviation is 10


def gpqa_rows(n: int) -> list[dict[str, str]]:
    """Return made-up questions under the columns of the authors' files."""
    return [
        {
            "Question": f"What is {number} + 1,\nto an expert?",
            "Correct Answer": f" {number + 1} \n",
            "Incorrect Answer 1": f"{number}",
            "Incorrect Answer 2": f"{number - 1}, or so",
            "Incorrect Answer 3": f"{number + 11}",
            "Explanation": f"One more than {number}." if number % 5 else "",
            "Record ID": f"rec{number}",
        }
        for number in range(n)
    ]


@pytest.fixture
def gpqa(tmp_path: Path) -> Path:
    """A data folder with 40 made-up questions, of which 12 are the diamond ones."""
    (tmp_path / "gpqa").mkdir()
    rows = gpqa_rows(40)
    for name, some in (("main", rows), ("diamond", rows[::-1][:12])):
        with (tmp_path / f"gpqa/gpqa_{name}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(some)
    return tmp_path


def test_gpqa_s_pool_is_what_is_not_asked_and_options_stand_in_an_order_of_their_own(
    gpqa: Path,
) -> None:
    task, found = loaded("gpqa", gpqa)
    assert (len(found.pool), len(found.queries), found.n_dropped) == (28, 12, 12)
    check_prompts(task, found)
    check_scores(task, list(found.queries))
    texts = [row["Question"] for row in gpqa_rows(40)]
    assert {e.input.partition("\n(A)")[0] for e in (*found.pool, *found.queries)} == set(texts)
    orders = set()
    for example in (*found.pool, *found.queries):
        number = int(example.input.split()[2])
        order = [int(digit) for digit in example.id.rpartition("-")[2]]
        options = [f"{number + 1}", f"{number}", f"{number - 1}, or so", f"{number + 11}"]
        listed = [line[4:] for line in example.input.split("\n")[-4:]]
        assert listed == [options[i] for i in order]
        assert example.target == f"({'ABCD'[order.index(0)]})"
        assert (example.rationale is None) == (number % 5 == 0)
        orders.add(tuple(order))
    assert len(orders) > 10
    assert len({e.target for e in found.queries}) > 1


def test_gpqa_s_orders_do_not_depend_on_the_file_or_its_rows(gpqa: Path) -> None:
    _, whole = loaded("gpqa:main", gpqa)
    _, found = loaded("gpqa", gpqa)
    inputs = {e.input for e in (*whole.pool, *whole.queries)}
    assert {e.input for e in (*found.pool, *found.queries)} == inputs


def test_gpqa_runs_on_a_made_up_file(gpqa: Path, tmp_path: Path) -> None:
    table = run(
        "gpqa",
        lambda prompt: "Step by step.\nThe final answer is (B).",
        modes=list(MODES[:1]),
        shots=[0, 4],
        draws=2,
        data=gpqa,
        out=tmp_path / "run",
    ).curves()
    assert table["n_unparsed"].sum() == 0
    assert table["value"].nunique() == 1


def test_a_table_of_ones_own_is_a_file_in_the_data_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tabular_classification"
    folder.mkdir()
    rows = [{"id": n, "size": n, "colour": None, "kind": "ab"[n % 2]} for n in range(10)]
    (folder / "parcels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task, found = loaded("tabular_classification:parcels", tmp_path)
    assert (len(found.pool), len(found.queries)) == (8, 2)
    assert task.labels == ("a", "b")
    assert found.pool[0].input.startswith("size: ")
    assert found.pool[0].input.endswith(", colour: missing")
    task, found = loaded("tabular_classification:parcels:size", tmp_path)
    assert found.pool[0].input.startswith("colour: missing, kind: ")
    assert "Predict size from" in load_template(task).render(
        "preamble", **task.fields, labels=task.labels, mode="supervised"
    )


def test_a_table_s_own_split_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "tabular_regression"
    folder.mkdir()
    lines = [f"{n},{2 * n},{'test' if n > 5 else 'train'}" for n in range(9)]
    (folder / "lines.csv").write_text("\n".join(["x,y,split", *lines]) + "\n")
    _, found = loaded("tabular_regression:lines", tmp_path)
    assert [e.input for e in found.queries] == ["x: 6", "x: 7", "x: 8"]
    assert [e.target for e in found.pool] == ["0", "2", "4", "6", "8", "10"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("translation:kur", "'kur' is no language code of FLORES-200, as kmr_Latn is"),
        ("translation:kmr_Latm", "Nearest: kmr_Latn"),
        ("translation:french", r"'french' is no language code .* is\. French is fra_Latn\."),
        ("translation:eng_Latn-", "'' is no language code"),
        ("tabular_regression:../secret", "'../secret' is no name of a file in tabular_regression/"),
        ("tabular_classification:/etc/x", "is no name of a file"),
        ("summarization:cnn", "task summarization has no subset 'cnn'"),
    ],
)
def test_a_subset_that_means_nothing_is_one_line(name: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        find_tasks(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tabular_regression:none", r"tabular_regression/none\.jsonl .* is missing"),
        ("tabular_regression:mpg:origin", "line 2: .* what it is to predict, 'usa', is no number"),
        ("tabular_regression:mpg:colour", "there is no column 'colour'; it has mpg, cylinders"),
        ("translation:fra_Latn", "there is no column 'sentence_fra_Latn'"),
        ("gpqa", r"gpqa/gpqa_main\.jsonl .* is missing"),
    ],
)
def test_data_that_are_not_there_are_one_line(shared_data: Path, name: str, says: str) -> None:
    (task,) = find_tasks(name)
    with pytest.raises(DataError, match=says) as caught:
        load_examples(task, data=shared_data)
    assert "\n" not in str(caught.value)


def test_gpqa_runs_on_a_csv_of_the_authors_columns_and_scores_the_letters(gpqa: Path) -> None:
    def reply(prompt: Prompt) -> str:
        number = int(prompt.query.input.split()[2])
        letter = re.search(rf"\((\w)\) {number + 1}$", prompt.query.input, re.MULTILINE)
        assert letter is not None
        return f"One more.\nThe final answer is ({letter[1] if number % 2 else 'A'})."

    done = run("gpqa", ScriptedModel(reply), shots=[0, 4], draws=1, data=gpqa, out=gpqa / "run")
    records = done.records()
    is_odd = [int(text.split()[2]) % 2 for text in records["input"]]
    right = [
        float(odd or target == "(A)") for odd, target in zip(is_odd, records["target"], strict=True)
    ]
    assert records["score"].tolist() == right
    assert done.curves()["value"].tolist() == pytest.approx([sum(right[:12]) / 12] * 2)
