"""What is printed can be typed: every command in a message exists, with its options, and the hints
at the end of a run work, in folders of any name.
"""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import icl_harness
from icl_harness.cli.app import app

PACKAGE = Path(icl_harness.__file__).parent
WORDS = {"on"}  # "run icl on a machine"
COMMANDS = re.compile(r"\bicl ([a-z]+)\b((?: --?[a-z-]+| [A-Z{][\w{}.]*)*)")


def texts() -> list[str]:
    """Every text in the code, the parts of one message joined."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
                found.append("{}".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def printed() -> list[tuple[str, tuple[str, ...]]]:
    found = set()
    for text in texts():
        for name, rest in COMMANDS.findall(text):
            if name in WORDS:
                continue
            found.add((name, tuple(re.findall(r"--[a-z-]+", rest))))
    return sorted(found)


PRINTED = printed()


def test_there_are_printed_commands() -> None:
    assert {"run", "tasks", "rescore", "export", "show"} <= {name for name, _ in PRINTED}


@pytest.mark.parametrize(("name", "options"), PRINTED)
def test_a_command_in_a_message_exists_with_its_options(
    name: str, options: tuple[str, ...]
) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, name
    for option in options:
        assert option in shown.output


GRIDS = {
    "shots": ["--shots", "0,2"],
    "one shot count": ["--shots", "2"],
    "modes": ["--shots", "0", "--modes", "supervised,unsupervised"],
    "variants": ["--shots", "2", "--variants", "default,flipped"],
    "models": ["--shots", "2", "--model", "baseline/knn"],
}


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["out", "a folder (1)", "it's; here"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.usefixtures("toy")
def test_the_hints_at_the_end_of_a_run_work_when_typed(grid: str, folder: str) -> None:
    if folder != "out" and grid != "shots":
        pytest.skip("one grid shows how names are quoted")
    common = ["run", "toy", "--model", "baseline/majority", "--data", "data", "--draws", "2"]
    done = CliRunner().invoke(app, [*common, *GRIDS[grid], "--out", folder])
    assert done.exit_code == 0, done.output
    hints = done.output.splitlines()[-1].partition("   (")[2].removesuffix(")")
    commands = hints.split(", icl ")
    assert len(commands) == 1 + (grid != "one shot count")
    for command in commands:
        shown = CliRunner().invoke(app, shlex.split(command.removeprefix("icl ")))
        assert shown.exit_code == 0, shown.output
        assert "nothing to compare" not in shown.output
