"""The command line: `icl run`, `curves`, `export`, `plot`, `compare`, `show`, `tasks` (floor 5, thin)."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from icl_harness.errors import IclError, SpecError
from icl_harness.files import write_atomically

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
ARGUMENTS = typer.Argument(help="Tasks (see icl tasks), or one YAML file with the same keys as these options.")


@app.command()
def run(
    tasks: Annotated[list[str], ARGUMENTS],
    model: Annotated[list[str] | None, typer.Option(help="provider/name; may be repeated. demo needs no key.")] = None,
    modes: Annotated[str | None, typer.Option(help="supervised, reinforced, unsupervised; comma-separated.")] = None,
    shots: Annotated[str | None, typer.Option(help="0,1,4,16 or 1..1024 (powers of two).")] = None,
    draws: Annotated[int | None, typer.Option(help="Seeded orders of the pool. [3]")] = None,
    queries: Annotated[int | None, typer.Option(help="Test examples asked in each cell. [all]")] = None,
    pool: Annotated[int | None, typer.Option(help="Use only this many pool examples, in every mode. [all]")] = None,
    seed: Annotated[int | None, typer.Option(help="[0]")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Label maps of the task: default, flipped, …")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. [results/<name that follows from the spec>]")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Rows from DIR/<task>/{train,test}.jsonl|csv.", envvar="ICL_DATA")
    ] = None,
    scoring: Annotated[str | None, typer.Option(help="generate, choices or choices-normalised. [generate]")] = None,
    temperature: Annotated[float | None, typer.Option(help="[0]")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer. [the task's]")] = None,
    on_overflow: Annotated[str | None, typer.Option(help="drop (whole shots), skip or error. [drop]")] = None,
    worked: Annotated[
        int | None, typer.Option(help="Solved examples in the unsupervised format block, 0 to 4. [0]")
    ] = None,
    bank: Annotated[str | None, typer.Option(help="Reinforced: take the bank of this run folder or file.")] = None,
    bank_samples: Annotated[int | None, typer.Option(help="Reinforced: attempts per pool problem. [4]")] = None,
    bank_temperature: Annotated[float | None, typer.Option(help="Reinforced: their temperature. [1.0]")] = None,
    bank_shots: Annotated[
        int | None, typer.Option(help="Reinforced: supervised shots they are sampled from. [0]")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Server address, for openai/ any compatible server.")] = None,
    model_arg: Annotated[
        list[str] | None, typer.Option(help="key=value for the model's provider; may be repeated.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Local models: float32, bfloat16, float16 or auto; as --model-arg dtype=…")
    ] = None,
    device_map: Annotated[
        str | None, typer.Option(help="Local models: as transformers takes it; as --model-arg device_map=…")
    ] = None,
    kv_cache: Annotated[
        Path | None, typer.Option(help="hf/ models: keep keys and values of prompts here for later runs.")
    ] = None,
    kv_cache_gb: Annotated[float | None, typer.Option(help="How much the folder may hold. [20]")] = None,
    workers: Annotated[
        str | None, typer.Option(help="ray: replicas of local models on every machine of a Ray cluster.")
    ] = None,
    worker_cpus: Annotated[int | None, typer.Option(help="CPUs per replica. [1; beside a GPU 0]")] = None,
) -> None:
    """Run a grid and leave records, curves.csv and curves.png in the run folder. The same command goes on with it."""
    options = {
        "models": model, "modes": modes, "shots": shots, "draws": draws, "queries": queries, "pool": pool,
        "seed": seed, "variants": variant, "data": str(data) if data else None, "scoring": scoring,
        "temperature": temperature, "max_tokens": max_tokens, "on_overflow": on_overflow, "worked": worked,
        "bank": bank, "bank_samples": bank_samples, "bank_temperature": bank_temperature, "bank_shots": bank_shots,
        "base_url": base_url, "model_args": _model_args(model_arg or [], dtype=dtype, device_map=device_map),
    }  # fmt: skip
    given = {key: value for key, value in options.items() if value is not None}
    cache = _kv_cache(kv_cache, kv_cache_gb)
    _run(_spec(tasks, given), out, workers=workers, worker_cpus=worker_cpus, kv_cache=cache)


def _kv_cache(folder: Path | None, most_gb: float | None) -> Any:
    from icl_harness.models.base import KvCache

    if folder is None and most_gb is not None:
        raise SpecError("--kv-cache-gb limits what --kv-cache keeps, which is not given.")
    return None if folder is None else KvCache(folder=str(folder), **({} if most_gb is None else {"most_gb": most_gb}))


def _spec(tasks: list[str], given: dict[str, Any]) -> Any:
    from icl_harness.grid import Spec

    if len(tasks) == 1 and tasks[0].endswith((".yaml", ".yml")):
        return Spec.load(Path(tasks[0]), given)
    return Spec.from_dict({"tasks": tasks, **given}, "icl run")


def _run(spec: Any, out: Path | None, **how: Any) -> None:
    from icl_harness.report import progress_bar
    from icl_harness.runs import default_folder, execute

    folder = out or default_folder(spec)
    with progress_bar() as watch:
        done = execute(spec, folder, watch=watch, **how)
    frame = done.curves()
    files = _write_results(done, frame)
    _print_curves([done], frame)
    by = "mode" if len(spec.modes) > 1 else "model" if len(spec.models) > 1 else "shots"
    typer.echo(f"{folder}/  {files}   (icl compare {folder} --by {by}, icl export {folder})")
    if frame["n_failed"].sum():
        raise typer.Exit(1)  # a curve with missing answers is no success; the notes above say where


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


def _print_curves(runs: list[Any], frame: Any) -> None:
    from rich.console import Console

    from icl_harness.report import bank_notes, curve_notes, curve_tables

    if frame.empty:
        typer.echo("no answers yet")
    console = Console(soft_wrap=True)
    for table in curve_tables(frame, [one.path for one in runs]):
        console.print(table)
        console.print()
    for note in (*(n for one in runs for n in bank_notes(one.path, one.header)), *curve_notes(frame)):
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
        _print_curves(found, table(records))
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
    by: Annotated[str, typer.Option(help="mode, model, variant or shots")] = "mode",
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


def _model_args(texts: list[str], **named: str | None) -> dict[str, str] | None:
    """Return what --model-arg and the options that stand for one say; None where they say nothing."""
    pairs = {name: value for name, value in named.items() if value is not None}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise SpecError(f"--model-arg {text!r}: give it as key=value.")
        if key in pairs:
            raise SpecError(f"--model-arg {key} is given twice. Give it once.")
        pairs[key] = value
    return pairs or None


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
