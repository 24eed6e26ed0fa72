"""Curves: what is counted, what is missing, and bytes that stay the same."""

from __future__ import annotations

import errno
import io
import math
import os
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness.analysis.curves import COLUMNS, csv_text, curves, write_csv
from icl_harness.analysis.stats import mean_interval
from icl_harness.errors import StoreError


def record(**fields):
    usual = {
        "task": "banking77",
        "model": "demo",
        "mode": "supervised",
        "variant": "default",
        "format": "text",
        "queries_per_request": 1,
        "shots": 4,
        "draw": 0,
        "query_id": "q0",
        "sample": 0,
        "metric": "accuracy",
        "status": "ok",
        "parsed": "a",
        "score": 1.0,
        "shots_used": 4,
        "prompt_tokens": 100,
        "cached_tokens": 80,
        "cache_write_tokens": 10,
        "completion_tokens": 2,
        "reasoning_tokens": 1,
        "cost_usd": 0.001,
        "latency_s": 0.2,
        "n_lost": 0,
    }
    assert set(fields) <= set(usual)
    return usual | fields


def missing(status, **fields):
    tokens = (
        "prompt_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "completion_tokens",
        "reasoning_tokens",
    )
    nothing = dict.fromkeys(("parsed", "score", *tokens, "cost_usd"))
    return record(status=status, **nothing | fields)


def one(*rows):
    table = curves(pd.DataFrame(list(rows)))
    assert len(table) == 1
    return table.iloc[0]


def test_a_failed_request_is_missing_and_an_unparsable_answer_is_wrong():
    row = one(
        record(query_id="q0", score=1.0),
        record(query_id="q1", score=0.0, parsed=None),
        record(query_id="q2", score=None, parsed=None),
        record(query_id="q3", score=1.0),
        missing("failed", query_id="q4"),
        missing("overflow", query_id="q5"),
        missing("refused", query_id="q6"),
        missing("refused", query_id="q7"),
    )
    assert row["value"] == 0.5
    counts = {
        "n_ok": 4,
        "n_unparsed": 2,
        "n_failed": 1,
        "n_refused": 2,
        "n_overflow": 1,
        "n_queries": 8,
        "n_draws": 1,
    }
    assert row[list(counts)].to_dict() == counts


def test_requests_that_broke_off_are_summed_over_all_records():
    assert one(record(n_lost=2), missing("failed", query_id="q1", n_lost=1))["n_lost"] == 3


def test_chats_and_groups_are_rows_of_their_own():
    table = curves(
        pd.DataFrame([record(), record(format="chat", score=0.0), record(queries_per_request=5)])
    )
    assert table[["format", "queries_per_request", "value"]].values.tolist() == [
        ["chat", 1, 0.0],
        ["text", 1, 1.0],
        ["text", 5, 1.0],
    ]


