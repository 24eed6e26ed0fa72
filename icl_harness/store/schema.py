"""The tables of a run's records, and the versions that they have had.

In: a connection. Out: its tables, made, or their version. Left out: opening (database.py), older
versions (migration.py).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from icl_harness.errors import StoreError

# 1 (user_version 0): neither formats nor groups. 2: every node held its whole path, no queries.
# 3: nodes hold what they add to their parent; queries with their gold answers; the run's identity.
# 4: what was taken off answers, and which were cut.
VERSION = 4

# `text_ids`, `roles` and `shot_ids` are what a node adds to its parent; `roles` is NULL without
# turns of a chat. `found`: 0 where a group's reply had no answer under the query's number, so that
# `answer` is the whole reply. `cut`: the limit on tokens ended it, or a thought in it had no end.
# What the model wrote beyond `answer`: `rest`, if that follows it, else `whole`, all it wrote;
# NULL where there is no more. `fetched`: answers out of batches that are stored, for a ledger that
# a crash kept from removing them. `rescored`: a row for each time that scores were replaced, with
# the hash of the old ones. `run`: `identity` is the hash of what run.json says of the run.
TABLES = {
    "run": """
        CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID""",
    "texts": """
        CREATE TABLE IF NOT EXISTS texts (
            id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, text TEXT NOT NULL
        )""",
    "nodes": """
        CREATE TABLE nodes (
            id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, parent INTEGER REFERENCES nodes,
            text_ids TEXT NOT NULL, roles TEXT, shot_ids TEXT NOT NULL
        )""",
    "cells": """
        CREATE TABLE cells (
            id INTEGER PRIMARY KEY, task TEXT NOT NULL, model TEXT NOT NULL, mode TEXT NOT NULL,
            variant TEXT NOT NULL, format TEXT NOT NULL, queries_per_request INTEGER NOT NULL,
            shots INTEGER NOT NULL, draw INTEGER NOT NULL, metric TEXT NOT NULL,
            UNIQUE (task, model, mode, variant, format, queries_per_request, shots, draw)
        )""",
    "queries": """
        CREATE TABLE queries (
            task TEXT NOT NULL, variant TEXT NOT NULL, query_id TEXT NOT NULL,
            input INTEGER NOT NULL REFERENCES texts, target TEXT NOT NULL, rationale TEXT,
            choices INTEGER NOT NULL REFERENCES texts, cluster TEXT,
            PRIMARY KEY (task, variant, query_id)
        ) WITHOUT ROWID""",
    "records": """
        CREATE TABLE records (
            cell INTEGER NOT NULL REFERENCES cells, query_id TEXT NOT NULL, sample INTEGER NOT NULL,
            node INTEGER NOT NULL REFERENCES nodes, query_text INTEGER NOT NULL REFERENCES texts,
            shots_used INTEGER NOT NULL, status TEXT NOT NULL, answer TEXT, found INTEGER NOT NULL,
            parsed TEXT, score REAL, gold_nll REAL, error TEXT, reused INTEGER NOT NULL,
            prompt_tokens INTEGER, cached_tokens INTEGER, cache_write_tokens INTEGER,
            completion_tokens INTEGER, reasoning_tokens INTEGER, cost_usd REAL, latency_s REAL,
            n_lost INTEGER NOT NULL, cut INTEGER NOT NULL DEFAULT 0,
            whole INTEGER REFERENCES texts, rest INTEGER REFERENCES texts,
            PRIMARY KEY (cell, query_id, sample)
        ) WITHOUT ROWID""",
    "rescored": """
        CREATE TABLE IF NOT EXISTS rescored (
            id INTEGER PRIMARY KEY, at TEXT NOT NULL, scoring_before TEXT NOT NULL,
            scores_before TEXT NOT NULL, n_changed INTEGER NOT NULL, scoring TEXT NOT NULL
        )""",
    "fetched": """
        CREATE TABLE IF NOT EXISTS fetched (
            batch TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (batch, number)
        ) WITHOUT ROWID""",
}
NEW_COLUMNS = (
    "cut INTEGER NOT NULL DEFAULT 0",
    "whole INTEGER REFERENCES texts",
    "rest INTEGER REFERENCES texts",
)  # of records, since version 3
# Beside them stands `choice_scores` (choice_scores.py), where choices were weighed.
OPTIONAL = {"choice_scores"}
INDEX = "CREATE INDEX records_by_prompt ON records (node, query_text)"
FIRST_TABLES = {"texts", "nodes", "cells", "records"}  # of every version


def make_tables(db: sqlite3.Connection) -> None:
    """Make the tables of this version, within a transaction of the caller's."""
    for statement in (*TABLES.values(), INDEX):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")


def version_of(db: sqlite3.Connection, file: Path) -> int | None:
    """Return the version of a database's tables, None where it holds none yet.

    Raises `StoreError` where it is not a run's, or a later version's.
    """
    rows = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    tables = {row[0] for row in rows}
    if not tables:
        return None
    if not tables >= FIRST_TABLES or not tables <= {*TABLES, *OPTIONAL}:
        raise StoreError(f"{file} is not a run's records. Choose another --out.")
    version = int(db.execute("PRAGMA user_version").fetchone()[0]) or 1
    if version > VERSION:
        raise StoreError(
            f"{file.parent} was made by a later version of icl-harness. "
            "Read it with that one, or choose another --out."
        )
    return version
