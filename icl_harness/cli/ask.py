"""`icl ask`: questions about curves, each answered in a sentence."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.analysis.questions.answers import Answer


def ask(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run folders.", show_default=False)
    ],
    about: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="trend, gain, within, peak, crossing, passing, efficiency, laws, variance; with"
            " the table behind each answer. [all, without tables]",
        ),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(metavar="D", help="within: from its best. [2 % of the metric's range]"),
    ] = None,
    target: Annotated[
        float | None, typer.Option(metavar="VALUE", help="efficiency: the value to reach.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="passing, efficiency: the model, mode or variant that curves are held against."
            " [baselines]",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME", help="[the task's own]", show_default=False),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all tables here; '-' is standard output."),
    ] = None,
) -> None:
    """Answer questions about curves: does it improve, from where on is it at its best, and more.

    icl ask RUN --about within --within .05
    """
    from icl_harness.analysis.curves import write_csv
    from icl_harness.analysis.questions import asked
    from icl_harness.cli.terminal import tell
    from icl_harness.report.metric_choice import chosen_metrics
    from icl_harness.report.run import load_runs

    names = asked(about)
    joined, records = load_runs(runs)
    metrics = chosen_metrics([one.header for one in joined], metric)
    found = records.ask(metrics, names, within=within, target=target, against=against)
    if csv is not None:
        write_csv(_one_table(found), sys.stdout if str(csv) == "-" else csv)
        return
    if not found:
        tell("no answers yet")
    for answer in found:
        tell(f"{answer.question}: {answer.sentence}")
        if about is not None and not answer.table.empty:
            _print_table(answer.table)


def _one_table(answers: Sequence[Answer]) -> pd.DataFrame:
    """Return the tables under one another, with the question and the answer that each row is of."""
    import pandas as pd

    parts = []
    for one in answers:
        table = one.table if len(one.table) else pd.DataFrame(index=[0])
        named = {"question": one.question, "about": one.about, "sentence": one.sentence}
        parts.append(pd.DataFrame(named, index=table.index).join(table))
    if not parts:
        return pd.DataFrame(columns=["question", "about", "sentence"])
    return pd.concat(parts, ignore_index=True)


def _print_table(table: pd.DataFrame) -> None:
    from icl_harness.cli.terminal import add_row, new_table, print_tables

    columns = {str(name): _texts(str(name), table[name].tolist()) for name in table}
    numbers = [i for i, name in enumerate(table) if table[name].dtype.kind in "fiu"]
    shown = new_table(heading=list(columns), right=numbers)
    for row in zip(*columns.values(), strict=True):
        add_row(shown, *row)
    print_tables([shown])


def _texts(name: str, values: Sequence[Any]) -> list[str]:
    """Return a column as a reader has it: `.713`, `1,024`, `yes`; p-values from .001 on."""
    from icl_harness.analysis.questions.words import number, shots

    found = []
    for value in values:
        if isinstance(value, bool):
            found.append("yes" if value else "no")
        elif isinstance(value, str):
            found.append(value)
        elif value is None or value != value:
            found.append("-")
        elif name.startswith("p_") and value < 0.0005:
            found.append("<.001")
        else:
            say = shots if "shots" in name else number
            found.append(say(float(value)) if math.isfinite(value) else str(value))
    return found