def test_the_interval_is_the_crossed_one_of_the_ok_records():
    rng = np.random.default_rng(0)
    rows = [
        record(draw=d, query_id=f"q{q}", score=float(rng.random() < 0.7))
        if rng.random() < 0.9
        else missing("failed", draw=d)
        for d in range(3)
        for q in range(40)
    ]
    row = one(*rows)
    ok = [r for r in rows if r["status"] == "ok"]
    expected = mean_interval(
        [r["score"] for r in ok], [r["draw"] for r in ok], [r["query_id"] for r in ok], binary=True
    )
    assert (row["value"], row["ci_low"], row["ci_high"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert (row["n_draws"], row["n_ok"]) == (3, len(ok))


def test_scores_that_are_not_0_or_1_get_a_symmetric_interval():
    row = one(
        *(
            record(query_id=f"q{i}", metric="chrF++", score=s)
            for i, s in enumerate([20.0, 30.0, 50.0])
        )
    )
    assert row["ci_high"] - row["value"] == pytest.approx(row["value"] - row["ci_low"])
    assert row["value"] == pytest.approx(100 / 3)


def test_equal_scores_of_a_metric_without_a_range_vary_as_others_of_their_curve_do():
    rows = [
        record(query_id=f"q{i}", metric="f1", shots=k, score=s)
        for k, scores in ((0, [0.0, 0.0, 0.0]), (4, [20.0, 30.0, 50.0]))
        for i, s in enumerate(scores)
    ]
    table = curves(pd.DataFrame(rows))
    widths = (table["ci_high"] - table["ci_low"]).tolist()
    assert widths[0] == pytest.approx(widths[1])
    alone = curves(pd.DataFrame([row | {"score": 7.0} for row in rows[:3]]))
    assert alone[["ci_low", "ci_high"]].isna().all(axis=None)


def test_a_cell_without_an_ok_record_has_no_value():
    row = one(missing("failed"), missing("overflow", query_id="q1"))
    assert all(
        math.isnan(row[n]) for n in ("value", "ci_low", "ci_high", "prompt_tokens", "cost_usd")
    )
    assert (row["n_ok"], row["n_failed"], row["n_overflow"], np.isnan(row["shots_used"])) == (
        0,
        1,
        1,
        True,
    )


def test_no_records_give_an_empty_table():
    records = pd.DataFrame([record()])
    table, filled = curves(records.iloc[:0]), curves(records)
    assert table.empty
    assert csv_text(table) == csv_text(filled).splitlines()[0] + "\n"


def test_shots_used_and_tokens_are_means_over_the_records_that_are_ok():
    row = one(
        record(shots_used=4, prompt_tokens=100),
        missing("overflow", query_id="q1", shots_used=3, prompt_tokens=900),
    )
    assert (row["shots_used"], row["prompt_tokens"]) == (4, 100)


def test_the_cost_is_a_sum_and_unknown_where_an_answer_has_none():
    assert one(record(), record(query_id="q1", cost_usd=0.002))["cost_usd"] == pytest.approx(0.003)
    assert one(record(), missing("failed", query_id="q1"))["cost_usd"] == pytest.approx(0.001)
    assert math.isnan(one(record(), record(query_id="q1", cost_usd=None))["cost_usd"])
    assert one(record(cost_usd=0.0))["cost_usd"] == 0.0


def test_rows_are_sorted_with_shots_as_numbers():
    rows = [
        record(shots=k, mode=m, task=t)
        for k in (64, 8, 0)
        for m in ("unsupervised", "supervised")
        for t in "ba"
    ]
    table = curves(pd.DataFrame(rows))
    assert table["shots"].tolist() == [0, 8, 64] * 4
    assert table["task"].tolist() == ["a"] * 6 + ["b"] * 6


@pytest.mark.slow
@given(st.permutations(range(60)))
@settings(max_examples=15, deadline=None)
def test_the_order_of_the_records_changes_no_byte(order):
    rng = np.random.default_rng(1)
    rows = [
        record(
            shots=k,
            draw=d,
            query_id=f"q{q}",
            score=float(rng.random()),
            cost_usd=float(rng.random()) / 3,
        )
        for k in (0, 8)
        for d in range(3)
        for q in range(10)
    ]
    assert csv_text(curves(pd.DataFrame([rows[i] for i in order]))) == csv_text(
        curves(pd.DataFrame(rows))
    )


def test_the_csv_is_what_it_says(tmp_path):
    rows = [
        record(query_id="q0", cost_usd=None, cached_tokens=None),
        record(query_id="q1", score=0.0, prompt_tokens=101, cached_tokens=None),
    ]
    path = tmp_path / "new" / "curves.csv"
    write_csv(curves(pd.DataFrame(rows)), path)
    head, line, end = path.read_bytes().decode().split("\n")
    assert head == ",".join(COLUMNS)
    # One draw of 2 queries, 1 right: t with 1 degree of freedom leaves nearly all of 0..1.
    low, high = line.split(",")[9:11]
    assert line == (
        f"banking77,demo,supervised,default,text,1,4,accuracy,0.5,{low},{high},"
        "2,1,2,0,0,0,0,0,4,100.5,,10,2,1,,0,queries"
    )
    assert float(low) < 0.02
    assert end == ""
    assert [p.name for p in path.parent.iterdir()] == ["curves.csv"]


def test_the_csv_goes_to_a_stream_too():
    stream = io.StringIO()
    table = curves(pd.DataFrame([record()]))
    write_csv(table, stream)
    assert stream.getvalue() == csv_text(table)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_csv(curves(pd.DataFrame([record()])), tmp_path / "file" / "curves.csv")


def test_a_csv_read_back_gives_the_same_bytes():
    rng = np.random.default_rng(2)
    rows = [
        record(shots=k, query_id=f"q{q}", score=float(rng.random() < 0.3))
        for k in (0, 4, 512)
        for q in range(7)
    ]
    text = csv_text(curves(pd.DataFrame(rows)))
    assert csv_text(pd.read_csv(io.StringIO(text))) == text


@pytest.mark.slow
def test_200_000_records_take_about_a_second():
    rng = np.random.default_rng(0)
    n_cells, n_draws, n_queries = 40, 5, 1000
    cell, draw, query = (a.ravel() for a in np.indices((n_cells, n_draws, n_queries)))
    frame = pd.DataFrame([record()] * len(cell)).assign(
        shots=cell,
        draw=draw,
        query_id=np.char.add("q", query.astype(str)),
        score=(rng.random(len(cell)) < 0.7) * 1.0,
    )
    start = time.process_time()
    table = curves(frame)
    assert len(table) == n_cells
    assert time.process_time() - start < 4  # about 0.6 s on an idle core; others may share it


TABLE = pd.DataFrame({"a": [1.0]})


def read_while(path, write):
    """Return what is read from a FIFO while `write` runs."""
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write()
        return os.read(reader, 100)
    finally:
        os.close(reader)


@pytest.mark.parametrize("name", ["fifo", "link"])
def test_what_is_no_regular_file_is_written_into_and_not_replaced(tmp_path, name):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    assert read_while(tmp_path / "fifo", lambda: write_csv(TABLE, tmp_path / name)) == b"a\n1\n"
    assert (tmp_path / "fifo").is_fifo()
    assert (tmp_path / "link").is_symlink()


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "curves.csv", tmp_path / "link.csv"
    link.symlink_to(target)
    write_csv(TABLE, link)  # to a file that is not there yet
    target.chmod(0o640)
    write_csv(TABLE, link)
    assert link.is_symlink()
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"a\n1\n", 0o640)
    assert [p.name for p in target.parent.iterdir()] == ["curves.csv"]


def test_a_full_disk_is_one_line_and_leaves_the_old_file_alone(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "curves.csv").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StoreError, match=r"curves\.csv' cannot be written: No space left on device\."
    ):
        write_csv(TABLE, tmp_path / "curves.csv")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("curves.csv", "old")]


@pytest.mark.parametrize("name", [".", "a\0b", "x" * 300])
def test_a_name_that_no_file_can_have_is_one_line(tmp_path, name):
    with pytest.raises(StoreError, match="cannot be written") as caught:
        write_csv(TABLE, tmp_path / name)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
