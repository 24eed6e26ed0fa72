"""Tasks: how they are found, what they give, and the real files through every one that has any."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import icl_harness.tasks.discovery
from icl_harness.cli.describe import task_page
from icl_harness.errors import DataError, SpecError
from icl_harness.examples import Example
from icl_harness.models.base import truncate_at_stop
from icl_harness.prompts.modes import MODES, Format, PromptPath, gold_shots
from icl_harness.prompts.operators.registry import operators
from icl_harness.prompts.template import Template, load_template
from icl_harness.prompts.tree import Prompt, Shot
from icl_harness.tasks.loading import Dataset, find_tasks, labels_of, list_tasks, load_examples
from icl_harness.tasks.rows import rows
from icl_harness.tasks.scoring import Score, label_match
from icl_harness.tasks.task import Task

# task -> published rows of (pool and dropped, queries), how many of the pool are left out, how many
# labels
PUBLISHED = {
    "gsm8k": (7473, 1319, 0, 0),
    "banking77": (10003, 3080, 25, 77),
    "trec": (5452, 500, 11, 6),
    "trec:fine": (5452, 500, 11, 50),
    "sentiment": (2048, 216, 0, 3),
    "sentiment:75agree": (3453 - 216, 216, 0, 3),
    "sentiment:66agree": (4217 - 216, 216, 0, 3),
    "sentiment:50agree": (4846 - 216, 216, 0, 3),
}
BBH_SMALL = {
    "bbh:causal_judgement": (112, 75),
    "bbh:penguins_in_a_table": (88, 58),
    "bbh:snarks": (107, 71),
}
BBH = [task.name for task in find_tasks("bbh")]
GENERATED = {
    "linear_classification": (4096, 50),
    "linear_classification:32": (4096, 50),
    "linear_classification:64": (4096, 50),
    "linear_classification:2": (4096, 50),
    "linear_classification:4": (4096, 50),
    "sequential_parity": (8192, 200),
    "dialects": (64, 200),
}


def one(name: str) -> Task:
    (found,) = find_tasks(name)
    return found


@cache
def template_of(name: str) -> Template:
    return load_template(one(name))


def gold_answer(task: Task, example: Example) -> str:
    """The answer that the example's own shot gives, as a model that stops where the task says would
    write it.
    """
    template = template_of(task.name)
    common = {**task.fields, "labels": labels_of(task), "mode": "supervised"}
    common["input"] = example.input
    shot = template.render("shot", **common, target=example.target, rationale=example.rationale)
    query = template.render("query", **common)
    assert shot.startswith(query + " "), "a shot begins as its query does"
    assert query == query.rstrip(), "an answer begins with a space, the query does not end with one"
    return truncate_at_stop(shot[len(query) :], task.stop)


def check(task: Task, found: Dataset) -> None:
    """What holds for every task: gold answers score 1, prompts of all modes render."""
    for example in (*found.queries, *found.pool[:300]):
        answer = gold_answer(task, example)
        score = task.scorer(answer, example)
        assert score.value == 1.0, (example, answer, score)
    for mode in MODES:
        variables = {**task.fields, "labels": labels_of(task)}
        path = PromptPath(
            load_template(task), mode, gold_shots(found.pool[:2], mode), variables, found.pool[2:4]
        )
        zero, two = (Prompt(path.node(k), path.query(found.queries[0])).text for k in (0, 2))
        assert (
            two.index(found.pool[0].input)
            < two.index(found.pool[1].input)
            < two.rindex(found.queries[0].input)
        )
        assert len(zero) < len(two)
        asked = path.query(found.queries[0], weighed=True)
        assert asked.continuations == tuple(f" {choice}" for choice in asked.choices)
        if (
            task.name != "dialects" or mode == "unsupervised"
        ):  # its prompts are those of the model's training
            assert all(label in zero for label in task.labels), (
                "a prompt without shots says what may be answered"
            )
        worked = [e.input in two for e in found.pool[2:4]]
        assert worked == [mode == "unsupervised"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets_have_their_rows_and_score_their_own_answers(
    shared_data: Path, name: str
) -> None:
    task, (n_pool, n_queries, n_dropped, n_labels) = one(name), PUBLISHED[name]
    found = load_examples(task, data=shared_data)
    assert (len(found.pool) + found.n_dropped, len(found.queries), found.n_dropped) == (
        n_pool,
        n_queries,
        n_dropped,
    )
    assert len(task.labels) == n_labels
    assert {e.target for e in found.pool} >= set(task.labels)
    assert task.chance == (1 / n_labels if n_labels else 0.0)
    check(task, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", BBH)
def test_bbh_is_split_as_in_the_paper_and_scores_its_own_answers(
    shared_data: Path, name: str
) -> None:
    task = one(name)
    found = load_examples(task, data=shared_data)
    assert (len(found.pool), len(found.queries)) == BBH_SMALL.get(name, (150, 100))
    assert found.n_dropped == 0
    check(task, found)
    for example in found.queries:
        reasoned = f" Not (C), I think.\nNo: look again.\nThe final answer is {example.target}."
        assert task.scorer(reasoned, example).value == 1.0
    n_choices = [len(e.choices) for e in (*found.pool, *found.queries)]
    assert task.chance == pytest.approx(
        sum(1 / n for n in n_choices if n) / len(n_choices), abs=4e-3
    )


@pytest.mark.slow
def test_bbh_is_all_27_tasks_and_the_paper_s_8_are_a_group(shared_data: Path) -> None:
    assert [t.name for t in find_tasks("bbh")] == BBH
    datasets = [load_examples(t, data=shared_data) for t in find_tasks("bbh")]
    assert len(datasets) == 27
    assert sum(len(d.pool) + len(d.queries) for d in datasets) == 6511
    paper = find_tasks("bbh:paper")
    assert len(paper) == 8
    assert all(
        (t.chance or 0) <= 1 / 6 for t in paper
    )  # the paper's rule: a low chance of a right guess


@pytest.mark.slow
def test_gsm8k_rationales_hold_the_solution_without_annotations(shared_data: Path) -> None:
    task = one("gsm8k")
    found = load_examples(task, data=shared_data)
    for example in (*found.pool, *found.queries):
        assert example.rationale
        assert "<<" not in example.rationale
        assert "####" not in example.rationale
        assert gold_answer(task, example).count("The final answer is") == 1
    other = found.queries[0]
    assert task.scorer("I hope it is 5.", other).parsed is None
    assert task.scorer(gold_answer(task, found.queries[1]), other).value == 0.0


@pytest.mark.parametrize("form", ["text", "chat"])
@pytest.mark.parametrize("own", ["X", "It is X.\n\nThe final answer is X.", "a -> b: {{ c }}"])
def test_a_reinforced_shot_is_what_the_model_wrote_and_nothing_else(own: str, form: Format) -> None:
    shot = Shot(id="a", input="the input", target="the gold answer", rationale=own)
    for task in {task.prompts: task for task in list_tasks()}.values():
        variables = {**task.fields, "labels": labels_of(task)}
        path = PromptPath(load_template(task), "reinforced", [shot], variables, format=form)
        query = path.query(Example(id="a", input="the input", target="x")).text
        last = path.node(1).segment
        written = last if form == "chat" else last.removeprefix(query)
        assert written.strip().removesuffix("\n---") == own, task.prompts
        assert "the gold answer" not in path.node(1).text, task.prompts


@pytest.mark.parametrize("variant", ["flipped", "abstract"])
def test_a_label_map_changes_targets_and_choices_and_nothing_else(
    shared_data: Path, variant: str
) -> None:
    task = one("sentiment")
    plain = load_examples(task, data=shared_data)
    mapped = load_examples(task, data=shared_data, variant=variant)
    mapping = task.label_maps[variant]
    for before, after in zip(
        (*plain.pool, *plain.queries), (*mapped.pool, *mapped.queries), strict=True
    ):
        assert (before.id, before.input) == (after.id, after.input)
        assert after.target == mapping[before.target]
        assert after.choices == labels_of(task, variant)
        assert task.scorer(f" {after.target}", after).value == 1.0
    assert mapped.pool_hash != plain.pool_hash


def test_flipped_labels_are_the_paper_s_and_are_listed_in_the_same_order() -> None:
    task = one("sentiment")
    assert [task.label_maps["flipped"][m] for m in ("negative", "neutral", "positive")] == [
        "neutral", "positive", "negative"
    ]  # fmt: skip
    assert labels_of(task, "flipped") == labels_of(task) == ("negative", "neutral", "positive")
    assert labels_of(task, "abstract") == ("A", "B", "C")


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATED)
def test_generated_tasks_have_their_sizes_and_score_their_own_answers(name: str) -> None:
    task = one(name)
    found = load_examples(task, seed=3)
    assert (len(found.pool), len(found.queries)) == GENERATED[name]
    assert len({e.input for e in found.queries}) == len(found.queries) or name == "dialects"
    check(task, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATED)
def test_a_seed_and_a_draw_make_the_same_examples_again_and_other_ones_others(name: str) -> None:
    task = one(name)
    first = load_examples(task, seed=1, draw=2)
    assert first == load_examples(task, seed=1, draw=2)
    assert first.pool_hash != load_examples(task, seed=2, draw=2).pool_hash
    other = load_examples(task, seed=1, draw=3)
    assert (first.pool_hash != other.pool_hash) == task.per_draw
    ids = {e.id for e in first.queries}
    assert ids.isdisjoint(e.id for e in other.queries) == task.per_draw  # other queries, other ids


@pytest.mark.parametrize("n", [2, 4, 16, 32, 64])
def test_linear_classes_are_balanced_in_every_prefix_and_a_plane_parts_them(n: int) -> None:
    found = load_examples(
        one("linear_classification" if n == 16 else f"linear_classification:{n}"), seed=5
    )
    for first, second in zip(found.pool[::2], found.pool[1::2], strict=True):
        assert {first.target, second.target} == {"Foo", "Bar"}
    assert [e.target for e in found.queries].count("Foo") == 25
    starts = [first.target for first in found.pool[::2]].count("Foo")
    assert 900 < starts < 1150  # which comes first is a coin's fall
    numbers = np.array([e.input.split() for e in (*found.pool, *found.queries)], dtype=int)
    assert numbers.shape == (4146, n)
    assert numbers.min() >= 1
    assert numbers.max() < 1000
    if (
        n > 4
        # the perceptron ends only when a plane parts the classes; thin margins make it slow for
        # small N
    ):
        return
    labels = np.array([1 if e.target == "Foo" else -1 for e in (*found.pool, *found.queries)])
    assert separable(numbers, labels)


def separable(points: np.ndarray, labels: np.ndarray) -> bool:
    """Is there a plane with each label's points strictly on its side? By linear programming."""
    from scipy.optimize import linprog

    scaled = points / points.std(axis=0) - points.mean(axis=0) / points.std(axis=0)
    rows_ = -labels[:, None] * np.hstack([scaled, np.ones((len(points), 1))])
    found = linprog(
        np.zeros(rows_.shape[1]), A_ub=rows_, b_ub=-np.ones(len(points)), bounds=(None, None)
    )
    return bool(found.status == 0)


