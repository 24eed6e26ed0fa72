"""`icl bank`: the model's own attempts at pool problems, and how hard the problems of shots are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icl_harness.errors import SpecError


def bank(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    examples: Annotated[
        int, typer.Option(metavar="N", min=0, help="Solved and unsolved problems shown.")
    ] = 3,
    problem: Annotated[
        str | None, typer.Option(metavar="ID", help="Show all attempts at this problem, whole.")
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all attempts here; '-' is standard output."),
    ] = None,
    shift_csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the solve rates of all cells' shots here."),
    ] = None,
) -> None:
    """Show the banks of reinforced mode, finished or not: problems, attempts, rewards; and whether
    the problems that shots show are easier than the pool's.

    icl bank RUN --problem ID
    """
    from icl_harness.cli.bank_table import print_banks, problem_lines, write_attempts, write_shifts
    from icl_harness.cli.terminal import tell
    from icl_harness.report.banks import run_banks
    from icl_harness.report.run import Run

    header = Run(run_folder).header
    banks = run_banks(run_folder, header)
    if not banks:
        raise SpecError(
            f"{run_folder} has no bank: only reinforced mode and variants with bank or rationale "
            "make one. Name a run with --modes reinforced."
        )
    if csv is not None:
        write_attempts(banks, csv)
    if shift_csv is not None:
        write_shifts(run_folder, banks, shift_csv)
    if problem is not None:
        for line in problem_lines(banks, problem, run_folder):
            tell(line)
    if csv is None and shift_csv is None and problem is None:
        print_banks(run_folder, banks, header["spec"], examples)
