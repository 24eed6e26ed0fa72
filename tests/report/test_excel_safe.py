"""Texts that a spreadsheet takes for a formula get a ' before them; numbers stay numbers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from icl_harness import ScriptedModel, run
from icl_harness.errors import SpecError
from icl_harness.report.export import _harmless, export
from icl_harness.store.records import RunStore

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\ttext",
            "\rtext", " =1", "  +1", "'=1", '"=1', "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x",
            " \uff1d1", "\r\n=1", "-5", "+"]  # fmt: skip
TEXTS = ["", "even", "1 = 1", "a=b", "x-y", "12", "3.5", "(1)", "a@b.org", "'quoted'", "\uff11"]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_begins_as_a_formula_is_shown_as_it_is(text: str) -> None:
    assert _harmless(text) == "'" + text


@pytest.mark.parametrize("text", TEXTS)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert _harmless(text) == text


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "\uff20x", "-5", "even"])
def test_an_export_is_safe_where_it_is_asked_to_be(toy: Path, text: str) -> None:
    run("toy", ScriptedModel(lambda prompt: text), shots=[0], draws=1, queries=2, out="out",
        data="data")  # fmt: skip
    store = RunStore.open(Path("out"))
    rows = []
    for excel_safe in (False, True):
        file = io.BytesIO()
        export(store, "csv", file, excel_safe=excel_safe)
        rows.append(list(csv.DictReader(io.StringIO(file.getvalue().decode()))))
    plain, safe = rows
    store.close()
    assert [row["answer"] for row in plain] == [text] * 2
    assert [row["answer"] for row in safe] == [_harmless(text)] * 2
    for name in ("score", "shots", "prompt_tokens", "latency_s"):
        assert [row[name] for row in safe] == [row[name] for row in plain], "a number stays one"
    with pytest.raises(SpecError, match="--excel-safe is for csv"):
        export(store, "jsonl", io.BytesIO(), excel_safe=True)
