"""The options of `icl run` and `icl plan`, made from the fields of `Spec` and `Execution`.

In: a command line. Out: a `Grid`: what is measured, in which run folder, how it is carried out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_origin

import typer
from typer.core import TyperCommand
from typer.main import get_command

from icl_harness.errors import SpecError
from icl_harness.printable import without_controls

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from icl_harness.runner.execution import Execution
    from icl_harness.runner.spec import Spec
    from icl_harness.settings import Option, Settings

MEASURED, CARRIED_OUT = "What is measured", "How it is carried out"
OF_A_FILE = "A file of rows as the task"
TASKS = typer.Argument(
    metavar="TASK",
    help="Tasks (icl tasks lists them), files of rows (.csv, .jsonl, …), or one YAML file with the"
    " same keys.",
    rich_help_panel="Arguments",
)
RUN = typer.Argument(metavar="RUN", help="Run folder.", rich_help_panel="Arguments")
OUT = typer.Option(
    metavar="FOLDER",
    help="Run folder. [results/<named after what is measured>]",
    rich_help_panel=CARRIED_OUT,
)


class Grid(NamedTuple):
    """What a command line asks for."""

    spec: Spec
    folder: Path
    how: Execution


class GridCommand(TyperCommand):
    """A command with the options of a grid; its context's `obj` is the `Grid`.

    The options are made when a command line needs them, so that `icl --help` loads no spec. `Any`
    stands for types of typer's that have no public name.
    """

    def grid_params(self) -> list[Any]:
        """Return the parameters that are read together into the context's `obj`."""
        return grid_params()

    def read(self, values: dict[str, Any]) -> Any:
        """Return the `obj` of the values that were given."""
        return read_grid(values)

    def get_params(self, ctx: Any) -> list[Any]:
        return [*self.grid_params(), *super().get_params(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options in sections, each under its `rich_help_panel`."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            rows = sections.setdefault(param.rich_help_panel or "Options", [])
            rows.append(param.get_help_record(ctx))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        names = [param.name for param in self.grid_params()]
        values = {name: ctx.params.pop(name) for name in names}
        ctx.obj = self.read({name: value for name, value in values.items() if _given(value)})
        return super().invoke(ctx)


class FileCommand(TyperCommand):
    """A command with the options of a file of rows; its context's `obj` is the `Columns`."""

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        return [*params[:1], *column_params(), *params[1:]]

    def invoke(self, ctx: Any) -> Any:
        from icl_harness.tasks.columns import Columns

        values = {param.name: ctx.params.pop(param.name) for param in column_params()}
        ctx.obj = Columns(**{name: value for name, value in values.items() if _given(value)})
        return super().invoke(ctx)


@cache
def column_params() -> list[Any]:
    """Return the options of a file of rows as typer makes them."""
    from icl_harness.tasks.columns import Columns

    return _params(list(_parameters(Columns, OF_A_FILE)))


class Addition(NamedTuple):
    """What a command line adds to a run."""

    folder: Path
    added: dict[str, Any]
    how: Execution


class ExtendCommand(GridCommand):
    """A command with the options of a grid that can be added to a run; its context's `obj` is the
    `Addition`.
    """

    def grid_params(self) -> list[Any]:
        return addition_params()

    def read(self, values: dict[str, Any]) -> Addition:
        from icl_harness.runner.execution import Execution

        how = {name: value for name, value in values.items() if name in Execution.model_fields}
        added = {name: value for name, value in values.items() if name not in {*how, "run"}}
        return Addition(Path(values["run"]), added, Execution(**how, say=_note))


@cache
def grid_params() -> list[Any]:
    """Return the arguments and options of a grid as typer makes them."""
    from icl_harness.runner.execution import Execution
    from icl_harness.runner.spec import Spec
    from icl_harness.tasks.columns import Columns

    parameters = [
        _parameter("tasks", Annotated[list[str], TASKS], inspect.Parameter.empty),
        *_parameters(Columns, OF_A_FILE),
        *_parameters(Spec, MEASURED, without=Columns),
        _parameter("out", Annotated[str | None, OUT]),
        *_parameters(Execution, CARRIED_OUT),
    ]
    return _params(parameters)


@cache
def addition_params() -> list[Any]:
    """Return the arguments and options of what is added to a run."""
    from icl_harness.runner.execution import Execution
    from icl_harness.runner.extending import ELSEWHERE
    from icl_harness.runner.spec import Spec
    from icl_harness.store.extension import GROWING

    wanted = {*GROWING, *ELSEWHERE}
    measured = [one for one in _parameters(Spec, "What is added") if one.name in wanted]
    for parameter in measured:
        info = parameter.annotation.__metadata__[0]
        info.help = (info.help or "").partition(" [")[0]  # the default is what the run has
    return _params(
        [
            _parameter("run", Annotated[str, RUN], inspect.Parameter.empty),
            *measured,
            *_parameters(Execution, CARRIED_OUT),
        ]
    )


def _params(parameters: list[inspect.Parameter]) -> list[Any]:
    """Return parameters of a function as typer makes arguments and options of them."""

    def carrier(**values: Any) -> None:
        """Carry the signature from which typer makes parameters."""

    carrier.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    carrier.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    typed = typer.Typer(add_completion=False)
    typed.command()(carrier)
    return get_command(typed).params


def _parameters(
    settings: type[Settings], section: str, without: type[Settings] | None = None
) -> Iterator[inspect.Parameter]:
    from icl_harness.settings import option_name, options_of

    left_out = without.model_fields if without is not None else {}
    for name, field, option in options_of(settings):
        if name in left_out:
            continue
        info = typer.Option(
            *(option.names or (option_name(name),)),
            metavar=option.metavar or None,
            help=_help(field, option),
            envvar=option.env,
            rich_help_panel=section,
        )
        if field.annotation is bool:
            yield _parameter(name, Annotated[bool, info], False)
        elif get_origin(field.annotation) in (tuple, Mapping):
            yield _parameter(name, Annotated[list[str] | None, info])
        else:
            yield _parameter(name, Annotated[str | None, info])


def _parameter(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _help(field: FieldInfo, option: Option) -> str:
    """Return an option's help with its default."""
    default = option.default or _shown_default(field.default)
    return f"{option.help} [{default}]" if default else option.help


def _shown_default(value: object) -> str:
    """Return a default as one would type it; nothing where there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:g}"


TRUST = "trust_remote_code"


def _given(value: object) -> bool:
    return value is not None and value is not False and value != () and value != []


def read_grid(values: Mapping[str, Any]) -> Grid:
    """Return what a command line's values ask for. Raises `SpecError`."""
    from icl_harness.runner.execution import Execution
    from icl_harness.runner.spec import Spec, default_folder

    measured = {name: value for name, value in values.items() if name in Spec.model_fields}
    how = {name: value for name, value in values.items() if name in Execution.model_fields}
    if "model_args" in measured:
        measured["model_args"] = _pairs(measured["model_args"])
    spec = _read_spec(measured)
    folder = Path(values["out"]) if "out" in values else default_folder(spec)
    return Grid(spec, folder, Execution(**how, say=_note))


def _read_spec(values: dict[str, Any]) -> Spec:
    from icl_harness.runner.spec import Spec

    tasks = values["tasks"]
    files = [name for name in tasks if name.endswith((".yaml", ".yml"))]
    if files and len(tasks) == 1:
        del values["tasks"]
        spec = Spec.load(Path(files[0]), values)
        if spec.base_url and "base_url" not in values:
            _tell_of_server(files[0], spec)
        if "model_args" not in values:
            _refuse_code(files[0], spec)
        return spec
    if files:
        other = next(name for name in tasks if name != files[0])
        raise SpecError(
            f"{files[0]} names its own tasks. Leave {other!r} out, or write it into the file."
        )
    for name in tasks:
        _refuse_stray(name)
    if "models" not in values:
        raise SpecError(
            "no model is named. Name one with --model; --model demo needs no key and no network."
        )
    return Spec(**values)


def _tell_of_server(file: str, spec: Spec) -> None:
    """Say where a file that may be another's has keys sent."""
    from icl_harness.models import provider_of
    from icl_harness.models.api.access import find_key, masked

    for model in spec.models:
        provider = provider_of(model)
        for name in provider.key_names if provider is not None else ():
            if find_key([name], model):
                server = masked(spec.base_url or "")
                _note(f"{file} names the server {server}: it is sent the prompts and {name}.")
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


def _refuse_stray(name: str) -> None:
    """Refuse a value of an option that stands among the tasks, as in `--shots 0 4`."""
    from icl_harness.models import provider_of
    from icl_harness.prompts.modes import MODES
    from icl_harness.tasks.row_files import is_row_file

    if is_row_file(name):
        return
    if name in MODES:
        what, remedy = "a mode", "Join modes by commas: --modes supervised,unsupervised."
    elif name.replace("..", "").replace(",", "").isdigit():
        what, remedy = "a number", "Join shot counts by commas: --shots 0,4,16."
    elif "/" in name and provider_of(name):
        what, remedy = "a model", "Give --model before each."
    else:
        return
    raise SpecError(f"{name!r} stands among the tasks, and is {what}. {remedy}")


def _note(text: str) -> None:
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
