"""A file of rows, or rows of Python, as a task: which columns, what its answers are, which rows are
asked, and what is refused.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness import (
    Example,
    IclError,
    Task,
    exact_match,
    label_match,
    number_close,
    number_match,
    task,
)
from icl_harness.examples import normalised
from icl_harness.tasks.answer_kinds import kind_of
from icl_harness.tasks.columns import Columns
from icl_harness.tasks.loading import find_tasks, load_examples
from icl_harness.tasks.sides import held_out_sides, joined

DEPOTS = ("harbour", "airport", "station")
ROWS: list[dict[str, Any]] = [
    {"message": f"parcel {n}", "depot": DEPOTS[n % 3], "weight": n * 1.5, "user": f"u{n % 7}"}
    for n in range(30)
]
FRAME = pd.DataFrame(ROWS)


def sides(made: Task) -> tuple[list[Example], list[Example]]:
    found = load_examples(made)
    return list(found.pool), list(found.queries)


def everything(made: Task) -> list[Example]:
    pool, queries = sides(made)
    return pool + queries


def as_csv(path: Path) -> None:
    path.write_text(FRAME.to_csv(index=False))


def as_tsv(path: Path) -> None:
    FRAME.to_csv(path, index=False, sep="\t")


def as_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def as_array(path: Path) -> None:
    path.write_text(json.dumps(ROWS))


def as_parquet(path: Path) -> None:
    FRAME.to_parquet(path)


def zipped(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def both(path: Path) -> None:
        write(path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return both


FORMS = {
    "t.csv": as_csv,
    "t.tsv": as_tsv,
    "t.jsonl": as_lines,
    "t.json": as_array,
    "t.parquet": as_parquet,
    "t.csv.gz": zipped(as_csv),
    "t.jsonl.gz": zipped(as_lines),
    "T.CSV": as_csv,
    "semicolons.csv": lambda path: FRAME.to_csv(path, index=False, sep=";"),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_file_makes_the_same_task(name: str, tmp_path: Path) -> None:
    FORMS[name](tmp_path / name)
    columns = Columns(input="message", target="depot")
    [found] = find_tasks(str(tmp_path / name), None, columns)
    assert found.name == name
    assert (found.labels, found.scorer) == (tuple(sorted(DEPOTS)), label_match)
    expected = sides(task(FRAME, input="message", target="depot"))
    assert sides(found) == expected
    pool, queries = expected
    assert (len(pool), len(queries)) == (24, 6)


class Polars:
    """What of a DataFrame of polars is used: it is not among the packages of the tests."""

    columns = tuple(ROWS[0])

    def to_dict(self) -> dict[str, Any]:
        raise AssertionError("columns are not rows")

    def to_dicts(self) -> list[dict[str, Any]]:
        return ROWS


PYTHON: dict[str, Any] = {
    "a frame": FRAME,
    "dicts": ROWS,
    "a tuple of dicts": tuple(ROWS),
    "a data set": "datasets",
    "an Arrow table": "pyarrow",
    "polars": "polars",
    "categories": FRAME.astype({"depot": "category"}),
    "a frame whose index is not 0, 1, …": FRAME.set_index(FRAME.index + 5),
}


@pytest.mark.parametrize("form", PYTHON)
def test_rows_of_python_make_the_same_task(form: str) -> None:
    rows = PYTHON[form]
    if form == "a data set":
        import datasets

        rows = datasets.Dataset.from_list(ROWS)
    elif form == "an Arrow table":
        import pyarrow

        rows = pyarrow.Table.from_pylist(ROWS)
    elif form == "polars":
        rows = Polars()
    made = task(rows, input="message", target="depot", name="mine")
    assert made.name == "mine"
    assert sides(made) == sides(task(FRAME, input="message", target="depot"))


def test_examples_make_a_task_and_their_choices_are_its_labels() -> None:
    examples = [Example(id=str(n), input=f"word {n}", target=DEPOTS[n % 3]) for n in range(12)]
    made = task(examples)
    assert (made.labels, made.scorer) == (tuple(sorted(DEPOTS)), label_match)
    rare = [Example(id=e.id, input=e.input, target="yes", choices=("no", "yes")) for e in examples]
    rare[0] = Example(id="0", input="word 0", target="no", choices=("no", "yes"))
    assert task(rare).labels == ("no", "yes")
    assert task(rare).doc.startswith("the targets are 2 labels in 12 rows (no, yes); 10 rows are")
    assert sides(task(rare, answers="free"))[0][0].choices == ()


KINDS: dict[str, tuple[list[str], str]] = {
    "two labels": (["yes", "no"] * 5, "labels"),
    "77 labels": ([f"intent_{n % 77}" for n in range(800)], "labels"),
    "200 labels": ([f"class {n % 200}" for n in range(400)], "labels"),
    "201 different words": ([f"class {n % 201}" for n in range(4000)], "free"),
    "names, most of them once": (
        [f"person {n // 2 * 2 if n < 4 else n}" for n in range(30)],
        "free",
    ),
    "three rows, two labels": (["a", "b", "a"], "free"),
    "a sentence each": ([f"{'word ' * 20}{n % 2}" for n in range(20)], "free"),
    "80 characters": ([f"{n % 2}" * 80 for n in range(20)], "labels"),
    "two texts of lines": (["a\nb", "c"] * 10, "free"),
    "zero and one": (["0", "1"] * 10, "labels"),
    "stars": ([str(n % 5 + 1) for n in range(50)], "labels"),
    "signs": (["-1", "1"] * 5, "labels"),
    "ages": ([str(18 + n % 60) for n in range(600)], "number"),
    "21 whole numbers": ([str(n % 21) for n in range(600)], "number"),
    "decimals, seldom different": (["0.5", "1.5"] * 20, "number"),
    "prices": ([f"${n}.99" for n in range(20)], "number"),
    "thousands": ([f"{n},000" for n in range(1, 30)], "number"),
    "whole numbers as decimals": (["0.0", "1.0"] * 10, "labels"),
    "a number among words": (["12", "12a", "13", "14", "15"], "free"),
    "dates": ([f"2024-01-{n:02}" for n in range(1, 29)], "free"),
}


@pytest.mark.parametrize("case", KINDS)
def test_what_targets_are_follows_a_rule(case: str) -> None:
    targets, kind = KINDS[case]
    assert kind_of(targets) == kind


@pytest.mark.parametrize(
    ("targets", "scorer", "prompts"),
    [
        (["yes", "no"] * 6, label_match, "classify"),
        ([f"{n}.5" for n in range(12)], number_match, "answer"),
        ([f"the answer {n}" for n in range(12)], exact_match, "answer"),
    ],
)
def test_the_kind_decides_scorer_and_prompts_and_is_said(
    targets: list[str], scorer: Any, prompts: str
) -> None:
    made = task([{"input": f"q {n}", "target": target} for n, target in enumerate(targets)])
    assert (made.scorer, made.prompts) == (scorer, prompts)
    assert "column 'target' holds" in made.doc
    assert "; --answers " in made.doc
    assert "\n" not in made.doc
    for example in everything(made):
        assert scorer(example.target, example).value == 1.0


@pytest.mark.parametrize(
    ("asked", "by_distance"),
    [
        ({"a": 1, "b": "x"}, True),
        ({"a": 1, "b": 2}, True),
        ({"a": None}, True),
        ({"a": "how much is"}, False),
    ],
)
def test_numbers_are_measured_by_distance_where_a_row_or_numbers_ask(
    asked: dict[str, Any], by_distance: bool
) -> None:
    rows = [{**asked, "target": n + 0.5} for n in range(30)]
    for n, row in enumerate(rows):
        row["a"] = f"{asked['a']} {n}?" if isinstance(asked["a"], str) else n
    made = task(rows)
    metric, scorer = ("r2", number_close) if by_distance else ("accuracy", number_match)
    assert (made.metric.name, made.scorer) == (metric, scorer)
    assert ("measured by R²" if by_distance else "right where equal") in made.doc


@pytest.mark.parametrize("kind", ["labels", "free", "number"])
def test_answers_overrides_what_was_found(kind: str) -> None:
    made = task([{"input": f"q {n}", "target": n % 4} for n in range(20)], answers=kind)
    assert made.table is not None
    assert made.table["answers"] == kind
    assert "--answers" not in made.doc


def test_a_free_answer_stands_in_one_line_and_has_room() -> None:
    long = "first line\nsecond line " + "x" * 300
    made = task([{"input": f"q {n}", "target": f"{long} {n}"} for n in range(9)])
    pool, _ = sides(made)
    assert all("\n" not in example.target for example in pool)
    assert made.max_tokens > 300


CELLS: list[tuple[Any, str]] = [
    (True, "true"),
    (np.bool_(False), "false"),
    (3, "3"),
    (3.0, "3"),
    (np.float64(2.5), "2.5"),
    (np.int8(7), "7"),
    (" text ", "text"),
    (pd.Timestamp("2024-01-02"), "2024-01-02 00:00:00"),
    (10**30, str(10**30)),
]


@pytest.mark.parametrize(("cell", "text"), CELLS)
def test_cells_of_any_plain_kind_are_texts(cell: Any, text: str) -> None:
    made = task(
        [{"input": cell, "target": "x"}, *({"input": f"{n}?", "target": "y"} for n in "abc")]
    )
    assert text in {example.input for example in everything(made)}


def test_several_inputs_stand_in_one_line() -> None:
    rows = [{"age": n, "city": "" if n else "Bonn", "y": "ab"[n % 2]} for n in range(10)]
    pool, queries = sides(task(rows, target="y"))
    texts = {example.input for example in (*pool, *queries)}
    assert {"age: 0, city: Bonn", "age: 3"} <= texts
    numbers = task([{"a": n, "b": n / 2, "y": "ab"[n % 2]} for n in range(10)], target="y")
    assert "A row holds a, b." in numbers.fields["instruction"]
    assert {"3, 1.5"} <= {example.input for example in everything(numbers)}


def test_without_input_all_columns_are_but_those_that_number_rows() -> None:
    rows = [{"": n, "Unnamed: 0": n, "id": n, "x": "q", "z": n, "y": n % 2} for n in range(10)]
    assert {e.input for e in everything(task(rows, target="y"))} == {
        f"x: q, z: {n}" for n in range(10)
    }
    assert "; asked by x, z;" in task(rows, target="y").doc


def test_a_column_s_name_may_hold_commas() -> None:
    rows = [{"city,land": f"c{n}", "y": "ab"[n % 2]} for n in range(10)]
    assert sides(task(rows, input="city,land", target="y")) == sides(task(rows, target="y"))


def test_the_words_of_a_prompt_come_from_the_columns_or_the_instruction() -> None:
    assert task(FRAME, input="message", target="depot").fields == {
        "instruction": "Give the depot for the message.",
        "asked": "Message",
        "answer": "Depot",
    }
    own = task(FRAME, input="message", target="depot", instruction="Where does it go?")
    assert own.fields["instruction"] == "Where does it go?"


SPLITS = {
    "train and test": (["train"] * 6 + ["test"] * 4, 6, 4),
    "capitals": (["Train"] * 6 + ["TEST"] * 4, 6, 4),
    "validation for test": (["train"] * 6 + ["validation"] * 4, 6, 4),
    "validation beside test is left out": (["train"] * 5 + ["dev"] * 3 + ["test"] * 2, 5, 2),
    "empty cells are left out": (["train"] * 5 + [""] * 3 + ["test"] * 2, 5, 2),
}


@pytest.mark.parametrize("case", SPLITS)
def test_a_split_column_says_which_rows_are_asked(case: str) -> None:
    words, n_pool, n_queries = SPLITS[case]
    rows = [{"x": f"q {n}", "y": "ab"[n % 2], "s": word} for n, word in enumerate(words)]
    made = task(rows, input="x", target="y", split="s")
    pool, queries = sides(made)
    assert (len(pool), len(queries)) == (n_pool, n_queries)
    assert [example.input for example in pool] == [f"q {n}" for n in range(n_pool)]
    n_left = len(words) - n_pool - n_queries
    assert ("left out" in made.doc) == bool(n_left)


@pytest.mark.parametrize(
    ("words", "options", "is_taken"),
    [
        (["train"] * 6 + ["test"] * 4, {}, True),
        (["train"] * 10, {}, False),
        (["left", "right"] * 5, {}, False),
        (["train"] * 6 + ["test"] * 4, {"input": "split"}, False),
        (["train"] * 6 + ["test"] * 4, {"target": "split"}, False),
    ],
)
def test_a_column_called_split_is_taken_where_it_says_train_and_test(
    words: list[str], options: dict[str, Any], is_taken: bool
) -> None:
    rows = [{"x": f"q {n}", "target": n % 2, "split": word} for n, word in enumerate(words)]
    for row, letter in zip(rows, "abcdefghij", strict=True):
        row["split"] = f"{row['split']} {letter}" if options.get("input") else row["split"]
    made = task(rows, **options)
    assert ("as split says" in made.doc) == is_taken
    assert ("asked by x;" in made.doc) == is_taken


def test_a_group_that_is_named_is_held_out_whatever_a_column_called_split_says() -> None:
    rows = some(split=lambda n: ("train", "test")[n % 2], g=lambda n: n % 3)
    made = task(rows, target="label", group="g")
    assert "asked by text; " in made.doc
    assert "held out by a fixed seed, by g" in made.doc


def test_pool_rows_of_a_split_that_are_queries_are_left_out_and_counted() -> None:
    words = ["train"] * 5 + ["test"] * 5
    rows = [{"x": f"q {n % 8}", "y": "ab"[n % 2], "s": word} for n, word in enumerate(words)]
    found = load_examples(task(rows, input="x", target="y", split="s"))
    assert (len(found.pool), len(found.queries), found.n_dropped) == (3, 5, 2)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6) | st.none()), min_size=2, max_size=40)
)
def test_rows_of_one_input_or_group_stay_on_one_side(rows: list[tuple[int, int | None]]) -> None:
    examples = [
        Example(id=str(n), input=f"i {a}", target="x", cluster=None if g is None else f"g{g}")
        for n, (a, g) in enumerate(rows)
    ]
    if len(set(joined(examples))) < 2:
        with pytest.raises(IclError):
            held_out_sides(examples, "t", "g")
        return
    found = held_out_sides(examples, "t", "g")
    assert found.pool
    assert found.queries
    assert len(found.pool) + len(found.queries) == len(examples)
    for key in (lambda e: normalised(e.input), lambda e: e.cluster or e.id):
        assert not {key(e) for e in found.pool} & {key(e) for e in found.queries}


def test_a_holdout_is_the_same_in_every_run_and_leaves_at_most_a_thousand() -> None:
    frame = pd.DataFrame({"input": [f"q {n}" for n in range(8000)], "target": ["a", "b"] * 4000})
    one, other = sides(task(frame)), sides(task(frame))
    assert one == other
    assert len(one[1]) == 1000


def test_ids_are_the_column_id_where_each_row_has_its_own() -> None:
    def ids(values: list[Any]) -> set[str]:
        rows = [{"id": id, "input": f"q {n}", "target": n % 2} for n, id in enumerate(values)]
        return {example.id for example in everything(task(rows))}

    assert ids(["a", "b", "c", "d"]) == {"a", "b", "c", "d"}
    for values in (["a", "a", "b", "c"], ["a", None, "b", "c"], [None] * 4):
        assert ids(values) == {"row-0", "row-1", "row-2", "row-3"}


def some(n: int = 10, **columns: Any) -> list[dict[str, Any]]:
    """Rows with further columns: a value for all, or a function of the row's number."""
    rows = []
    for number in range(n):
        row = {"text": f"q {number}", "label": "ab"[number % 2]}
        for name, value in columns.items():
            row[name] = value(number) if callable(value) else value
        rows.append(row)
    return rows


