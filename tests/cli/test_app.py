"""The command line as a user meets it: what it prints, what it leaves, and one line for every
mistake.
"""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from icl_harness.cli.app import main
from icl_harness.errors import StoreError
from icl_harness.store.records import RunStore
from tests.test_end_to_end import drawn

GRID = (
    "run",
    "toy",
    "--model",
    "baseline/majority",
    "--shots",
    "0,2,8",
    "--draws",
    "2",
    "--data",
    "data",
    "--out",
    "out",
)


@pytest.fixture
def icl(toy, capfdbinary, monkeypatch):
    """Run the command line in the toy's directory; return (exit code, standard output, standard
    error).
    """

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icl", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capfdbinary.readouterr()
        return int(caught.value.code or 0), out.decode(), err.decode()

    return call


def wait_for(folder: Path) -> Path:
    while not (folder / "run.json").exists():
        time.sleep(0.01)
    return folder


class TestResults:
    @pytest.mark.slow
    def test_a_run_leaves_curves_records_and_picture_and_says_where(self, icl) -> None:
        code, out, _ = icl(*GRID)
        assert code == 0
        assert "shots" in out
        assert "baseline/majority" in out
        assert out.splitlines()[-1].startswith("out/  curves.csv  curves.png  records.db")
        assert pd.read_csv("out/curves.csv")["shots"].tolist() == [0, 2, 8]
        assert Path("out/curves.png").read_bytes().startswith(b"\x89PNG")

    def test_two_runs_of_one_grid_give_the_same_csv_to_the_byte(self, icl) -> None:
        icl(*GRID)
        icl(*GRID[:-1], "other")
        assert Path("out/curves.csv").read_bytes() == Path("other/curves.csv").read_bytes()

    def test_a_yaml_file_runs_the_same_grid(self, icl) -> None:
        Path("grid.yaml").write_text(
            "task: toy\nmodel: baseline/majority\nshots: [0, 2, 8]\ndraws: 2\ndata: data\n"
        )
        assert icl("run", "grid.yaml", "--out", "yaml")[0] == 0
        icl(*GRID)
        assert Path("out/curves.csv").read_bytes() == Path("yaml/curves.csv").read_bytes()
        assert json.loads(Path("yaml/run.json").read_text())["spec"]["shots"] == [0, 2, 8]

    def test_the_folder_named_by_default_is_found_again(self, icl) -> None:
        first = icl(*GRID[:-2])[1].splitlines()[-1]
        assert first.startswith("results/toy-baseline_majority-")
        assert icl(*GRID[:-2])[1].splitlines()[-1] == first
        assert len(list(Path("results").iterdir())) == 1

    def test_curves_go_to_a_file_or_to_standard_output(self, icl) -> None:
        icl(*GRID)
        icl("curves", "out", "--csv", "copy.csv")
        assert Path("copy.csv").read_bytes() == Path("out/curves.csv").read_bytes()
        assert icl("curves", "out", "--csv", "-")[1] == Path("copy.csv").read_text()

    @pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
    def test_records_are_exported_whole(self, icl, form, capfdbinary) -> None:
        icl(*GRID)
        icl("export", "out", "--format", form, "--out", f"records.{form}", "--shot-ids")
        data = Path(f"records.{form}").read_bytes()
        read = {
            "csv": pd.read_csv,
            "parquet": pd.read_parquet,
            "jsonl": lambda f: pd.read_json(f, lines=True),
        }[form]
        frame = read(io.BytesIO(data))
        assert len(frame) == 3 * 2 * 12
        assert {
            "query_id",
            "input",
            "target",
            "node_hash",
            "answer",
            "parsed",
            "score",
            "latency_s",
            "shot_ids",
        } <= set(frame.columns)
        sys.argv = ["icl", "export", "out", "--format", form, "--shot-ids"]
        with pytest.raises(SystemExit):
            main()
        assert capfdbinary.readouterr().out == data

    @pytest.mark.slow
    def test_compare_and_plot_take_several_runs(self, icl) -> None:
        icl(*GRID)
        icl(*[a.replace("majority", "knn") for a in GRID[:-1]], "knn")
        code, out, _ = icl("compare", "out", "knn", "--by", "model", "--csv", "-")
        assert code == 0
        assert len(out.splitlines()) == 1 + 3
        assert icl("plot", "out", "knn", "--out", "both.svg")[0] == 0
        assert "<svg" in Path("both.svg").read_text()

    @pytest.mark.slow
    def test_compare_prints_a_table_for_every_two_that_are_compared(self, icl) -> None:
        icl(*GRID)
        icl(*[a.replace("majority", "knn") for a in GRID[:-1]], "knn")
        frame = pd.read_csv(
            io.StringIO(icl("compare", "out", "knn", "--by", "model", "--csv", "-")[1])
        )
        code, out, _ = icl("compare", "out", "knn", "--by", "model")
        lines = out.splitlines()
        assert code == 0
        assert lines[0] == (
            "toy · supervised · accuracy: baseline/majority - baseline/knn [95 % interval]"
        )
        assert lines[1].split() == [
            "shots",
            "difference",
            "p",
            "p",
            "(Holm)",
            "pairs",
            "draws",
            "queries",
        ]
        assert [line.split()[0] for line in lines[2:5]] == ["0", "2", "8"]
        signed = [float(line.split()[1]) for line in lines[2:5]]
        assert signed == pytest.approx(frame["b_minus_a"].tolist(), abs=0.0005)
        out = icl("compare", "out", "--by", "shots")[1]
        assert (
            "toy · baseline/majority · supervised · accuracy: differences between shot counts"
            in out
        )
        assert [line.split("  ")[0] for line in out.splitlines()[2:5]] == [
            "2 - 0",
            "8 - 0",
            "8 - 2",
        ]

    def test_show_prints_the_prompt_and_nothing_else_on_standard_output(self, icl) -> None:
        icl(*GRID)
        code, _, err = icl("show", "out", "--query", "test104", "--shots", "77")
        assert code == 2
        assert "query 'test104', shots 77 was not asked. It was asked with shots 0 " in err
        code, out, err = icl("show", "out", "--query", "test104", "--shots", "2", "--draw", "1")
        assert code == 0
        assert out.startswith("Even or odd? (supervised)\nn ")
        assert out.endswith("\nn 104 ->")
        assert "toy baseline/majority supervised default, 2 shots, draw 1" in err
        assert re.search(
            r"answer ' ?(even|odd)'; parsed '(even|odd)'; gold 'even'; score [01]", err
        )

    def test_show_takes_a_variant_as_icl_run_takes_it(self, icl) -> None:
        icl(*GRID, "--variants", "sorted+noise=.5")
        chosen = ("show", "out", "--query", "test104", "--variant", "sorted+noise=.50")
        code, _, err = icl(*chosen, "--shots", "2", "--draw", "1")
        assert code == 0
        assert "toy baseline/majority supervised noise=0.5+sorted, 2 shots, draw 1" in err
        code, _, err = icl("show", "out", "--query", "test104", "--variant", "noise")
        assert code == 2
        assert "noise takes a number from 0 to 1" in err

    @pytest.mark.slow
    def test_queries_that_share_a_request_are_named_where_they_are_shown(self, icl, toy) -> None:
        script = toy / "grouped.py"
        script.write_text(
            "import icl_harness, sys\nfrom icl_harness import ScriptedModel\n"
            "icl_harness.run('toy', ScriptedModel(lambda p: '1: even'), out='grouped',"
            " data='data', shots=[0, 2], draws=1, queries_per_request=3)\n"
        )
        subprocess.run([sys.executable, str(script)], check=True)
        out = icl("curves", "grouped")[1]
        assert out.startswith("toy, 3 queries a request · scripted · accuracy")
        assert (
            "toy scripted supervised: 67% of the answers could not be parsed and count as wrong"
            in out
        )
        out = icl("show", "grouped", "--query", "test104", "--shots", "0")[1]
        assert "\n1: n 103 ->\n\n2: n 104 ->\n\n3: n 105 ->" in out

    @pytest.mark.slow
    def test_what_failed_is_told_with_its_commonest_error(self, icl, toy) -> None:
        script = toy / "failing.py"
        script.write_text(
            "import icl_harness\n"
            "from icl_harness import ScriptedModel\n"
            "from icl_harness.errors import ProviderError\n"
            "def reply(p):\n"
            "    late = p.query.id > 'test102'\n"
            "    raise ProviderError('503\\nfrom it' if late else 'no route')\n"
            "icl_harness.run('toy', ScriptedModel(reply), out='failing', data='data', shots=[2],"
            " draws=1)\n"
        )
        subprocess.run([sys.executable, str(script)], check=True)
        out = icl("curves", "failing")[1]
        cell = "toy scripted supervised default 2 shots"
        assert f"{cell}: 12 requests failed (503 from it) and are missing" in out

    def test_tasks_lists_and_shows(self, icl) -> None:
        out = icl("tasks")[1]
        assert any(
            line.startswith("toy ") and "Is the number even?" in line for line in out.splitlines()
        )
        out = icl("tasks", "toy", "--data", "data", "--mode", "unsupervised")[1]
        assert "pool      40 examples" in out
        assert "Answer even or odd.\n" in out

    @pytest.mark.slow
    def test_a_broken_off_run_is_read_and_gone_on_with(self, icl, toy) -> None:
        script = toy / "slow.py"
        script.write_text(
            "import signal, time, icl_harness\nfrom icl_harness import ScriptedModel\n"
            # a shell's background jobs ignore it
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "def reply(p):\n    time.sleep(.02); return ' even'\n"
            "icl_harness.run('toy', ScriptedModel(reply), out='slow', data='data', shots=[0, 2],"
            " draws=2)\n"
        )
        worker = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
        answered = RunStore.open(wait_for(Path("slow")))
        while not answered.count():
            time.sleep(0.01)
        answered.close()
        os.kill(worker.pid, signal.SIGINT)
        worker.wait()
        assert icl("curves", "slow")[0] == 0
        assert 0 < icl("export", "slow")[1].count("\n") - 1 < 48

    @pytest.mark.slow
    def test_the_closing_hint_names_a_comparison_that_there_is(self, icl) -> None:
        hint = icl(*GRID)[1].splitlines()[-1]
        assert "icl compare out --by shots" in hint
        assert icl("compare", "out", "--by", "shots")[0] == 0
        assert (
            "--by mode"
            in icl(*GRID[:-1], "two", "--modes", "supervised,unsupervised")[1].splitlines()[-1]
        )

    def test_an_exports_form_is_what_its_files_name_says(self, icl) -> None:
        icl(*GRID)
        assert icl("export", "out", "--out", "x.parquet")[0] == 0
        assert Path("x.parquet").read_bytes().startswith(b"PAR1")
        icl("export", "out", "--out", "x.jsonl")
        assert json.loads(Path("x.jsonl").read_text().splitlines()[0])["task"] == "toy"
        icl("export", "out", "--out", "x.parquet", "--format", "csv")
        assert Path("x.parquet").read_text().startswith("task,")

    def test_icl_alone_shows_its_help(self, icl) -> None:
        code, out, err = icl()
        assert (code, err) == (0, "")
        assert "Commands" in out
        assert "--debug" in out

    @pytest.mark.slow
    def test_ctrl_c_is_one_line_that_says_how_to_resume(self, toy) -> None:
        grid = [
            "icl",
            "run",
            "dialects",
            "--model",
            "baseline/bayes",
            "--draws",
            "5000",
            "--out",
            "long",
        ]
        code = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"sys.argv = {grid}\nfrom icl_harness.cli.app import main; main()"
        )
        worker = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        answered = RunStore.open(wait_for(Path("long")))
        while not answered.count():
            time.sleep(0.01)
        answered.close()
        os.kill(worker.pid, signal.SIGINT)
        assert (
            worker.communicate()[1]
            == "icl: stopped. All answers so far are kept; run the same command to resume.\n"
        )
        assert worker.returncode == 130


