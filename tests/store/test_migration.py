"""Folders of earlier versions open, are brought up to date, and lose nothing on the way."""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest

import icl_harness
from icl_harness.analysis.curves import csv_text
from icl_harness.cli.app import main
from icl_harness.errors import StoreError
from icl_harness.report.run import find_record
from icl_harness.runner.rescoring import rescore
from icl_harness.store.migration import migrate
from icl_harness.store.records import RunStore
from icl_harness.store.schema import VERSION
from tests.store.old_runs import HERE, make_old_run

SEED = int(os.environ.get("ICL_KILL_SEED", "20261128"))  # printed with a failure, to replay it


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def version(path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:  # opening it takes up what a kill left beside it
        copy = shutil.copytree(path, Path(folder) / "copy")
        with contextlib.closing(sqlite3.connect(copy / "records.db")) as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("old", [2, 3])
def test_curves_of_an_older_run_are_those_that_its_version_made(tmp_path: Path, old: int) -> None:
    curves = icl_harness.Run(make_old_run(old, tmp_path / "run")).curves()
    assert set(curves.pop("n_cut")) == {0}, "which neither knew"
    intervals = ["ci_low", "ci_high"]  # are made in another way since
    then = pd.read_csv(HERE / f"version_{old}/curves.csv").drop(columns=intervals)
    now = curves.drop(columns=[*intervals, "ci_covers"])
    assert csv_text(now) == csv_text(then)


@pytest.mark.parametrize("old", [1, 2, 3])
def test_reading_an_older_folder_changes_no_byte_of_it(tmp_path: Path, old: int) -> None:
    path = make_old_run(old, tmp_path / "run")
    before = {file.name: digest(file) for file in path.iterdir()}
    run = icl_harness.Run(path)
    assert len(run.records(shot_ids=True)) > 0
    assert len(run.curves()) > 0
    assert {file.name: digest(file) for file in path.iterdir()} == before


def test_a_version_1_run_is_read_whole(tmp_path: Path) -> None:
    run = icl_harness.Run(make_old_run(1, tmp_path / "run"))
    frame = run.records(shot_ids=True)
    assert frame["shots"].tolist() == [0, 0, 1, 2, 2]
    assert frame["shot_ids"].tolist() == [[], [], ["train1"], *[["train1", "train2"]] * 2]
    assert frame["status"].tolist() == ["ok", "failed", "ok", "ok", "ok"]
    assert set(frame["format"]) == {"text"}
    assert set(frame["queries_per_request"]) == {1}
    assert frame["cost_usd"].sum() == 1.25
    assert frame["input"].isna().all(), "version 1 stored no queries"
    record, _ = find_record(run.path, "test100", {"shots": 2})
    assert record.text == "Even or odd?\nn 1 -> odd\nn 2 -> even\nn 100 ->"
    assert record.target is None
    points = run.curves().set_index("shots")[["value", "n_failed", "n_unparsed"]]
    assert points.loc[0].tolist() == [1.0, 1.0, 0.0]
    assert points.loc[1].tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("old", [2, 3])
@pytest.mark.parametrize("command", ["curves", "export", "plot", "show", "compare"])
def test_every_reading_command_takes_an_older_folder(
    tmp_path: Path,
    command: str,
    old: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    run = str(make_old_run(old, tmp_path / "run"))
    more = {"plot": ["--out", str(tmp_path / "x.svg")], "show": ["--query", "d0-q82"]}
    more["compare"] = ["--by", "shots"]
    monkeypatch.setattr(sys, "argv", ["icl", command, run, *more.get(command, [])])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None), capsys.readouterr().err


def test_an_answer_that_an_older_run_took_for_a_thought_is_read_again(tmp_path: Path) -> None:
    path = make_old_run(3, tmp_path / "run")
    with contextlib.closing(sqlite3.connect(path / "records.db")) as db, db:
        db.execute("UPDATE records SET answer = ' <think>x</think>north' WHERE cell = 1")
    rescore(path)
    records = icl_harness.Run(path).records()
    assert set(records[records["shots"].eq(0) & records["draw"].eq(0)]["answer"]) == {" north"}
    with contextlib.closing(sqlite3.connect(path / "records.db")) as db:
        wholes = db.execute(
            "SELECT t.text FROM records r JOIN texts t ON t.id = r.whole WHERE r.cell = 1"
        ).fetchall()
    assert set(wholes) == {(" <think>x</think>north",)}


@pytest.mark.parametrize("old", [2, 3])
def test_writing_brings_the_tables_up_to_date_and_keeps_every_record(
    tmp_path: Path, old: int
) -> None:
    path = make_old_run(old, tmp_path / "run")
    before = icl_harness.Run(path).records(shot_ids=True)
    RunStore.open_for_writing(path).close()
    assert version(path) == VERSION
    after = icl_harness.Run(path).records(shot_ids=True)
    pd.testing.assert_frame_equal(after, before)


def test_moved_nodes_hold_only_what_they_add_to_another(tmp_path: Path) -> None:
    path = make_old_run(2, tmp_path / "run")
    RunStore.open_for_writing(path).close()
    with contextlib.closing(sqlite3.connect(path / "records.db")) as db:
        rows = db.execute(
            "SELECT json_array_length(text_ids), json_array_length(shot_ids) FROM nodes "
            "WHERE hash LIKE '8f5c7c8f%'"
        ).fetchall()
    assert rows == [(1, 1)], "three shots are two shots and one more"


def test_a_group_answer_that_was_not_parsed_is_taken_for_a_whole_reply(tmp_path: Path) -> None:
    path = make_old_run(2, tmp_path / "run")
    with contextlib.closing(sqlite3.connect(path / "records.db")) as db, db:
        db.execute("UPDATE cells SET queries_per_request = 3 WHERE id = 1")
        db.execute("UPDATE records SET parsed = NULL, score = 0 WHERE cell IN (1, 2)")
    RunStore.open_for_writing(path).close()
    with contextlib.closing(sqlite3.connect(path / "records.db")) as db:
        found = db.execute("SELECT cell, min(found), max(found) FROM records GROUP BY cell")
        assert {cell: (least, most) for cell, least, most in found}[1] == (0, 0)
        assert db.execute("SELECT min(found) FROM records WHERE cell > 1").fetchone() == (1,)


def test_a_migration_that_fails_leaves_the_old_tables(tmp_path: Path) -> None:
    path = make_old_run(2, tmp_path / "run")
    with contextlib.closing(sqlite3.connect(path / "records.db")) as db, db:
        db.execute("UPDATE nodes SET text_ids = 'no list' WHERE id = 3")
    with contextlib.closing(sqlite3.connect(path / "records.db")) as db:
        with pytest.raises(ValueError, match="Expecting value"):
            migrate(db)
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("SELECT count(*) FROM records").fetchone() == (36,)


MIGRATE = """
import sys
from pathlib import Path
from icl_harness.store.records import RunStore
print("ready", flush=True)
RunStore.open_for_writing(Path(sys.argv[1])).close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("old", [2, 3])
def test_a_migration_killed_at_any_instant_loses_nothing(tmp_path: Path, old: int) -> None:
    rng = random.Random(SEED)
    expected = icl_harness.Run(make_old_run(old, tmp_path / "whole")).records(shot_ids=True)
    for i in range(8):
        path = make_old_run(old, tmp_path / f"run{i}")
        worker = subprocess.Popen(
            [sys.executable, "-c", MIGRATE, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        assert version(path) in (old, VERSION), f"seed {SEED}"
        RunStore.open_for_writing(path).close()
        found = icl_harness.Run(path).records(shot_ids=True)
        pd.testing.assert_frame_equal(found, expected, obj=f"seed {SEED}")


def test_records_of_another_run_put_beside_a_run_json_are_noticed(tmp_path: Path) -> None:
    header = {"data": {}, "wording": {}, "scoring": {}, "tasks": {}, "weights": {}}
    for seed in (1, 2):
        spec = {"seed": seed}
        RunStore.create_or_resume(tmp_path / f"run{seed}", {**header, "spec": spec}).close()
    (tmp_path / "run1/records.db").write_bytes((tmp_path / "run2/records.db").read_bytes())
    for call in (RunStore.open, RunStore.open_for_writing):
        with pytest.raises(StoreError, match=r"run\.json and records\.db belong to different runs"):
            call(tmp_path / "run1")


def test_an_option_that_an_older_run_did_not_know_has_its_default(tmp_path: Path) -> None:
    old = {"spec": {"seed": 0}, "data": {}, "wording": {}, "scoring": {}, "tasks": {}}
    RunStore.create_or_resume(tmp_path / "run", old).close()
    new = {**old, "spec": {"seed": 0, "later_option": 5}}
    RunStore.create_or_resume(tmp_path / "run", new, {"later_option": 5}).close()
    with pytest.raises(StoreError, match="another spec: later_option is 4 there and 5 here"):
        RunStore.create_or_resume(tmp_path / "run", new, {"later_option": 4})
