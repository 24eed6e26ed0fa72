"""`icl power`: which differences a comparison would see, and what it takes to see others.

In: a pilot run, or shares that are stated. Out: a table by draws and queries, and what shows a
wanted difference and what that costs.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from icl_harness.errors import SpecError

WANTED = 10.0  # points


def power(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Pilot run.", show_default=False)
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="What is compared: mode, model, variant, shots, … [the first with several]",
            show_default=False,
        ),
    ] = None,
    difference: Annotated[
        float, typer.Option(metavar="POINTS", help="To be seen: hundredths of the metric's range.")
    ] = WANTED,
    draws: Annotated[
        str | None, typer.Option(metavar="N,…", help="Planned. [3,5,10,20]", show_default=False)
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(metavar="N,…", help="Planned. [50,100,250,1000]", show_default=False),
    ] = None,
    accuracy: Annotated[
        float | None,
        typer.Option(metavar="P", help="Without a run: of both sides. [0.5]", show_default=False),
    ] = None,
    draw_sd: Annotated[
        float | None,
        typer.Option(metavar="SD", help="Without a run: of draws, in logits. [0.5]",
                     show_default=False),
    ] = None,
    query_sd: Annotated[
        float | None,
        typer.Option(metavar="SD", help="Without a run: of queries, in logits. [1]",
                     show_default=False),
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(metavar="SHOTS", help="Without a run: compared. [0,1..64]",
                     show_default=False),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="[the task's own]", show_default=False)
    ] = None,
    rpm: Annotated[
        float | None, typer.Option(metavar="N", help="APIs: the account's requests a minute.")
    ] = None,
    tpm: Annotated[
        float | None, typer.Option(metavar="N", help="APIs: the account's tokens a minute.")
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the table here; '-' is standard output."),
    ] = None,
) -> None:  # fmt: skip
    """Say which differences a comparison would see, and which draws and queries it takes to see
    others: from a pilot run, or from stated shares.

    icl power RUN        icl power --accuracy 0.6 --draw-sd 0.5 --query-sd 1
    """
    from icl_harness.analysis.curves import write_csv
    from icl_harness.cli.power_costs import Costs
    from icl_harness.cli.power_tables import about_run, needed_table, seen_table
    from icl_harness.cli.terminal import print_tables, tell
    from icl_harness.report.power import compared, power_frame
    from icl_harness.report.run import Run
    from icl_harness.runner.execution import Execution
    from icl_harness.runner.lists import parse_shots

    if not 0 < difference < math.inf:
        raise SpecError(f"--difference is {difference:g}; it is above 0, as in 10 (points).")
    wanted = parse_shots(shots) if shots is not None else None
    found = compared(run, by, metric, accuracy, draw_sd, query_sd, wanted)
    n_draws, n_queries = _numbers("--draws", draws), _numbers("--queries", queries)
    if csv is not None:
        table = power_frame(found, n_draws, n_queries)
        write_csv(table, sys.stdout if str(csv) == "-" else csv)
        return
    how = Execution(rpm=rpm, tpm=tpm)
    for one in found:
        print_tables([seen_table(one, n_draws, n_queries)])
        for line in about_run(one, difference, n_draws, n_queries):
            tell(line)
        typer.echo()
        costs = Costs(None if run is None else Run(run), one, how)
        print_tables([needed_table(one, difference, n_draws, costs)])
        for note in costs.notes:
            tell(note)


def _numbers(option: str, text: str | None) -> list[int]:
    """Return the numbers of draws or queries that an option lists."""
    if text is None:
        return []
    parts = [part.strip().replace("_", "") for part in text.split(",")]
    if not all(part.isdigit() and 2 <= int(part) <= 10**6 for part in parts):
        raise SpecError(f"{option} is {text!r}; give numbers from 2 to 1,000,000, as in 3,5,10.")
    return sorted(set(map(int, parts)))