@pytest.mark.slow
def test_linear_labels_follow_one_hidden_plane_for_many_numbers_too() -> None:
    found = load_examples(one("linear_classification:64"), seed=5)
    examples = (*found.pool, *found.queries)
    points = np.array([e.input.split() for e in examples], dtype=float)
    labels = np.array([1 if e.target == "Foo" else -1 for e in examples])
    assert separable(points, labels)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert not separable(points, shuffled)


def test_parity_words_follow_from_the_bits_and_no_string_comes_twice() -> None:
    found = load_examples(one("sequential_parity"))
    examples = (*found.pool, *found.queries)
    assert len({e.input for e in examples}) == 8392
    for example in examples:
        bits, words = example.input.split(), example.target.split()
        assert len(bits) == len(words) == 20
        assert set(bits) <= {"0", "1"}
        assert words[0] == ("Odd" if bits[0] == "1" else "Even")
        for (before, after), bit in zip(pairwise(words), bits[1:], strict=True):
            assert (before != after) == (bit == "1")
    task = one("sequential_parity")
    query, other = found.queries[:2]
    for answer in (
        query.target,
        f"Output: {query.target}",
        f" **output:** {query.target.lower()}.\nInput: 1",
    ):
        assert task.scorer(answer, query) == Score(query.target, 1.0), answer
    assert task.scorer(other.target, query) == Score(other.target, 0.0)
    few, many = query.target.rsplit(" ", 1)[0], f"{query.target} Odd"
    for answer in (
        "",
        few,
        many,
        f"{few} Odder",
        "The words follow the running parity.",
        f"Sure! {query.target}",
    ):
        assert task.scorer(answer, query) == Score(None, 0.0), answer


