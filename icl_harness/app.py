"""The command line: `icl run`, `plan`, `curves`, `plot`, `compare`, `show`, `tasks` and more (floor 5, thin)."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from icl_harness.errors import IclError
from icl_harness.files import write_atomically
from icl_harness.grid_options import grid, takes

app = typer.Typer(
    help="Measure how well a language model learns a task from its context: accuracy against shot count. "
    "An error is one line; --debug shows where it came from.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Runs = Annotated[list[Path], typer.Argument(help="Run folders.", show_default=False)]
STOPPED = 130  # the exit code of Ctrl-C
TABLE_WIDTH = 110  # of a plan, at least


@app.command()
@takes(grid)
def run(asked: Any) -> None:
    """Run a grid and leave records, curves.csv and curves.png in the run folder. The same command goes on with it."""
    from icl_harness.curves import curves as table
    from icl_harness.report import progress_bar
    from icl_harness.runs import execute

    spec, folder, how = asked
    with progress_bar() as watch:
        done = execute(spec, folder, how, watch=watch)
    records = done.records()
    frame = table(records)
    files = _write_results(done, frame)
    _print_curves([done], frame, records)
    by = "mode" if len(spec.modes) > 1 else "model" if len(spec.models) > 1 else "shots"
    typer.echo(f"{folder}/  {files}   (icl compare {folder} --by {by}, icl export {folder})")
    if frame["n_failed"].sum():
        raise typer.Exit(1)  # a curve with missing answers is no success; the notes above say where


@app.command()
@takes(grid)
def plan(
    asked: Any, csv: Annotated[Path | None, typer.Option(help="Write every cell here; '-' is standard output.")] = None
) -> None:
    """Say what a run will take, or what is left of one: requests, tokens, what fits, dollars, time. Asks no model."""
    from rich.console import Console

    from icl_harness.plan import refuse_cost
    from icl_harness.plan_report import plan_frame, plan_notes, plan_tables
    from icl_harness.runs import plan_run

    spec, folder, how = asked
    found = plan_run(spec, folder, how)
    if csv is not None:
        plan_frame(found).to_csv(sys.stdout if str(csv) == "-" else csv, index=False, lineterminator="\n")
    else:
        console = Console(soft_wrap=True)
        console.width = max(console.width, TABLE_WIDTH)  # a narrow terminal wraps the lines: no number is cut off
        for table in plan_tables(found):
            console.print(table)
            console.print()
        for note in plan_notes(found):
            typer.echo(note)
    if how.max_cost is not None:
        refuse_cost(found, how.max_cost, batch=how.batch)


def _write_results(done: Any, frame: Any) -> str:
    """Write curves.csv and, where a point has a value, curves.png; return what the folder holds."""
    from icl_harness.curves import write_csv
    from icl_harness.plots import plot, save

    picture = done.path / "curves.png"
    write_csv(frame, done.path / "curves.csv")
    if not frame["value"].notna().any():
        picture.unlink(missing_ok=True)  # one of earlier answers would not be this table's
        return "curves.csv  records.db"
    save(plot(frame, done.chance()), picture)
    return "curves.csv  curves.png  records.db"


def _print_curves(runs: list[Any], frame: Any, records: Any) -> None:
    from rich.console import Console

    from icl_harness.report import bank_notes, common_errors, curve_notes, curve_tables, unfinished_note

    if frame.empty:
        typer.echo("no answers yet")
    console = Console(soft_wrap=True)
    for table in curve_tables(frame, [one.path for one in runs]):
        console.print(table)
        console.print()
    for one in runs:
        for note in bank_notes(one.path, one.header):
            typer.echo(note)
    for note in (*curve_notes(frame, common_errors(records)), *unfinished_note([r.header for r in runs], len(records))):
        typer.echo(note)


@app.command()
def curves(
    runs: Runs, csv: Annotated[Path | None, typer.Option(help="Write the table here; '-' is standard output.")] = None
) -> None:
    """Show the curves of one or more runs, finished or not."""
    from icl_harness.curves import curves as table
    from icl_harness.curves import write_csv
    from icl_harness.runs import load_runs

    found, records = load_runs(runs)
    if csv is None:
        _print_curves(found, table(records), records)
    else:
        write_csv(table(records), sys.stdout if str(csv) == "-" else csv)


@app.command()
def plot(runs: Runs, out: Annotated[Path, typer.Option(help="FILE.png or FILE.svg")], title: str | None = None) -> None:
    """Draw the curves of one or more runs in one picture."""
    from icl_harness.curves import curves as table
    from icl_harness.plots import plot as draw
    from icl_harness.plots import save
    from icl_harness.runs import load_runs

    found, records = load_runs(runs)
    chance = {task: level for one in found for task, level in one.chance().items()}
    save(draw(table(records), chance, title), out)
    typer.echo(str(out))


@app.command()
def compare(
    runs: Runs,
    by: Annotated[str, typer.Option(help="mode, model, variant, shots, format or queries_per_request")] = "mode",
    csv: Annotated[Path | None, typer.Option(help="Write the table here; '-' is standard output.")] = None,
) -> None:
    """Show paired differences per shot count, with intervals."""
    from icl_harness.compare import compare as paired
    from icl_harness.curves import write_csv
    from icl_harness.runs import load_runs

    frame = paired(load_runs(runs)[1], by=by)
    if csv is not None:
        write_csv(frame, sys.stdout if str(csv) == "-" else csv)
    else:
        typer.echo(frame.to_string(index=False, float_format="{:.3f}".format))


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    form: Annotated[
        str | None, typer.Option("--format", help="csv, jsonl or parquet. [as the file's name ends, else csv]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File. [standard output]")] = None,
) -> None:
    """Give the records of a run, finished or not: one row per answer."""
    from icl_harness.runs import FORMS, Run
    from icl_harness.runs import export as as_bytes

    named = out.suffix.lstrip(".") if out is not None else ""
    content = as_bytes(Run(run_folder).records(), form or (named if named in FORMS else "csv"))
    if out is None:
        sys.stdout.buffer.write(content)
    else:
        write_atomically(out, content)


@app.command()
def show(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    query: Annotated[str, typer.Option(help="Query id.")],
    task: str | None = None,
    model: str | None = None,
    mode: str | None = None,
    variant: str | None = None,
    shots: int | None = None,
    draw: int | None = None,
) -> None:
    """Print the very prompt that was sent for a query; narrow the cell down by its fields."""
    from icl_harness.runs import Run, find_prompts

    asked = {"task": task, "model": model, "mode": mode, "variant": variant, "shots": shots, "draw": draw}
    found = find_prompts(run_folder, query, {name: value for name, value in asked.items() if value is not None})
    cell, text = found[0]
    sys.stdout.write(text)
    sys.stdout.flush()
    more = f"; {len(found) - 1} other cells asked it too: --shots, --draw, --mode … choose" if len(found) > 1 else ""
    about = f"{cell.task} {cell.model} {cell.mode} {cell.variant}, {cell.shots} shots, draw {cell.draw}"
    chat = Run(run_folder).header["spec"]["model_args"].get("chat_template") == "true"
    inside = "; sent inside the model's chat template" if chat else ""
    typer.echo(f"\n[{about}{inside}{more}]", err=True)


@app.command()
def batch(run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]) -> None:
    """Show the state of a run's batches, also while it goes on."""
    from icl_harness.batches import batches

    for line in batches(run_folder):
        typer.echo(line)


