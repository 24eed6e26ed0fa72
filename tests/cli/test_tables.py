"""What stands under a table of curves: whatever its reader must know."""

import pandas as pd

from icl_harness.analysis.compare import compare
from icl_harness.analysis.curves import POINT, curves
from icl_harness.cli.notes import bank_notes, curve_notes, unfinished_note
from icl_harness.cli.tables import difference_tables
from icl_harness.cli.terminal import print_rows
from icl_harness.store.bank import Attempt, Bank, mark_kept, write_bank
from tests.analysis.test_curves import missing, record


def notes(*rows) -> list[str]:
    records = pd.DataFrame(list(rows))
    failed = records[records["status"] == "failed"]
    errors = {point: rows["error"].mode().iloc[0] for point, rows in failed.groupby(POINT)}
    return list(curve_notes(curves(records), errors))


def with_error(row, error):
    return row | {"error": error}


def test_nothing_is_said_of_a_table_without_faults() -> None:
    assert notes(with_error(record(), None)) == []


def test_failures_are_told_with_the_commonest_error_of_their_cell() -> None:
    rows = [
        with_error(
            missing("failed", query_id=f"q{i}"), "connection refused" if i < 3 else f"503, take {i}"
        )
        for i in range(5)
    ]
    others = [
        with_error(missing("failed", shots=16), "x" * 500),
        with_error(record(query_id="q9"), None),
    ]
    first, second = notes(*rows, *others)
    assert first == (
        "banking77 demo supervised default 4 shots: 5 requests failed (connection refused) and "
        "are missing; the same command sends them again"
    )
    assert f"16 shots: 1 request failed ({'x' * 200}) and" in second


def test_refusals_and_requests_that_broke_off_are_told() -> None:
    rows = [
        missing("refused", query_id="q1"),
        missing("refused", query_id="q2"),
        record(n_lost=2),
        record(shots=8),
    ]
    assert notes(*(with_error(row, None) for row in rows)) == [
        "banking77 demo supervised default 4 shots: 2 requests were refused by the provider or "
        "its filter and are missing",
        "banking77 demo supervised default 8 shots: 4 shots used",
        "2 requests broke off once sent; the provider may have charged for them, "
        "which cost_usd leaves out",
    ]


def test_notes_name_chats_and_groups() -> None:
    row = missing("overflow", format="chat", queries_per_request=5)
    assert notes(with_error(row, "too long")) == [
        "banking77 demo supervised default chat 5 queries a request 4 shots: 1 prompt did not "
        "fit the context window and is missing"
    ]


def test_a_run_that_is_not_finished_says_how_much_of_it_there_is() -> None:
    spec = {
        "models": ["demo"],
        "modes": ["supervised", "unsupervised"],
        "variants": ["default"],
        "shots": [0, 4, 16],
    }
    header = {
        "spec": {**spec, "draws": 2},
        "tasks": {"toy": {"n_queries": 10}, "other": {"n_queries": 5}},
    }
    assert list(unfinished_note([header], 2 * 3 * 2 * 15)) == []
    [note] = unfinished_note([header, header], 200)
    assert note == "unfinished: 200 of 360 answers so far; the same command resumes it"


def bank(n_solved: int) -> Bank:
    usual = {"problem": "", "parsed": "", "node": "", "model": "demo", "sample": 0, "answer": "a"}
    return mark_kept(
        Attempt(id=f"p{i}", reward=float(i < n_solved), **usual, cost_usd=0.25) for i in range(4)
    )


def test_banks_that_differ_in_their_draw_alone_are_one_line(tmp_path) -> None:
    for draw, n_solved in enumerate((3, 1, 2)):
        write_bank(tmp_path / f"bank-dialects-default-draw{draw}--demo-0a.jsonl", bank(n_solved))
    write_bank(tmp_path / "banks" / "bank-toy-default--demo-0a.jsonl", bank(4))
    assert list(bank_notes(tmp_path, {"models": {}, "tasks": {}})) == [
        "bank-dialects-default-draw*--demo-0a.jsonl: 3 banks, 1 to 3 of 4 solved in each, "
        "12 attempts, $3.00",
        "bank-toy-default--demo-0a.jsonl: 4 of 4 solved, 4 attempts, $1.00",
    ]


def test_of_one_query_in_one_draw_no_chance_is_told() -> None:
    records = pd.DataFrame([record(score=0.0), record(score=1.0, shots=16, shots_used=16)])
    (table,) = difference_tables(compare(records, by="shots"))
    assert [next(iter(column.cells)) for column in table.columns] == [
        "16 - 4", "+1.000 [-1.000, +1.000]", "-", "-", "1", "1", "1",
    ]  # fmt: skip


def test_columns_are_as_wide_as_their_longest_text_and_numbers_end_together(capsys) -> None:
    print_rows([("name", "MB", "state"), ("b[1]", "12.5", "")], right=[1])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["name    MB  state", "b[1]  12.5"]
    print_rows([])
    assert capsys.readouterr().out == ""


def test_a_file_or_a_pipe_gets_numbers_whole_and_texts_folded_at_100_columns(capsys) -> None:
    rows = [("name", "about"), ("toy", "word " * 60)]
    print_rows(rows)
    assert len(capsys.readouterr().out.splitlines()) == 2
    print_rows(rows, fold=True)
    assert max(map(len, capsys.readouterr().out.splitlines())) == 100
