"""Files of rows as people have them: every form gives the same examples, and what is wrong with one
is a line with its remedy.
"""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from icl_harness.errors import DataError
from icl_harness.examples import Example
from icl_harness.tasks.rows import Row, rows

TABLE = [("a, b", "yes"), ("c; d", "no"), ('say "e"', "yes")]
ROWS = [{"text": text, "label": label} for text, label in TABLE]


def make(row: Row) -> Example:
    return Example(id=row["id"], input=row["text"], target=row["label"])


def read(folder: Path) -> list[Example]:
    return rows("train").examples(make, "mine", folder)


def write(folder: Path, name: str, content: str | bytes) -> None:
    path = folder / "mine" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def table(separator: str, **options: Any) -> str:
    return pd.DataFrame(ROWS).to_csv(index=False, sep=separator, **options)


LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
BARE_TABS = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in TABLE)
FORMS: dict[str, tuple[str, str | bytes]] = {
    "commas": ("train.csv", table(",")),
    "semicolons": ("train.csv", table(";")),
    "tabs called csv": ("train.csv", table("\t")),
    "tabs": ("train.tsv", table("\t")),
    "bars": ("train.csv", table("|")),
    "all in quotes": ("train.csv", table(";", quoting=1)),
    "all in quotes, commas": ("train.csv", table(",", quoting=1)),
    "tabs, nothing in quotes": ("train.tsv", BARE_TABS),
    "tabs called csv, nothing in quotes": ("train.csv", BARE_TABS),
    "a byte order mark": ("train.csv", "\ufeff" + table(";")),
    "CRLF": ("train.csv", table(";").replace("\n", "\r\n")),
    "CR alone": ("train.csv", table(";").replace("\n", "\r")),
    "Excel's first line": ("train.csv", "sep=;\r\n" + table(";").replace("\n", "\r\n")),
    "empty lines": ("train.csv", table(",").replace("\n", "\n\n")),
    "lines of separators alone": ("train.csv", table(";") + ";\n;\n"),
    "a separator at every end": ("train.csv", table(",").replace("\n", ",\n")),
    "two separators at every end": ("train.csv", table(";").replace("\n", ";;\n")),
    "spaces around the header": ("train.csv", table(",").replace("text,label", " text , label ")),
    "an index column": ("train.csv", pd.DataFrame(ROWS).to_csv()),
    "gzipped csv": ("train.csv.gz", gzip.compress(table(";").encode())),
    "gzipped tsv": ("train.tsv.gz", gzip.compress(table("\t").encode())),
    "gzipped lines": ("train.jsonl.gz", gzip.compress(LINES.encode())),
    "gzipped array": ("train.json.gz", gzip.compress(json.dumps(ROWS).encode())),
    "lines": ("train.jsonl", LINES),
    "lines called json": ("train.json", LINES),
    "an array": ("train.json", json.dumps(ROWS)),
    "an array, indented": ("train.json", "\ufeff\n" + json.dumps(ROWS, indent=2)),
    "an array called jsonl": ("train.jsonl", json.dumps(ROWS)),
    "pandas' records": ("train.json", pd.DataFrame(ROWS).to_json(orient="records")),
    "parquet": ("train.parquet", parquet(pd.DataFrame(ROWS))),
    "parquet, categories": ("train.parquet", parquet(pd.DataFrame(ROWS).astype("category"))),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_examples(tmp_path: Path, form: str) -> None:
    name, content = FORMS[form]
    write(tmp_path, name, content)
    found = [(example.input, example.target) for example in read(tmp_path)]
    assert found == TABLE


def test_parquet_of_datasets_keeps_the_names_of_its_classes(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    coded = [{**row, "label": int(row["label"] == "yes")} for row in ROWS]
    buffer = io.BytesIO()
    datasets.Dataset.from_list(coded, features=features).to_parquet(buffer)
    write(tmp_path, "train.parquet", buffer.getvalue())
    assert [(example.input, example.target) for example in read(tmp_path)] == TABLE


def test_one_column_is_a_table_whatever_its_text_holds(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "text\nplain\nwith a; semicolon\n")
    found = rows("train").examples(
        lambda row: Example(id=row["id"], input=row["text"], target="x"), "mine", tmp_path
    )
    assert [example.input for example in found] == ["plain", "with a; semicolon"]


def test_the_separator_is_the_one_with_which_all_rows_fit(tmp_path: Path) -> None:
    # Both separators are in the header; only with one has each row as many cells.
    write(tmp_path, "train.csv", "text;label,or not;id\nx, y;yes;1\nz;no;2\n")
    found = rows("train").examples(
        lambda row: Example(id=row["id"], input=row["text"], target=row["label,or not"]),
        "mine",
        tmp_path,
    )
    assert [(e.id, e.input, e.target) for e in found] == [("1", "x, y", "yes"), ("2", "z", "no")]


NAN = float("nan")
BAD: dict[str, tuple[str | None, str | bytes, str]] = {
    "a sheet": ("train.xlsx", b"PK\x03\x04", r"train\.xlsx is a spreadsheet.* CSV UTF-8"),
    "an old sheet": ("train.xls", b"\xd0\xcf", r"train\.xls is a spreadsheet"),
    "a sheet of LibreOffice": ("train.ods", b"PK", r"train\.ods is a spreadsheet"),
    "a sheet called csv": ("train.csv", b"PK\x03\x04..", r"is a spreadsheet or a zip archive"),
    "no parquet": ("train.parquet", b"PAR", r"train\.parquet cannot be read as Parquet: "),
    "an empty parquet": ("train.parquet", parquet(pd.DataFrame(ROWS[:0])), r"holds no rows"),
    "a null in parquet": (
        "train.parquet",
        parquet(pd.DataFrame([{"text": "a", "label": "x"}, {"text": "b", "label": None}])),
        r"train\.parquet, row 2: the target is null",
    ),
    "a NaN in parquet": (
        "train.parquet",
        parquet(pd.DataFrame({"text": ["a", "b"], "label": [1.5, NAN]})),
        r"row 2: the target is (NaN|null)",
    ),
    "an empty array": ("train.json", "[]", r"holds no rows"),
    "an array of texts": ("train.json", '["a", "b"]', r"line 1, column 1: a JSON list"),
    "an array with a text": ("train.json", '[{"text": "a", "label": "x"}, "b"]', r"row 2: a JSON"),
    "a cut array": ("train.json", '[{"text": "a",\n "label', r"line 1, column \d+: .* be whole"),
    "NaN in an array": ("train.json", '[{"text": "a", "label": NaN}]', r"the target is NaN"),
    "Windows-1252": ("train.csv", "text,label\ncaf\xe9,x\n".encode("cp1252"), r"Save .* as UTF-8"),
    "UTF-16": ("train.csv", "text,label\na,x\n".encode("utf-16"), r"is not UTF-8\. Save"),
    "another case": ("train.csv", "Text,Label\na,x\n", r"no column 'text'; .* Nearest: Text\."),
    "no header": ("train.csv", "good film,yes\nbad film,no\n", r"names its columns: does this"),
    "text with bare commas": ("train.csv", "text,label\na, b,x\n", r"3 cells .* Quote cells"),
    "named otherwise": ("training.csv", table(","), r"mine holds training\.csv\."),
    "several named otherwise": ("Train.CSV", "", r"mine holds Train\.CSV\."),
    "a folder of files": ("train/part-0.csv", table(","), r"mine/train is a folder: its rows"),
    "flat": ("../train.csv", table(","), r"train\.csv is there: it belongs into a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_one_line_with_its_remedy(tmp_path: Path, case: str) -> None:
    name, content, message = BAD[case]
    if name is not None:
        write(tmp_path, name, content)
    with pytest.raises(DataError, match=message) as caught:
        rows("train").examples(make, "mine", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [None, NAN, pd.NA, pd.NaT])
def test_the_text_of_a_missing_value_is_no_target(tmp_path: Path, label: object) -> None:
    from icl_harness.tasks.given_rows import as_source

    source = as_source(pd.DataFrame({"text": ["a", "b"], "label": ["x", label]}), "pool")
    with pytest.raises(DataError, match=r"pool, row 1: the target is missing: column 'label'"):
        source.examples(
            lambda row: Example(id=row["id"], input=row["text"], target=str(row["label"])),
            "t",
            None,
        )


def test_a_data_folder_that_is_a_file_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DataError, match=r"data folder .*data is a file, not a folder"):
        read(tmp_path / "data")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    import os

    (tmp_path / "mine").mkdir()
    os.mkfifo(tmp_path / "mine/train.csv")
    with pytest.raises(DataError, match=r"train\.csv is no regular file"):
        read(tmp_path)