def test_dialects_variants_share_their_inputs_and_draws_hear_all_dialects() -> None:
    task = one("dialects")
    assert task.variants == ("default", "flipped", "random")
    by_variant = {v: load_examples(task, seed=1, draw=4, variant=v) for v in task.variants}
    inputs = [[e.input for e in (*d.pool, *d.queries)] for d in by_variant.values()]
    assert inputs[0] == inputs[1] == inputs[2]
    order = ("north", "east", "south", "west")
    for before, after in zip(by_variant["default"].pool, by_variant["flipped"].pool, strict=True):
        assert order[(order.index(before.target) + 1) % 4] == after.target
    maps = [
        {e.input.split()[0]: e.target for e in load_examples(task, seed=s, draw=7).pool}
        for s in (1, 2)
    ]
    assert all(
        maps[0][word] == maps[1][word] for word in maps[0].keys() & maps[1].keys()
    )  # one dialect, one map
    assert task.learner is not None


def test_every_task_is_listed_with_what_a_reader_needs() -> None:
    listed = list_tasks()
    assert {t.name.partition(":")[0] for t in listed} >= {
        "banking77", "bbh", "clinc150", "dialects", "gpqa", "gsm8k", "linear_classification",
        "logistics", "math", "nlu", "sentiment", "sequential_parity", "sst2", "summarization",
        "tabular_classification", "tabular_regression", "translation", "trec",
    }  # fmt: skip
    assert len({t.name for t in listed}) == len(listed)
    for task in listed:
        assert task.doc
        assert "\n" not in task.doc.split("\n\n")[0].strip()
        assert task.chance is None or 0 <= task.chance < 1
        assert load_template(task)
        assert one(task.name).name == task.name


