"""Results of other programs become run folders, with the numbers that they published."""

import csv
import gzip
import io
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from icl_harness.cli.app import app
from icl_harness.errors import DataError, IclError, SpecError, StoreError
from icl_harness.report.imports.answers import _last_digit
from icl_harness.report.imports.columns import parse_columns
from icl_harness.report.imports.folder import chosen_metric, import_results
from icl_harness.report.run import Run, load_runs
from icl_harness.tasks.metrics import accuracy
from tests.conftest import SHARED

COLUMNS = {"task": "set", "shots": "k", "draw": "seed", "query": "item", "score": "correct"}
ROWS = [
    {"set": "trec", "k": k, "seed": seed, "item": item, "correct": (k + seed + item) % 2}
    for k in (1, 4)
    for seed in (0, 1)
    for item in range(5)
]
BERTSCH = SHARED / "reference/bertsch2024_llama2_7b_80k_per_item.csv.gz"


def as_csv(rows: list[dict[str, object]], separator: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: list[dict[str, object]]) -> bytes:
    content = io.BytesIO()
    pd.DataFrame(rows).to_parquet(content)
    return content.getvalue()


def as_jsonl(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def take(
    folder: Path,
    rows: list[dict[str, object]],
    columns: dict[str, str] = COLUMNS,
    metric: object = accuracy,
    name: str = "t.csv",
    percent: bool = False,
    **given: object,
) -> Run:
    (folder / name).write_bytes(as_csv(rows))
    return import_results([folder / name], folder / "run", columns, given, metric, percent=percent)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", as_csv(ROWS)),
        ("t.tsv", as_csv(ROWS, "\t")),
        ("t.csv.gz", gzip.compress(as_csv(ROWS, ";"))),
        ("t.jsonl", as_jsonl(ROWS)),
        ("t.jsonl.gz", gzip.compress(as_jsonl(ROWS))),
        ("t.json", json.dumps(ROWS).encode()),
        ("t.parquet", as_parquet(ROWS)),
    ],
)
def test_every_form_of_file_gives_the_same_curves(tmp_path, name, content) -> None:
    (tmp_path / name).write_bytes(content)
    run = import_results([tmp_path / name], tmp_path / "run", COLUMNS, {}, accuracy)
    table = run.curves()
    assert table["shots"].tolist() == [1, 4]
    assert table["value"].tolist() == [0.5, 0.5]
    assert table["n_ok"].tolist() == [10, 10]
    assert set(table["model"]) == {"t"}
    assert run.compare(by="shots")["n_pairs"].tolist() == [10]