def options_of(shown: str) -> dict[str, str]:
    """Return what a page of help says of each option, in one line."""
    parts = re.split(r"\n  (?=--)", shown)[1:]
    lines = (" ".join(part.split()) for part in parts)
    return {line.split()[0].rstrip(","): line for line in lines}


def test_help_names_all_that_python_takes_with_what_is_the_default(icl) -> None:
    from icl_harness.runner.execution import Execution
    from icl_harness.runner.spec import Spec

    code, out, _ = icl("run", "--help")
    measured, carried_out = out.split("How it is carried out:")
    assert (code, "What is measured:" in measured) == (0, True)
    shown = options_of(measured)
    singular = {"models": "--model", "model_args": "--model-arg"}
    for name in Spec.model_fields.keys() - {"tasks"}:
        assert singular.get(name, f"--{name.replace('_', '-')}") in shown
    for option, default in (("--draws", "3"), ("--modes", "supervised"), ("--temperature", "0")):
        assert f"[{default}]" in shown[option]
    shown = options_of(carried_out)
    for name in Execution.model_fields.keys() - {"say", "timing"}:  # which are Python's alone
        assert f"--{name.replace('_', '-')}" in shown


def test_names_and_shots_may_be_repeated_or_joined_by_commas(icl) -> None:
    grid = ("run", "toy", "--model", "baseline/majority,baseline/knn", "--data", "data")
    more = ("--shots", "0,2", "--shots", "4", "--draws", "1", "--out", "out")
    variants = ("--variant", "default", "--variants", "flipped,noise=0.2")
    assert icl(*grid, *more, *variants)[0] == 0
    spec = json.loads(Path("out/run.json").read_text())["spec"]
    assert spec["models"] == ["baseline/majority", "baseline/knn"]
    assert spec["variants"] == ["default", "flipped", "noise=0.2"]
    assert spec["shots"] == [0, 2, 4]


