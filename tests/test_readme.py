"""The README is true: its task works, its commands and options exist, its Python runs."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from icl_harness import run
from icl_harness.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^ +(?:\.venv/bin/)?icl (\w+)(.*)$", README, re.MULTILINE)


def test_the_task_of_ones_own_is_about_20_lines_and_runs(tmp_path, monkeypatch) -> None:
    source = next(block for block in BLOCKS if "@task" in block)
    assert len([line for line in source.splitlines() if line.strip()]) <= 22
    (tmp_path / "tasks").mkdir()
    (tmp_path / "data/parcels").mkdir(parents=True)
    (tmp_path / "tasks/parcels.py").write_text(source)
    places = ("ship harbour", "plane airport")
    for name, count in (("train", 8), ("test", 4)):
        rows = [
            f"{i} by {place.split()[0]} {name},{place.split()[1]}"
            for i in range(count // 2)
            for place in places
        ]
        (tmp_path / f"data/parcels/{name}.csv").write_text(
            "message,depot\n" + "\n".join(rows) + "\n"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ICL_DATA", raising=False)
    frame = run("parcels", "baseline/logreg", shots=[0, 2, 8], draws=1).curves()
    assert frame["value"].tolist()[2] == 1.0


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        if "@task" not in block:
            exec(block, names)
    assert len(names["dry"].records()) == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(("command", "rest"), COMMANDS)
def test_commands_and_options_of_the_readme_exist(command: str, rest: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for option in re.findall(r"--[a-z-]+", rest.partition("#")[0]):
        assert option in shown.output


def test_every_make_target_and_file_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", README):
        assert f"\n{target}:" in makefile
    for name in re.findall(r"\]\(([\w./]+)\)", README):
        assert (ROOT / name).exists(), name
