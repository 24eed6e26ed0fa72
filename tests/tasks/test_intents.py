"""Tasks of Bertsch et al. 2024: their rows, their 250 test rows, prompts and gold labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icl_harness import Example, hub
from icl_harness.errors import DataError
from icl_harness.prompts.modes import MODES, PromptPath, gold_shots
from icl_harness.prompts.template import load_template
from icl_harness.prompts.tree import Prompt
from icl_harness.tasks.loading import Dataset, find_tasks, load_examples, with_labels_of_data
from icl_harness.tasks.published_rows import FOLDER
from icl_harness.tasks.rows import Row
from icl_harness.tasks.task import Task

# task -> pool, queries, pool rows left out, labels
SIZES = {
    "nlu": (9960, 1076, 0, 64),
    "sst2": (6917, 1821, 3, 2),
    "banking77:bertsch": (10001, 250, 2, 77),
    "trec:bertsch": (5446, 250, 6, 6),
    "trec:fine:bertsch": (5446, 250, 6, 50),
}


def loaded(name: str, data: Path) -> tuple[Task, Dataset]:
    (task,) = find_tasks(name)
    task = with_labels_of_data(task, data)
    return task, load_examples(task, data=data)


def check_prompts(task: Task, found: Dataset) -> None:
    """In every mode two shots stand in order before the query, and every label is listed."""
    for mode in MODES:
        path = PromptPath(
            load_template(task),
            mode,
            gold_shots(found.pool[:2], mode),
            {**task.fields, "labels": task.labels},
        )
        text = Prompt(path.node(2), path.query(found.queries[0])).text
        places = [text.index(e.input) for e in (*found.pool[:2], found.queries[0])]
        assert places == sorted(places)
        assert all(label in text for label in task.labels)


@pytest.mark.parametrize("name", SIZES)
def test_the_real_files_have_their_rows_and_gold_labels_score_1(
    shared_data: Path, name: str
) -> None:
    task, found = loaded(name, shared_data)
    sizes = (len(found.pool), len(found.queries), found.n_dropped, len(task.labels))
    assert sizes == SIZES[name]
    check_prompts(task, found)
    for number, example in enumerate(found.queries[:300]):
        assert task.scorer(f" {example.target}", example).value == 1.0
        wrong = next(label for label in task.labels if label != example.target)
        assert task.scorer(f" {wrong}", example).value == 0.0, number


def test_the_250_queries_are_the_rows_with_those_numbers(shared_data: Path) -> None:
    _, found = loaded("trec:bertsch", shared_data)
    lines = (shared_data / "trec/test.jsonl").read_text().split("\n")
    listed = json.loads((shared_data / FOLDER / "trec-indices.json").read_text())
    texts = {json.loads(lines[number])["text"] for number in listed}
    assert {query.input for query in found.queries} == texts
    assert {query.id for query in found.queries} == {f"test-{n}" for n in listed}


def put(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(text)


def test_a_test_split_too_short_for_the_list_is_refused_in_one_line(tmp_path: Path) -> None:
    row = {"text": "what is new", "coarse_label": "LOC", "fine_label": "LOC:city"}
    put(tmp_path / "trec", "train", [{**row, "text": "what is old"}])
    put(tmp_path / "trec", "test", [row, row])
    (task,) = find_tasks("trec:bertsch")
    with pytest.raises(DataError, match=r"lacks trec-indices.txt, .* name its parent with --data"):
        load_examples(task, data=tmp_path)
    lists = tmp_path / FOLDER
    lists.mkdir()
    (lists / "trec-indices.txt").write_text("[1, 499, 0]")  # as their repository has them
    with pytest.raises(DataError, match=r"has 2 rows; .* names row 499\. It belongs to another"):
        load_examples(task, data=tmp_path)


def test_clinc150_takes_its_labels_from_the_data_out_of_scope_among_them(tmp_path: Path) -> None:
    labels = ["oos", "transfer", "balance"]
    rows = [{"text": f"say {n}", "intent": labels[n % 3]} for n in range(9)]
    put(tmp_path / "clinc150", "train", rows[:6])
    put(tmp_path / "clinc150", "test", rows[6:])
    task, found = loaded("clinc150", tmp_path)
    assert task.labels == ("balance", "oos", "transfer")
    check_prompts(task, found)
    assert task.scorer("oos", found.queries[0]).value == 1.0


def test_rows_can_be_taken_by_number_or_from_the_beginning(tmp_path: Path) -> None:
    put(tmp_path / "toy", "test", [{"text": f"t{n}"} for n in range(5)])

    def texts(**chosen: Any) -> list[str]:
        source = hub("nobody/nothing", split="test", **chosen)
        found = source.examples(as_example, "toy", tmp_path)
        return [f"{example.input} {example.id}" for example in found]

    assert texts(first=2) == ["t0 test-0", "t1 test-1"]
    assert texts(first=9)[-1] == "t4 test-4"
    assert texts(only=lambda data: [3, 1, 3]) == ["t1 test-1", "t3 test-3"]
    with pytest.raises(DataError, match="has 5 rows; the list of test rows names row 5"):
        texts(only=lambda data: range(6))


def as_example(row: Row) -> Example:
    return Example(id=row.place, input=row["text"], target="x")
