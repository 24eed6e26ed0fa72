"""Bringing an older version's tables up to date: in one transaction, nothing lost.

In: a connection to a database of version 1 to 3. Out: the same database at the present version, or
untouched where it was stopped. What an older version did not know stays empty: queries without gold
answers, tokens that were not counted.
"""

from __future__ import annotations

import json
import sqlite3

from icl_harness.store.schema import NEW_COLUMNS, VERSION, make_tables

# What a column holds that an older version did not have.
DEFAULTS = {
    "format": "'text'",
    "queries_per_request": "1",
    "n_lost": "0",
    "found": "1",
    "cut": "0",
}


def migrate(db: sqlite3.Connection) -> None:
    """Bring the tables up to date."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] == 3:
            for column in NEW_COLUMNS:
                db.execute(f"ALTER TABLE records ADD COLUMN {column}")
            db.execute(f"PRAGMA user_version = {VERSION}")
            return
        for table in ("nodes", "cells", "records"):
            db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
        db.execute("DROP INDEX IF EXISTS records_by_prompt")
        make_tables(db)
        _move_nodes(db)
        for table in ("cells", "records"):
            _move_rows(db, table)
        # Which group answers were found was not written down: those that could not be parsed are
        # taken for whole replies, and stay wrong when they are scored again.
        db.execute(
            "UPDATE records SET found = 0 WHERE status = 'ok' AND parsed IS NULL "
            "AND cell IN (SELECT id FROM cells WHERE queries_per_request > 1)"
        )
        for table in ("nodes", "cells", "records"):
            db.execute(f"DROP TABLE old_{table}")


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def _move_rows(db: sqlite3.Connection, table: str) -> None:
    """Copy a table's rows; a column that the old table lacks gets its default."""
    there = set(_columns(db, f"old_{table}"))
    names = _columns(db, table)
    values = [name if name in there else DEFAULTS.get(name, "NULL") for name in names]
    db.execute(
        f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} FROM old_{table}"
    )


class _Paths:
    """The paths of the nodes moved so far, as a tree of their edges."""

    def __init__(self) -> None:
        self._step: dict[tuple[int, int, str], int] = {}  # (place, text, role) -> next place
        self._ends: dict[int, tuple[int, int, list[str]]] = {}  # place -> node, n edges, its shots

    def parent(
        self, texts: list[int], roles: list[str], shots: list[str]
    ) -> tuple[int | None, int, int]:
        """Return the longest path that begins this one: its node, its edges, its shots."""
        place = 0
        found: tuple[int | None, int, int] = (None, 0, 0)
        for text, role in zip(texts, roles, strict=True):
            step = self._step.get((place, text, role))
            if step is None:
                break
            place = step
            node, n_edges, its_shots = self._ends.get(place, (None, 0, []))
            if node is not None and shots[: len(its_shots)] == its_shots:
                found = (node, n_edges, len(its_shots))
        return found

    def add(self, node: int, texts: list[int], roles: list[str], shots: list[str]) -> None:
        place = 0
        for text, role in zip(texts, roles, strict=True):
            place = self._step.setdefault((place, text, role), len(self._step) + 1)
        self._ends[place] = (node, len(texts), shots)


def _move_nodes(db: sqlite3.Connection) -> None:
    """Write each node as what it adds to the longest other node that begins it."""
    roles_of = "roles" if "roles" in _columns(db, "old_nodes") else "NULL"
    paths = _Paths()
    # A path that begins another has the shorter list: it comes first.
    old = db.execute(
        f"SELECT id, hash, text_ids, {roles_of}, shot_ids FROM old_nodes ORDER BY length(text_ids)"
    )
    for node, digest, text_list, role_list, shot_list in old:
        texts, shots = json.loads(text_list), json.loads(shot_list)
        roles = json.loads(role_list) if role_list else [""] * len(texts)
        parent, n_edges, n_shots = paths.parent(texts, roles, shots)
        paths.add(node, texts, roles, shots)
        own_roles = json.dumps(roles[n_edges:]) if any(roles) else None
        values = (node, digest, parent, json.dumps(texts[n_edges:]), own_roles)
        db.execute(
            "INSERT INTO nodes (id, hash, parent, text_ids, roles, shot_ids) VALUES (?,?,?,?,?,?)",
            (*values, json.dumps(shots[n_shots:])),
        )