def changed(number: int, **values: object) -> list[dict[str, object]]:
    rows = [dict(row) for row in ROWS]
    rows[number].update(values)
    return rows


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (changed(3, correct="yes"), ["line 5", "'correct'", "'yes'", "a number"]),
        (changed(3, correct="1,0"), ["line 5", "'1,0'"]),
        (changed(3, correct="1_0"), ["line 5", "'1_0'"]),
        (changed(3, correct="inf"), ["line 5", "inf"]),
        (changed(3, correct=1.5), ["line 5", "1.5", "between 0 and 1", "--percent"]),
        (changed(3, correct=-0.5), ["line 5", "-0.5"]),
        (changed(0, k="many"), ["line 2", "shots", "'many'", "whole number"]),
        (changed(0, k=""), ["line 2", "shots", "empty"]),
        (changed(0, k=-1), ["line 2", "'-1'"]),
        (changed(0, k=1.5), ["line 2", "'1.5'"]),
        (changed(0, seed="a"), ["line 2", "draw", "'a'"]),
        (changed(0, item=""), ["line 2", "query", "empty"]),
        (changed(0, set=""), ["line 2", "task", "empty"]),
        (changed(1, item=0), ["line 3", "'0'", "line 2", "already"]),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_row_and_leaves_nothing(
    tmp_path, rows, words
) -> None:
    with pytest.raises(DataError) as refused:
        take(tmp_path, rows)
    message = str(refused.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("blank", ["", "nan", "NA", "None", "null", " "])
def test_a_missing_score_is_missing_and_counted(tmp_path, blank) -> None:
    run = take(tmp_path, changed(0, correct=blank))
    first = run.curves().iloc[0]
    assert (first["n_ok"], first["n_failed"]) == (9, 1)
    assert first["value"] == pytest.approx(4 / 9)
    shown = CliRunner().invoke(app, ["curves", str(run.path)]).output
    assert "1 score is missing in what was imported" in shown
    assert "sends them again" not in shown
    assert "unfinished" not in shown


@pytest.mark.parametrize(
    ("written", "value"), [("True", 1.0), ("false", 0.0), ("1.0", 1.0), ("0", 0.0), ("5e-1", 0.5)]
)
def test_scores_are_read_as_programs_write_them(tmp_path, written, value) -> None:
    run = take(tmp_path, changed(0, correct=written))
    records = run.records()
    assert records["score"].iloc[0] == value


def test_scores_beyond_1_are_taken_where_the_metric_says_so(tmp_path) -> None:
    rows = changed(0, correct=63.5)
    with pytest.raises(SpecError, match=r"--range 0,100"):
        chosen_metric("chrf", None)
    table = take(tmp_path, rows, metric=chosen_metric("chrf", "0,100")).curves()
    assert table["metric"].tolist() == ["chrf", "chrf"]
    assert table["value"].iloc[0] == pytest.approx((63.5 + 4) / 10, abs=0.2)
    assert table["ci_low"].min() >= 0


@pytest.mark.parametrize(
    ("name", "limits"),
    [("accuracy", "0,100"), ("chrf", "100,0"), ("chrf", "0"), ("chrf", "a,b"), ("chrf", "nan,1")],
)
def test_a_range_that_is_none_is_refused(name, limits) -> None:
    with pytest.raises(SpecError, match="--range"):
        chosen_metric(name, limits)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("task", "KEY=COLUMN"),
        ("task=", "KEY=COLUMN"),
        ("=x", "KEY=COLUMN"),
        ("tsk=x", "Nearest: task"),
        ("task=x,task=y", "twice"),
        ("", "KEY=COLUMN"),
    ],
)
def test_columns_that_cannot_be_read_say_why(written, words) -> None:
    with pytest.raises(SpecError, match=words):
        parse_columns([written])


@pytest.mark.parametrize(
    ("columns", "given", "words"),
    [
        ({**COLUMNS, "score": "corect"}, {}, "Nearest: correct"),
        ({**COLUMNS, "n": "k"}, {}, "n is of a whole cell"),
        ({"shots": "k", "query": "item", "score": "correct"}, {}, "--task"),
        ({"task": "set", "query": "item", "score": "correct"}, {}, "--shots"),
        ({"task": "set", "shots": "k", "query": "item"}, {}, "score=COLUMN"),
        ({**COLUMNS, "right": "correct"}, {}, "one column of scores"),
        ({"task": "set", "shots": "k", "right": "correct"}, {}, "right needs n"),
        ({"task": "set", "shots": "k", "score": "correct", "sample": "seed"}, {}, "query=COLUMN"),
        ({**COLUMNS, "target": "item"}, {}, "target needs parsed"),
        (COLUMNS, {"task": "trec"}, "given twice"),
        (COLUMNS, {"mode": "icl"}, "supervised, reinforced, unsupervised"),
    ],
)
def test_what_the_columns_lack_is_said(tmp_path, columns, given, words) -> None:
    with pytest.raises(IclError, match=words):
        take(tmp_path, ROWS, columns, **given)


def test_one_id_has_one_gold_answer(tmp_path) -> None:
    rows = [{**row, "gold": "a", "read": "a"} for row in ROWS]
    rows[7]["gold"] = "b"
    columns = {**COLUMNS, "parsed": "read", "target": "gold"}
    with pytest.raises(DataError, match="line 9"):
        take(tmp_path, rows, columns)


