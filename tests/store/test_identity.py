"""A run's folder stays the run's: what is deleted, moved, replaced or lost is noticed, before more
is paid.
"""

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import icl_harness
from icl_harness import Prompt, ScriptedModel
from icl_harness.errors import StoreError
from icl_harness.store.records import RunStore
from tests.store.old_runs import make_old_run

pytestmark = pytest.mark.usefixtures("toy")
N_QUERIES = 12
RECORDS, RUN = Path("out/records.db"), Path("out/run.json")


def go(reply: Callable[[Prompt], str] = lambda prompt: " even", **options: object) -> None:
    grid = {"shots": [0, 2], "draws": 2, "data": "data", "out": "out", **options}
    icl_harness.run("toy", ScriptedModel(reply), **grid)  # type: ignore[arg-type]


def bare(*keep: str) -> None:
    """Leave of a run folder what a person may have copied."""
    for path in Path("out").iterdir():
        if path.name not in keep:
            path.unlink()


class TestWhileItRuns:
    def damage(self, act: Callable[[], object], **options: object) -> tuple[int, str]:
        """Do something to the folder after five requests; return how many were sent in all, and
        the error.
        """
        asked: list[str] = []

        def reply(prompt: Prompt) -> str:
            asked.append(prompt.text)
            if len(asked) == 5:
                act()
            return " even"

        with pytest.raises(StoreError) as caught:
            go(reply, **options)
        assert "\n" not in str(caught.value)
        return len(asked), str(caught.value)

    @pytest.mark.parametrize(
        "act",
        [
            lambda: shutil.rmtree("out"),
            lambda: Path("out").rename("elsewhere"),
            lambda: RECORDS.unlink(),
            lambda: RECORDS.rename("records.db"),
            lambda: (Path("out").rename("elsewhere"), shutil.copytree("elsewhere", "out")),
            lambda: (shutil.copy(RECORDS, "copy"), Path("copy").replace(RECORDS)),
            lambda: (shutil.rmtree("out"), go(seed=9)),
            lambda: (Path("out").rename("elsewhere"), Path("out").symlink_to("nowhere")),
        ],
        ids=["deleted", "renamed", "unlinked", "moved", "swapped", "replaced", "anew", "link"],
    )
    def test_a_folder_that_is_gone_stops_the_run_at_the_next_write(self, act) -> None:
        n_asked, message = self.damage(act)
        assert n_asked <= 5 + 1
        assert "deleted, moved or replaced while the run was writing" in message

    def test_a_run_json_that_is_gone_stops_it(self) -> None:
        n_asked, message = self.damage(RUN.unlink)
        assert n_asked <= 6
        assert "run.json was deleted while the run was writing" in message

    def test_another_runs_run_json_stops_it(self) -> None:
        go(out="other", seed=3)
        n_asked, message = self.damage(lambda: shutil.copy("other/run.json", RUN))
        assert n_asked <= 6
        assert "run.json and records.db belong to different runs" in message

    def test_another_runs_records_copied_over_its_own_stop_it(self) -> None:
        go(out="other", seed=3)
        before = Path("other/records.db").read_bytes()
        n_asked, message = self.damage(lambda: RECORDS.write_bytes(before))
        assert n_asked <= 6
        assert "records.db" in message

    @pytest.mark.parametrize("act", [lambda: shutil.rmtree("out"), lambda: Path("out").rename("b")])
    def test_a_bank_in_the_making_stops_too(self, act) -> None:
        n_asked, message = self.damage(act, modes=["reinforced"])
        assert n_asked <= 6
        assert "deleted, moved or replaced" in message

    def test_what_was_answered_in_a_renamed_folder_is_kept_and_the_run_goes_on_there(self) -> None:
        self.damage(lambda: Path("out").rename("elsewhere"))
        kept = len(icl_harness.Run("elsewhere").records())
        assert kept >= 5
        Path("elsewhere").rename("out")
        asked: list[Prompt] = []

        def reply(prompt: Prompt) -> str:
            asked.append(prompt)
            return " even"

        go(reply)
        assert len(icl_harness.Run("out").records()) == 2 * 2 * N_QUERIES
        assert kept + len(asked) <= 2 * 2 * N_QUERIES


def nothing(prompt: Prompt) -> str:
    raise AssertionError("a request was sent")


