"""What a scorer may have missed: a run's unparsed and doubtful answers, by kind.

In: a run's records. Out: answers with their kind, as they are read. Unparsed answers count as
wrong; the kind says what a reader sees at once in them. Doubtful ones are wrong although the gold
answer stands in them, or right although more than one choice does. No score is changed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from icl_harness.report.run import Run
from icl_harness.store.record_rows import COLUMNS as RECORD
from icl_harness.store.records import RunStore
from icl_harness.thoughts import without_thoughts

# in the order in which they are shown
KINDS = {
    "empty": "nothing was written",
    "only thinking": "the model thought, and gave no answer after it",
    "stopped at once": "it began with a stop string, as of a next problem, and was ended there",
    "cut off": "the limit on tokens ended it: raise --max-tokens",
    "two answers": "more than one of the choices stands in it, and none is marked as the answer",
    "choice denied": "a choice stands in it, and is denied",
    "choice unread": "one choice stands in it, and was not read as the answer",
    "several numbers": "more than one number stands in it, and none is marked as the answer",
    "number unread": "one number stands in it, and was not read as the answer",
    "refusal": "the model says that it cannot or will not answer",
    "no cue": "nothing in it is marked as an answer",
    "wrong, gold in it": "read as another answer, although the gold answer stands in it",
    "wrong, cut off": "read as a wrong answer, and the limit on tokens had ended it",
    "right, others in it": "read as the right answer, although other choices stand in it",
}
COLUMNS = (
    "kind", "task", "model", "mode", "variant", "shots", "draw", "query_id", "answer", "parsed",
    "target", "score",
)  # fmt: skip
OF_KIND = ("answer", "parsed", "target", "score", "cut", "whole_answer")  # what it follows from
_DENIAL = re.compile(
    r"\b(?:not|no|nor|neither|never|cannot|hardly|isnt|non)\b|n['’]t\b|\bfar from\b|\bnon-", re.I
)
_REFUSAL = re.compile(
    r"\b(?:I (?:can(?:no|['’])t|am unable|won['’]t|do(?:n['’]t| not) know)|I['’]m (?:sorry|unable)"
    r"|as an ai|unable to (?:answer|determine)|cannot (?:answer|determine|help))",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d[\d,.]*")
_SAID = 3  # letters of a choice that may stand in a text in another case


def doubtful(done: Run) -> Iterator[dict[str, Any]]:
    """Yield the unparsed and doubtful answers of a run as they are read: their kind, cell, query,
    answer, what was read and the gold answer (`COLUMNS`).
    """
    read = functools.lru_cache(maxsize=1)(json.loads)
    kinds = functools.lru_cache(maxsize=10_000)(_kind)  # models say the same again and again
    with contextlib.closing(RunStore.open(done.path)) as store:
        for values in store.rows():
            row = dict(zip(RECORD, values, strict=True))
            if row["status"] != "ok" or row["answer"] is None:
                continue
            choices = () if row["choices"] is None else tuple(read(row["choices"]))
            kind = kinds(choices, *(row[name] for name in OF_KIND))
            if kind:
                yield {"kind": kind, **{name: row[name] for name in COLUMNS[1:]}}


def _kind(choices: tuple[str, ...], *values: Any) -> str:
    return kind_of({"choices": choices, **dict(zip(OF_KIND, values, strict=True))})


def kind_of(row: Mapping[Any, Any]) -> str:
    """Return the kind of a record; "" where there is nothing to doubt."""
    answer, choices = str(row["answer"]), _choices(row)
    has_gold = isinstance(row["target"], str) and _stands_in(row["target"], answer)
    if isinstance(row["parsed"], str):
        return _doubt(row, answer, choices, has_gold=has_gold)
    return _why_unparsed(row, answer, choices)


def _choices(row: Mapping[Any, Any]) -> tuple[str, ...]:
    choices = row["choices"]
    return tuple(choices) if isinstance(choices, list | tuple) else ()


def _doubt(row: Mapping[Any, Any], answer: str, choices: tuple[str, ...], *, has_gold: bool) -> str:
    if row["score"] == 1:
        said = _said(answer, choices)
        return "right, others in it" if len(said) > 1 else ""
    if row["cut"]:
        return "wrong, cut off"
    return "wrong, gold in it" if has_gold and row["parsed"] != row["target"] else ""


def _why_unparsed(row: Mapping[Any, Any], answer: str, choices: tuple[str, ...]) -> str:
    if row["cut"]:
        return "cut off"
    if not answer.strip():
        return _why_empty(row.get("whole_answer"))
    said = _said(answer, choices)
    if len(said) > 1:
        return "two answers"
    if said:
        return "choice denied" if _DENIAL.search(answer) else "choice unread"
    if _REFUSAL.search(answer):
        return "refusal"
    numbers = set() if choices else set(_NUMBER.findall(answer))
    if numbers:
        return "several numbers" if len(numbers) > 1 else "number unread"
    return "no cue"


def _why_empty(whole: Any) -> str:
    """Return the kind of an answer of which nothing is left."""
    if not isinstance(whole, str) or not whole.strip():
        return "empty"
    return "only thinking" if without_thoughts(whole)[0] != whole else "stopped at once"


def _said(answer: str, choices: tuple[str, ...]) -> set[str]:
    """Return the choices that stand in an answer, those within longer ones left out."""
    found = {choice for choice in choices if _stands_in(choice, answer)}
    return {one for one in found if not _is_within(one, found)}


def _is_within(one: str, found: set[str]) -> bool:
    return any(one != other and one in other for other in found)


def _stands_in(text: str, answer: str) -> bool:
    """Return whether a text stands in an answer as a word or words of their own."""
    text = text.strip()
    if not text:
        return False
    loose = re.IGNORECASE if len(text) >= _SAID else re.NOFLAG
    return bool(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", answer, loose))
