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
from icl_harness.errors import IclError

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


# ------------------------------------------------------------------------ what refusals name

NAMES = "run|tasks|curves|plot|compare|export|show|check|rescore|extend"
TYPED = re.compile(rf"icl (?:{NAMES})\b(?:(?!, )[^`;)])*")


def type_in(line: str) -> tuple[int, str]:
    shown = CliRunner().invoke(app, shlex.split(line.removeprefix("icl ")))
    text = str(shown.exception) if isinstance(shown.exception, IclError) else shown.output
    return shown.exit_code, text


def changed_scorer() -> str:
    path = Path("tasks/toy.py")
    path.write_text(path.read_text() + "\n# a remark\n")
    return RUN


def damaged() -> str:
    file = Path("a run/records.db")
    data = bytearray(file.read_bytes())
    data[4096:8192] = b"x" * 4096
    file.write_bytes(bytes(data))
    return "icl curves 'a run'"


def unknown_task() -> str:
    return RUN.replace("toy", "toi", 1)


def larger() -> str:
    return RUN.replace("--shots 0,2", "--shots 0,2,3")


def larger_in_all_ways() -> str:
    more = "--draws 3 --modes supervised,unsupervised --variants default,flipped"
    return RUN.replace("--draws 2", more)


def larger_plan() -> str:
    return larger().replace("icl run", "icl plan")


RUN = "icl run toy --model baseline/majority --data data --shots 0,2 --draws 2 --out 'a run'"
REMEDIES = {f.__name__: f for f in (
    changed_scorer, damaged, unknown_task, larger, larger_in_all_ways, larger_plan
)}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", REMEDIES)
@pytest.mark.usefixtures("toy")
def test_the_commands_that_refusals_name_work_when_typed(case: str) -> None:
    assert type_in(RUN)[0] == 0
    code, said = type_in(REMEDIES[case]())
    assert code != 0, said
    commands = [found.strip(" .") for found in TYPED.findall(said)]
    assert commands, said
    for command in commands:
        out = " --out found.csv" if "--salvage" in command else ""
        done, shown = type_in(command + out)
        assert done == 0, (command, shown)
    again = RUN if case == "changed_scorer" else REMEDIES[case]()
    if case not in ("damaged", "unknown_task"):
        assert type_in(again)[0] == 0, "the remedy helped"


@pytest.mark.usefixtures("toy")
def test_commands_on_a_run_whose_bank_is_empty_say_in_a_line_what_there_is() -> None:
    def wrong(prompt: icl_harness.Prompt) -> str:
        return "south"

    few = {"modes": ["reinforced"], "draws": 1, "pool": 3, "queries": 2, "bank_samples": 1}
    model = icl_harness.ScriptedModel(wrong)
    with pytest.raises(IclError, match="raise --bank-samples, and choose another --out"):
        icl_harness.run("toy", model, shots=[0, 2], data="data", out="out", **few)  # type: ignore[arg-type]
    there = {
        "icl compare out": "no cell has an answer yet: there is nothing to compare",
        "icl compare out --by shots": "no cell has an answer yet: there is nothing to compare",
        "icl plot out --out x.png": "no cell has an answer yet: there is nothing to draw",
        "icl show out --query test100": "It holds no answers yet",
        "icl export out --salvage --out x.csv": "0 records were read; none is known to be lost",
        "icl curves out": "unfinished: 0 of 4 answers so far; the same command resumes it",
        "icl check out": "out: 0 answers, 0 unparsed",
        "icl rescore out": "0 answers scored again, 0 scores changed",
    }
    for command, said in there.items():
        assert said in type_in(command)[1], command