def test_listing_tasks_reads_no_data_and_loads_no_heavy_library(tmp_path: Path) -> None:
    code = (
        "import sys; from icl_harness.tasks.loading import list_tasks; print(len(list_tasks()));"
        "heavy = ('datasets', 'pandas', 'torch', 'huggingface_hub', 'sklearn');"
        "sys.exit(sum(m in sys.modules for m in heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(list_tasks())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bankin77", r"there is no task 'bankin77'\. Nearest: banking77\."),
        ("zzz", r"there is no task 'zzz'\. `icl tasks` lists all\."),
        ("trec:corse", r"task trec has no subset 'corse'\. Nearest: coarse\."),
        (
            "trec:zzz",
            r"task trec has no subset 'zzz'\. It has coarse, fine, bertsch, fine:bertsch, all\.",
        ),
        ("gsm8k:main", r"task gsm8k has no subsets; ask for gsm8k\."),
        ("../gsm8k", r"there is no task"),
        ("", r"there is no task ''"),
    ],
)
def test_an_unknown_task_is_told_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        find_tasks(name)


def test_the_plain_name_is_the_default_subset_by_either_name() -> None:
    assert one("trec").name == one("trec:coarse").name == "trec"
    assert [t.name for t in find_tasks("trec:all")] == ["trec", "trec:fine"]


def test_an_unknown_variant_is_told_with_the_nearest() -> None:
    with pytest.raises(
        SpecError, match=r"task dialects has no variant 'fliped'; it has .*Nearest: flipped\."
    ):
        load_examples(one("dialects"), variant="fliped")