MISTAKES = [
    (("run", "toi", "--model", "demo"), "there is no task 'toi'. Nearest: toy"),
    (("run", "toy", "--shots", "4", "--model", "dem"), "unknown model 'dem'. Nearest: demo"),
    (("run", "toy", "--shots", "4", "--model", "openai/gpt"), "OPENAI_API_KEY"),
    (("run", "toy", "--shots", "4", "--model", "anthropic/claude"), "ANTHROPIC_API_KEY"),
    (("run", "toy", "--shots", "4", "--model", "google/gemini"), "GEMINI_API_KEY"),
    (("run", "toy", "--shots", "4", "--model", "hf/nowhere/at-all/model"), "nowhere/at-all/model"),
    (("run", "toy", "--shots", "4", "--model", "hf/data"), "data"),
    (("run", "toy", "--shots", "4", "--model", "baseline/bayes"), "baseline/bayes"),
    (("run", "toy", "--shots", "4", "--model", "baseline/knm"), "knn"),
    (("run", "toy"), "no model is named. Name one with --model; --model demo needs no key"),
    (("plan", "toy"), "no model is named"),
    (
        ("run", "toy", "--model", "demo", "--modes", "supervisd"),
        "unknown mode 'supervisd'. Nearest: supervised",
    ),
    (
        ("run", "toy", "--model", "demo", "--variant", "fliped", "--shots", "4"),
        "has no variant 'fliped'.*Nearest: flipped",
    ),
    (("run", "toy", "--model", "demo", "--shots", "four"), "--shots: 'four' is not a shot count"),
    (("run", "toy", "--model", "demo", "--shots", "-4"), "--shots holds -4"),
    (
        ("run", "toy", "--model", "demo", "--shots", "4,41"),
        r"toy has 40 pool examples; --shots asks for 41. Ask for at",
    ),
    (
        ("run", "toy", "--model", "demo", "--shot", "4"),
        r"No such option: --shot .*--shots.* `icl run --help` shows",
    ),
    (
        ("run", "toy", "--model", "demo", "--draws", "many"),
        "--draws is many; it takes a whole number from 1 to 10,000",
    ),
    (
        ("run", "toy", "--model", "demo", "--draws", "9" * 20),
        "--draws is 9+; it takes a whole number from 1 to 10,000",
    ),
    (
        ("run", "toy", "--shots", "4", "--model", "claude-sonnet-4-5"),
        "Is it anthropic/claude-sonnet-4-5?",
    ),
    (
        ("run", "toy", "--model", "demo", "--scoring", "decisions"),
        "demo offers no --scoring decisions",
    ),
    (("run", "toy", "--model", "demo", "--draws=1.5"), "--draws is 1.5; it takes a whole number"),
    (
        ("run", "toy", "--model", "demo", "--max-cost", "five"),
        "--max-cost is five; it takes a number of dollars above 0",
    ),
    (
        ("run", "toy", "--model", "demo", "--draws"),
        "--draws'? requires an argument. `icl run --help`",
    ),
    (
        ("run", "toy", "--model", "demo", "--batch=yes"),
        "--batch'? does not take a value. `icl run --help`",
    ),
    (
        ("run", "toy", "--model", "demo", "--rpm", "60"),
        "--rpm is for models of APIs .* Leave it out",
    ),
    (("plan", "toy", "--model", "baseline/knn", "--tpm", "60"), "--tpm is for models of APIs"),
    (("run", "toy", "--model", "demo", "--max-cost", "5"), "--max-cost is for models of APIs"),
    (
        ("run", "toy", "--model", "demo", "--modes", "supervised", "unsupervised"),
        "'unsupervised' stands among the tasks, and is a mode.*--modes supervised,unsupervised",
    ),
    (
        ("run", "toy", "--model", "demo", "--shots", "0", "4"),
        "'4' stands among the tasks.*--shots 0,4,16",
    ),
    (
        ("run", "toy", "--model", "demo", "baseline/knn"),
        "'baseline/knn' stands among.*Give --model before each",
    ),
    (
        ("run", "toy", "grid.yaml", "--model", "demo"),
        "grid.yaml names its own tasks. Leave 'toy' out",
    ),
    (
        ("run", "toy", "--model", "demo", "--model-arg", "fast"),
        "--model-arg 'fast': give it as key=value",
    ),
    (
        ("run", "toy", "--model", "demo", "--shots", "4", "--format", "chat"),
        "demo has no chat template",
    ),
    (("run", "toy", "--model", "demo", "--format", "chad"), "unknown format 'chad'. Nearest: chat"),
    (("run", "toy", "--model", "demo", "--queries-per-request", "0"), "--queries-per-request is 0"),
    (("run", "nowhere.yaml"), "nowhere.yaml cannot be read"),
    (("run",), "Missing argument 'TASK'. `icl run --help` shows"),
    (("curves", "nowhere"), "nowhere is not a run folder"),
    (("curves",), "Missing argument 'RUN'. `icl curves --help` shows"),
    (("batch", "one", "two"), "unexpected extra argument.* .two.. `icl batch --help` shows"),
    (("plot", "nowhere"), "Missing option '--out'"),
    (("plots", "nowhere"), "No such command 'plots'. Did you mean 'plot'"),
    (("--version",), "No such option: --version. `icl --help` shows"),
    (("tasks", "gsm9k"), "there is no task 'gsm9k'. Nearest: gsm8k"),
    (("tasks", "toy", "--mode", "x", "--data", "data"), "unknown mode 'x'"),
    (("tasks", "toy", "--variant", "x", "--data", "data"), "task toy has no variant 'x'"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), MISTAKES, ids=[" ".join(a)[:60] for a, _ in MISTAKES]
)
def test_a_mistake_is_one_line_and_exit_code_2_and_leaves_nothing(
    icl, monkeypatch, arguments, message
) -> None:
    for key in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("ICL_DATA", "data")
    before = sorted(Path().rglob("*"))
    code, out, err = icl(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("icl: ")
    assert len(err.splitlines()) == 1
    assert re.search(message, err), err
    assert [p for p in sorted(Path().rglob("*")) if "__pycache__" not in p.parts] == before


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("dtype: float32", "dtype belongs under model_args"),
        ("workers: ray", "give it as the option --workers"),
        ("kv_cache: kept", "give it as the option --kv-cache"),
    ],
)
def test_a_key_that_is_an_option_of_the_command_line_is_told_so(icl, line, rule) -> None:
    Path("grid.yaml").write_text(f"task: toy\nmodel: baseline/majority\n{line}\n")
    code, _, err = icl("run", "grid.yaml", "--out", "out")
    assert (code, len(err.splitlines())) == (2, 1)
    assert rule in err


