"""The queries of a run with their gold answers, each once a task and variant.

In: examples. Out: the same examples, read back. With them stored answers can be read, and scored
again, without the task's data.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from icl_harness.examples import Example
from icl_harness.store.nodes import text_id, text_of

ADD = (
    "INSERT INTO queries (task, variant, query_id, input, target, rationale, choices, cluster) "
    "VALUES (?,?,?,?,?,?,?,?)"
)
CLUSTER_SIZE = "cluster_size"  # the column and its function
COUNT = (
    "SELECT task, variant, cluster, count(*) FROM queries WHERE cluster IS NOT NULL "
    "GROUP BY task, variant, cluster"
)
SOLUTIONS = (
    "SELECT DISTINCT task, cluster, query_id, target = 'Yes' FROM queries "
    "WHERE cluster IS NOT NULL AND target IN ('Yes', 'No') AND variant NOT LIKE '%flipped%' "
    "ORDER BY task, cluster, query_id"
)
FIND = (
    "SELECT query_id, input, target, rationale, choices, cluster FROM queries "
    "WHERE task = ? AND variant = ?"
)


def add_queries(
    db: sqlite3.Connection, task: str, variant: str, examples: Iterable[Example]
) -> None:
    """Store the examples that are new, within a transaction of the caller's."""
    find = "SELECT query_id FROM queries WHERE task = ? AND variant = ?"
    there = {row[0] for row in db.execute(find, (task, variant))}
    for example in examples:
        if example.id not in there:
            choices = text_id(db, json.dumps(example.choices, ensure_ascii=False))
            given = text_id(db, example.input)
            gold = (example.target, example.rationale)
            db.execute(ADD, (task, variant, example.id, given, *gold, choices, example.cluster))


def read_queries(db: sqlite3.Connection, task: str, variant: str) -> dict[str, Example]:
    """Return query id -> example of what is stored of a task and variant."""
    found = {}
    for query_id, given, target, rationale, choices, cluster in db.execute(FIND, (task, variant)):
        found[query_id] = Example(
            id=query_id,
            input=text_of(db, given),
            target=target,
            rationale=rationale,
            choices=tuple(json.loads(text_of(db, choices))),
            cluster=cluster,
        )
    return found


def solutions(db: sqlite3.Connection) -> list[tuple[str, str, str, bool]]:
    """Return task, cluster, query id and whether the solution is right, where queries ask for a
    verdict, Yes or No, on solutions of one problem.
    """
    return [(*names, bool(right)) for *names, right in db.execute(SOLUTIONS)]


def add_cluster_size(db: sqlite3.Connection) -> None:
    """Let queries of this connection use `cluster_size(task, variant, cluster)`: how many queries
    of a cluster there are in the run.
    """
    sizes = {tuple(key): n for *key, n in db.execute(COUNT)}
    db.create_function(CLUSTER_SIZE, 3, lambda *key: sizes.get(key), deterministic=True)