MINE = '''
"""Is a word an animal or a plant? My own words."""

from icl_harness import Example, Task, label_match, rows, task


@task
def mine() -> Task:
    return Task(
        pool=rows("train"),
        queries=rows("test"),
        example=lambda row: Example(id=row["id"], input=row["word"], target=row["kind"]),
        prompts="classify",
        fields={"instruction": "Say what a word names.", "asked": "Word", "answer": "Kind"},
        labels=("animal", "plant"),
        scorer=label_match,
    )
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: a task file of 20 lines beside two data files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ICL_DATA", raising=False)
    for folder in ("tasks", "data/mine"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tasks/mine.py").write_text(MINE)
    (tmp_path / "data/mine/train.csv").write_text("word,kind\nfox,animal\noak,plant\nFox!,animal\n")
    (tmp_path / "data/mine/test.jsonl").write_text('{"word": "elm", "kind": "plant"}\n')
    return tmp_path


def test_a_task_of_ones_own_is_a_file_of_20_lines_beside_its_data(mine: Path) -> None:
    assert len(MINE.strip().splitlines()) <= 20
    task = one("mine")
    assert task.doc == "Is a word an animal or a plant? My own words."
    found = load_examples(task)
    assert [e.input for e in found.pool] == [
        "fox",
        "oak",
        "Fox!",
    ]  # inputs may repeat within the pool
    assert found.pool[0].choices == ("animal", "plant")
    assert "mine" in [t.name for t in list_tasks()]
    assert "gsm8k" in [t.name for t in list_tasks()]


def test_the_data_folder_comes_from_the_argument_then_icl_data(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = mine / "elsewhere"
    (mine / "data").rename(elsewhere)
    assert len(load_examples(one("mine"), data=elsewhere).pool) == 3
    monkeypatch.setenv("ICL_DATA", str(elsewhere))
    assert len(load_examples(one("mine")).pool) == 3
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_examples(one("mine"), data=mine / "nowhere")


def test_a_file_in_the_working_directory_hides_the_project_s(mine: Path) -> None:
    (mine / "tasks/trec.py").write_text(MINE.replace("def mine", "def trec"))
    assert one("trec").doc.startswith("Is a word an animal")
    (mine / "prompts").mkdir()
    (mine / "prompts/classify.jinja").write_text(
        "{% block preamble %}Mine.{% endblock %}{% block shot %}{% endblock %}"
        "{% block format %}{% endblock %}{% block query %}{% endblock %}"
    )
    assert load_template(one("mine")).render("preamble") == "Mine."


def test_a_pool_that_contains_a_query_is_an_error_with_the_ids(mine: Path) -> None:
    with (mine / "data/mine/train.csv").open("a") as stream:
        stream.write("ELM.,plant\n")
    with pytest.raises(DataError, match=r"task mine: the pool contains 1 query .*train-3 = test-0"):
        load_examples(one("mine"))
    (mine / "tasks/mine.py").write_text(
        MINE.replace("scorer=label_match", 'scorer=label_match, leaks="drop"')
    )
    found = load_examples(one("mine"))
    assert found.n_dropped == 1
    assert [e.id for e in found.pool] == ["train-0", "train-1", "train-2"]


def test_problems_that_differ_in_brackets_or_operators_are_not_the_same(mine: Path) -> None:
    (mine / "data/mine/train.csv").write_text("word,kind\n[ [,animal\n3 + 5,animal\n-7,plant\n")
    (mine / "data/mine/test.csv").write_text("word,kind\n( [,animal\n3 * 5,animal\n7,plant\n")
    (mine / "data/mine/test.jsonl").unlink()
    assert len(load_examples(one("mine")).pool) == 3
    (mine / "data/mine/test.csv").write_text("word,kind\n[[,animal\n")
    with pytest.raises(DataError, match="train-0 = test-0"):
        load_examples(one("mine"))


def test_duplicate_ids_are_an_error(mine: Path) -> None:
    (mine / "data/mine/train.csv").write_text("id,word,kind\n1,fox,animal\n1,oak,plant\n")
    with pytest.raises(DataError, match=r"task mine: 1 id occurs more than once: 1\."):
        load_examples(one("mine"))


def test_a_target_that_is_no_label_is_an_error(mine: Path) -> None:
    (mine / "data/mine/train.csv").write_text("word,kind\nfox,mineral\n")
    with pytest.raises(
        DataError, match=r"example train-0: target 'mineral' is not among its 2 choices"
    ):
        load_examples(one("mine"))


BROKEN = {
    "a slip": ("def mine(:\n", r"task file .*tasks/mine\.py, line 1: "),
    "an error": ("1 / 0\n", r"mine\.py cannot be run: ZeroDivisionError: division by zero"),
    "two lines": ('raise ValueError("a\\nb")\n', r"cannot be run: ValueError: a b\."),
    "no task": ("x = 1\n", r"defines no task 'mine'\. It needs a function mine marked with @task"),
    "no mark": ("def mine():\n    pass\n", r"defines no task 'mine'"),
    "not a task": (
        "from icl_harness import task\n@task\ndef mine():\n    return 3\n",
        r"returns a int, not a Task",
    ),
    "a slip of the pen": (
        MINE.replace("labels=", "lables="),
        r"task mine: a task has no field 'lables'\. Nearest: labels, ",
    ),
    "no rows": (
        MINE.replace('pool=rows("train"),', ""),
        r"task mine: a task needs either pool, queries and example",
    ),
    "no scorer": (
        MINE.replace("scorer=label_match,", ""),
        r"task mine: a task needs scorer: a function\.",
    ),
    "a variant with a plus": (
        MINE.replace("scorer=", 'variants=("a+b",), scorer='),
        r"the task's variants is \('a\+b',\); it must be a tuple of names without spaces, commas,",
    ),
    "a reserved field": (
        MINE.replace('"asked"', '"input"'),
        r"task mine: fields may not be called 'input'",
    ),
    "a half map": (
        MINE.replace("scorer=", 'label_maps={"x": {"animal": "A"}}, scorer='),
        r"task mine: label map 'x' must give each of the task's labels another",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_task_file_is_told_in_one_line(mine: Path, case: str) -> None:
    source, message = BROKEN[case]
    (mine / "tasks/mine.py").write_text(source)
    with pytest.raises(SpecError, match=message) as caught:
        find_tasks("mine")
    assert "\n" not in str(caught.value)


def test_a_missing_template_is_told_with_the_nearest(mine: Path) -> None:
    (mine / "tasks/mine.py").write_text(MINE.replace('"classify"', '"clasify"'))
    with pytest.raises(
        SpecError, match=r"there is no prompts/clasify\.jinja\. Nearest: classify, "
    ):
        load_template(one("mine"))


def test_subsets_groups_and_a_default_of_ones_own(mine: Path) -> None:
    source = MINE.replace(
        "@task\ndef mine()",
        '@task(subsets=("a", "b", "c"), groups={"ab": ("a", "b")}, default="ab")\ndef mine(s)',
    )
    (mine / "tasks/mine.py").write_text(source)
    assert [t.name for t in find_tasks("mine")] == ["mine:a", "mine:b"]
    assert [t.name for t in find_tasks("mine:all")] == ["mine:a", "mine:b", "mine:c"]
    assert [t.name for t in list_tasks() if t.name.startswith("mine")] == [
        "mine:a",
        "mine:b",
        "mine:c",
    ]


def test_generated_examples_are_checked_too() -> None:
    def twice(rng: object, variant: str, draw: int) -> tuple[list[Example], list[Example]]:
        return [Example(id="a", input="x", target="y")], [Example(id="b", input="X.", target="y")]

    task = Task(prompts="classify", scorer=label_match, generate=twice, name="twice")
    with pytest.raises(DataError, match=r"task twice: the pool contains 1 query .*a = b"):
        load_examples(task)


def test_a_label_that_a_map_does_not_know_is_an_error() -> None:
    def episode(rng: object, variant: str, draw: int) -> tuple[list[Example], list[Example]]:
        free = Example(id="a", input="x", target="z", choices=("z",))
        return [free], [Example(id="b", input="y", target="p")]

    task = Task(
        prompts="classify", scorer=label_match, generate=episode, name="t", labels=("p", "q"),
        label_maps={"swapped": {"p": "q", "q": "p"}},
    )  # fmt: skip
    with pytest.raises(DataError, match=r"task t, example a: variant swapped does not map 'z'"):
        load_examples(task, variant="swapped")


def test_task_files_are_one_screen() -> None:
    for path in sorted((Path(icl_harness.__file__).parents[1] / "tasks").glob("*.py")):
        assert len(path.read_text().splitlines()) <= 60, path.name
        assert re.match(r'"""[^\n]+\n', path.read_text()), path.name


def test_a_task_needs_rows_or_generate_not_both() -> None:
    with pytest.raises(SpecError, match="either pool, queries and example, or generate"):
        Task(
            prompts="x", scorer=label_match,
            pool=rows("train"), queries=rows("test"), example=lambda row: None,
            generate=lambda rng, variant, draw: ([], []),
        )  # fmt: skip


def test_an_unsupervised_prompt_without_shots_does_not_say_that_there_are_some() -> None:
    for task in list_tasks():
        preamble = load_template(task).render(
            "preamble", **task.fields, labels=labels_of(task), mode="unsupervised"
        )
        assert "come first" not in preamble.replace("may come first", ""), task.name


@pytest.mark.parametrize("mode", ["supervised", "reinforced"])
def test_bbh_asks_for_words_where_options_have_no_letters(mode: str) -> None:
    task = one("bbh:navigate")
    preamble = load_template(task).render("preamble", **task.fields, labels=(), mode=mode)
    assert (
        "is the letter in parentheses where options have letters, as in (A), else the option's "
        "words." in preamble
    )


def test_answers_have_room_for_what_is_asked() -> None:
    # A chain of thought without shots is longer than one with; a tokenizer may give each byte a
    # token.
    assert one("gsm8k").max_tokens == 1024
    assert {task.max_tokens for task in find_tasks("bbh")} == {1024}
    for task in list_tasks():
        if task.name != "dialects":  # its labels are one token each of the bundled model's
            assert all(len(f" {label}\n".encode()) <= task.max_tokens for label in task.labels), (
                task.name
            )


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ICL_DATA", raising=False)
    return tmp_path


def put(path: Path, *rows_: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_))


ROWS = {
    "banking77": ("banking77", {"text": "{}", "category": "age_limit"}),
    "trec": ("trec", {"text": "{}", "coarse_label": "LOC", "fine_label": "LOC:city"}),
    "trec:fine": ("trec", {"text": "{}", "coarse_label": "LOC", "fine_label": "LOC:city"}),
    "gsm8k": ("gsm8k", {"question": "{}", "answer": "So.\n#### 2"}),
    "sentiment": ("sentiment", {"sentence": "{}", "label": "neutral"}),
    "sentiment:75agree": ("sentiment/75agree", {"sentence": "{}", "label": "neutral"}),
    "bbh:word_sorting": ("bbh/word_sorting", {"input": "{}", "target": "a b"}),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_task_with_rows_takes_train_and_test_files_of_ones_own(own: Path, name: str) -> None:
    folder, row = ROWS[name]
    shown = [{c: text.format(f"n {i}") for c, text in row.items()} for i in range(5)]
    put(own / folder / "train.jsonl", *shown[:3])
    put(own / folder / "test.jsonl", *shown[3:])
    found = load_examples(one(name), data=own)
    assert [e.input for e in found.pool] == ["n 0", "n 1", "n 2"]
    assert [e.input for e in found.queries] == ["n 3", "n 4"]


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("sentiment", "financial_phrasebank/sentences_allagree"),
        ("bbh:word_sorting", "bbh/tasks/word_sorting"),
    ],
)
def test_own_files_come_before_the_published_one_and_half_of_them_do_not(
    own: Path, name: str, whole: str
) -> None:
    folder, row = ROWS[name]
    published = [{c: text.format(f"published {i}") for c, text in row.items()} for i in range(5)]
    mine = [{c: text.format(f"mine {i}") for c, text in row.items()} for i in range(2)]
    put(own / f"{whole}.jsonl", *published)
    put(own / folder / "train.jsonl", mine[0])
    split = load_examples(one(name), data=own)
    assert {e.input.split()[0] for e in (*split.pool, *split.queries)} == {"published"}
    put(own / folder / "test.jsonl", mine[1])
    found = load_examples(one(name), data=own)
    assert [e.input for e in (*found.pool, *found.queries)] == ["mine 0", "mine 1"]


@pytest.mark.parametrize("name", ["sentiment:75agree", "bbh:word_sorting"])
def test_missing_files_are_told_with_both_layouts(own: Path, name: str) -> None:
    whole = {"sentiment:75agree": "financial_phrasebank/sentences_75agree"}.get(
        name, "bbh/tasks/word_sorting"
    )
    folder = ROWS[name][0]
    for data, problem in ((own, "lacks files"), (own / "nowhere", "does not exist")):
        with pytest.raises(
            DataError, match=f"{problem}: .*{folder}/train and {folder}/test, or for {whole},"
        ) as caught:
            load_examples(one(name), data=data)
        assert "\n" not in str(caught.value)


def test_the_page_of_a_task_shows_the_prompt_of_the_mode_that_is_asked_for(own: Path) -> None:
    put(
        own / "bbh/word_sorting/train.jsonl",
        *({"input": f"n {i}", "target": "a b"} for i in range(3)),
    )
    put(own / "bbh/word_sorting/test.jsonl", {"input": "n 9", "target": "a b"})
    pages = {
        mode: "\n".join(task_page("bbh:word_sorting", data=own, mode=mode, variant="default"))
        for mode in MODES
    }
    assert (
        "reinforced prompt, 2 shots (gold answers stand in for the bank's own)"
        in pages["reinforced"]
    )
    assert pages["reinforced"].count("Solution: a b") == 2
    assert all("Give the answer alone" in page for page in pages.values())
    assert "stand in for" not in pages["supervised"] + pages["unsupervised"]


def test_the_page_of_a_task_lists_the_operators_that_it_can_take(mine: Path) -> None:
    page = "\n".join(task_page("mine", data=None, mode="supervised", variant="default"))
    listed = {line.split()[0]: line for line in page.splitlines() if line.startswith(" " * 10)}
    assert listed.keys() == {operator.usage for operator in operators().values()}
    assert listed["sorted"].endswith("(not nested)")
    assert listed["noise=0.2"].endswith("(supervised mode)")
    source = MINE.replace('labels=("animal", "plant"),', "")
    (mine / "tasks/mine.py").write_text(source)
    (mine / "prompts").mkdir()
    (mine / "prompts/classify.jinja").write_text(
        "{% block preamble %}{% endblock %}{% block shot %}{{ input }}{% endblock %}"
        "{% block format %}{% endblock %}{% block query %}{{ input }}{% endblock %}"
    )
    page = "\n".join(task_page("mine", data=None, mode="supervised", variant="default"))
    assert "order=1" in page
    assert "          sorted" not in page


def test_the_page_of_a_task_shows_the_prompt_of_a_variant(mine: Path) -> None:
    def shots(variant: str) -> list[str]:
        page = list(task_page("mine", data=None, mode="supervised", variant=variant))
        return [line for line in page[-1].splitlines() if line.startswith(("Word:", "Kind:"))]

    default, noisy = shots("default"), shots("noise=1")
    assert default[::2] == noisy[::2]
    assert len(default) == 6
    other = {"Kind: animal": "Kind: plant", "Kind: plant": "Kind: animal"}
    assert noisy[1:4:2] == [other[kind] for kind in default[1:4:2]]
    assert shots("nearest=TFIDF")[-2:] == default[-2:]
    with pytest.raises(SpecError, match="noise takes a number from 0 to 1"):
        shots("noise=2")
