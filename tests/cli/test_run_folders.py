"""Run folders together: listed, loaded into one table, printed for papers."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import icl_harness
from icl_harness import ScriptedModel
from icl_harness.cli.app import app
from icl_harness.cli.published_tables import published
from icl_harness.errors import ProviderError, SpecError, StoreError
from icl_harness.report.listing import list_runs
from icl_harness.report.run import Run
from tests.runner.test_walk import right


def icl(*arguments: str) -> str:
    shown = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert shown.exit_code == 0
    return shown.output


def make(out: str, model: str = "one", reply=right, **options: object) -> Run:
    options = {"shots": [0, 2, 4, 8], "draws": 2, "queries": 6, **options}
    return icl_harness.run("toy", ScriptedModel(reply, id=model), out=out, data="data", **options)


def busy(prompt) -> str:
    if prompt.node.n_shots == 8:
        raise ProviderError("busy")
    return right(prompt)


@pytest.mark.usefixtures("toy")
class TestRuns:
    def test_runs_are_listed_with_what_they_measure_and_how_far_they_are(self) -> None:
        make("results/a")
        make("results/deep/b", "two", busy, modes=["unsupervised"], shots=[2, 8])
        lines = icl("runs").splitlines()
        assert lines[0].split() == [
            "run", "tasks", "models", "modes", "shots", "draws", "answers", "of", "$", "written",
        ]  # fmt: skip
        by_name = {line.split()[0]: line for line in lines[1:]}
        assert re.search(r"toy +one +supervised +0\.\.8 \(4\) +2 +48 +48 +- ", by_name["a"])
        assert re.search(r"toy +two +unsupervised +2,8 +2 +12 +24 +-", by_name["deep/b"])

    def test_damaged_ones_are_named_and_hide_no_other(self) -> None:
        make("results/good")
        folders = {
            "json": ("run.json", b"{"),
            "shape": ("run.json", b'{"spec": 1, "data": 2, "tasks": 3}'),
            "empty": ("records.db", b""), "other": ("records.db", b"x" * 5000),
        }  # fmt: skip
        for name, (file, content) in folders.items():
            make(f"results/{name}")
            Path("results", name, file).write_bytes(content)
        make("results/gone")
        Path("results/gone/run.json").unlink()
        found = list_runs(Path("results"))
        assert [one.path.name for one in found if not one.fault] == ["good"]
        shown = icl("runs")
        for name in (*folders, "gone"):
            assert re.search(rf"^cannot be read: results/{name}\b", shown, re.MULTILINE), shown

    def test_listing_changes_no_folder(self) -> None:
        run = make("results/a")
        before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
        icl("runs", "results")
        assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before

    def test_dollars_are_those_of_records_and_banks(self) -> None:
        run = make("results/a")
        bank = run.path / "banks/bank-x.jsonl"
        bank.parent.mkdir()
        attempt = {
            "id": "x", "sample": 0, "problem": "p", "answer": "a", "parsed": "a", "reward": 1.0,
            "node": "n", "model": "m", "cost_usd": 1.5,
        }  # fmt: skip
        bank.write_text(json.dumps(attempt) + "\n")
        assert list_runs(Path("results"))[0].usd == 1.5
        assert "1.50" in icl("runs")

    @pytest.mark.parametrize("name", ["nowhere", "file"])
    def test_a_folder_that_is_none_is_refused(self, name) -> None:
        Path("file").touch()
        with pytest.raises(SpecError, match=f"^{name} "):
            icl("runs", name)

    def test_an_empty_folder_holds_no_runs(self) -> None:
        Path("results").mkdir()
        assert icl("runs") == "no runs in results\n"

    def test_runs_are_loaded_into_one_table_comparison_and_picture(self) -> None:
        one, two = make("a", "one"), make("b", "two")
        both = icl_harness.load("a", two)
        assert set(both.curves()["model"]) == {"one", "two"}
        assert len(both.records()) == len(one.records()) + len(two.records())
        assert set(both.compare(by="model")["b"]) == {"two"}
        assert both.plot(title="both").axes
        assert icl_harness.load(one).curves().equals(one.curves())
        assert repr(both) == "load('a', 'b')"

    def test_runs_that_cannot_be_put_together_say_why_at_once(self) -> None:
        make("a")
        make("b", "two", seed=1)
        with pytest.raises(StoreError, match="their draws of toy differ"):
            icl_harness.load("a", "b")
        with pytest.raises(SpecError, match="names no run"):
            icl_harness.load()
        with pytest.raises(StoreError, match="is not a run folder"):
            icl_harness.load("c")

    def test_curves_are_printed_as_markdown_and_latex_with_the_numbers_of_the_terminal(
        self,
    ) -> None:
        make("a", "my_model", busy)
        points = re.findall(r"\d?\.\d{3} \[[^\]]+\]", icl("curves", "a"))
        markdown, latex = (icl("curves", "a", "--format", form) for form in ("markdown", "latex"))
        assert re.findall(r"\d?\.\d{3} \[[^\]]+\]", markdown) == points
        assert re.findall(r"\d?\.\d{3} \[[^\]]+\]", latex) == points
        assert "| 4 |" in markdown
        assert r"my\_model" in markdown
        assert r"my\_model" in latex
        assert r"\toprule" in latex
        assert "requests failed" in markdown
        assert "requests failed" in latex

    def test_two_forms_at_once_and_unknown_ones_are_refused(self) -> None:
        make("a")
        with pytest.raises(SpecError, match="Give one"):
            icl("curves", "a", "--format", "latex", "--csv", "-")
        with pytest.raises(SpecError, match="Nearest: latex"):
            icl("curves", "a", "--format", "latx")


@pytest.mark.parametrize("text", ["a_b", "50 %", "a&b", "{x}", r"\x", "a^b~c", "#1", "$x$", "a|b"])
def test_no_letter_of_a_name_is_markup(text) -> None:
    table = (text, ["shots", text], [["0", text]])
    latex = published("latex", [table], [text])
    body = latex.replace(r"\textbackslash{}", "").replace(r"\textasciicircum{}", "")
    body = body.replace(r"\textasciitilde{}", "")
    row = next(line for line in body.splitlines() if line.startswith("0 & "))
    assert not re.search(r"(?<!\\)[_%#$^~{}]", row)
    assert row.count("&") == 1 + row.count(r"\&")
    markdown = published("markdown", [table], [text])
    assert "\n| 0 | " in markdown
    assert not re.search(r"(?<!\\)[_*`~$]", markdown.splitlines()[-3])


PAGE = (Path(__file__).parents[2] / "docs/other_results.md").read_text()
COMMANDS = re.findall(r"\bicl (import|curves|compare|plot|export|runs|extend) ([^`\n]*)", PAGE)


@pytest.mark.parametrize(("command", "rest"), COMMANDS)
def test_commands_and_options_of_the_page_exist(command: str, rest: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for option in re.findall(r"--[a-z-]+", rest.partition("#")[0]):
        assert option in shown.output
