"""What each choice of a query was compared by, where choices were weighed.

In: records. Out: the score of every choice, as it was; for tables the probability of the answer,
the Brier score, the probability of Yes. Scores are natural logarithms: probabilities are e^score,
normalised over the query's choices. The table is made with its first row: runs whose answers are
written have none.
"""

from __future__ import annotations

import functools
import json
import math
import sqlite3
import struct
from collections.abc import Mapping, Sequence

from icl_harness.store.nodes import text_id, text_of

TABLE = """
CREATE TABLE IF NOT EXISTS choice_scores (
    cell INTEGER NOT NULL, query_id TEXT NOT NULL, sample INTEGER NOT NULL,
    choices INTEGER NOT NULL REFERENCES texts, scores BLOB NOT NULL,
    PRIMARY KEY (cell, query_id, sample)
) WITHOUT ROWID"""
IS_THERE = "SELECT 1 FROM sqlite_master WHERE name = 'choice_scores'"
ADD = "INSERT OR REPLACE INTO choice_scores VALUES (?,?,?,?,?)"
REMOVE = "DELETE FROM choice_scores WHERE cell = ? AND query_id = ? AND sample = ?"
FIND = "SELECT choices, scores FROM choice_scores WHERE cell = ? AND query_id = ? AND sample = ?"
JOIN = (
    "LEFT JOIN choice_scores s ON s.cell = r.cell AND s.query_id = r.query_id "
    "AND s.sample = r.sample LEFT JOIN texts t ON t.id = s.choices"
)
JOIN_QUERY = (
    "LEFT JOIN queries q ON q.task = c.task AND q.variant = c.variant AND q.query_id = r.query_id"
)
# Columns of records, in SQL, of the tables r (records), q (their queries), s and t.
COLUMNS = {
    "confidence": "confidence(s.scores)",
    "brier": "brier(s.scores, t.text, q.target)",
    "p_yes": "p_yes(s.scores, t.text)",
}
YES = "Yes"

Key = tuple[int, str, int]  # cell, query id, sample


def is_there(db: sqlite3.Connection) -> bool:
    """Return whether a run holds scores of choices."""
    return db.execute(IS_THERE).fetchone() is not None


def put_choice_scores(
    db: sqlite3.Connection, rows: Sequence[tuple[Key, Mapping[str, float] | None]]
) -> None:
    """Store the scores of records, in the place of earlier ones, within a transaction of the
    caller's; None is none.
    """
    known = [(key, scores) for key, scores in rows if scores is not None]
    if known:
        db.execute(TABLE)
    for key, scores in known:
        choices = text_id(db, json.dumps(list(scores), ensure_ascii=False))
        db.execute(ADD, (*key, choices, struct.pack(f"<{len(scores)}d", *scores.values())))
    others = [key for key, scores in rows if scores is None]
    if others and is_there(db):
        db.executemany(REMOVE, others)


def choice_scores_of(db: sqlite3.Connection, key: Key) -> dict[str, float] | None:
    """Return the score of each choice of a record; None where choices were not weighed."""
    row = db.execute(FIND, key).fetchone()
    if row is None:
        return None
    return dict(zip(json.loads(text_of(db, row[0])), _unpacked(row[1]), strict=True))


def count_known(db: sqlite3.Connection, name: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Return by task and model how many answers there are, and of how many a column is known."""
    joins, column = "", COLUMNS.get(name, f"r.{name}")
    if name in COLUMNS and is_there(db):
        add_functions(db)
        joins = f"{JOIN} {JOIN_QUERY}"
    elif name in COLUMNS:
        column = "NULL"
    rows = db.execute(
        f"SELECT c.task, c.model, count(*), count({column}) FROM records r "
        f"JOIN cells c ON c.id = r.cell {joins} WHERE r.status = 'ok' GROUP BY c.task, c.model"
    )
    return {(task, model): (n, n_known) for task, model, n, n_known in rows}


def add_functions(db: sqlite3.Connection) -> None:
    """Let queries of this connection use what `COLUMNS` name."""
    for name, n_arguments, function in (
        ("confidence", 1, confidence),
        ("brier", 3, brier),
        ("p_yes", 2, p_yes),
    ):
        db.create_function(name, n_arguments, function, deterministic=True)


def confidence(scores: bytes | None) -> float | None:
    """Return the probability of the likeliest choice, which is the answer; None where no
    probabilities are known.
    """
    shares = _probabilities(scores)
    return max(shares) if shares else None


def brier(scores: bytes | None, choices: str | None, target: str | None) -> float | None:
    """Return the squared distance of the probabilities from the target, 0 to 2 (Brier 1950)."""
    shares, names = _probabilities(scores), _names(choices)
    if not shares or target not in names:
        return None
    right = names.index(target)
    return sum((p - (place == right)) ** 2 for place, p in enumerate(shares))


def p_yes(scores: bytes | None, choices: str | None) -> float | None:
    """Return the probability of Yes; None where that is no choice."""
    shares, names = _probabilities(scores), _names(choices)
    return shares[names.index(YES)] if shares and YES in names else None


def _probabilities(scores: bytes | None) -> list[float]:
    """Return e^score of each choice, normalised; nothing where a score is no number, or infinite,
    or where no choice is possible.
    """
    nats = _unpacked(scores) if scores is not None else ()
    most = max(nats, default=-math.inf)
    if not math.isfinite(most) or any(map(math.isnan, nats)):
        return []
    weights = [math.exp(one - most) for one in nats]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _unpacked(scores: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(scores) // 8}d", scores)


@functools.lru_cache(maxsize=1024)
def _names(choices: str | None) -> list[str]:
    return [] if choices is None else list(json.loads(choices))
