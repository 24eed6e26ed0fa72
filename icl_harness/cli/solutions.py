"""`icl solutions`: the solutions of a run as the data of the task verifier."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from icl_harness.counts import n_of
from icl_harness.files import write_atomically

CHOOSING = ("task", "model", "mode", "variant", "shots", "draw")
CellName = Annotated[str | None, typer.Option(metavar="NAME", help="Of the answers to take.")]
CellNumber = Annotated[int | None, typer.Option(metavar="N", help="Of the answers to take.")]


def solutions(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Where DIR/verifier/train and test are written.")
    ],
    queries: Annotated[
        int | None,
        typer.Option(metavar="N", help="Hold out N problems of the bank as test, take no answers."),
    ] = None,
    task: CellName = None,
    model: CellName = None,
    mode: CellName = None,
    variant: CellName = None,
    shots: CellNumber = None,
    draw: CellNumber = None,
) -> None:
    """Write a run's solutions, right and wrong, as data of the task verifier: the attempts of its
    bank as train, its answers (--samples N) as test. Of several cells the options choose one.

    icl solutions RUN --data DIR; icl run verifier --data DIR --model NAME --scoring choices
    """
    from icl_harness.cli.terminal import tell
    from icl_harness.runner.solutions import solutions_of

    given = zip(CHOOSING, (task, model, mode, variant, shots, draw), strict=True)
    wanted = {name: value for name, value in given if value is not None}
    found = solutions_of(run_folder, wanted, queries)
    for split, what, rows in (("train", "bank", found.pool), ("test", "answer", found.queries)):
        file = data / "verifier" / f"{split}.jsonl"
        if not rows:
            tell(f"{file} is not written: {run_folder} holds no {what}")
            continue
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        write_atomically(file, "".join(lines).encode())
        tell(f"{file}: {_counts(rows)}")


def _counts(rows: Sequence[dict[str, Any]]) -> str:
    """Return how many solutions of how many problems there are, and how many are right."""
    problems: defaultdict[str, list[bool]] = defaultdict(list)
    for row in rows:
        problems[row["problem"]].append(row["correct"])
    n_right = sum(row["correct"] for row in rows)
    solved = sum(map(any, problems.values()))
    return (
        f"{n_of(len(rows), 'solution')} of {n_of(len(problems), 'problem')}, {n_right:,} right; "
        f"{n_of(solved, 'problem')} with a right one"
    )
