"""A run in other programs' forms holds the numbers of its curves, and says what it leaves out."""

import csv
import io
import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

import icl_harness
from icl_harness import ScriptedModel
from icl_harness.cli.app import app
from icl_harness.errors import ProviderError, SpecError
from icl_harness.report.interchange import errorbars_csv, every_eval_ever
from tests.runner.test_walk import right

RESULT = {"evaluation_name", "source_data", "metric_config", "score_details"}  # required in 0.3
DOCUMENT = {
    "schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info",
    "eval_library", "evaluation_results",
}  # fmt: skip


def sometimes(prompt) -> str:
    if prompt.query.input == "n 103":
        raise ProviderError("busy")
    return right(prompt) if int(prompt.query.input.split()[1]) % 3 else " maybe"


@pytest.fixture
def run(toy):
    models = [ScriptedModel(sometimes, id="a/one"), ScriptedModel(right, id="two")]
    options = {"modes": ["supervised", "unsupervised"], "shots": [0, 2], "draws": 2}
    return icl_harness.run("toy", models, out="out", data="data", **options)


def texts_only(details: dict[str, object]) -> bool:
    return all(isinstance(value, str) for value in details.values())


def test_the_document_of_every_eval_ever_is_of_its_schema_and_has_the_curves(run) -> None:
    text, notes = every_eval_ever(run, "a/one")
    document = json.loads(text)
    assert document.keys() == DOCUMENT
    assert document["schema_version"] == "0.3.0"
    assert document["source_metadata"]["source_type"] in ("documentation", "evaluation_run")
    assert document["model_info"].keys() == {"name", "id", "additional_details"}
    assert document["model_info"]["additional_details"].keys() >= {
        "deployment_type", "model_availability",
    }  # fmt: skip
    table = run.curves()
    table = table[table["model"] == "a/one"]
    results = document["evaluation_results"]
    assert [one["score_details"]["score"] for one in results] == table["value"].tolist()
    for one, row in zip(results, table.to_dict("records"), strict=True):
        assert one.keys() >= RESULT
        interval = one["score_details"]["uncertainty"]["confidence_interval"]
        assert (interval["lower"], interval["upper"]) == (row["ci_low"], row["ci_high"])
        assert one["score_details"]["details"]["shots"] == str(row["shots"])
        assert one["score_details"]["details"]["n_failed"] == "2" == str(row["n_failed"])
        assert texts_only(one["score_details"]["details"])
        assert texts_only(one["generation_config"]["additional_details"])
        assert texts_only(one["source_data"]["additional_details"])
        assert one["metric_config"]["lower_is_better"] is False
    assert len({one["evaluation_result_id"] for one in results}) == len(results)
    assert notes == []


def test_another_metric_takes_the_place_of_the_tasks_own(run) -> None:
    document = json.loads(every_eval_ever(run, "two", "macro_f1")[0])
    table = run.curves("macro_f1")
    expected = table[table["model"] == "two"]["value"].tolist()
    results = document["evaluation_results"]
    assert [one["score_details"]["score"] for one in results] == expected
    assert {one["metric_config"]["metric_id"] for one in results} == {"macro_f1"}
    done = icl_harness.run(
        "dialects", "baseline/bayes", out="bayes", shots=[0, 4], draws=2, queries=9
    )
    (first, _) = json.loads(every_eval_ever(done, None, "gold_nll")[0])["evaluation_results"]
    config = first["metric_config"]
    assert (config["lower_is_better"], config["max_score"]) == (True, "Infinity")
    assert "Infinity" not in first["score_details"]["details"].values()


def test_of_several_models_one_is_named(run) -> None:
    for model in (None, "three"):
        with pytest.raises(SpecError, match="--model: a/one, two"):
            every_eval_ever(run, model)


def test_a_point_without_an_answer_is_left_out_and_said(toy) -> None:
    def fails(prompt) -> str:
        raise ProviderError("busy")

    run = icl_harness.run("toy", ScriptedModel(fails), out="out", data="data", shots=[0], draws=1)
    text, notes = every_eval_ever(run)
    assert json.loads(text)["evaluation_results"] == []
    assert notes == ["1 points without an answer are left out"]
    assert "NaN" not in text


def test_the_csv_for_errorbars_has_each_score_once_and_no_missing_one(run) -> None:
    text, notes = errorbars_csv(run)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["question_id", "cluster_id", "model", "score", "sample"]
    keys = [(row["model"], row["question_id"], row["sample"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert notes == ["8 records without a score are left out"]
    assert all(math.isfinite(float(row["score"])) for row in rows)
    for row in run.curves().to_dict("records"):
        name = f"{row['model']} {row['mode']} {row['shots']} shots"
        scores = [float(one["score"]) for one in rows if one["model"] == name]
        assert sum(scores) / len(scores) == pytest.approx(row["value"])


def test_errorbars_reads_its_csv_where_it_is_installed(run, tmp_path) -> None:
    reader = pytest.importorskip("errorbars.io")
    (tmp_path / "e.csv").write_text(errorbars_csv(run)[0])
    data = reader.load_csv(tmp_path / "e.csv")
    assert len(data.models()) == 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "errorbars", "--shot-ids"], "leave out --shot-ids"),
        (["--format", "every-eval-ever", "--salvage"], "leave out --shot-ids"),
        (["--format", "csv", "--model", "two"], "--model is for --format every-eval-ever"),
        (["--format", "csv", "--metric", "macro_f1"], "--metric is for --format every-eval-ever"),
        (["--format", "errorbar"], "Nearest: errorbars"),
    ],
)
def test_options_that_would_do_nothing_are_refused(run, options, words) -> None:
    with pytest.raises(SpecError, match=words):
        CliRunner().invoke(app, ["export", "out", *options], catch_exceptions=False)


def test_the_command_writes_them(run) -> None:
    for form, options in (("errorbars", []), ("every-eval-ever", ["--model", "two"])):
        shown = CliRunner().invoke(app, ["export", "out", "--format", form, *options])
        written = CliRunner().invoke(
            app, ["export", "out", "--format", form, *options, "--out", f"{form}.txt"]
        )
        assert shown.exit_code == written.exit_code == 0
        assert len(Path(f"{form}.txt").read_text()) > 1000
        assert len(shown.output) > 1000
