"""The files in tasks/ and prompts/: finding them, running them, and the decorator that marks a
task.
"""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, Unpack, overload

from icl_harness.errors import SpecError, nearest
from icl_harness.tasks.authors_code import authors_code
from icl_harness.tasks.columns import ColumnOptions, Columns
from icl_harness.tasks.data_folder import at_work
from icl_harness.tasks.table_task import task_of_rows
from icl_harness.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Family:
    """A task file's function. With subsets it takes one's name; `default` is what the plain name
    means. With `any_subset` it takes other names too, and refuses those that mean nothing to it.
    """

    build: Callable[..., Any]
    subsets: tuple[str, ...] = ()
    any_subset: bool = False
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default: str | None = None
    doc: str = ""
    source_hash: str = ""  # of the bytes of the task file

    def expand(self, base: str, wanted: str) -> list[str | None]:
        """Return the subsets that `wanted` names, "" being the default. Raises `SpecError`."""
        if not self.subsets:
            if wanted:
                raise SpecError(f"task {base} has no subsets; ask for {base}.")
            return [None]
        groups = {"all": self.subsets, **self.groups}
        chosen = wanted or self.default or self.subsets[0]
        if chosen in self.subsets:
            return [chosen]
        if chosen in groups:
            return list(groups[chosen])
        if self.any_subset:
            return [chosen]
        known = [*self.subsets, *groups]
        more = ", …" if len(known) > 8 else ""
        close = nearest(chosen, known) or f" It has {', '.join(known[:8])}{more}."
        raise SpecError(f"task {base} has no subset {chosen!r}.{close}")


@overload
def task(build: Callable[..., Any], /) -> Family: ...
@overload
def task(
    *,
    subsets: tuple[str, ...] = (),
    groups: Mapping[str, tuple[str, ...]] | None = None,
    default: str | None = None,
    any_subset: bool = False,
) -> Callable[[Callable[..., Any]], Family]: ...


@overload
def task(
    rows: Iterable[Any] | str | PathLike[str],
    /,
    *,
    name: str = "",
    **columns: Unpack[ColumnOptions],
) -> Task: ...


def task(
    build: Any = None,
    /,
    *,
    subsets: tuple[str, ...] = (),
    groups: Mapping[str, tuple[str, ...]] | None = None,
    default: str | None = None,
    any_subset: bool = False,
    name: str = "",
    **columns: Any,
) -> Family | Task | Callable[[Callable[..., Any]], Family]:
    """Mark a function in tasks/ as the task of its name: `@task`, or `@task(subsets=("coarse",
    "fine"))`.

    With subsets the function takes one's name. The plain task name means the first, or `default`: a
    subset, a group of `groups`, or "all". `any_subset`: it takes other names than those listed,
    such as a file's, and raises an `IclError` for one that it does not know.

    Of rows, `task(frame, input="message", target="depot")` makes a task without a task file: of a
    DataFrame, a list of dicts or of Examples, or the path of a file of rows. `split`, `group`,
    `answers` and `instruction` are as `icl run FILE` takes them; `name` is what tables call it.
    """
    if build is not None and not callable(build):
        return task_of_rows(build, Columns(**columns), name)
    if columns or name:
        raise SpecError(
            f"task(): {next(iter(columns), 'name')} belongs to rows, as in task(frame)."
        )
    if build is not None:
        return Family(build=build, doc=(build.__doc__ or "").strip())
    chosen = default or (subsets[0] if subsets else None)
    return lambda function: Family(
        build=function,
        subsets=subsets,
        any_subset=any_subset,
        groups=groups or {},
        default=chosen,
        doc=(function.__doc__ or "").strip(),
    )


def content_roots() -> tuple[Path, Path]:
    """Return the folders that hold tasks/, prompts/ and presets/: the project's, then the working
    directory, whose files hide the project's.
    """
    package = Path(__file__).resolve().parent.parent
    carried = package / "content"
    project = carried if carried.is_dir() else package.parent
    return project, Path.cwd()


def content(folder: str, suffix: str) -> dict[str, Path]:
    """Return name -> file of tasks/ or prompts/, by name; the working directory's files hide the
    project's.
    """
    files: dict[str, Path] = {}
    for root in content_roots():
        for path in (root / folder).glob(f"*{suffix}"):
            if not path.name.startswith("_"):
                files[path.name.removesuffix(suffix)] = path
    return dict(sorted(files.items()))


def family_names() -> list[str]:
    """Return the names of all task files."""
    return list(content("tasks", ".py"))


def load_family(name: str, data: Path | None = None) -> Family | None:
    """Run tasks/<name>.py, which may read rows in the folder `data`, and return its task; None
    where there is no such file. Raises `SpecError`.
    """
    path = content("tasks", ".py").get(name)
    if path is None:
        return None
    module = types.ModuleType(f"icl_task_{name}", None)
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses in the file look their module up
    failed = authors_code(f"task file {path}", " cannot be run", SpecError)
    with at_work(name, data), failed:
        source = path.read_bytes()
        exec(compile(source, str(path), "exec"), module.__dict__)
    family = module.__dict__.get(name)
    if not isinstance(family, Family):
        raise SpecError(
            f"task file {path} defines no task {name!r}. It needs a function {name} marked with "
            "@task; a file of helpers is left alone where its name begins with _."
        )
    return replace(
        family,
        doc=family.doc or (module.__doc__ or "").strip(),
        source_hash=hashlib.sha256(source).hexdigest(),
    )
