"""The options of `icl run` and `icl plan`, made from the fields of `Spec` and `Execution`.

In: the options of a command line. Out: their values, of which grids.py makes `Grid`s.
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

from icl_harness.cli.grids import Grid, note, read_grids, refuse_for_parts, runs_line
from icl_harness.errors import IclError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from icl_harness.runner.execution import Execution
    from icl_harness.settings import Option, Settings

MEASURED, CARRIED_OUT = "What is measured", "How it is carried out"
OF_A_FILE = "A file of rows as the task"
TASKS = typer.Argument(
    metavar="TASK",
    help="Tasks (icl tasks lists them), files of rows (.csv, .jsonl, …), or one YAML file with the"
    " same keys, or one preset by its name, as paper/linear (icl paper lists them).",
    rich_help_panel="Arguments",
)
RUN = typer.Argument(metavar="RUN", help="Run folder.", rich_help_panel="Arguments")
OUT = typer.Option(
    metavar="FOLDER",
    help="Run folder. [results/<named after what is measured>]",
    rich_help_panel=CARRIED_OUT,
)


class GridCommand(TyperCommand):
    """A command with the options of a grid; its context's `obj` is the `Grid`.

    The options are made when a command line needs them, so that `icl --help` loads no spec. `Any`
    stands for types of typer's that have no public name.
    """

    def grid_params(self) -> list[Any]:
        """Return the parameters that are read together into the context's `obj`."""
        return grid_params()

    def read(self, values: dict[str, Any]) -> Sequence[Any]:
        """Return the `obj`s of the values that were given: one, or a preset's parts."""
        return read_grids(values)

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
        found = self.read({name: value for name, value in values.items() if _given(value)})
        if len(found) > 1:
            return self._invoke_each(ctx, found)
        [ctx.obj] = found
        return super().invoke(ctx)

    def _invoke_each(self, ctx: Any, grids: Sequence[Grid]) -> None:
        """Carry out the parts of a preset one after the other. One that cannot be, as its rows are
        not there, is told and passed over; the exit code is the worst of all.
        """
        refuse_for_parts(ctx.params, grids)
        codes: list[int] = []
        for i, ctx.obj in enumerate(grids, start=1):
            note(f"part {i} of {len(grids)}: {', '.join(ctx.obj.spec.tasks)}")
            try:
                super().invoke(ctx)
                codes.append(0)
            except typer.Exit as end:
                codes.append(end.exit_code)
            except IclError as error:
                if error.resumable:  # an account or a budget that is used up
                    raise
                note(f"part {i} is left out: {error}")
                codes.append(error.exit_code)
        if ctx.info_name == "run":
            done = [grid for grid, code in zip(grids, codes, strict=True) if code < 2]
            typer.echo(runs_line(done, len(grids)))
        raise typer.Exit(max(codes))


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

    def read(self, values: dict[str, Any]) -> Sequence[Addition]:
        from icl_harness.runner.execution import Execution

        how = {name: value for name, value in values.items() if name in Execution.model_fields}
        added = {name: value for name, value in values.items() if name not in {*how, "run"}}
        return [Addition(Path(values["run"]), added, Execution(**how, say=note))]


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


def _given(value: object) -> bool:
    return value is not None and value is not False and value != () and value != []
