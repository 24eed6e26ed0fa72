"""Tables of a run that is read in parts: equal to those of all its records, in little memory."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest

import icl_harness
from icl_harness import ScriptedModel
from icl_harness.analysis.compare import compare
from icl_harness.analysis.curves import COLUMNS, POINT, curves
from icl_harness.report import records as reading
from icl_harness.report.records import Records
from icl_harness.store import columns
from icl_harness.store.cells import CELL as FIELDS_OF_CELLS
from icl_harness.store.records import RunStore, read_together
from icl_harness.store.totals import MEANS, SUMS
from icl_harness.tasks.metrics import METRICS
from tests.store.test_records import HEADER

N_LARGE = 100_000
FIELDS = list(FIELDS_OF_CELLS)
ADD = """
INSERT INTO records (
    cell, query_id, sample, node, query_text, shots_used, status, answer, found, parsed, score,
    gold_nll, error, reused, prompt_tokens, cached_tokens, cache_write_tokens, completion_tokens,
    reasoning_tokens, cost_usd, latency_s, n_lost, cut
) VALUES (?, ?, ?, 1, 1, ?, ?, ?, 1, ?, ?, NULL, ?, 0, ?, ?, ?, ?, NULL, ?, 0.5, ?, ?)
"""
CELL = "INSERT INTO cells VALUES (?, ?, ?, ?, ?, 'text', 1, ?, ?, 'accuracy')"
LABELS = ("ant", "bee", "cat")


@contextlib.contextmanager
def filling(folder: Path) -> Iterator[sqlite3.Connection]:
    """Give the tables of a new run to be filled."""
    with contextlib.closing(RunStore.create_or_resume(folder, HEADER)) as store, store._db as db:
        db.execute("INSERT INTO texts VALUES (1, x'01', 'question?')")
        db.execute("INSERT INTO texts VALUES (2, x'02', ?)", (json.dumps(LABELS),))
        db.execute("INSERT INTO nodes VALUES (1, 'abc', NULL, '[1]', NULL, '[]')")
        yield db


def values_of(rng: random.Random, shots: int, *, fractional: bool) -> tuple[Any, ...]:
    """Return the values of a record from `shots_used` on."""
    status = rng.choices(("ok", "failed", "refused", "overflow"), (20, 2, 1, 1))[0]
    tokens = [rng.choice([None, 0, 7, rng.randrange(10**6)]) for _ in range(4)]
    usd, n_lost = rng.choice([None, rng.random() / 7]), rng.randrange(3)
    used = rng.choice([shots, shots // 2])
    if status != "ok":
        error = rng.choice([None, "time", "a  b\nc"]) if status == "failed" else "no"
        return (used, status, None, None, None, error, *tokens, usd, n_lost, 0)
    parsed = rng.choice([*LABELS, "Zebu", "é", 'a\0"\\\n', None])
    score = rng.random() if fractional else rng.choice([0.0, 1.0])
    if parsed is None:
        score = rng.choice([None, 0.0])
    return (used, status, "said", parsed, score, None, *tokens, usd, n_lost, rng.randrange(2))


def fill(db: sqlite3.Connection, seed: int, tasks: tuple[str, ...]) -> None:
    """Fill a run with cells that lack records, several samples and queries of their own."""
    rng = random.Random(seed)
    points = [(t, mode, v) for t in tasks for mode in ("b", "a") for v in ("default", "x")][1:]
    cell = 0
    for task, mode, variant in points:
        for i in range(9):
            gold = (task, variant, f"q{i}", 1, rng.choice(LABELS), None, 2, None)
            db.execute("INSERT OR IGNORE INTO queries VALUES (?,?,?,?,?,?,?,?)", gold)
        for shots in (0, 16):
            for draw in (1, 0, 2):
                cell += 1
                db.execute(CELL, (cell, task, "m", mode, variant, shots, draw))
                for i in rng.sample(range(9), rng.randrange(10)):
                    for sample in range(rng.randrange(1, 3)):
                        row = values_of(rng, shots, fractional=task == "chrf")
                        db.execute(ADD, (cell, f"q{i}", sample, *row))


OF_FAMILIES = ["ci_low", "ci_high", "ci_covers"]  # tests/analysis


def expected(records: pd.DataFrame) -> pd.DataFrame:
    """Return the table of curves of accuracy, made in the plainest way."""
    rows = []
    for point, group in records.groupby(POINT, sort=True):
        every = group.sort_values(["draw", "query_id", "sample"]).to_dict("records")
        ok = [row for row in every if row["status"] == "ok"]
        scored = [row for row in ok if known(row["score"]) or not known(row["parsed"])]
        scores = [row["score"] if known(row["score"]) else 0.0 for row in scored]
        value = fmean(scores) if scores else float("nan")
        n = {s: sum(row["status"] == s for row in every) for s in ("failed", "refused", "overflow")}
        counts = [
            len({row["query_id"] for row in every}), len({row["draw"] for row in every}), len(ok),
            n["failed"], n["refused"], sum(not known(row["parsed"]) for row in ok),
            sum(row["cut"] for row in every), n["overflow"],
        ]  # fmt: skip
        means = [mean(row[name] for row in ok) for name in MEANS]
        dollars = [row["cost_usd"] for row in every if known(row["cost_usd"])]
        is_known = dollars and all(known(row["cost_usd"]) for row in ok)
        cost = sum(dollars) if is_known else float("nan")
        n_lost = sum(row["n_lost"] for row in every)
        rows.append([*point, value, *counts, *means, cost, n_lost])
    return pd.DataFrame(rows, columns=[name for name in COLUMNS if name not in OF_FAMILIES])


def known(value: Any) -> bool:
    return value is not None and value == value


def mean(values: Iterator[Any]) -> float:
    there = [float(value) for value in values if known(value)]
    return fmean(there) if there else float("nan")


def assert_equal(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "part"), [(0, 1), (1, 40), (2, 50_000)])
def test_tables_read_in_parts_are_those_of_all_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, part: int
) -> None:
    monkeypatch.setattr(reading, "PART", part)
    with filling(tmp_path / "one") as db:
        fill(db, seed, ("chrf", "labels"))
    found = Records([tmp_path / "one"])
    records = found.table()
    accuracy = dict.fromkeys(("chrf", "labels"), METRICS["accuracy"])
    assert_equal(found.curves(accuracy).drop(columns=OF_FAMILIES), expected(records))
    for metric in (METRICS["accuracy"], METRICS["macro_f1"]):
        metrics = dict.fromkeys(("chrf", "labels"), metric)
        assert_equal(found.curves(metrics), curves(records, metrics=metrics))
        for by in ("mode", "shots"):
            whole = compare(records, by=by, metrics=metrics)
            assert_equal(found.compare(by, metrics), whole)


@pytest.mark.parametrize("seed", range(2))
def test_points_that_lie_in_two_runs_are_put_together(tmp_path: Path, seed: int) -> None:
    for i, tasks in enumerate((("chrf", "labels"), ("labels",))):
        with filling(tmp_path / str(i)) as db:
            fill(db, seed + i, tasks)
    found = Records([tmp_path / "0", tmp_path / "1"])
    records = found.table()
    assert_equal(found.curves({}).drop(columns=OF_FAMILIES), expected(records))
    assert_equal(found.compare("mode", {}), compare(records, by="mode"))
    assert found.count() == len(records)
    failed = records[records["status"] == "failed"].dropna(subset="error")
    commonest = {p: rows["error"].mode().iloc[0] for p, rows in failed.groupby(POINT)}
    assert found.common_errors() == commonest


def test_a_table_of_a_run_that_is_being_written_is_of_one_instant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(db: sqlite3.Connection, query_id: str, status: str, score: float | None) -> None:
        parsed = None if score is None else "ant"
        row = (1, query_id, 0, 2, status, parsed, parsed, score, None, *[None] * 5, 0, 0)
        db.execute(ADD, row)

    def written_between(stores: Any, cells: pd.DataFrame, names: Any) -> pd.DataFrame:
        with filled:
            put(filled, "b", "failed", None)
            put(filled, "c", "ok", 0.5)
        return read_together(stores, cells, names)

    with filling(tmp_path / "one") as filled:
        filled.execute(CELL, (1, "labels", "m", "a", "default", 2, 0))
        put(filled, "a", "ok", 1.0)
        filled.commit()
        before = Records([tmp_path / "one"]).curves({})
        monkeypatch.setattr(reading, "read_together", written_between)
        assert_equal(Records([tmp_path / "one"]).curves({}), before)
        monkeypatch.undo()
        assert Records([tmp_path / "one"]).curves({})["n_failed"].tolist() == [1]


def test_the_database_counts_what_a_table_of_records_counts(tmp_path: Path) -> None:
    from icl_harness.analysis.totals import totals_of

    with filling(tmp_path / "one") as db:
        fill(db, 0, ("chrf", "labels"))
    found = Records([tmp_path / "one"])
    counted, records = found.totals(), found.table()
    of_cells = records.groupby(FIELDS, observed=True)[["reused", "sample"]].sum().reset_index()
    both = counted.merge(of_cells, on=FIELDS)
    assert both["n_reused"].tolist() == both["reused"].tolist()
    assert both["samples"].tolist() == both["sample"].tolist()
    counted = counted.drop(columns=["id", "run", "n_reused", "samples"])
    assert_equal(counted, totals_of(records)[list(counted)])
    assert set(SUMS) < set(counted)


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("shots", "read"), [([2, 5], set()), ([0, 2], {"reused", "node"})], ids=["alike", "copies"]
)
def test_columns_that_totals_tell_are_as_the_records_have_them(shots, read, monkeypatch) -> None:
    names = ["query_id", "sample", "status", "score", "shots_used", "reused", "node"]
    run = icl_harness.run(
        "toy", ScriptedModel(lambda prompt: " even"), out="out", shots=shots, draws=2, data="data"
    )
    asked = []
    expression = columns._expression
    monkeypatch.setattr(columns, "_expression", lambda name: asked.append(name) or expression(name))
    with contextlib.closing(RunStore.open(run.path)) as store:
        store.count_totals()
        cells = store.totals().assign(run=0)
        found = read_together([store], cells, names)
    assert set(asked) == {"query_id", "score"} | read
    records = run.records()
    keys = ["shots", "draw", "query_id"]
    found, records = found.sort_values(keys), records.sort_values(keys)
    for name in ("sample", "status", "score", "shots_used", "reused"):
        assert found[name].tolist() == records[name].tolist(), name


MEASURE = """
import sys
from pathlib import Path
from icl_harness.cli.check import check_lines
from icl_harness.report.doubtful import doubtful
from icl_harness.report.records import Records
from icl_harness.report.run import Run

def read(folder):
    records = Records([Path(folder)])
    records.curves({}), records.compare("mode", {}), records.common_errors(), records.count()
    list(check_lines(Path(folder), doubtful(Run(folder)), 1, 3))

def peak_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

read(sys.argv[1])
before = peak_mb()
read(sys.argv[2])
print(peak_mb() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_reading_a_large_run_takes_little_memory(tmp_path: Path) -> None:
    for name, n_queries in (("small", 10), ("large", N_LARGE // 20)):
        with filling(tmp_path / name) as db:
            rng = random.Random(0)
            for cell in range(20):
                mode = ("supervised", "unsupervised")[cell % 2]
                db.execute(CELL, (cell, "labels", "m", mode, "default", cell // 4, cell // 2 % 2))
                rows = [values_of(rng, 4, fractional=False) for _ in range(n_queries)]
                db.executemany(ADD, [(cell, f"q{i}", 0, *row) for i, row in enumerate(rows)])
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert float(done.stdout) < 60, "MB; all records at once would take more than 100"
