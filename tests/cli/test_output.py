"""What goes to standard output goes there whole, or the exit code and one line say it did not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_app import GRID, icl  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs a shell")]
ICL = f"{sys.executable} -c 'from icl_harness.cli.app import main; main()'"


def shell(line: str, *, unbuffered: bool) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], env=environment, capture_output=True,
        text=True, check=False, timeout=100,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", [False, True])
def test_what_cannot_be_written_is_one_line_and_an_exit_code(icl, unbuffered: bool) -> None:  # noqa: F811
    icl(*GRID)
    for line in ("export out > /dev/full", "curves out --csv - > /dev/full", "tasks > /dev/full"):
        code, err = shell(f"{ICL} {line}", unbuffered=unbuffered)
        assert (code, err.count("\n")) == (2, 1), f"{line}: {err}"
        assert "No space left on device" in err
    code, err = shell(f"{ICL} export out >&-", unbuffered=unbuffered)
    assert (code, err.count("\n")) == (2, 1)
    assert "standard output is closed" in err


READ = ("--help", "tasks", "curves out", "compare out --by shots")


@pytest.mark.parametrize("line", READ)
def test_a_reader_who_has_read_enough_ends_a_command_well(icl, line: str) -> None:  # noqa: F811
    icl(*GRID)
    assert shell(f"{ICL} {line} | true", unbuffered=False) == (0, ""), line


def test_a_disk_that_fills_up_is_noticed_without_buffers(icl) -> None:  # noqa: F811
    icl(*GRID)
    whole = Path("whole.csv")
    assert shell(f"{ICL} export out > whole.csv", unbuffered=True) == (0, "")
    assert len(whole.read_text().splitlines()) == 1 + 3 * 2 * 12
    code, err = shell(f"ulimit -f 4; {ICL} export out > part.csv", unbuffered=True)
    assert (code, err.count("\n")) == (2, 1), err
    assert Path("part.csv").stat().st_size < whole.stat().st_size
