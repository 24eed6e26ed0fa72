"""The command line: `icl run`, `plan`, `curves`, `plot`, `compare`, `show`, `tasks` and more."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, cast

import typer

from icl_harness.cli import folders
from icl_harness.cli.ask import ask
from icl_harness.cli.bank import bank
from icl_harness.cli.error_line import STOPPED, prepare_output, print_error
from icl_harness.cli.grids import Grid
from icl_harness.cli.options import FileCommand, GridCommand
from icl_harness.cli.paper import paper
from icl_harness.counts import n_of
from icl_harness.errors import SpecError
from icl_harness.files import write_atomically, written_atomically
from icl_harness.printable import VisibleBytes, for_stream, visible

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.report.records import Records
    from icl_harness.report.run import Run

app = typer.Typer(
    help="Measure how well a language model learns a task from its context: accuracy against shot"
    " count. An error is one line; --debug shows where it came from.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
WITHOUT_OUTPUT = (
    "run",
    "extend",
    "rescore",
)  # what they leave in the run folder is whole without it
Runs = Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders.", show_default=False)]
OneRun = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
Csv = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the table here; '-' is standard output.")
]
OverTasks = Annotated[
    bool, typer.Option("--mean-over-tasks", help="The mean over all tasks, each counting as much.")
]
MetricName = Annotated[
    str | None,
    typer.Option("--metric", metavar="NAME", help="[the task's own]", show_default=False),
]
Band = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="pointwise: 95 % for each point; simultaneous: 95 % for a whole curve. [pointwise]",
        show_default=False,
    ),
]
CHOOSING = ("task", "model", "mode", "variant", "shots", "draw")  # options of show: one cell
CellName = Annotated[str | None, typer.Option(metavar="NAME", help="The cell's.")]
CellNumber = Annotated[int | None, typer.Option(metavar="N", help="The cell's.")]


@app.command(cls=GridCommand)
def run(context: typer.Context) -> None:
    """Run a grid, or resume it. Records, curves.csv and curves.png are left in the run folder."""
    from icl_harness.cli.execute import execute
    from icl_harness.cli.power_notes import compared_by, run_power_notes
    from icl_harness.cli.progress import progress_bar
    from icl_harness.cli.tables import print_curves
    from icl_harness.cli.terminal import HELD, tell
    from icl_harness.report.records import Records
    from icl_harness.report.results import write_results

    grid: Grid = context.obj
    spec, folder = grid.spec, grid.folder
    with progress_bar() as watch:
        done = execute(spec, folder, grid.how, watch=watch)
    frame = done.curves()
    files = write_results(done, frame)
    print_curves([done], frame, Records([done.path]))
    for note in run_power_notes(done):
        tell(note)
    hints = [f"icl export {shlex.quote(str(folder))}"]
    differing = compared_by(spec)
    if differing is not None:
        hints.insert(0, f"icl compare {shlex.quote(str(folder))} --by {differing}")
    unbroken = ", ".join(hint.replace(" ", HELD) for hint in hints)
    tell(f"{folder}/  {files}   ({unbroken})")
    if frame["n_failed"].sum():
        raise typer.Exit(1)  # a curve with missing answers is no success; the notes above say where


@app.command(cls=GridCommand)
def plan(
    context: typer.Context,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every cell here; '-' is standard output."),
    ] = None,
) -> None:
    """Show what a run will take, or what is left of it: requests, tokens, dollars, time, and what
    fits. No model is asked.
    """
    from icl_harness.cli.execute import plan_run
    from icl_harness.cli.plan_tables import plan_frame, plan_notes, plan_tables
    from icl_harness.cli.power_notes import plan_power_notes
    from icl_harness.cli.terminal import print_tables, tell
    from icl_harness.plan.estimate import refuse_cost

    grid: Grid = context.obj
    spec, folder, how = grid
    found = plan_run(spec, folder, how)
    if csv is not None:
        text = plan_frame(found).to_csv(index=False, lineterminator="\n")
        if str(csv) == "-":
            sys.stdout.write(text)
        else:
            write_atomically(csv, text.encode())
    else:
        print_tables(plan_tables(found))
        for note in chain(plan_notes(found), plan_power_notes(spec, folder, found)):
            tell(note)
    if how.max_cost is not None:
        refuse_cost(found, how.max_cost, batch=how.batch)


@app.command()
def curves(
    runs: Runs,
    metric: MetricName = None,
    band: Band = "pointwise",
    mean_over_tasks: OverTasks = False,
    csv: Csv = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORM", help="markdown or latex (booktabs)."),
    ] = None,
) -> None:
    """Show the curves of one or more runs, finished or not."""
    from icl_harness.cli.published_tables import published
    from icl_harness.cli.tables import curve_texts, notes_of, print_curves

    if form is not None and csv is not None:
        raise SpecError("--csv and --format are two forms of one table. Give one.")
    found, records, frame = _curves(runs, metric, band, mean_over_tasks=mean_over_tasks)
    if form is not None:
        tables = curve_texts(frame, [one.path for one in found])
        typer.echo(for_stream(published(form, tables, notes_of(found, frame, records))), nl=False)
    elif csv is None:
        print_curves(found, frame, records)
    else:
        _write_table(frame, csv)


@app.command()
def plot(
    runs: Runs,
    out: Annotated[Path, typer.Option(metavar="FILE", help="FILE.png or FILE.svg")],
    metric: MetricName = None,
    band: Band = "pointwise",
    mean_over_tasks: OverTasks = False,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Of the picture.")] = None,
    overlay: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE.csv",
            help="Lay published values beside the curves: paper, bertsch, mirbench, … or a"
            " CSV with columns label, shots, value (task, low, high); NAME:LABEL,… for some labels"
            " of it.",
        ),
    ] = None,
) -> None:
    """Draw the curves of one or more runs in one picture."""
    from icl_harness.report.overlays import load_overlays
    from icl_harness.report.plots import plot as draw
    from icl_harness.report.plots import save

    beside = load_overlays(overlay) if overlay else None
    found, _, frame = _curves(runs, metric, band, mean_over_tasks=mean_over_tasks)
    chance: dict[str, float | None] = {}
    for one in found:
        chance |= one.chance()
    save(draw(frame, chance, title, beside), out)
    typer.echo(str(out))


@app.command()
def compare(
    runs: Runs,
    by: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="mode, model, variant, prompts, shots_from, shots, format or queries_per_request."
            " [mode]",
            show_default=False,
        ),
    ] = "mode",
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The value of --by that is subtracted from all others."),
    ] = None,
    family: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="What p (Holm) is adjusted over: shots, or tasks, models or all too. [shots]",
            show_default=False,
        ),
    ] = "shots",
    metric: MetricName = None,
    mean_over_tasks: OverTasks = False,
    csv: Csv = None,
) -> None:
    """Show paired differences per shot count, with intervals."""
    from icl_harness.cli.metric_notes import metric_notes
    from icl_harness.cli.notes import lacking_notes, repeated_notes
    from icl_harness.cli.tables import difference_notes, difference_tables
    from icl_harness.cli.terminal import print_tables, tell
    from icl_harness.report.metric_choice import chosen_metrics
    from icl_harness.report.run import load_runs

    found, records = load_runs(runs)
    metrics = chosen_metrics([one.header for one in found], metric)
    frame = records.compare(by, metrics, baseline, family, mean_over_tasks=mean_over_tasks)
    if csv is not None:
        _write_table(frame, csv)
    elif frame.empty:
        typer.echo("nothing to compare: no query was answered on both sides in the same draw")
    else:
        print_tables(difference_tables(frame))
        for note in difference_notes(frame):
            tell(note)
        for note in [*lacking_notes(frame), *metric_notes(frame, records)]:
            tell(note)
        for one in found:
            for note in repeated_notes(one.header):
                tell(note)


app.command()(ask)
app.command()(bank)
app.command()(paper)


def _curves(
    folders: list[Path], metric: str | None, band: str, *, mean_over_tasks: bool
) -> tuple[list[Run], Records, pd.DataFrame]:
    """Return runs, their records and their curves."""
    from icl_harness.report.metric_choice import chosen_metrics
    from icl_harness.report.run import load_runs

    found, records = load_runs(folders)
    metrics = chosen_metrics([one.header for one in found], metric)
    return found, records, records.curves(metrics, band, mean_over_tasks=mean_over_tasks)


def _write_parts(parts: Iterable[str], csv: Path) -> None:
    if str(csv) == "-":
        for part in parts:
            sys.stdout.write(part)
        return
    with written_atomically(csv) as file:
        for part in parts:
            file.write(part.encode())


def _write_table(frame: pd.DataFrame, csv: Path) -> None:
    from icl_harness.analysis.curves import write_csv

    write_csv(frame, sys.stdout if str(csv) == "-" else csv)


@app.command()
def export(
    run_folder: OneRun,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORM",
            help="csv, jsonl or parquet [as the file's name ends, else csv]; errorbars: a CSV that"
            " it reads; every-eval-ever: JSON of the curves.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="[standard output]")] = None,
    shot_ids: Annotated[
        bool, typer.Option("--shot-ids", help="Add a column with the ids of each record's shots.")
    ] = False,
    excel_safe: Annotated[
        bool,
        typer.Option(
            "--excel-safe", help="csv: a ' before texts that a spreadsheet takes for a formula."
        ),
    ] = False,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Write what can be read of a damaged run.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="every-eval-ever: of several models.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="every-eval-ever: [the task's own]")
    ] = None,
) -> None:
    """Write the records of a run, finished or not: one row per answer."""
    from icl_harness.cli.folders import for_others
    from icl_harness.report.export import FORMS, export_damaged
    from icl_harness.report.export import export as write
    from icl_harness.store.records import RunStore

    named = out.suffix.lstrip(".") if out is not None else ""
    chosen = form or (named if named in FORMS else "csv")
    if for_others(run_folder, chosen, out, model, metric, idle=shot_ids or excel_safe or salvage):
        return
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        store = None
        if not salvage:
            store = stack.enter_context(contextlib.closing(RunStore.open(run_folder)))
        file = _output(chosen) if out is None else stack.enter_context(written_atomically(out))
        how = {"shot_ids": shot_ids, "excel_safe": excel_safe}
        if store is None:
            notes = export_damaged(run_folder, chosen, file, **how)
        else:
            write(store, chosen, file, **how)
    for note in notes:
        typer.echo(note, err=True)


def _output(form: str) -> IO[bytes]:
    """Return standard output for bytes; a terminal is shown what would drive it. Raises
    `SpecError` for a form that is no text there.
    """
    if not sys.stdout.isatty():
        return sys.stdout.buffer
    if form == "parquet":
        raise SpecError("parquet is no text for a terminal. Give --out FILE.")
    return cast(IO[bytes], VisibleBytes(sys.stdout.buffer))


@app.command()
def rescore(run_folder: OneRun) -> None:
    """Score the stored answers again, with the task file as it is now: another scorer, another
    metric. Asks no model. curves.csv and curves.png are written anew.
    """
    from icl_harness.cli.tables import print_curves
    from icl_harness.cli.terminal import tell
    from icl_harness.report.records import Records
    from icl_harness.report.results import write_results
    from icl_harness.report.run import Run
    from icl_harness.runner.rescoring import rescore as score_again

    found = score_again(run_folder)
    done = Run(run_folder)
    frame = done.curves()
    files = write_results(done, frame)
    print_curves([done], frame, Records([done.path]))
    for note in found.notes:
        tell(note)
    changed = n_of(found.n_changed, "score")
    tell(f"{n_of(found.n_scored, 'answer')} scored again, {changed} changed")
    tell(f"{run_folder}/  {files}")


@app.command()
def show(
    run_folder: OneRun,
    query: Annotated[str, typer.Option(metavar="ID", help="The query.")],
    task: CellName = None,
    model: CellName = None,
    mode: CellName = None,
    variant: CellName = None,
    shots: CellNumber = None,
    draw: CellNumber = None,
) -> None:
    """Print the very prompt that was sent for a query, and beside it what was answered. Of several
    cells that asked it, the options choose one.
    """
    from icl_harness.cli.show import about_record
    from icl_harness.report.run import Run, find_record

    options = (task, model, mode, variant, shots, draw)
    given = zip(CHOOSING, options, strict=True)
    wanted = {name: value for name, value in given if value is not None}
    record, n_cells = find_record(run_folder, query, wanted)
    sys.stdout.write(for_stream(record.text))
    sys.stdout.flush()
    for line in about_record(record, n_cells, Run(run_folder).header):
        typer.echo(visible(line), err=True)


@app.command()
def check(
    run_folder: OneRun,
    examples: Annotated[int, typer.Option(metavar="N", min=0, help="Shown of each kind.")] = 3,
    csv: Csv = None,
) -> None:
    """Print the answers that could not be parsed, and those that look misread, by kind: so that one
    sees what the scorer missed. Changes no score.
    """
    from icl_harness.cli.check import check_lines, csv_parts
    from icl_harness.cli.notes import imported_note
    from icl_harness.cli.terminal import tell
    from icl_harness.report.doubtful import doubtful
    from icl_harness.report.records import Records
    from icl_harness.report.run import Run

    done = Run(run_folder)
    found = doubtful(done)
    if csv is not None:
        _write_parts(csv_parts(found), csv)
        return
    records = Records([done.path])
    cells = records.totals()
    n_answers = int(cells["n_ok"].sum())
    several = [name for name in CHOOSING if cells[name].nunique() > 1]
    if "imported" in done.header and not records.has_answers():
        tell(f"{run_folder}: {n_of(n_answers, 'score')}. {imported_note(done.header)}")
        return
    for line in check_lines(run_folder, found, n_answers, examples, several):
        tell(line)


@app.command()
def batch(run_folder: OneRun) -> None:
    """Show the state of a run's batches, while it runs or later."""
    from icl_harness.cli.batch_table import NUMBERS, batches
    from icl_harness.cli.terminal import print_rows, tell

    rows, notes = batches(run_folder)
    print_rows(rows, right=NUMBERS)
    for note in notes:
        tell(note)