def test_metrics_of_answers_are_computed_from_what_was_read(tmp_path) -> None:
    rows = [{**row, "gold": "ab"[row["item"] % 2], "read": "a"} for row in ROWS]
    rows = [{**row, "correct": int(row["gold"] == "a")} for row in rows]
    columns = {**COLUMNS, "parsed": "read", "target": "gold"}
    run = take(tmp_path, rows, columns)
    macro = run.curves(metric="macro_f1")
    assert macro["value"].tolist() == pytest.approx([0.375, 0.375])  # F1 .75 and 0
    with pytest.raises(SpecError, match="parsed=COLUMN and target=COLUMN"):
        import_results(
            [tmp_path / "t.csv"], tmp_path / "other", COLUMNS, {}, chosen_metric("macro_f1", None)
        )


def test_nothing_read_is_unparsed_and_a_score_for_it_is_refused(tmp_path) -> None:
    columns = {**COLUMNS, "parsed": "read"}
    rows = [{**row, "read": "x" if row["correct"] else ""} for row in ROWS]
    assert take(tmp_path, rows, columns).curves()["n_unparsed"].sum() == 10
    rows[0]["read"], rows[0]["correct"] = "", 1
    with pytest.raises(DataError, match="line 2"):
        import_results([_written(tmp_path, rows)], tmp_path / "other", columns, {}, accuracy)


def _written(folder: Path, rows: list[dict[str, object]], name: str = "other.csv") -> Path:
    (folder / name).write_bytes(as_csv(rows))
    return folder / name


CELLS = {"task": "set", "shots": "k", "draw": "seed"}


@pytest.mark.parametrize(
    ("columns", "value"),
    [
        ({**CELLS, "score": "mean", "n": "n"}, [0.85, 0.5]),
        ({**CELLS, "right": "right", "n": "n"}, [0.85, 0.5]),
        ({**CELLS, "score": "mean"}, [0.85, 0.5]),
    ],
)
def test_tables_of_cells_keep_their_means(tmp_path, columns, value) -> None:
    rows = [
        {"set": "s", "k": 0, "seed": 0, "mean": "0.9", "right": 18, "n": 20},
        {"set": "s", "k": 0, "seed": 1, "mean": "0.8", "right": 16, "n": 20},
        {"set": "s", "k": 8, "seed": 0, "mean": "0.5", "right": 10, "n": 20},
    ]
    run = take(tmp_path, rows, columns)
    table = run.curves()
    assert table["value"].tolist() == pytest.approx(value)
    assert table["n_draws"].tolist() == [2, 1]
    if "n" in columns:
        assert table["n_ok"].tolist() == [40, 20]
        assert run.compare(by="shots").empty  # whose answers are whose is not known


def test_a_mean_that_no_count_gives_is_refused(tmp_path) -> None:
    rows = [{"set": "s", "k": 0, "seed": 0, "mean": "0.915", "n": 20}]
    with pytest.raises(DataError, match=r"18 right ones are 0\.9, 19 are 0\.95"):
        take(tmp_path, rows, {**CELLS, "score": "mean", "n": "n"})


def test_percentages_are_divided_where_one_says_so(tmp_path) -> None:
    rows = [{"set": "s", "k": 0, "seed": 0, "mean": "88.8", "n": 250}]
    run = take(tmp_path, rows, {**CELLS, "score": "mean", "n": "n"}, percent=True)
    assert run.curves()["value"].tolist() == [0.888]


@given(n=st.integers(1, 400), data=st.data(), decimals=st.integers(1, 6))
def test_every_count_is_found_again_in_its_rounded_mean(n, data, decimals) -> None:
    right = data.draw(st.integers(0, n))
    written = f"{right / n:.{decimals}f}"
    step = _last_digit(written)
    assert step == pytest.approx(10.0**-decimals)
    assert abs(round(float(written) * n) / n - float(written)) <= step / 2 + 1e-9


