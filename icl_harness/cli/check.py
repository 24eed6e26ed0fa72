"""What `icl check` prints: the unparsed and doubtful answers of a run, by kind."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_harness.report.doubtful import KINDS

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 160  # letters of an answer; its end says most, so its middle is left out


def check_lines(folder: Path, found: pd.DataFrame, n_answers: int, n_shown: int) -> Iterator[str]:
    """Yield how many answers there are of each kind, and some of each with what shows them whole.

    Kinds of answers that could not be parsed come first.
    """
    n_unparsed = int(found["parsed"].isna().sum())
    yield f"{folder}: {n_answers:,} answers, {n_unparsed:,} unparsed (they count as wrong)"
    for kind, meaning in KINDS.items():
        rows = found[found["kind"] == kind]
        if rows.empty:
            continue
        yield ""
        yield f"{kind}: {len(rows):,} ({len(rows) / n_answers:.1%}): {meaning}"
        # The same answer to the same query at many shot counts is one example.
        some = rows.drop_duplicates(["task", "query_id", "answer"]).head(n_shown)
        for row in some.to_dict("records"):
            yield f"  {row['task']} {row['query_id']}, {row['shots']} shots: {_answer(row)}"
    if not found.empty:
        first = found.iloc[0]
        query = shlex.quote(str(first["query_id"]))
        yield ""
        yield (
            f"One whole, with its prompt: icl show {shlex.quote(str(folder))} --query {query} "
            f"--shots {first['shots']}"
        )


def _answer(row: Mapping[Any, Any]) -> str:
    text = repr(row["answer"])
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    read = f", read as {row['parsed']!r}" if isinstance(row["parsed"], str) else ""
    gold = f", gold {row['target']!r}" if isinstance(row["target"], str) else ""
    return f"{text}{read}{gold}"
