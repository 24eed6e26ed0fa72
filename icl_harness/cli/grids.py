"""What a command line of `icl run` and `icl plan` asks for.

In: the values of its arguments and options. Out: a `Grid`, or one for each part of a preset: what
is measured, in which run folder, how it is carried out.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from icl_harness.errors import SpecError
from icl_harness.printable import without_controls

if TYPE_CHECKING:
    from icl_harness.runner.execution import Execution
    from icl_harness.runner.spec import Spec

TRUST = "trust_remote_code"


class Grid(NamedTuple):
    """What a command line asks for: one run."""

    spec: Spec
    folder: Path
    how: Execution


def read_grids(values: Mapping[str, Any]) -> list[Grid]:
    """Return what a command line's values ask for: one run, or one for each part of a preset.
    Raises `SpecError`.
    """
    from icl_harness.runner.execution import Execution
    from icl_harness.runner.spec import Spec, default_folder

    measured = {name: value for name, value in values.items() if name in Spec.model_fields}
    how = {name: value for name, value in values.items() if name in Execution.model_fields}
    if "model_args" in measured:
        measured["model_args"] = _pairs(measured["model_args"])
    specs = _read_specs(measured, batch="batch" in how)
    folders = [default_folder(spec) for spec in specs]
    if "out" in values and len(specs) == 1:
        folders = [Path(values["out"])]
    elif "out" in values:
        folders = [Path(values["out"]) / folder.name for folder in folders]
    execution = Execution(**how, say=note)
    return [Grid(spec, folder, execution) for spec, folder in zip(specs, folders, strict=True)]


def refuse_for_parts(params: Mapping[str, Any], grids: Sequence[Grid]) -> None:
    """Refuse options that are for one run, where there are several. Raises `SpecError`."""
    given = {"--csv": params.get("csv"), "--max-cost": grids[0].how.max_cost}
    for option, value in given.items():
        if value is not None:
            raise SpecError(
                f"{option} is for one run, and here are {len(grids)}, one for each part of the "
                "preset. Leave it out, or run the tasks one by one."
            )


def runs_line(done: Sequence[Grid], n_parts: int) -> str:
    """Return how many parts of a preset ran, and what one might do next."""
    count = f"{len(done)} of {n_parts} runs" if len(done) < n_parts else f"{n_parts} runs"
    if not done:
        return count
    folders = [shlex.quote(str(grid.folder)) for grid in done]
    if len(done) == 2 and _ask_the_same(done[0].spec, done[1].spec):
        with_overlay = f"{folders[1]} --overlay {folders[0]}/curves.csv"
        return f"{count}; icl plot {with_overlay} --out FILE.png draws the first beside the second"
    return f"{count}; icl plot {' '.join(folders)} --out FILE.png draws them"


def _ask_the_same(one: Spec, other: Spec) -> bool:
    """Return whether two grids have cells of the same names, so that they are no one table."""
    names = ("tasks", "models", "modes", "variants", "shots")
    return all(set(getattr(one, name)) & set(getattr(other, name)) for name in names)


def _read_specs(values: dict[str, Any], *, batch: bool) -> list[Spec]:
    from icl_harness.runner.presets import load_grids
    from icl_harness.runner.spec import Spec

    tasks = values["tasks"]
    files = {name: path for name in tasks if (path := _grid_file(name)) is not None}
    if files and len(tasks) == 1:
        [(name, path)] = files.items()
        del values["tasks"]
        specs = load_grids(path, values, batch=batch)
        for spec in specs:
            if spec.base_url and "base_url" not in values:
                _tell_of_server(name, spec)
            if "model_args" not in values:
                _refuse_code(name, spec)
        return specs
    if files:
        first = next(iter(files))
        other = next(name for name in tasks if name != first)
        raise SpecError(
            f"{first} names its own tasks. Leave {other!r} out, or write it into the file."
        )
    for name in tasks:
        _refuse_stray(name)
        _refuse_half_named(name)
    if "models" not in values:
        raise SpecError(
            "no model is named. Name one with --model; --model demo needs no key and no network."
        )
    return [Spec(**values)]


def _grid_file(name: str) -> Path | None:
    """Return the YAML file that a name among the tasks means, of a preset too; None for a task."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    from icl_harness.runner.presets import find_preset
    from icl_harness.tasks.discovery import family_names

    if ":" in name or "." in name or name in family_names():
        return None
    return find_preset(name)


def _tell_of_server(file: str, spec: Spec) -> None:
    """Say where a file that may be another's has keys sent."""
    from icl_harness.models import provider_of
    from icl_harness.models.api.access import find_key, masked

    for model in spec.models:
        provider = provider_of(model)
        for name in provider.key_names if provider is not None else ():
            if find_key([name], model):
                server = masked(spec.base_url or "")
                note(f"{file} names the server {server}: it is sent the prompts and {name}.")
                break


def _refuse_code(file: str, spec: Spec) -> None:
    """Refuse a file that may be another's and has a model's own code run. Raises `SpecError`."""
    given = spec.model_args.get(TRUST, "false")
    if given.strip().lower() not in {"false", "no", "0"}:
        others = [f"--model-arg {k}={v}" for k, v in spec.model_args.items() if k != TRUST]
        more = f" (with {' '.join(others)}, as options replace those of a file)" if others else ""
        raise SpecError(
            f"{file} sets model_args {TRUST}: {given}, which runs code that comes with the model. "
            f"Where you trust who wrote it, give --model-arg {TRUST}=true yourself{more}."
        )


def _refuse_half_named(name: str) -> None:
    """Refuse a preset without its folder, as fig7, where no task is called so."""
    from icl_harness.runner.presets import presets_ending_in
    from icl_harness.tasks.discovery import family_names

    if {":", ".", "/"} & set(name) or name in family_names():
        return
    meant = presets_ending_in(name)
    if meant:
        raise SpecError(f"there is no task {name!r}; a preset is called {' or '.join(meant)}.")


def _refuse_stray(name: str) -> None:
    """Refuse a value of an option that stands among the tasks, as in `--shots 0 4`."""
    from icl_harness.models import provider_of
    from icl_harness.prompts.modes import MODES
    from icl_harness.runner.presets import unknown_preset
    from icl_harness.tasks.row_files import is_row_file

    if is_row_file(name):
        return
    if name in MODES:
        what, remedy = "a mode", "Join modes by commas: --modes supervised,unsupervised."
    elif name.replace("..", "").replace(",", "").isdigit():
        what, remedy = "a number", "Join shot counts by commas: --shots 0,4,16."
    elif "/" in name and provider_of(name):
        what, remedy = "a model", "Give --model before each."
    elif "/" in name and not {":", "."} & set(name):
        raise unknown_preset(name)
    else:
        return
    raise SpecError(f"{name!r} stands among the tasks, and is {what}. {remedy}")


def note(text: str) -> None:
    typer.echo(f"icl: {without_controls(text)}", err=True)


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    """Return the names and values of --model-arg."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SpecError(f"--model-arg {text!r}: give it as key=value.")
        if name in pairs:
            raise SpecError(f"--model-arg {name} is given twice. Give it once.")
        pairs[name] = value
    return pairs
