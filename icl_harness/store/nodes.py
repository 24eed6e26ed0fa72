"""Prompt prefixes as they are stored: each text once, each node as what it adds to its parent.

In: nodes of the prompt tree. Out: their ids in the database, and their texts and shots again. Both
are content-addressed, so larger shot counts, other draws and queries with edges of their own store
only what is new.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3

from icl_harness.prompts.tree import Node


def text_id(db: sqlite3.Connection, text: str) -> int:
    """Return the id of a text, stored where it is new."""
    digest = hashlib.sha256(text.encode()).digest()
    row = db.execute("SELECT id FROM texts WHERE hash = ?", (digest,)).fetchone()
    if row is not None:
        return int(row[0])
    insert = "INSERT INTO texts (hash, text) VALUES (?,?)"
    return int(db.execute(insert, (digest, text)).lastrowid or 0)


def text_of(db: sqlite3.Connection, key: int) -> str:
    """Return a stored text. Raises `sqlite3.DatabaseError` where it is not there."""
    row = db.execute("SELECT text FROM texts WHERE id = ?", (key,)).fetchone()
    if row is None:
        raise sqlite3.DatabaseError(f"text {key} is missing")
    return str(row[0])


def node_id(db: sqlite3.Connection, node: Node) -> int:
    """Return the id of a node, stored where it is new, as are the shot counts of the grid on its
    path: their nodes will be wanted, too.

    A parent must have the same shots, not only the same text: other draws may show equal examples.
    """
    found = _find(db, node)
    if found is not None:
        return found
    path = node.path
    shots = [edge.shot.id for edge in path if edge.shot is not None]
    parent, n_edges = _parent(db, path, shots)
    edges: list[Node] = []
    for edge in path[n_edges:]:
        edges.append(edge)
        if edge is node or (edge.cut and _find(db, edge) is None):
            parent = _insert(db, parent, edges)
            edges = []
    assert parent is not None
    return parent


def _parent(db: sqlite3.Connection, path: list[Node], shots: list[str]) -> tuple[int | None, int]:
    """Return the nearest stored node of a path with its shots, and how many edges lead there."""
    for i in range(len(path) - 2, -1, -1):
        key = _find(db, path[i])
        if key is not None and shot_ids(db, key) == shots[: path[i].n_shots]:
            return key, i + 1
    return None, 0


def turns(db: sqlite3.Connection, key: int) -> list[tuple[str, str]]:
    """Return (role, text) of the edges from the root to a stored node."""
    found: list[tuple[str, str]] = []
    for texts, roles, _ in _chain(db, key):
        ids = json.loads(texts)
        names = json.loads(roles) if roles else [""] * len(ids)
        found += [(name, text_of(db, one)) for name, one in zip(names, ids, strict=True)]
    return found


def shot_ids(db: sqlite3.Connection, key: int) -> list[str]:
    """Return the ids of a stored node's shots, in the order in which they are read."""
    found: list[str] = []
    for _, _, shots in _chain(db, key):
        found += json.loads(shots)
    return found


def node_hash(db: sqlite3.Connection, key: int) -> str:
    """Return the hash of a stored node."""
    return str(db.execute("SELECT hash FROM nodes WHERE id = ?", (key,)).fetchone()[0])


def _find(db: sqlite3.Connection, node: Node) -> int | None:
    row = db.execute("SELECT id FROM nodes WHERE hash = ?", (node.hash,)).fetchone()
    return None if row is None else int(row[0])


def _insert(db: sqlite3.Connection, parent: int | None, edges: list[Node]) -> int:
    roles = [edge.role for edge in edges]
    values = (
        edges[-1].hash,
        parent,
        json.dumps([text_id(db, edge.segment) for edge in edges]),
        json.dumps(roles) if any(roles) else None,
        json.dumps([edge.shot.id for edge in edges if edge.shot is not None]),
    )
    insert = "INSERT INTO nodes (hash, parent, text_ids, roles, shot_ids) VALUES (?,?,?,?,?)"
    return int(db.execute(insert, values).lastrowid or 0)


def _chain(db: sqlite3.Connection, key: int | None) -> list[tuple[str, str | None, str]]:
    """Return (texts, roles, shots) that each node from the root to this one adds."""
    chain = []
    while key is not None:
        texts, roles, shots, key = db.execute(
            "SELECT text_ids, roles, shot_ids, parent FROM nodes WHERE id = ?", (key,)
        ).fetchone()
        chain.append((texts, roles, shots))
    chain.reverse()
    return chain