@app.command()
def caches(
    run_folder: OneRun,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them at the provider.")] = False,
) -> None:
    """List what a run still keeps in a provider's caches. Keeping them costs by the hour."""
    from icl_harness.cli.cache_table import NUMBERS
    from icl_harness.cli.cache_table import caches as kept
    from icl_harness.cli.terminal import print_rows, tell

    rows, notes = kept(run_folder, delete=delete)
    for note in notes:
        tell(note)
    print_rows(rows, right=NUMBERS)


@app.command(cls=FileCommand)
def tasks(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK", help="Show this one, or this file's, with a rendered 2-shot prompt."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the rows lie.", envvar="ICL_DATA")
    ] = None,
    mode: Annotated[
        str, typer.Option(metavar="MODE", help="Of the rendered prompt.")
    ] = "supervised",
    variant: Annotated[
        str, typer.Option(metavar="NAME", help="Of the rendered prompt.")
    ] = "default",
) -> None:
    """List the tasks, or show one."""
    from icl_harness.cli import describe
    from icl_harness.cli.terminal import print_rows, tell
    from icl_harness.tasks.loading import tasks_and_faults

    if name is None:
        listed, faults = tasks_and_faults(data)
        print_rows([("task", "what it asks"), *describe.task_list(listed)], fold=True)
        for fault in faults:
            tell(f"not listed: {fault}")
    else:
        page = describe.task_page(name, data=data, mode=mode, variant=variant, columns=context.obj)
        typer.echo(for_stream("\n".join(page)))


folders.add_commands(app)


def _run_command(arguments: list[str]) -> int:
    """Run a command and return its exit code. Typer's own end of one whose reader has read enough
    looks like a failure: it wraps standard output and exits with 1.
    """
    output = sys.stdout
    try:
        return app(arguments, prog_name="icl", standalone_mode=False) or 0
    except SystemExit:
        if sys.stdout is output:
            raise
        sys.stdout = output
        raise BrokenPipeError from None


def main() -> None:
    """Run the command line. An error of the user's is one line on standard error; `--debug` shows
    the traceback.
    """
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"] or ["--help"]
    try:
        prepare_output(is_needed=arguments[0] not in WITHOUT_OUTPUT)
        code = _run_command(arguments)
        if code == STOPPED:  # typer makes an exit code of Ctrl-C
            raise KeyboardInterrupt
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written is told, and not lost at the exit
        sys.exit(code)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        sys.exit(print_error(error, arguments))