def test_the_interval_of_cells_is_no_narrower_than_that_of_their_answers(tmp_path) -> None:
    answers = _crossed(np.random.default_rng(5))
    rows = pd.DataFrame(answers)
    cells = rows.groupby(["set", "k", "seed"])["correct"].agg(["sum", "count"]).reset_index()
    per_item = take(tmp_path, answers).curves()
    per_cell = import_results(
        [_written(tmp_path, cells.to_dict("records"))],
        tmp_path / "cells",
        {**CELLS, "right": "sum", "n": "count"},
        {},
        accuracy,
    ).curves()
    assert per_cell["value"].tolist() == per_item["value"].tolist()
    widths = [table["ci_high"] - table["ci_low"] for table in (per_item, per_cell)]
    assert (widths[1] >= widths[0] - 1e-9).all()


def _crossed(rng: np.random.Generator) -> list[dict[str, object]]:
    """Answers of 3 draws to the same 80 queries; both differ."""
    logit = rng.normal(0, 0.3, (3, 1)) + rng.normal(0, 1, (1, 80))
    right = rng.random((3, 80)) < 1 / (1 + np.exp(-logit))
    return [
        {"set": "s", "k": 4, "seed": draw, "item": item, "correct": int(right[draw, item])}
        for draw in range(3)
        for item in range(80)
    ]


def test_icl_run_plan_and_rescore_refuse_an_imported_folder_in_one_line(tmp_path) -> None:
    run = take(tmp_path, ROWS)
    before = (run.path / "run.json").read_bytes()
    out = ["--model", "demo", "--shots", "0", "--out", str(run.path)]
    for command in (["run", "dialects", *out], ["plan", "dialects", *out]):
        with pytest.raises(StoreError, match=r"was imported from t\.csv"):
            CliRunner().invoke(app, command, catch_exceptions=False)
    with pytest.raises(StoreError, match=r"was imported from t\.csv"):
        CliRunner().invoke(app, ["rescore", str(run.path)], catch_exceptions=False)
    assert (run.path / "run.json").read_bytes() == before


def test_every_reading_command_works_on_an_import_and_says_what_it_lacks(tmp_path) -> None:
    run = take(tmp_path, ROWS)
    folder = str(run.path)
    lacks = "imported from t.csv, without prompts, answers, what was read from them, gold answers"
    for command, words in (
        (["curves", folder], lacks),
        (["compare", folder, "--by", "shots"], "4 - 1"),
        (["plot", folder, "--out", str(tmp_path / "p.png")], "p.png"),
        (["export", folder, "--out", str(tmp_path / "e.csv")], ""),
        (["check", folder], lacks),
        (["show", folder, "--query", "3"], lacks),
    ):
        shown = CliRunner().invoke(app, command)
        assert shown.exit_code == 0, command
        assert words in shown.output
    again = import_results(
        [tmp_path / "e.csv"], tmp_path / "again", COLUMNS_OF_EXPORT, {}, accuracy
    )
    assert again.curves().equals(run.curves())


def test_without_columns_the_command_takes_those_that_are_called_as_a_key(tmp_path) -> None:
    renamed = {"set": "task", "k": "shots", "seed": "draw", "item": "query_id", "correct": "score"}
    rows = [{renamed[name]: value for name, value in row.items()} for row in ROWS]
    file = _written(tmp_path, [{**row, "note": "x"} for row in rows])
    shown = CliRunner().invoke(app, ["import", str(file), "--out", str(tmp_path / "run")])
    assert shown.exit_code == 0, shown.output
    assert "trec · other · accuracy" in shown.output
    assert Run(tmp_path / "run").curves()["value"].tolist() == [0.5, 0.5]


COLUMNS_OF_EXPORT = {
    name: name for name in ("task", "model", "mode", "variant", "shots", "draw", "score")
} | {"query": "query_id"}


