"""Answers: as they are added to a run's records, and as they are read from there."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from icl_harness.store.cells import Cell
from icl_harness.store.choice_scores import put_choice_scores
from icl_harness.store.nodes import node_id, text_id

if TYPE_CHECKING:
    from icl_harness.models.base import Answer, Usage
    from icl_harness.prompts.tree import Prompt

USAGE = (
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_usd",
)
KEY = ("cell", "query_id", "sample")
REPLACED = (
    "node", "query_text", "shots_used", "status", "answer", "found", "parsed", "score", "gold_nll",
    "error", "reused", *USAGE[:-1], "latency_s", "cut", "whole", "rest",
)  # fmt: skip
ALL = (*KEY, *REPLACED, "cost_usd", "n_lost")

# A record that replaces another keeps what that one cost: it was paid for, if for no use.
ADD = f"""
INSERT INTO records ({", ".join(ALL)}) VALUES ({", ".join("?" * len(ALL))})
ON CONFLICT DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in REPLACED)},
    cost_usd = coalesce(cost_usd + excluded.cost_usd, cost_usd, excluded.cost_usd),
    n_lost = n_lost + excluded.n_lost
"""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One scored answer to one query in one cell. `reused` marks a copy of this run's answer to the
    same prompt.

    `gold_nll`: minus the log-likelihood of the gold choice, in nats (per token, where the scoring
    is), where choices were weighed. `found`: False where a group's reply has no answer under the
    query's number, so that the answer's text is the whole reply. `choice_scores`: what each choice
    was compared by, the log-likelihood or what --scoring makes of it, where choices were weighed.
    """

    prompt: Prompt
    answer: Answer
    parsed: str | None = None
    score: float | None = None
    gold_nll: float | None = None
    reused: bool = False
    found: bool = True
    choice_scores: Mapping[str, float] | None = None


class StoredAnswer(NamedTuple):
    """An answer that the run has already, and what it cost."""

    query_id: str
    answer: str
    parsed: str | None
    score: float
    gold_nll: float | None
    usage: Usage
    found: bool = True
    whole: str | None = None
    cut: bool = False
    choice_scores: Mapping[str, float] | None = None


class Outcome(NamedTuple):
    """What a request to a query came to in one cell; without an answer its text and score are
    None.
    """

    status: str
    text: str | None
    parsed: str | None
    score: float | None
    shots_used: int


class StoredRecord(NamedTuple):
    """A record as `icl show` prints it: `text` is the whole prompt, `target` the gold answer,
    `whole` what the model wrote, where that is more than the answer.
    """

    cell: Cell
    text: str
    status: str
    answer: str | None
    parsed: str | None
    score: float | None
    target: str | None
    whole: str | None = None
    cut: bool = False


def add_records(db: sqlite3.Connection, cell: int, records: Sequence[Record]) -> None:
    """Store records of a cell, within a transaction of the caller's."""
    for shared in {record.prompt.node for record in records}:
        node_id(db, shared)  # before its leaves, which are stored as what they add to it
    leaves = {record.prompt.leaf.hash: record.prompt.leaf for record in records}
    nodes = {digest: node_id(db, leaf) for digest, leaf in leaves.items()}
    choice_scores = []
    for record in records:
        query_text = text_id(db, record.prompt.query.text)
        where = (cell, record.answer.query_id, record.answer.sample)
        beyond = beyond_answer(db, record.answer.text, record.answer.whole)
        values = _values(record, beyond)
        db.execute(ADD, (*where, nodes[record.prompt.leaf.hash], query_text, *values))
        choice_scores.append((where, record.choice_scores))
    put_choice_scores(db, choice_scores)


# What the model wrote, where that is more than the answer; of the tables r, w and e.
WHOLE = "coalesce(w.text, r.answer || e.text)"
JOIN_WHOLE = "LEFT JOIN texts w ON w.id = r.whole LEFT JOIN texts e ON e.id = r.rest"


def beyond_answer(
    db: sqlite3.Connection, answer: str | None, whole: str | None
) -> tuple[int | None, int | None]:
    """Return the values of `whole` and `rest` for all that a model wrote: most answers are followed
    by the same few stop strings, of which each is stored once.
    """
    if whole is None:
        return None, None
    if answer is not None and whole.startswith(answer):
        return None, text_id(db, whole[len(answer) :])
    return text_id(db, whole), None


def _values(record: Record, beyond: tuple[int | None, int | None]) -> tuple[object, ...]:
    """Return a record's values of `ALL` from `shots_used` on. `beyond`: its `whole` and `rest`."""
    answer, usage = record.answer, record.answer.usage
    scored = (int(record.found), record.parsed, record.score, record.gold_nll)
    tokens = [getattr(usage, name) for name in USAGE[:-1]]
    return (
        record.prompt.leaf.n_shots,
        answer.status,
        answer.text,
        *scored,
        answer.error,
        int(record.reused),
        *tokens,
        answer.latency_s,
        int(answer.cut),
        *beyond,
        usage.cost_usd,
        answer.n_lost,
    )