class TestWhenItGoesOn:
    @pytest.mark.slow
    @pytest.mark.parametrize("size", [0, 1, 100, 4096])
    def test_empty_records_are_refused_and_not_begun_anew(self, size: int) -> None:
        go()
        RECORDS.write_bytes(RECORDS.read_bytes()[:size])
        for call in (lambda: go(nothing), lambda: icl_harness.Run("out")):
            with pytest.raises(StoreError, match=r"out/records\.db is (empty|damaged)"):
                call()

    def test_an_empty_database_of_sqlite_is_refused(self) -> None:
        go()
        RECORDS.unlink()
        with contextlib.closing(sqlite3.connect(RECORDS)) as db:
            db.execute("PRAGMA journal_mode = WAL")
        for call in (lambda: go(nothing), lambda: icl_harness.Run("out")):
            with pytest.raises(StoreError, match=r"records\.db is (empty|damaged)"):
                call()

    @pytest.mark.slow
    @pytest.mark.parametrize("keep", [("records.db",), ("records.db", "records.crc")])
    @pytest.mark.parametrize("change", [{"seed": 1}, {"shots": [0, 3]}, {"pool": 30}])
    def test_records_whose_run_json_is_gone_are_not_another_grids(self, keep, change) -> None:
        go()
        bare(*keep)
        with pytest.raises(StoreError, match=r"another run's answers, and its run\.json is"):
            go(nothing, **change)
        go(nothing)  # the same grid has its answers

    @pytest.mark.parametrize("version", [1, 2])
    def test_old_records_without_their_run_json_are_refused(self, version: int) -> None:
        make_old_run(version, Path("out"))
        bare("records.db")
        with pytest.raises(StoreError, match="holds another run's answers"):
            go(nothing)

    def test_another_runs_records_are_refused(self) -> None:
        go()
        go(out="other", seed=1)
        shutil.copy("other/records.db", RECORDS)
        for call in (lambda: go(nothing), lambda: icl_harness.Run("out")):
            with pytest.raises(StoreError, match="belong to different runs"):
                call()

    def test_records_of_another_wording_under_the_same_spec_are_refused(self, toy: Path) -> None:
        go()
        prompts = toy / "prompts/toy.jinja"
        words = prompts.read_text()
        prompts.write_text(words.replace("Even or odd?", "Odd or even?"))
        go(out="other")
        prompts.write_text(words)
        shutil.copy("other/records.db", RECORDS)
        for call in (lambda: go(nothing), lambda: icl_harness.Run("out")):
            with pytest.raises(StoreError, match="belong to different runs"):
                call()

    def test_records_that_name_no_run_must_fit_the_grid(self) -> None:
        make_old_run(2, Path("out"))
        header = json.loads(RUN.read_text())
        header["spec"]["shots"] = [0, 5]
        RUN.write_text(json.dumps(header))
        with pytest.raises(StoreError, match="belong to different runs"):
            icl_harness.Run("out")


KILLED = """
import os, signal, sys
import icl_harness
from icl_harness import ScriptedModel

n = 0

def reply(prompt):
    global n
    n += 1
    if n == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return " even"

icl_harness.run("toy", ScriptedModel(reply), shots=[0, 2], draws=2, data="data", out="out")
"""


def kill_after(n_answers: int) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(n_answers)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Path("out/records.db-wal").exists()


@pytest.mark.slow
@pytest.mark.parametrize("n_answers", [2, 20, 30])
def test_records_copied_without_their_log_are_refused(n_answers: int) -> None:
    kill_after(n_answers)
    Path("out/records.db-wal").rename("log")
    Path("out/records.db-shm").unlink(missing_ok=True)
    for call in (lambda: go(nothing), lambda: icl_harness.Run("out")):
        with pytest.raises(StoreError, match=r"lacks records\.db-wal.*Put that file back"):
            call()
    Path("log").rename("out/records.db-wal")
    assert len(icl_harness.Run("out").records()) >= n_answers - 2
    go()
    assert len(icl_harness.Run("out").records()) == 2 * 2 * N_QUERIES


@pytest.mark.slow
def test_a_killed_run_that_was_read_goes_on() -> None:
    kill_after(20)
    for _ in range(2):
        icl_harness.Run("out").curves()
    go()
    assert len(icl_harness.Run("out").records()) == 2 * 2 * N_QUERIES


def test_a_closed_run_is_whole_without_a_log() -> None:
    go()
    bare("run.json", "records.db")
    assert len(icl_harness.Run("out").records()) == 2 * 2 * N_QUERIES


@pytest.mark.slow
def test_the_log_is_written_out_while_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icl_harness.store.folder.WRITE_OUT_AT", 50_000)
    sizes = []

    def reply(prompt: Prompt) -> str:
        sizes.append(Path("out/records.db-wal").stat().st_size)
        return " even"

    go(reply, shots=list(range(12)))
    assert max(sizes) < 200_000
    assert len(icl_harness.Run("out").records()) == 12 * 2 * N_QUERIES


@pytest.mark.slow
def test_a_reader_does_not_hold_up_the_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icl_harness.store.folder.WRITE_OUT_AT", 50_000)
    go()
    reader = RunStore.open(Path("out"))
    rows = reader.rows()
    next(rows)
    go(out="out2", shots=[0])
    store = RunStore.open_for_writing(Path("out"))
    store.add_queries("toy", "default", [])
    store.close()
    assert len(list(rows)) == 2 * 2 * N_QUERIES - 1
    reader.close()
    assert len(icl_harness.Run("out").records()) == 2 * 2 * N_QUERIES


def test_a_run_killed_between_moving_its_log_and_noting_that_can_be_read_twice(toy: Path) -> None:
    model = ScriptedModel(lambda _: "even")
    run = icl_harness.run("toy", model, data="data", out="out", shots=[0, 2], draws=1)
    expected = run.records()
    code = (
        "import os, signal\n"
        "from icl_harness.store import seal\n"
        "from icl_harness.store.records import RunStore\n"
        "move = seal._checkpoint\n"
        "seal._checkpoint = lambda db: (move(db), os.kill(os.getpid(), signal.SIGKILL))\n"
        "from pathlib import Path\n"
        "RunStore.open_for_writing(Path('out'))\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    for _ in range(2):
        pd.testing.assert_frame_equal(icl_harness.Run("out").records(), expected)
