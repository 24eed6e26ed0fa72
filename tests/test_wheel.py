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


def test_a_wheel_runs_the_bundled_model_on_a_bundled_task(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 5e6
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = "from icl_harness.cli import app; assert 'site' in app.__file__; app.main()"
    command = [
        sys.executable,
        "-c",
        script,
        "run",
        "dialects",
        "--model",
        "demo",
        "--shots",
        "0,1",
        "--draws",
        "1",
    ]
    run = subprocess.run(
        [*command, "--queries", "4", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out/curves.csv").read_text().count("dialects,demo,supervised") == 2
