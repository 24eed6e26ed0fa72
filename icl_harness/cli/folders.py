"""Commands on run folders: `icl import`, `extend`, `runs`, `power`, `solutions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icl_harness.cli.options import Addition, ExtendCommand
from icl_harness.cli.power import power
from icl_harness.cli.solutions import solutions

OfAll = Annotated[str | None, typer.Option(metavar="NAME", help="For all rows.")]
NumberOfAll = Annotated[int | None, typer.Option(metavar="N", help="For all rows.")]


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Tables (.csv, .tsv, .jsonl, .json, gzipped too, .parquet), logs of Inspect"
            " (.eval), samples_*.jsonl of lm-eval.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Run folder.", show_default=False)],
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=COLUMN,…",
            help="task, model, mode, variant, shots, draw, query, sample, score, answer, parsed,"
            " target, input, cluster; of whole cells score or right, and n. [columns of these"
            " names]",
            show_default=False,
        ),
    ] = None,
    task: OfAll = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="For all rows. [the file's name]")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(metavar="MODE", help="For all rows. [supervised]")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(metavar="NAME", help="For all rows. [default]")
    ] = None,
    shots: NumberOfAll = None,
    draw: Annotated[int | None, typer.Option(metavar="N", help="For all rows. [0]")] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the scores are. [accuracy]")
    ] = None,
    limits: Annotated[
        str | None,
        typer.Option("--range", metavar="LOW,HIGH", help="Of a metric that is not the library's."),
    ] = None,
    percent: Annotated[
        bool, typer.Option("--percent", help="The scores are percentages: divide by 100.")
    ] = False,
) -> None:
    """Make a run folder of other programs' results, on which curves, compare, plot, export work.

    icl import FILE.csv --columns task=dataset,shots=k,draw=seed,query=item,score=correct --out RUN
    """
    from icl_harness.cli.tables import print_curves
    from icl_harness.cli.terminal import tell
    from icl_harness.report.imports.columns import parse_columns
    from icl_harness.report.imports.folder import chosen_metric, import_results
    from icl_harness.report.records import Records
    from icl_harness.report.results import write_results

    given = {
        "task": task, "model": model, "mode": mode, "variant": variant, "shots": shots,
        "draw": draw,
    }  # fmt: skip
    typed = {name: value for name, value in given.items() if value is not None}
    named = parse_columns(columns or [])
    of = chosen_metric(metric, limits)
    done = import_results(files, out, named, typed, of, percent=percent)
    frame = done.curves()
    written = write_results(done, frame)
    print_curves([done], frame, Records([done.path]))
    tell(f"{out}/  {written}")


def extend(context: typer.Context) -> None:
    """Ask what a larger grid adds to a run; what it holds stays. Stopped, the same command goes on.

    icl extend RUN --draws 10 --queries 500 --shots 128,256
    """
    from icl_harness.cli.execute import execute
    from icl_harness.cli.power_notes import run_power_notes
    from icl_harness.cli.progress import progress_bar
    from icl_harness.cli.tables import print_curves
    from icl_harness.cli.terminal import tell
    from icl_harness.report.records import Records
    from icl_harness.report.results import write_results
    from icl_harness.report.run import Run
    from icl_harness.runner.extending import larger_spec

    addition: Addition = context.obj
    folder = addition.folder
    spec = larger_spec(folder, Run(folder).header, addition.added)
    with progress_bar() as watch:
        done = execute(spec, folder, addition.how, watch=watch, extends=True)
    frame = done.curves()
    files = write_results(done, frame)
    print_curves([done], frame, Records([done.path]))
    for note in run_power_notes(done):
        tell(note)
    tell(f"{folder}/  {files}")
    if frame["n_failed"].sum():
        raise typer.Exit(1)


def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to look.")] = Path("results"),
) -> None:
    """List the runs in a folder and below it: what each measures, how far it is, what it cost.

    icl runs results
    """
    from icl_harness.cli.run_table import NUMBERS, run_rows
    from icl_harness.cli.terminal import print_rows, tell
    from icl_harness.report.listing import list_runs

    found = list_runs(folder)
    if not found:
        tell(f"no runs in {folder}")
    print_rows(run_rows(found, folder), right=NUMBERS)
    for one in found:
        if one.fault:
            tell(f"cannot be read: {one.fault}")


def for_others(
    run_folder: Path,
    form: str,
    out: Path | None,
    model: str | None,
    metric: str | None,
    *,
    idle: bool,
) -> bool:
    """Write a run in a form of another program; return whether the form is one. Raises `SpecError`
    for options that are of the records' forms.
    """
    from icl_harness.errors import SpecError
    from icl_harness.files import write_atomically
    from icl_harness.printable import for_stream
    from icl_harness.report.interchange import WRITERS
    from icl_harness.report.run import Run

    for name, value in (("--model", model), ("--metric", metric)):
        if value is not None and form != "every-eval-ever":
            raise SpecError(
                f"{name} is for --format every-eval-ever, not for {form}. Leave one out."
            )
    if form not in WRITERS:
        return False
    if idle:
        raise SpecError(
            f"--format {form} has no columns of its own: leave out --shot-ids, --excel-safe and "
            "--salvage."
        )
    text, notes = WRITERS[form](Run(run_folder), model, metric)
    if out is None:
        typer.echo(for_stream(text), nl=False)
    else:
        write_atomically(out, text.encode())
    for note in notes:
        typer.echo(note, err=True)
    return True


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("import")(import_)
    app.command(cls=ExtendCommand)(extend)
    app.command()(runs)
    app.command()(power)
    app.command()(solutions)