def test_two_imports_go_into_one_table_where_their_queries_are_the_same(tmp_path) -> None:
    one = take(tmp_path, ROWS, model="a")
    other = import_results([tmp_path / "t.csv"], tmp_path / "b", COLUMNS, {"model": "b"}, accuracy)
    _, records = load_runs([one.path, other.path])
    assert records.count() == 40
    fewer = import_results(
        [_written(tmp_path, ROWS[:3])], tmp_path / "c", COLUMNS, {"model": "c"}, accuracy
    )
    with pytest.raises(StoreError, match="their data of trec differ"):
        load_runs([one.path, fewer.path])


def test_what_is_at_the_place_of_the_run_stays(tmp_path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="is there already"):
        take(tmp_path, ROWS)
    assert (tmp_path / "run/notes.txt").read_text() == "mine"


def sample(doc: int, value: float, name: str = "none") -> dict[str, object]:
    return {
        "doc_id": doc, "doc": {"q": doc}, "target": "4", "resps": [["so 4"]], "filter": name,
        "filtered_resps": ["4" if value else "[invalid]"], "metrics": ["exact_match"],
        "exact_match": value,
    }  # fmt: skip


def test_samples_of_lm_eval_are_read_with_their_model_and_shots(tmp_path) -> None:
    files = []
    for shots, time in ((0, "2026-11-01T10-00-00.1"), (5, "2026-11-01T11-00-00.1")):
        files.append(tmp_path / f"samples_gsm8k_{time}.jsonl")
        files[-1].write_bytes(as_jsonl([sample(doc, float(doc < shots)) for doc in range(8)]))
        about = {"model_name": "org/m", "n-shot": {"gsm8k": shots}, "config": {"fewshot_seed": 7}}
        (tmp_path / f"results_{time}.json").write_text(json.dumps(about))
    run = import_results(files, tmp_path / "run", {}, {}, accuracy)
    table = run.curves()
    assert table[["task", "model"]].drop_duplicates().values.tolist() == [["gsm8k", "org/m"]]
    assert table["value"].tolist() == [0, 0.625]
    assert table["n_unparsed"].tolist() == [8, 3]
    records = run.records()
    assert set(records["target"]) == {"4"}
    assert set(records["answer"]) == {"so 4"}
    assert set(records["draw"]) == {7}


def test_several_metrics_or_filters_of_lm_eval_must_be_chosen_among(tmp_path) -> None:
    file = tmp_path / "samples_t_2026-11-01T10-00-00.1.jsonl"
    rows = [sample(doc, 1.0, name) for doc in range(3) for name in ("first", "maj@8")]
    file.write_bytes(as_jsonl(rows))
    given = {"shots": 5, "model": "m"}
    with pytest.raises(SpecError, match="variant=filter"):
        import_results([file], tmp_path / "run", {}, given, accuracy)
    run = import_results([file], tmp_path / "run", {"variant": "filter"}, given, accuracy)
    assert run.curves()["variant"].tolist() == ["first", "maj@8"]
    two = [{**sample(0, 1.0), "metrics": ["acc", "acc_norm"], "acc": 1.0, "acc_norm": 0.0}]
    file.write_bytes(as_jsonl(two))
    with pytest.raises(SpecError, match="several metrics: acc, acc_norm"):
        import_results([file], tmp_path / "other", {}, given, accuracy)
    chosen = import_results([file], tmp_path / "other", {"score": "acc_norm"}, given, accuracy)
    assert chosen.curves()["value"].tolist() == [0]


def inspect_log(*values: object, scorers: tuple[str, ...] = ("match",)) -> SimpleNamespace:
    samples = []
    for i, value in enumerate(values):
        score = SimpleNamespace(value=value, answer="even")
        samples.append(
            SimpleNamespace(
                id=i // 2, epoch=i % 2 + 1, input="n", target="even",
                scores=None if value is None else dict.fromkeys(scorers, score),
                output=SimpleNamespace(completion="even"),
            )
        )  # fmt: skip
    about = SimpleNamespace(task="parity", model="openai/m", task_args={"fewshot": 4})
    return SimpleNamespace(eval=about, samples=samples)


