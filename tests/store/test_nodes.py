"""Prompts in the store: every text once, every node as what it adds, leaves with edges of a query's
own.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from icl_harness.examples import Example
from icl_harness.models.base import Answer
from icl_harness.prompts.tree import Edge, Node, Prompt, Query, Shot
from icl_harness.store.records import Cell, Record, RunStore

HEADER = {"spec": {}, "data": {}, "wording": {}, "scoring": {}, "tasks": {}, "weights": {}}
CELL = Cell(task="t", model="m", mode="supervised", variant="default", shots=4, draw=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = RunStore.create_or_resume(tmp_path / "run", HEADER)
    yield opened
    opened.close()


def rows(store: RunStore, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(store.path / "records.db") as db:
        return db.execute(query).fetchall()


def shot(name: str) -> Shot:
    return Shot(id=name, input="x", target="y")


def path(n_shots: int, cuts: tuple[int, ...] = (), draw: str = "") -> Node:
    node = Node("preamble\n", cut=0 in cuts)
    for k in range(1, n_shots + 1):
        node = node.child(f"shot {k}\n", shot(f"{draw}train{k}"), cut=k in cuts)
    return node


def record(node: Node, query_id: str = "q1", own: tuple[Edge, ...] = ()) -> Record:
    query = Query(id=query_id, text=f"question {query_id}?", own=own)
    answer = Answer(query_id=query_id, text="answer")
    return Record(prompt=Prompt(node, query), answer=answer, parsed="answer", score=1.0)


def own(*names: str) -> tuple[Edge, ...]:
    return tuple(Edge(text=f"similar {name}\n", shot=shot(name)) for name in names)


def test_nested_shot_counts_hold_only_what_they_add(store: RunStore) -> None:
    for k in (1000, 250, 500):
        store.add(CELL, [record(path(k, cuts=(250, 500, 1000)))])
    added = rows(store, "SELECT json_array_length(shot_ids) FROM nodes ORDER BY id")
    assert added == [(250,), (250,), (500,)]


def test_the_format_block_of_unsupervised_prompts_does_not_repeat_the_shots(
    store: RunStore,
) -> None:
    for k in (250, 500):
        shots = path(k, cuts=(250, 500))
        store.add(CELL, [record(shots.child("Answer now.\n", cut=True))])
    added = rows(store, "SELECT json_array_length(shot_ids) FROM nodes ORDER BY id")
    assert sorted(added) == [(0,), (0,), (250,), (250,)]


def test_200_leaves_behind_one_node_do_not_repeat_it(store: RunStore) -> None:
    shared = path(1000)
    store.add(CELL, [record(shared, f"q{i}", own(f"near{i}")) for i in range(200)])
    [(n_rows, n_edges)] = rows(
        store, "SELECT count(*), sum(json_array_length(text_ids)) FROM nodes"
    )
    assert (n_rows, n_edges) == (201, 1001 + 200)


def test_a_record_points_at_its_leaf(store: RunStore) -> None:
    one = record(path(2), "q1", own("near1", "near2"))
    store.add(CELL, [one, record(path(2), "q2")])
    frame = store.records(shot_ids=True).set_index("query_id")
    assert frame.loc["q1", "node_hash"] == one.prompt.leaf.hash
    assert frame.loc["q1", "shots_used"] == 4
    assert frame.loc["q1", "shot_ids"] == ["train1", "train2", "near1", "near2"]
    assert frame.loc["q2", "shot_ids"] == ["train1", "train2"]
    assert [found.text for found in store.find("q1")] == [one.prompt.text]


def test_a_chats_own_edges_are_put_together_again_as_turns(store: RunStore) -> None:
    node = Node("Be brief.", role="system")
    edges = (Edge(text="a=", role="user"), Edge(text="1", shot=shot("near"), role="assistant"))
    one = record(node, "q1", edges)
    store.add(CELL, [one])
    assert [found.text for found in store.find("q1")] == [one.prompt.text]


def test_an_identical_request_is_one_of_the_same_leaf_and_text(store: RunStore) -> None:
    one = record(path(2), "q1", own("near1"))
    store.add(CELL, [one])
    assert set(store.answered(CELL, one.prompt.leaf)) == {"question q1?"}
    other = record(path(2), "q1", own("near2"))
    assert store.answered(CELL, other.prompt.leaf) == {}
    assert store.answered(CELL, one.prompt.node) == {}
    # The same words are the same request, whether the shots are shared or the query's own.
    assert set(store.answered(CELL, path(2).child("similar near1\n"))) == {"question q1?"}


def test_equal_texts_of_other_examples_keep_their_own_ids(store: RunStore) -> None:
    for draw in ("a-", "b-"):
        store.add(CELL, [record(path(1, cuts=(1, 3), draw=draw))])
        store.add(CELL, [record(path(3, cuts=(1, 3), draw=draw).child(draw), f"q-{draw}")])
    frame = store.records(shot_ids=True).set_index("query_id")
    for draw in ("a-", "b-"):
        assert frame.loc[f"q-{draw}", "shot_ids"] == [f"{draw}train{k}" for k in (1, 2, 3)]


def test_queries_are_stored_once_and_read_back_whole(store: RunStore) -> None:
    example = Example(
        id="q1", input="1 + 1", target="2", rationale="one more", choices=("2", "3"), cluster="sums"
    )
    for _ in range(2):
        store.add_queries("t", "default", [example])
    assert store.queries("t", "default") == {"q1": example}
    assert store.queries("t", "flipped") == {}


def test_records_carry_input_gold_answer_choices_and_cluster(store: RunStore) -> None:
    store.add(CELL, [record(path(0), "q1"), record(path(0), "q2")])
    store.add_queries(
        "t", "default", [Example(id="q1", input="in", target="a", choices=("a", "b"))]
    )
    frame = store.records().set_index("query_id")
    assert frame.loc["q1", ["input", "target", "choices"]].tolist() == ["in", "a", ("a", "b")]
    assert frame.loc["q2", ["input", "target"]].isna().all()
    [found] = store.find("q1")
    assert (found.target, found.answer, found.parsed, found.score) == ("a", "answer", "answer", 1.0)