@pytest.mark.parametrize("command", ["batch", "caches"])
def test_a_damaged_ledger_is_one_line_that_says_what_it_told_of(icl, command: str) -> None:
    icl(*GRID)
    Path("out/ledger.db").write_text("no database " * 9)
    code, out, err = icl(command, "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert (
        "out/ledger.db cannot be used: file is not a database. It names the batches and caches"
        in err
    )


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 100])
def test_a_terminal_gets_notes_folded_at_words_and_commands_whole(icl, columns: int) -> None:
    command = [sys.executable, "-c", "from icl_harness.cli.app import main; main()"]
    whole = icl("tasks")[1]
    assert max(map(len, whole.splitlines())) == 100
    folded = drawn([*command, "tasks"], columns, "stdout")
    assert max(map(len, folded.splitlines())) <= columns
    assert "".join(folded.split()) == "".join(whole.split())
    last = drawn([*command, *GRID[:-1], "a-longer-name-of-a-folder"], columns, "stdout").split(
        "records.db"
    )[1]
    assert "(icl compare a-longer-name-of-a-folder --by shots," in last
    assert "icl export a-longer-name-of-a-folder)" in last
    assert "\n  " in last  # a line of this length fits into neither terminal


BROKEN_DATA = {
    "missing": ("data/toy/test.jsonl", None, r"test"),
    "empty": ("data/toy/test.jsonl", "", "test.jsonl"),
    "malformed": (
        "data/toy/train.jsonl",
        '{"id": "a", "text": "n 1", "label": "odd"}\n{"id": "b", "te',
        "line 2",
    ),
    "lacking a column": (
        "data/toy/train.jsonl",
        '{"id": "a", "tekst": "n 1", "label": "odd"}\n',
        "tekst",
    ),
    "duplicate ids": (
        "data/toy/train.jsonl",
        '{"id": "a", "text": "n 1", "label": "odd"}\n' * 2,
        "1 id occurs more than once: a",
    ),
    "a leak": (
        "data/toy/train.jsonl",
        '{"id": "a", "text": "N  103!", "label": "odd"}\n',
        "a = test103",
    ),
    "template": ("prompts/toy.jinja", None, "toy.jinja"),
}


@pytest.mark.parametrize("fault", BROKEN_DATA)
def test_broken_files_are_one_line_that_says_where(icl, fault) -> None:
    name, content, message = BROKEN_DATA[fault]
    Path(name).unlink()
    if content is not None:
        Path(name).write_text(content)
    code, _, err = icl(
        "run",
        "toy",
        "--model",
        "baseline/majority",
        "--shots",
        "0,1",
        "--data",
        "data",
        "--out",
        "out",
    )
    assert code == 2, err
    assert message in err
    assert len(err.splitlines()) == 1
    assert not Path("out").exists()


def test_an_undefined_variable_of_a_template_is_named(icl) -> None:
    template = Path("prompts/toy.jinja")
    template.write_text(
        template.read_text().replace(
            "{{ input }} ->{% endblock %}", "{{ question }} ->{% endblock %}"
        )
    )
    code, _, err = icl(*GRID)
    assert code == 2
    assert "template toy.jinja, block query: 'question' is undefined" in err


def test_debug_shows_the_traceback(icl, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["icl", "--debug", "curves", "nowhere"])
    with pytest.raises(StoreError):
        main()