@pytest.fixture
def inspect(monkeypatch):
    """Inspect's library, of which only the reader of logs is asked."""
    logs: dict[str, SimpleNamespace] = {}
    module = ModuleType("inspect_ai.log")
    module.read_eval_log = lambda path: logs[Path(path).name]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "inspect_ai", ModuleType("inspect_ai"))
    monkeypatch.setitem(sys.modules, "inspect_ai.log", module)
    return logs


def test_logs_of_inspect_are_read_with_their_epochs(tmp_path, inspect) -> None:
    (tmp_path / "a.eval").touch()
    inspect["a.eval"] = inspect_log("C", "I", "P", "N", 1, None)
    run = import_results([tmp_path / "a.eval"], tmp_path / "run", {}, {}, accuracy)
    records = run.records()
    assert records["score"].dropna().tolist() == [1.0, 0.0, 0.5, 0.0, 1.0]
    assert records["sample"].tolist() == [0, 1, 0, 1, 0, 1]
    assert records["shots"].tolist() == [4] * 6
    assert run.curves()["n_failed"].tolist() == [1]
    assert run.curves()["model"].tolist() == ["openai/m"]
    inspect["a.eval"] = inspect_log("C", "good")
    with pytest.raises(DataError, match=r"sample 0, epoch 2.*'good'"):
        import_results([tmp_path / "a.eval"], tmp_path / "other", {}, {}, accuracy)
    inspect["a.eval"] = inspect_log("C", "I", scorers=("answer",))  # one of Inspect's own
    run = import_results([tmp_path / "a.eval"], tmp_path / "answer", {}, {}, accuracy)
    assert run.records()[["score", "answer"]].values.tolist() == [[1.0, "even"], [0.0, "even"]]
    with pytest.raises(SpecError, match="no scorer 'mach'"):
        import_results([tmp_path / "a.eval"], tmp_path / "other", {"score": "mach"}, {}, accuracy)
    inspect["a.eval"] = inspect_log("C", scorers=("match", "includes"))
    with pytest.raises(SpecError, match="several scorers: match, includes"):
        import_results([tmp_path / "a.eval"], tmp_path / "other", {}, {}, accuracy)


def test_without_inspect_its_logs_name_the_command_that_installs_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    (tmp_path / "a.eval").touch()
    with pytest.raises(SpecError, match="pip install inspect-ai"):
        import_results([tmp_path / "a.eval"], tmp_path / "run", {}, {}, accuracy)


@pytest.mark.parametrize("name", ["a.xlsx", "a.txt", "a"])
def test_files_of_other_forms_are_refused(tmp_path, name) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match="must end in"):
        import_results([tmp_path / name], tmp_path / "run", COLUMNS, {}, accuracy)


@pytest.mark.slow
@pytest.mark.skipif(not BERTSCH.exists(), reason="../shared/reference is not on this machine")
def test_the_curves_of_bertsch_equal_the_means_of_their_table(tmp_path) -> None:
    columns = {
        "task": "dataset", "variant": "selection", "shots": "shots", "draw": "draw",
        "query": "item", "score": "correct",
    }  # fmt: skip
    table = import_results([BERTSCH], tmp_path / "run", columns, {}, accuracy).curves()
    means = pd.read_csv(BERTSCH).groupby(["dataset", "shots"])["correct"].mean()
    assert table["value"].tolist() == pytest.approx(means.tolist(), abs=1e-12)
    assert set(table["n_ok"]) == {2500}
    published = pd.read_csv(SHARED / "reference/bertsch2024_curves.csv")
    theirs = published[published["model"].str.contains("80k", case=False)]
    found = table.set_index(["task", "shots"])["value"]
    n_same = 0
    for row in theirs.to_dict("records"):
        if row["runs"] == 10 and (row["dataset"], row["n_shots"]) in found.index:
            n_same += abs(100 * found[row["dataset"], row["n_shots"]] - row["acc_mean"]) < 0.006
    assert n_same >= 30
