"""The run store: small on disk, readable while it is written, all or nothing."""

import sqlite3
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from icl_harness.errors import StoreError
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.base import Answer, Usage
from icl_harness.prompts.tree import Node, Prompt, Query, Shot
from icl_harness.store.records import Cell, Record, RunStore, StoredAnswer

HEADER = {"spec": {"seed": 0}, "data": {}, "wording": {}, "scoring": {}, "tasks": {}, "weights": {}}


def cell(shots: int, draw: int = 0) -> Cell:
    return Cell(task="t", model="m", mode="supervised", variant="default", shots=shots, draw=draw)


def record(node: Node, query_id: str, text: str = "answer", **more: object) -> Record:
    query = Query(id=query_id, text=f"question {query_id}?")
    answer = Answer(
        query_id=query_id, text=text, usage=Usage(prompt_tokens=5, cost_usd=0.25), latency_s=0.5
    )
    return Record(prompt=Prompt(node, query), answer=answer, parsed=text, score=1.0, **more)  # type: ignore[arg-type]


def path_of(n_shots: int, chars: int = 10) -> list[Node]:
    nodes = [Node("preamble\n", mode="supervised")]
    for i in range(n_shots):
        shot = Shot(id=f"train-{i}", input="x", target="y")
        nodes.append(nodes[-1].child(f"{i:06d}" + "lorem " * (chars // 6) + "\n", shot))
    return nodes


def test_what_was_added_is_read_back_whole(tmp_path: Path) -> None:
    store = RunStore.create_or_resume(tmp_path / "run", HEADER)
    nodes = path_of(3)
    store.add(cell(2), [record(nodes[2], "q1"), record(nodes[2], "q2")])
    store.add(cell(3), [record(nodes[3], "q1", "line\x00one\u2028two")])
    store.close()
    frame = RunStore.open(tmp_path / "run").records(shot_ids=True)
    assert frame["shots"].tolist() == [2, 2, 3]
    assert frame["shot_ids"].tolist() == [["train-0", "train-1"]] * 2 + [
        ["train-0", "train-1", "train-2"]
    ]
    assert frame["node_hash"].tolist() == [nodes[2].hash] * 2 + [nodes[3].hash]
    assert frame["answer"].iloc[2] == "line\x00one\u2028two"
    assert frame["cost_usd"].sum() == 0.75


def test_a_prompt_is_put_together_again_from_texts_stored_once(tmp_path: Path) -> None:
    store = RunStore.create_or_resume(tmp_path / "run", HEADER)
    nodes = path_of(4)
    for k in (1, 2, 4):
        store.add(cell(k), [record(nodes[k], "q1")])
    assert [one.text for one in store.find("q1")] == [
        nodes[k].text + "question q1?" for k in (1, 2, 4)
    ]
    assert [one.cell.shots for one in store.find("q1", shots=2)] == [2]
    n_texts = (
        sqlite3.connect(tmp_path / "run/records.db")
        .execute("SELECT count(*) FROM texts")
        .fetchone()[0]
    )
    assert n_texts == 1 + 4 + 1  # preamble, shots, query: however many cells share them
    store.close()


def test_a_chat_is_put_together_again_with_its_turns(tmp_path: Path) -> None:
    store = RunStore.create_or_resume(tmp_path / "run", HEADER)
    node = Node("Be brief.", role="system").child("a=", role="user").child("1", role="assistant")
    one = record(node, "q1")
    store.add(replace(cell(1), format="chat"), [one])
    shown = [(found.cell, found.text) for found in store.find("q1")]
    assert shown == [(replace(cell(1), format="chat"), one.prompt.text)]
    store.close()


def test_each_way_of_asking_is_a_cell_of_its_own(tmp_path: Path) -> None:
    store = RunStore.create_or_resume(tmp_path / "run", HEADER)
    cells = [cell(1), replace(cell(1), format="chat"), replace(cell(1), queries_per_request=5)]
    for one in cells:
        assert store.done(one) == {}
        store.add(one, [record(path_of(1)[1], "q1")])
    assert set(store.cells_of("q1")) == set(cells)
    assert store.records()[["format", "queries_per_request"]].values.tolist() == [
        ["chat", 1],
        ["text", 1],
        ["text", 5],
    ]
    store.close()


def test_all_that_an_answer_took_is_read_back_and_given_with_its_copy(tmp_path: Path) -> None:
    store = RunStore.create_or_resume(tmp_path / "run", HEADER)
    usage = Usage(
        prompt_tokens=9,
        cached_tokens=2,
        cache_write_tokens=3,
        completion_tokens=5,
        reasoning_tokens=4,
        cost_usd=0.5,
    )
    node = path_of(1)[1]
    answer = Answer(query_id="q1", text="x", usage=usage, n_lost=2)
    store.add(
        cell(1),
        [
            Record(
                prompt=Prompt(node, Query(id="q1", text="?")), answer=answer, parsed="x", score=1.0
            )
        ],
    )
    row = store.records().iloc[0]
    assert {f.name: row[f.name] for f in fields(Usage)} == asdict(usage)
    assert row["n_lost"] == 2
    assert store.answered(cell(1), node) == {
        "?": {"q1": StoredAnswer("q1", "x", "x", 1.0, None, usage)}
    }
    store.close()


def test_a_refused_record_is_done(tmp_path: Path) -> None:
    store = RunStore.create_or_resume(tmp_path / "run", HEADER)
    refused = Answer(query_id="q1", status="refused", error="the filter")
    store.add(
        cell(0), [Record(prompt=Prompt(path_of(0)[0], Query(id="q1", text="?")), answer=refused)]
    )
    assert store.done(cell(0)) == {("q1", 0): 0}
    assert store.answers_by_shots(cell(0)) == {}
    store.close()


def test_a_folder_of_a_later_version_is_refused_in_one_line_and_left_alone(tmp_path: Path) -> None:
    RunStore.create_or_resume(tmp_path / "run", HEADER).close()
    database = sqlite3.connect(tmp_path / "run/records.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    refusal = "run was made by a later version of icl-harness"
    for call in (RunStore.open, lambda path: RunStore.create_or_resume(path, HEADER)):
        with pytest.raises(StoreError, match=refusal) as caught:
            call(tmp_path / "run")
        assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_thousand_queries_in_eight_cells_of_1_mb_prompts_stay_under_20_mb(tmp_path: Path) -> None:
    store = RunStore.create_or_resume(tmp_path / "run", HEADER)
    nodes = path_of(1000, chars=1000)
    for k in (0, 1, 4, 16, 64, 256, 512, 1000):
        store.add(
            cell(k),
            [
                record(nodes[k], f"test-{i}", "a rationale of " + "some words " * 20)
                for i in range(1000)
            ],
        )
    assert nodes[1000].n_bytes > 1_000_000
    store.close()
    assert sum(p.stat().st_size for p in (tmp_path / "run").iterdir()) < 20e6


def test_adding_is_all_or_nothing(tmp_path: Path) -> None:
    store = RunStore.create_or_resume(tmp_path / "run", HEADER)
    good = record(path_of(0)[0], "q1")
    bad = Record(
        prompt=good.prompt,
        answer=Answer(query_id="q2", text="x"),
        score="not a number",
        parsed=object(),
    )  # type: ignore[arg-type]
    with pytest.raises(
        StoreError, match=r"records.db cannot be read or written: Error binding parameter"
    ):
        store.add(cell(0), [good, bad])
    assert store.count() == 0
    store.close()


def test_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    store = RunStore.create_or_resume(tmp_path / "run", HEADER)
    store.add(cell(0), [record(path_of(0)[0], "q1")])
    reader = RunStore.open(tmp_path / "run")
    assert len(reader.records()) == 1
    store.add(cell(0), [record(path_of(0)[0], "q2")])
    assert len(reader.records()) == 2
    store.close()


def test_a_failed_record_is_not_done_and_is_replaced(tmp_path: Path) -> None:
    store = RunStore.create_or_resume(tmp_path / "run", HEADER)
    node = path_of(0)[0]
    failed = Answer(query_id="q1", status="failed", error="503")
    store.add(
        cell(0), [Record(prompt=Prompt(node, Query(id="q1", text="question q1?")), answer=failed)]
    )
    assert store.done(cell(0)) == {}
    store.add(cell(0), [record(node, "q1")])
    assert store.done(cell(0)) == {("q1", 0): 0}
    assert store.count() == 1
    store.close()


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [(0.5, 0.25, 0.75), (None, 0.25, 0.25), (0.5, None, 0.5), (None, None, None)],
)
def test_what_a_failed_answer_cost_is_kept_when_it_is_asked_again(
    tmp_path: Path, first, second, both
) -> None:
    store = RunStore.create_or_resume(tmp_path / "run", HEADER)
    prompt = Prompt(path_of(0)[0], Query(id="q1", text="question q1?"))
    took = [Usage(completion_tokens=n, cost_usd=usd) for n, usd in ((9000, first), (3, second))]
    failed = Answer(query_id="q1", status="failed", error="cut off", usage=took[0], n_lost=2)
    store.add(cell(0), [Record(prompt=prompt, answer=failed)])
    ok = Answer(query_id="q1", text="x", usage=took[1], n_lost=1)
    store.add(cell(0), [Record(prompt=prompt, answer=ok, parsed="x", score=1.0)])
    assert store.answered(cell(0), prompt.node)["question q1?"]["q1"].usage == Usage(
        completion_tokens=3, cost_usd=both
    )
    assert store.records()[["status", "n_lost"]].values.tolist() == [["ok", 3]]
    store.close()


def from_batch(query_id: str, place: tuple[str, int], **more: object) -> Record:
    answer = Answer(query_id=query_id, place=place, usage=Usage(cost_usd=0.5), **more)  # type: ignore[arg-type]
    return Record(
        prompt=Prompt(path_of(0)[0], Query(id=query_id, text=f"question {query_id}?")),
        answer=answer,
    )


def test_answers_out_of_batches_that_are_stored_are_awaited_no_more_when_the_run_goes_on(
    tmp_path: Path,
) -> None:
    store, ledger = RunStore.create_or_resume(tmp_path, HEADER), Ledger(tmp_path)
    token = ledger.plan_batch("icl-1", "m", ["a", "b", "c"], 100).token
    ledger.batch_is(token, "open", name="batch_1")
    store.add(cell(0), [from_batch("q1", (token, 0), status="failed", error="cut off")])
    store.add(cell(0), [from_batch(name, (token, 2), text="of a group") for name in ("q3", "q4")])
    store.close()
    assert ledger.awaited(token) == [(0, "a"), (1, "b"), (2, "c")]  # here a process was killed
    store = RunStore.create_or_resume(tmp_path, HEADER)
    assert ledger.awaited(token) == [(1, "b")]
    store.add(cell(0), [from_batch("q2", (token, 1), text="x")])
    store.close()
    RunStore.create_or_resume(tmp_path, HEADER).close()
    assert [entry.state for entry in ledger.batches()] == ["done"]
    ledger.close()


def test_what_is_no_run_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a run folder"):
        RunStore.open(tmp_path)


def test_an_unwritable_place_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StoreError, match=r"file/run cannot be written: .*\. Choose another --out"
    ) as caught:
        RunStore.create_or_resume(tmp_path / "file" / "run", HEADER)
    assert "\n" not in str(caught.value)


def test_a_run_whose_records_are_gone_is_refused_in_one_line(tmp_path) -> None:
    RunStore.create_or_resume(tmp_path / "run", HEADER).close()
    (tmp_path / "run/records.db").unlink()
    with pytest.raises(StoreError, match=r"run\.json but no records\.db.* Put the file back"):
        RunStore.create_or_resume(tmp_path / "run", HEADER)