@app.command()
def caches(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    delete: Annotated[bool, typer.Option("--delete", help="Delete them at the provider.")] = False,
) -> None:
    """List what a run still keeps in a provider's caches, which cost by the hour."""
    from icl_harness.caches import caches as kept

    for line in kept(run_folder, delete=delete):
        typer.echo(line)


@app.command()
def tasks(
    name: Annotated[str | None, typer.Argument(help="Show this task with a rendered 2-shot prompt.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where the rows lie.", envvar="ICL_DATA")] = None,
    mode: Annotated[str, typer.Option(help="Mode of the rendered prompt.")] = "supervised",
    variant: Annotated[str, typer.Option(help="Variant of the rendered prompt.")] = "default",
) -> None:
    """List the tasks, or show one."""
    from icl_harness import describe

    lines = describe.task_list() if name is None else describe.task_page(name, data=data, mode=mode, variant=variant)
    for line in lines:
        typer.echo(line)


def main() -> None:
    """Run the command line; every error of the user's is one line on standard error. `--debug` shows the traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no UTF-8 gets question marks
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"] or ["--help"]
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]  # typer exports it by its children only
    try:
        code = app(arguments, standalone_mode=False) or 0
        if code == STOPPED:  # typer makes an exit code of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        sys.exit(_say(error, usage_error))


def _say(error: BaseException, usage_error: type[Exception]) -> int:
    """Print one line and return the exit code: 2 for what the user can mend, 1 for the rest."""
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()  # the reader of a pipe has had enough
        return 0
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        typer.echo("icl: stopped. What was answered is kept; the same command goes on.", err=True)
        return STOPPED
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    if not isinstance(error, IclError | OSError | usage_error):
        text = f"unexpected {type(error).__name__}: {text} (--debug shows where)"
    again = " Run the same command again to go on." if isinstance(error, IclError) and error.resumable else ""
    typer.echo(f"icl: {' '.join(text.split())}{again}", err=True)
    if isinstance(error, IclError):
        return error.exit_code
    return 2 if isinstance(error, OSError | usage_error) else 1
