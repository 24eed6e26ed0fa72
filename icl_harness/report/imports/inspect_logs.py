"""Logs of Inspect (.eval, or .json of the same): each sample and epoch is one answer.

In: a log, read by Inspect's own library, which must be installed. Out: rows as of any table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from icl_harness.errors import DataError, SpecError
from icl_harness.tasks.row_files import PlacedRow

OWN = ("query", "sample", "parsed", "answer", "input", "target")  # columns beside the score
SHOT_ARGUMENTS = ("fewshot", "num_fewshot", "n_shots", "num_shots", "shots")


def inspect_rows(
    path: Path, columns: Mapping[str, str]
) -> tuple[list[PlacedRow], dict[str, str], dict[str, Any]]:
    """Return the rows of a log, which column is what, and what holds for all of them. Raises
    `SpecError` where Inspect is not installed.
    """
    log = _read(path)
    scorers: dict[str, None] = {}
    for sample in log.samples or ():
        scorers.update(dict.fromkeys(sample.scores or {}))
    scorer = columns.get("score") or _only_scorer(path, list(scorers))
    if scorers and scorer not in scorers:
        raise SpecError(f"{path} has no scorer {scorer!r}. It has {', '.join(scorers)}.")
    rows = list(_rows(path, log, scorer))
    if not rows:
        raise DataError(
            f"{path} holds no samples. Log them: inspect eval without --no-log-samples."
        )
    standing = ("input", "target", "answer") if _all_read(rows) else ("answer",)
    chosen = {"query": "query", "sample": "sample"}
    chosen |= {key: key for key in standing}
    if "target" in chosen:
        chosen["parsed"] = "parsed"
    constants: dict[str, Any] = {"task": log.eval.task, "model": log.eval.model}
    for name in SHOT_ARGUMENTS:
        value = log.eval.task_args.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            constants["shots"] = value
    return rows, {**chosen, **columns, "score": _column(scorer)}, constants


def _read(path: Path) -> Any:
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise SpecError(
            f"{path} is a log of Inspect, whose library reads it: pip install inspect-ai"
        ) from error
    try:  # whatever its reader finds wrong is the file's
        return read_eval_log(str(path))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"{path} cannot be read as a log of Inspect: {reason}.") from error


def _only_scorer(path: Path, scorers: list[str]) -> str:
    if len(scorers) > 1:
        raise SpecError(
            f"{path} has several scorers: {', '.join(scorers)}. Choose one, as in --columns "
            f"score={scorers[0]}."
        )
    return scorers[0] if scorers else "score"


def _column(scorer: str) -> str:
    """Return the column of a scorer's scores: `answer` is one of Inspect's scorers, too."""
    return f"score of {scorer}" if scorer in OWN else scorer


def _rows(path: Path, log: Any, scorer: str) -> Iterator[PlacedRow]:
    for sample in log.samples or ():
        score = (sample.scores or {}).get(scorer)
        target = sample.target if isinstance(sample.target, str) else "; ".join(sample.target)
        output = sample.output.completion if sample.output is not None else None
        yield (
            f"{path}, sample {sample.id}, epoch {sample.epoch}",
            {
                "query": sample.id,
                "sample": sample.epoch - 1,
                _column(scorer): None if score is None else _number(score.value),
                "parsed": None if score is None else score.answer,
                "answer": output,
                "input": sample.input if isinstance(sample.input, str) else _messages(sample.input),
                "target": target,
            },
        )


def _number(value: Any) -> Any:
    """Return Inspect's letters as numbers, as its own `value_to_float` does: correct, incorrect,
    partially correct, no answer. Anything else is judged like any table's.
    """
    if isinstance(value, str):
        letters = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0, "yes": 1.0, "no": 0.0}
        return letters.get(value, value)
    return value


def _messages(messages: Any) -> str:
    return "\n\n".join(str(getattr(message, "text", message)) for message in messages)


def _all_read(rows: list[PlacedRow]) -> bool:
    """Return whether the scorer says what it read of every answer that scored."""
    return all(row["parsed"] is not None for _, row in rows if _scored(row)) and all(
        row["target"] for _, row in rows
    )


def _scored(row: Mapping[str, Any]) -> bool:
    return any(row[key] for key in row if key not in OWN)