NAMED = {"input": "text", "target": "label"}
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no rows": (pd.DataFrame(), NAMED, "holds no rows"),
    "no target named": (some(), {"input": "text"}, "which column is the gold answer.*text, label"),
    "another case": (some(), {**NAMED, "input": "Text"}, "no column 'Text'.*Nearest: text"),
    "a slip": (some(), {**NAMED, "target": "lable"}, "'lable', which --target.*Nearest: label"),
    "no such split": (some(), {**NAMED, "split": "fold"}, "no column 'fold', which --split"),
    "no such group": (some(), {**NAMED, "group": "usr"}, "no column 'usr', which --group"),
    "input is target": (some(), {"input": "label", "target": "label"}, "both name 'label'"),
    "target among inputs": (some(), {"input": "text,label", "target": "label"}, "both name"),
    "split is target": (some(), {**NAMED, "split": "label"}, "--split and --target both name"),
    "one column": ([{"target": n % 2} for n in range(9)], {}, "no column beside 'target'"),
    "NaN": (some(label=lambda n: float("nan") if n > 6 else "a"), NAMED, "row 7: the target is mi"),
    "None": (
        some(label=lambda n: None if n > 6 else "ab"[n % 2]),
        NAMED,
        "as in 2 more of 10 rows",
    ),
    "pandas' NA": (some(label=lambda n: pd.NA if n == 3 else "a"), NAMED, "row 3: the target is m"),
    "the text nan": (some(label=lambda n: "nan" if n == 3 else "a"), NAMED, "row 3: the target is"),
    "a blank": (some(label=lambda n: "  " if n == 3 else "a"), NAMED, "row 3: the target is mis"),
    "no input": (
        some(text=lambda n: "" if n == 3 else f"{n}"),
        NAMED,
        "row 3: the input is missin",
    ),
    "no group": (
        some(g=lambda n: None if n == 3 else n),
        {**NAMED, "group": "g"},
        "group is missi",
    ),
    "one label": (some(label="a"), NAMED, r"all 10 targets are 'a'.*another --target"),
    "one label, free": (some(label="a"), {**NAMED, "answers": "free"}, "all 10 targets are 'a'"),
    "labels alike": (some(label=lambda n: ("Yes", "yes")[n % 2]), NAMED, "'Yes' and 'yes' differ"),
    "labels of one look": (
        some(label=lambda n: ("caf\u00e9", "cafe\u0301")[n % 2]),
        NAMED,
        "the encoding of accents alone",
    ),
    "no numbers": (some(), {**NAMED, "answers": "number"}, "'a' is no number"),
    "a target that is no answer": (
        some(label=lambda n: f"answer {n}" if n else "..."),
        NAMED,
        r"'\.\.\.' could not be told from no answer",
    ),
    "lines as labels": (
        some(label=lambda n: ("a\nb", "c")[n % 2]),
        {**NAMED, "answers": "labels"},
        "has a line break",
    ),
    "a list": (some(text=lambda n: [n]), NAMED, r"row 0: column 'text': \[0\] is no text"),
    "an array": (some(text=lambda n: np.array([n, 1])), NAMED, "row 0: column 'text': array"),
    "a dict": (some(label=lambda n: {"a": n}), NAMED, "row 0: column 'label': {'a': 0} is no t"),
    "bytes": (some(text=lambda n: b"%d" % n), NAMED, "row 0: column 'text': b'0' is no text"),
    "one input": (some(text="same"), NAMED, "10 with the same input"),
    "one row": (some(1, label="a"), NAMED, "1 with the same input"),
    "one group": (some(g=1), {**NAMED, "group": "g"}, r"all rows are of one group \(g is '1'\)"),
    "no test": (some(s="train"), {**NAMED, "split": "s"}, "no row of column 's' says test"),
    "no train": (some(s="test"), {**NAMED, "split": "s"}, "no row of column 's' says train"),
    "folds": (some(s=lambda n: n % 3), {**NAMED, "split": "s"}, "they say 0, 1, 2"),
    "a group on both sides": (
        some(s=lambda n: ("train", "test")[n % 2], g=lambda n: n % 3),
        {**NAMED, "split": "s", "group": "g"},
        "3 groups stand on both sides",
    ),
    "kind unknown": (some(), {**NAMED, "answers": "yes"}, "unknown answers 'yes'. Known: labels"),
    "two columns of a name": (
        pd.DataFrame([["q", "a", "b"]] * 3, columns=["text", "label", "label"]),
        NAMED,
        "two columns called 'label'",
    ),
    "no rows at all": (3, NAMED, "task is 3; rows are a DataFrame"),
    "texts": (["a", "b"], NAMED, "row 0 is 'a'; a row is a dict"),
    "columns of Examples": (
        [Example(id=str(n), input=f"{n}", target="ab"[n % 2]) for n in range(9)],
        NAMED,
        "--input names a column, and Examples have none",
    ),
    "choices of each Example": (
        [Example(id=str(n), input=f"{n}", target="a", choices=("a", str(n))) for n in range(9)],
        {},
        "different choices",
    ),
    "rationales": (
        [Example(id=str(n), input=f"{n}", target=f"{n}", rationale="r") for n in range(9)],
        {},
        "have rationales",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_task_is_refused_in_one_line(case: str) -> None:
    rows, columns, message = REFUSED[case]
    with pytest.raises(IclError, match=message) as caught:
        task(rows, **columns)
    assert "\n" not in str(caught.value)


FILES: dict[str, tuple[str, str]] = {
    "tickets.csv.bak": ("a,b\n", "ends in .jsonl, .csv"),
    "tickts.csv": ("", r"tickts\.csv does not exist. Nearest: tickets\.csv"),
    "other.csv": ("", r"other\.csv does not exist\.$"),
    "no/folder.csv": ("", "there is no folder no"),
    "sheet.xlsx": ("PK", "sheet.xlsx is a spreadsheet.*save the sheet as CSV"),
    "pk.csv": ("PK\x03\x04", "spreadsheet or a zip archive"),
    "ragged.csv": ("input,target\na,b,c\n", "line 2, column 3: 3 cells where"),
    "broken.jsonl": ('{"input": 1', "line 1, column"),
    "empty.csv": ("", "holds no rows"),
    "header.csv": ("input,target\n", "holds no rows"),
    "line.csv": ("input,target\nx,\ny,a\n", r"line\.csv, line 2: the target is missing"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_none_of_rows_is_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, message = FILES[name]
    Path("tickets.csv").write_text("input,target\na,b\n")
    if text or name in ("empty.csv",):
        Path(name).write_text(text)
    with pytest.raises(IclError, match=message) as caught:
        find_tasks(name)
    assert "\n" not in str(caught.value)


def test_a_folder_named_as_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(IclError, match=r"is a folder\. Name a file"):
        find_tasks(str(tmp_path / "t.csv"))


def test_columns_belong_to_rows_and_not_to_a_function() -> None:
    with pytest.raises(IclError, match=r"task\(\): target belongs to rows"):
        task(lambda: None, target="label")  # type: ignore[call-overload]
