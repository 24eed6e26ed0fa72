"""Stored answers and their scores: read to be scored again, replaced all at once.

In: a database. Out: the answers with their cells; new scores in one transaction,
with a note of what the old ones were.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from icl_harness.store.answers import JOIN_WHOLE, WHOLE, beyond_answer
from icl_harness.store.cells import CELL_KEY

SCORED = f"""
SELECT r.cell, r.query_id, r.sample, c.task, c.variant, r.answer, r.parsed, r.score,
       {WHOLE}, r.cut, c.model, c.queries_per_request
FROM records r JOIN cells c ON c.id = r.cell {JOIN_WHOLE}
WHERE r.status = 'ok' AND r.answer IS NOT NULL AND r.found ORDER BY c.task, c.variant, r.query_id
"""
SCORES = f"""
SELECT {", ".join(f"c.{name}" for name in CELL_KEY)}, r.query_id, r.sample, r.parsed, r.score
FROM records r JOIN cells c ON c.id = r.cell
ORDER BY {", ".join(f"c.{name}" for name in CELL_KEY)}, r.query_id, r.sample
"""


class ScoredText(NamedTuple):
    """An answer that was scored by itself: where it stands, its text, how it was scored. `whole`:
    what the model wrote, where that is more.
    """

    key: tuple[int, str, int]  # cell, query id, sample
    task: str
    variant: str
    answer: str
    parsed: str | None
    score: float | None
    whole: str | None
    cut: bool
    model: str
    per_request: int


class NewScore(NamedTuple):
    """A score that takes another's place, and the answer that was read. `whole`: as in
    `ScoredText`.
    """

    key: tuple[int, str, int]
    parsed: str | None
    score: float
    answer: str
    whole: str | None


def scored_texts(db: sqlite3.Connection) -> Iterator[ScoredText]:
    """Yield the answers that can be scored again, those to one query together."""
    for cell, query_id, sample, *rest in db.execute(SCORED):
        yield ScoredText((cell, query_id, sample), *rest)


def replace_scores(
    db: sqlite3.Connection,
    new: Iterable[NewScore],
    metrics: Mapping[str, str],
    scoring: Mapping[str, str],
    before: Mapping[str, str],
) -> None:
    """Put new scores in the place of old ones, and note how the old ones came about: `scoring` and
    `before` are the hashes of what scores each task, now and then; `metrics` name each one's.

    Within a transaction of the caller's. Done again with the same scoring, it notes nothing more.
    """
    last = db.execute("SELECT scoring FROM rescored ORDER BY id DESC LIMIT 1").fetchone()
    now = json.dumps(dict(scoring), sort_keys=True)
    changes = []
    for one in new:
        beyond = beyond_answer(db, one.answer, one.whole)
        changes.append((one.parsed, one.score, one.answer, *beyond, *one.key))
    if changes or last is None or last[0] != now:
        db.execute(
            "INSERT INTO rescored (at, scoring_before, scores_before, n_changed, scoring) "
            "VALUES (?,?,?,?,?)",
            (_now(), json.dumps(dict(before)), scores_hash(db), len(changes), now),
        )
    db.executemany(
        "UPDATE records SET parsed = ?, score = ?, answer = ?, whole = ?, rest = ? "
        "WHERE cell = ? AND query_id = ? AND sample = ?",
        changes,
    )
    for task, metric in metrics.items():
        db.execute("UPDATE cells SET metric = ? WHERE task = ?", (metric, task))


def scores_hash(db: sqlite3.Connection) -> str:
    """Return the hash of all scores and of what was read from the answers."""
    hasher = hashlib.sha256()
    for row in db.execute(SCORES):
        hasher.update(json.dumps(row).encode() + b"\n")
    return hasher.hexdigest()


def rescorings(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return what was noted of each time that the answers were scored again."""
    find = "SELECT at, scoring_before, scores_before, n_changed FROM rescored ORDER BY id"
    return [
        {
            "at": at,
            "scoring_before": json.loads(scoring),
            "scores_before_sha256": scores,
            "n_changed": n_changed,
        }
        for at, scoring, scores, n_changed in db.execute(find)
    ]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
