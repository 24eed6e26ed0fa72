"""A wheel carries the tasks, the prompts and the bundled model: `icl` works where there is no
checkout.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


ROOT = Path(__file__).resolve().parents[1]


def test_a_wheel_runs_the_bundled_model_and_has_tasks_presets_and_published_values(
    tmp_path: Path,
) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 5e6
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = "from icl_harness.cli import app; assert 'site' in app.__file__; app.main()"

    def icl(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    grid = ("--model", "demo", "--shots", "0,1", "--draws", "1", "--queries", "4")
    icl("run", "dialects", *grid, "--out", "out")
    assert (tmp_path / "out/curves.csv").read_text().count("dialects,demo,supervised") == 2
    assert "paper/linear, paper/fig11  Figure 11" in icl("paper")
    icl("plot", "out", "--overlay", "demo:baseline/bayes · supervised", "--out", "a.png")
