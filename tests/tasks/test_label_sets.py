"""Label sets that every task with labels has: flipped and abstract."""

from __future__ import annotations

from pathlib import Path
from string import ascii_uppercase

import pytest

from icl_harness import Example, ScriptedModel, label_match, run
from icl_harness.errors import DataError, SpecError
from icl_harness.tasks.label_sets import check_label_set, label_map, label_sets
from icl_harness.tasks.loading import find_tasks, labels_of, load_examples
from icl_harness.tasks.task import Task


def task_of(labels, **options) -> Task:
    examples = [Example(id=f"e{i}", input=f"x {i}", target=label) for i, label in enumerate(labels)]
    options = {"labels": tuple(labels), "prompts": "classify", "name": "mine", **options}
    return Task(pool=examples[1:], queries=examples[:1], scorer=label_match, **options)


def test_flipped_labels_are_those_of_the_paper_for_sentiment() -> None:
    [sentiment] = find_tasks("sentiment")
    own = sentiment.label_maps["flipped"]
    assert label_map(task_of(sentiment.labels), "flipped") == own
    assert label_map(task_of(sentiment.labels), "abstract") == sentiment.label_maps["abstract"]
    assert label_map(sentiment, "flipped") is own, "a task's own map comes first"


def test_flipped_keeps_the_list_of_labels_and_abstract_lists_letters() -> None:
    task = task_of(["red", "green", "blue"])
    assert label_sets(task) == ("default", "flipped", "abstract")
    assert labels_of(task, "flipped") == ("red", "green", "blue")
    assert labels_of(task, "abstract") == ("A", "B", "C")
    found = load_examples(task, variant="flipped")
    assert [e.target for e in (*found.queries, *found.pool)] == ["green", "blue", "red"]
    assert {e.choices for e in found.pool} == {("red", "green", "blue")}
    lettered = load_examples(task, variant="abstract")
    assert [e.target for e in (*lettered.queries, *lettered.pool)] == ["A", "B", "C"]


def test_beyond_26_labels_letters_are_doubled_and_all_differ() -> None:
    shown = labels_of(task_of([f"intent {i}" for i in range(150)]), "abstract")
    assert shown[:26] == tuple(ascii_uppercase)
    assert shown[26:29] == ("AA", "AB", "AC")
    assert shown[52] == "BA"
    assert len(set(shown)) == 150


def test_examples_with_choices_of_their_own_keep_theirs() -> None:
    some = Example(id="p", input="which", target="red", choices=("blue", "red"))
    ask = Example(id="q", input="what", target="green")
    task = task_of(["red", "green", "blue"])
    task = Task(
        pool=[some], queries=[ask], labels=task.labels, prompts="classify", scorer=label_match
    )
    [found] = load_examples(task, variant="abstract").pool
    assert (found.target, found.choices) == ("A", ("C", "A"))


@pytest.mark.parametrize("name", ["flipped", "abstract"])
def test_a_task_of_free_answers_refuses_them_in_one_line(name: str) -> None:
    [gsm8k] = find_tasks("gsm8k")
    with pytest.raises(SpecError, match=f"task gsm8k has no fixed labels, which {name} needs"):
        check_label_set(gsm8k, name)


def test_what_would_change_nothing_or_contradict_a_rationale_is_refused() -> None:
    with pytest.raises(SpecError, match=r"called A, B, C, … already, so abstract would change"):
        load_examples(task_of(["A", "B", "C"]), variant="abstract")
    reasoned = Example(id="p", input="x", target="red", rationale="It glows, so red.")
    ask = Example(id="q", input="y", target="blue")
    task = task_of(["red", "blue"])
    task = Task(
        pool=[reasoned], queries=[ask], labels=task.labels, prompts="classify", scorer=label_match
    )
    with pytest.raises(DataError, match="its rationale argues for 'red', which flipped would call"):
        load_examples(task, variant="flipped")


@pytest.mark.slow
def test_a_table_s_labels_are_flipped_in_prompts_and_scoring(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"word {i},{('airport', 'harbour')[i % 2]}" for i in range(30)]
    Path("tickets.csv").write_text("\n".join(["message,depot", *rows]))
    prompts = []

    def answer(prompt):
        prompts.append(prompt)
        number = int(prompt.query.input.split()[1])
        return ("B", "A")[number % 2]  # wrong under `abstract`, as B is harbour

    options = {"input": "message", "target": "depot", "shots": [2], "draws": 1, "out": "out"}
    done = run("tickets.csv", ScriptedModel(answer), variants=["flipped", "abstract"], **options)
    values = dict(done.curves()[["variant", "value"]].itertuples(index=False, name=None))
    assert values == {"flipped": 0.0, "abstract": 0.0}
    by_variant = {prompt.node.shots[0].target in "AB": prompt.text for prompt in prompts}
    assert "one of these 2 labels: A, B." in by_variant[True]
    assert "one of these 2 labels: airport, harbour." in by_variant[False]
    for prompt in prompts:
        for shot in prompt.node.shots:
            gold = int(shot.input.split()[1]) % 2
            assert shot.target in (("harbour", "airport")[gold], "AB"[gold])
