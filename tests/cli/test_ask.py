"""`icl ask` and `Run.ask`: questions about the curves of run folders."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from icl_harness.analysis.questions import NAMES, asked
from icl_harness.cli.app import main
from icl_harness.errors import SpecError
from icl_harness.report.imports.folder import chosen_metric, import_results
from icl_harness.report.run import Run

SHOTS = (1, 4, 16, 64)


def write_table(path: Path, *, n_draws: int) -> Path:
    """Answers of two modes, one of which improves with shots."""
    rng = np.random.default_rng(1)
    with path.open("w") as file:
        out = csv.writer(file)
        out.writerow(["task", "mode", "shots", "draw", "query", "score"])
        for i, shots in enumerate(SHOTS):
            for draw in range(n_draws):
                for mode, rate in (("supervised", 0.3 + 0.15 * i), ("unsupervised", 0.5)):
                    for query in range(50):
                        out.writerow(["t", mode, shots, draw, query, int(rng.random() < rate)])
    return path


def imported(folder: Path, *, n_draws: int = 3) -> Path:
    table = write_table(folder / "answers.csv", n_draws=n_draws)
    import_results([table], folder / "run", {}, {"model": "m"}, chosen_metric(None, None))
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imported(tmp_path_factory.mktemp("three"))


def icl(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["icl", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_every_question_is_answered_for_every_curve(run: Path) -> None:
    answers = Run(run).ask()
    assert {one.question for one in answers} == set(NAMES)
    trends = [one for one in answers if one.question == "trend"]
    assert ["improves" in one.sentence for one in trends] == [True, False]
    assert all(one.sentence.startswith(one.about[:1]) for one in answers)


def test_answers_are_printed_as_sentences_and_tables_where_questions_are_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert icl(monkeypatch, "ask", run, "--about", "within, peak", "--within", ".1") == 0
    out = capsys.readouterr().out
    assert "within: t · m · supervised is within .100 of its best" in out
    assert "short_of_best" in out
    assert "better_than_last" in out
    assert "trend" not in out


def test_all_tables_go_into_one_csv(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "answers.csv"
    assert icl(monkeypatch, "ask", run, "--about", "trend,gain", "--csv", file) == 0
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert {row["question"] for row in rows} == {"trend", "gain"}
    assert all(row["sentence"] and row["about"] for row in rows)
    assert {float(row["last_shots"]) for row in rows if row["question"] == "trend"} == {64.0}


BAD = {
    "an unknown question": (["--about", "trends"], "--about 'trends': no such question"),
    "no question": (["--about", ""], "no such question"),
    "an empty name": (["--about", "trend,,peak"], "no such question"),
    "a negative distance": (["--within", "-1"], "--within -1: a distance"),
    "no distance": (["--within", "0"], "--within 0: a distance"),
    "an endless distance": (["--within", "inf"], "--within inf: a distance"),
    "what is no number": (["--within", "nan"], "--within nan: a distance"),
    "an unknown curve": (["--against", "nobody"], "--against 'nobody'"),
    "an unknown metric": (["--metric", "acuracy"], "there is no metric 'acuracy'"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    what: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options, said = BAD[what]
    assert icl(monkeypatch, "ask", run, *options) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("icl: ")
    assert said in shown.err
    assert shown.err.count("\n") == 1


def test_names_of_questions_are_read_from_a_text_or_a_list() -> None:
    assert asked(None) == []
    assert asked("trend, peak") == asked(["trend", "peak"]) == ["trend", "peak"]
    with pytest.raises(SpecError, match="Nearest: peak"):
        asked("peek")


def test_one_draw_has_no_p_value_and_the_sentence_says_what_is_left_out(tmp_path: Path) -> None:
    answers = Run(imported(tmp_path, n_draws=1)).ask("trend,gain,within,peak")
    for one in answers:
        assert "One draw was made" in one.sentence
        assert "p =" not in one.sentence
        assert "p <" not in one.sentence
        for name in one.table.columns:
            if name.startswith("p_"):
                assert one.table[name].isna().all()
