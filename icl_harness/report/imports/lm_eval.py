"""Samples of lm-evaluation-harness: what its `--log_samples` writes, which is JSON lines.

In: `samples_<task>_<time>.jsonl` with the `results_<time>.json` that stands beside it. Out: rows as
of any table. The model, the number of shots and the seed stand in the results file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icl_harness.errors import SpecError
from icl_harness.tasks.row_files import PlacedRow

NAME = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d{2}-\d{2}T[\d.\-]+)\.jsonl(?:\.gz)?")
NOT_FOUND = "[invalid]"  # what its filters write where they find no answer


def is_samples(row: Mapping[str, Any]) -> bool:
    """Return whether a row is one of lm-eval's."""
    return "doc_id" in row and "filtered_resps" in row and isinstance(row.get("metrics"), list)


def lm_eval_rows(
    path: Path, rows: Sequence[PlacedRow], columns: Mapping[str, str]
) -> tuple[list[PlacedRow], dict[str, str], dict[str, Any]]:
    """Return the rows, which column is what, and what holds for all of them."""
    chosen = {"query": "doc_id", **columns}
    if "score" not in chosen:
        chosen["score"] = _only_metric(path, rows)
    if "variant" not in chosen:
        _refuse_filters(path, rows)
    texts = [(where, {**row, **_texts(row)}) for where, row in rows]
    for key, column in (("answer", "first_resp"), ("parsed", "first_filtered")):
        if all(row[column] is not None for _, row in texts):
            chosen.setdefault(key, column)
    if "parsed" in chosen and all(isinstance(row.get("target"), str) for _, row in texts):
        chosen.setdefault("target", "target")
    unread = [(where, _unread(row)) for where, row in texts]
    return unread, chosen, _constants(path)


def _only_metric(path: Path, rows: Sequence[PlacedRow]) -> str:
    names: dict[str, None] = {}
    for _, row in rows:
        names.update(dict.fromkeys(map(str, row.get("metrics") or ())))
    if len(names) != 1:
        raise SpecError(
            f"{path} has several metrics: {', '.join(names)}. Choose one, as in "
            f"--columns score={next(iter(names), 'acc')}."
        )
    return next(iter(names))


def _refuse_filters(path: Path, rows: Sequence[PlacedRow]) -> None:
    filters = dict.fromkeys(str(row.get("filter")) for _, row in rows)
    if len(filters) > 1:
        raise SpecError(
            f"{path} reads each answer through several filters: {', '.join(filters)}. Add "
            "variant=filter to --columns, which makes each a variant."
        )


def _texts(row: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the first answer as it was written, and as the filter left it, where they are text."""
    first = row.get("resps")
    while isinstance(first, list) and first:
        first = first[0]
    filtered = row.get("filtered_resps")
    filtered = filtered[0] if isinstance(filtered, list) and filtered else filtered
    return {
        "first_resp": first if isinstance(first, str) else None,
        "first_filtered": filtered if isinstance(filtered, str) else None,
    }


def _unread(row: dict[str, Any]) -> dict[str, Any]:
    if row["first_filtered"] == NOT_FOUND:
        return {**row, "first_filtered": None}
    return row


def _constants(path: Path) -> dict[str, Any]:
    """Return the task, and from the results file the model, the number of shots and the seed."""
    named = NAME.fullmatch(path.name)
    if named is None:
        return {}
    found: dict[str, Any] = {"task": named["task"]}
    try:
        text = path.with_name(f"results_{named['time']}.json").read_text(encoding="utf-8")
        results = json.loads(text)
        shots = results.get("n-shot", {}).get(named["task"])
        known = {
            "model": results.get("model_name"),
            "shots": shots,
            "draw": results.get("config", {}).get("fewshot_seed"),
        }
    except (OSError, ValueError, AttributeError, RecursionError):
        return found  # what is missing is asked for
    return found | {key: value for key, value in known.items() if value is not None}
