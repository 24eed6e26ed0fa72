"""Rows: where they come from, and what is said of rows that cannot be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.errors import DataError
from icl_harness.examples import Example, normalised
from icl_harness.tasks.holdout import holdout
from icl_harness.tasks.row_files import file_rows
from icl_harness.tasks.rows import MakeExample, Row, hub, rows


def make(row: Row) -> Example:
    return Example(id=row["id"], input=row["text"], target=row["label"], rationale=row.get("why"))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(folder: Path) -> list[Example]:
    return rows("train").examples(make, "mine", folder)


GOOD = '{"text": "a", "label": "x"}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", '{"text": "a", "label": "x"}\n\n{"text": "b", "label": 7, "why": "so"}\n'),
        (
            "train.jsonl",
            '\ufeff{"text": "a", "label": "x"}\r\n{"text": "b", "label": 7, "why": "so"}',
        ),
        (
            "train.jsonl.gz",
            gzip.compress(
                b'{"text": "a", "label": "x"}\n{"text": "b", "label": "7", "why": "so"}\n'
            ),
        ),
        (
            "train.jsonl",
            '{"text": " a\\n", "label": "x "}\n{"text": "b", "label": 7, "why": " so "}\n',
        ),
    ],
    # Workers must agree on a test's name, and a gzip's bytes hold the second it was made in.
    ids=["empty line", "mark and CRLF", "gzip", "spaces"],
)
def test_every_form_of_file_gives_the_same_examples(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    write(tmp_path, f"mine/{name}", content)
    assert read(tmp_path) == [
        Example(id="train-0", input="a", target="x"),
        Example(id="train-1", input="b", target="7", rationale="so"),
    ]


def test_csv_cells_may_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    write(tmp_path, "mine/train.csv", 'text,label\r\n"a, ""b""\nc",x\r\nd,y\r\n')
    assert [(e.input, e.target) for e in read(tmp_path)] == [('a, "b"\nc', "x"), ("d", "y")]


def test_a_json_text_may_hold_unicode_line_separators(tmp_path: Path) -> None:
    write(tmp_path, "mine/train.jsonl", '{"text": "a\u2028b\x85c", "label": "x"}\n')
    assert read(tmp_path)[0].input == "a\u2028b\x85c"


def test_ids_come_from_the_id_column_else_from_split_and_row_number(tmp_path: Path) -> None:
    lines = [
        {"text": "a", "label": "x", "id": 17},
        {"text": "b", "label": "x", "id": None},
        {"text": "c", "label": "x"},
    ]
    write(tmp_path, "mine/train.jsonl", "\n".join(map(json.dumps, lines)))
    assert [e.id for e in read(tmp_path)] == ["17", "train-1", "train-2"]


def test_a_row_may_be_left_out_and_keeps_the_others_ids(tmp_path: Path) -> None:
    write(tmp_path, "mine/train.jsonl", GOOD.replace('"a"', '"skip"') + GOOD)
    found = rows("train").examples(
        lambda row: None if row["text"] == "skip" else make(row), "mine", tmp_path
    )
    assert [e.id for e in found] == ["train-1"]


def test_a_column_may_have_several_names() -> None:
    assert Row(label="x").first("category", "label") == "x"


def test_without_a_folder_rows_of_ones_own_are_looked_for_in_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "data/mine/train.jsonl", GOOD)
    assert len(rows("train").examples(make, "mine", None)) == 1


SURROGATE = '{"text": "a \\ud800", "label": "x"}\n'
BAD = {
    "missing": (
        None,
        "",
        r"data file .*mine/train\.jsonl \(or \.csv, \.tsv, .*\) is missing\. Put it there\.",
    ),
    "a folder": ("train.jsonl/x", "", r"train\.jsonl cannot be read: Is a directory"),
    "empty": ("train.jsonl", "", r"train\.jsonl holds no rows\. It needs at least one"),
    "blank": ("train.jsonl", "\n \n", r"holds no rows"),
    "header only": ("train.csv", "text,label\n", r"train\.csv holds no rows"),
    "broken json": (
        "train.jsonl",
        GOOD + '{"text": "b" "label"}\n',
        r"train\.jsonl, line 2, column 14: Expecting ','",
    ),
    "cut json": ("train.jsonl", GOOD + '{"text": "b', r"line 2, column 10: Unterminated string"),
    "a list": (
        "train.jsonl",
        "[1]\n",
        r"line 1, column 1: a JSON list\. Each line must be one JSON object",
    ),
    "not a number": ("train.jsonl", '{"text": "a", "label": NaN}\n', r"line 1: the target is NaN"),
    "huge number": ("train.jsonl", '{"text": ' + "1" * 5000 + "}", r"line 1, column 1: .*limit"),
    "deep json": ("train.jsonl", "[" * 100_000, r"line 1, column 1: .*recursion"),
    "not utf-8": (
        "train.jsonl",
        GOOD.encode() + b'{"text": "\xe9"}',
        r"line 2, column 11: byte 0xe9 is not UTF-8",
    ),
    "csv not utf-8": (
        "train.csv",
        b"text,label\na\xff,x\n",
        r"train\.csv, line 2, column 2: byte 0xff is not UTF-8",
    ),
    "too few cells": (
        "train.csv",
        "text,label\na,x\nb\n",
        r"line 3, column 2: 1 cells where the header has 2",
    ),
    "too many cells": (
        "train.csv",
        'text,label\n"a\nb",x\nb,y,z\n',
        r"line 4, column 3: 3 cells where the header has 2",
    ),
    "open quote": (
        "train.csv",
        'text,label\na,x\n"b,y\n',
        r"train\.csv, line 3: unexpected end of data\. Quote cells",
    ),
    "stray quote": (
        "train.csv",
        'text,label\n"a"b,x\n',
        r"train\.csv, line 2: '?,'? expected after",
    ),
    "twice a column": (
        "train.csv",
        "text,text\na,b\n",
        r"line 1: the header names a column twice \(text, text\)",
    ),
    "no such column": (
        "train.csv",
        "sentence,label\na,x\n",
        r"line 2: there is no column 'text'; it has sentence, label",
    ),
    "column lacking later": (
        "train.jsonl",
        GOOD + '{"label": "x"}\n',
        r"line 2: there is no column 'text'; it has label",
    ),
    "no text": (
        "train.jsonl",
        '{"text": null, "label": "x"}\n',
        r"line 1: the input is null; it must be text",
    ),
    "a truth value": (
        "train.jsonl",
        '{"text": "a", "label": true}\n',
        r"line 1: the target is true; it must be text",
    ),
    "a nested value": (
        "train.jsonl",
        '{"text": {"a": 1}, "label": "x"}\n',
        r'line 1: the input is {"a": 1}; it must be text',
    ),
    "empty input": ("train.csv", "text,label\n ,x\n", r"train\.csv, line 2: the input is empty"),
    "empty target": ("train.csv", "text,label\na,\n", r"train\.csv, line 2: the target is empty"),
    "half a character": (
        "train.jsonl",
        SURROGATE,
        r"line 1: the input holds half a surrogate pair",
    ),
    "not gzip": ("train.jsonl.gz", GOOD, r"train\.jsonl\.gz: not a whole gzip file"),
    "cut gzip": (
        "train.jsonl.gz",
        gzip.compress(GOOD.encode() * 99)[:-9],
        r"not a whole gzip file",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_told_in_one_line_with_its_place(tmp_path: Path, case: str) -> None:
    name, content, message = BAD[case]
    if name:
        write(tmp_path, f"mine/{name}", content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_two_files_for_one_split_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "mine/train.jsonl", GOOD)
    write(tmp_path, "mine/train.csv", "text,label\na,x\n")
    with pytest.raises(DataError, match=r"both train\.jsonl and train\.csv are there\. Keep one"):
        read(tmp_path)


def test_a_data_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"data folder .*nowhere does not exist\. Task mine needs mine/train\.jsonl"
    ):
        read(tmp_path / "nowhere")


def test_a_hub_task_s_missing_file_names_the_hub_as_the_other_way(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"mine/test\.jsonl .*or leave out --data to load a/b from the hub"
    ):
        hub("a/b", split="test").examples(make, "mine", tmp_path)


def test_a_task_function_that_fails_is_told_with_its_row(tmp_path: Path) -> None:
    write(tmp_path, "mine/train.jsonl", GOOD + GOOD)
    with pytest.raises(
        DataError, match=r"line 1: the task cannot make an example of it: KeyError: 'x'"
    ):
        rows("train").examples(
            lambda row: Example(id="1", input="a", target={}[row["label"]]), "mine", tmp_path
        )
    with pytest.raises(
        DataError, match=r"line 1: example e: target 'x' is not among its 1 choices"
    ):
        rows("train").examples(
            lambda row: Example(id="e", input="a", target=row["label"], choices=("y",)),
            "mine",
            tmp_path,
        )


@given(content=st.binary(max_size=200), suffix=st.sampled_from([".jsonl", ".csv", ".jsonl.gz"]))
def test_any_bytes_are_rows_or_one_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(content)
    said = ""
    try:
        assert all(isinstance(row, dict) for _, row in file_rows(path))
    except DataError as error:
        said = str(error)
    assert "\n" not in said


class Listed:
    """A source of given inputs."""

    def __init__(self, inputs: list[str]) -> None:
        self.found = [Example(id=str(i), input=text, target="x") for i, text in enumerate(inputs)]

    def examples(self, make: object, task: str, data: Path | None) -> list[Example]:
        return self.found


def split(inputs: list[str], **sizes: int) -> tuple[list[Example], list[Example]]:
    pool, queries = holdout(Listed(inputs), **sizes)  # type: ignore[arg-type]
    return pool.examples(make, "mine", None), queries.examples(make, "mine", None)


def test_a_holdout_has_the_sizes_asked_for_and_is_always_the_same() -> None:
    inputs = [f"n {i}" for i in range(250)]
    pool, queries = split(inputs, pool=150, queries=100)
    assert (len(pool), len(queries)) == (150, 100)
    assert (pool, queries) == split(inputs, pool=150, queries=100)
    assert queries != split(inputs, pool=150, queries=100, seed=1)[1]
    assert [int(e.id) for e in pool] == sorted(int(e.id) for e in pool)


@pytest.mark.parametrize(
    ("n", "sizes"), [(187, (112, 75)), (146, (88, 58)), (178, (107, 71)), (400, (150, 100))]
)
def test_a_smaller_source_is_split_in_the_same_proportion(n: int, sizes: tuple[int, int]) -> None:
    pool, queries = split([f"n {i}" for i in range(n)], pool=150, queries=100)
    assert (len(pool), len(queries)) == sizes


@given(
    st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=60),
    st.integers(1, 20),
    st.integers(0, 9),
)
def test_equal_inputs_stay_on_one_side(inputs: list[str], queries: int, seed: int) -> None:
    pool, asked = split(
        [text + "!" * (i % 2) for i, text in enumerate(inputs)], queries=queries, seed=seed
    )
    assert not {normalised(e.input) for e in pool} & {normalised(e.input) for e in asked}
    assert len(asked) <= queries
    assert sorted(int(e.id) for e in [*pool, *asked]) == list(range(len(inputs)))


def test_a_holdout_of_one_s_own_file_is_split_whatever_lies_beside_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        "mine/train.jsonl",
        "".join(f'{{"text": "n {i}", "label": "x"}}\n' for i in range(9)),
    )
    write(tmp_path, "mine/test.jsonl", GOOD)
    pool, queries = holdout(rows("train"), queries=3)
    assert len(pool.examples(make, "mine", tmp_path)) == 6
    assert len(queries.examples(make, "mine", tmp_path)) == 3


def test_a_hub_holdout_takes_files_of_each_side_in_any_form(tmp_path: Path) -> None:
    write(tmp_path, "mine/train.csv", "text,label\na,x\n")
    write(tmp_path, "mine/test.jsonl.gz", gzip.compress(b'{"text": "b", "label": "y"}\n'))
    pool, queries = holdout(hub("a/b", split="train", local="copies/b"), queries=3)
    assert pool.examples(make, "mine", tmp_path) == [Example(id="train-0", input="a", target="x")]
    assert queries.examples(make, "mine", tmp_path) == [Example(id="test-0", input="b", target="y")]


def test_a_source_that_is_held_out_is_read_once_for_both_sides_and_anew_after_that(
    tmp_path: Path,
) -> None:
    class Counted:
        """The rows of a file, and how often they were read."""

        n_reads = 0

        def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
            self.n_reads += 1
            return rows("train").examples(make, task, data)

    def write_rows(words: str) -> None:
        lines = [json.dumps({"text": word, "label": "x"}) for word in words.split()]
        write(tmp_path, "mine/train.jsonl", "\n".join(lines))

    source = Counted()
    pool, queries = holdout(source, queries=2)
    for n, words in enumerate(("a b c d e", "v w x y z"), start=1):
        write_rows(words)
        sides = [part.examples(make, "mine", tmp_path) for part in (pool, queries)]
        assert source.n_reads == n
        assert sorted(e.input for side in sides for e in side) == words.split()
        assert [len(side) for side in sides] == [3, 2]
    write_rows("f g h")
    assert len(queries.examples(make, "mine", tmp_path)) == 2
    assert {e.input for e in queries.examples(make, "mine", tmp_path)} < {"f", "g", "h"}
    assert source.n_reads == 4
