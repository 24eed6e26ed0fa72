"""lm-eval's own task objects, by name or by the path of a YAML file.

In: a name, and the folder of --data. Out: the tasks that it stands for, with their documents: from
the hub as lm-eval loads them, or from DIR/<task>/<split>.*. Reading all of lm-eval's 14,000 files
of tasks takes it half a minute: the file of a name is found by its text, and no other is read.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os.path import normpath
from pathlib import Path
from typing import Any

from icl_harness.errors import DataError, IclError, SpecError, nearest
from icl_harness.tasks.harnesses.names import LM_EVAL
from icl_harness.tasks.hub import offline_if_unreachable
from icl_harness.tasks.row_files import FORMS, SUFFIXES, file_rows, find_files
from icl_harness.tasks.rows import short

_NAMED = re.compile(r"^[\"']?(task|group)[\"']?:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)
_TAGS = re.compile(r"^[\"']?tag[\"']?:(.*(?:\n[ \t]*- .*)*)", re.MULTILINE)
_INCLUDED = re.compile(r"^[\"']?include[\"']?:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)
_WORD = re.compile(r"\w[\w.+-]*")
_LOCAL_BUILDERS = ("json", "csv", "parquet", "arrow", "text")  # of `datasets`: rows are in files


def lm_eval_tasks(name: str, data: Path | None) -> dict[str, Any]:
    """Return lm-eval's tasks of a name, a group, a tag or a YAML file, by their names. Raises
    `SpecError` or `DataError`.
    """
    where = f"{LM_EVAL}{name}"
    with quiet():
        _check_installed()
        with _cached_templates(), offline_if_unreachable(), _rows_of(data):
            try:
                return dict(_load(name)["tasks"])
            except IclError:
                raise
            except ConnectionError as error:
                raise DataError(
                    f"{where}: its data set is not on this machine and the hub cannot be reached. "
                    "Give a folder with its files: --data DIR (or ICL_DATA), with DIR/TASK/SPLIT."
                ) from error
            except Exception as error:  # of lm-eval, datasets, a YAML file, a task's own code
                raise DataError(f"{where} cannot be loaded by lm-eval: {short(error)}.") from error


def lm_eval_version() -> str:
    """Return the version of lm-eval that is installed."""
    from importlib.metadata import version

    return version("lm_eval")


def _check_installed() -> None:
    try:
        import lm_eval.tasks  # noqa: F401
    except ImportError as error:
        raise SpecError(
            f"{LM_EVAL}NAME needs lm-eval, which cannot be imported ({error}): "
            "pip install 'icl-harness[lm-eval]'."
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's notes, progress bars and warnings off the terminal."""
    from datasets.utils import logging as bars

    log = logging.getLogger("lm_eval")
    before, had_bars = log.level, bars.is_progress_bar_enabled()
    log.setLevel(logging.CRITICAL)
    bars.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
        if had_bars:
            bars.enable_progress_bar()


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put another value in the place of an attribute, until the end."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def _cached_templates() -> Iterator[None]:
    """Have each template compiled once and not for every document."""
    from lm_eval.utils import env

    with _replaced(env, "from_string", functools.cache(env.from_string)):
        yield


@dataclass(frozen=True)
class _Files:
    """Where names stand: the file of a task or a group, the files with a tag."""

    tasks: Mapping[str, Path]
    groups: Mapping[str, Path]
    tags: Mapping[str, set[Path]]

    def named_in(self, path: Path) -> set[Path]:
        """Return the files of all that a file may name: of some other words, too."""
        found = set[Path]()
        for word in set(_WORD.findall(_text(path))):
            for known in (self.tasks, self.groups):
                found.update({known[word]} if word in known else ())
            found.update(self.tags.get(word, ()))
        return found


@functools.cache  # they do not change while a program runs
def _files() -> _Files:
    """Return where lm-eval's own names stand, by the text of its files."""
    import lm_eval.tasks

    named: dict[str, dict[str, Path]] = {"task": {}, "group": {}}
    tags, users = defaultdict[str, set[Path]](set), defaultdict[Path, set[Path]](set)
    for path in sorted(Path(lm_eval.tasks.__file__).parent.rglob("*")):
        if path.suffix not in (".yaml", "") or not path.is_file():  # "": what others include
            continue
        text = _text(path)
        for match in _TAGS.finditer(text):
            for tag in _WORD.findall(match[1]):
                tags[tag].add(path)
        for included in _INCLUDED.findall(text):
            users[Path(normpath(path.parent / included))].add(path)
        if path.suffix:
            for kind, name in _NAMED.findall(text):
                named[kind].setdefault(name, path)
    for paths in tags.values():
        _add_users(paths, users)
    return _Files(named["task"], named["group"], dict(tags))


def _add_users(paths: set[Path], users: Mapping[Path, set[Path]]) -> None:
    """Add the files that include one of these, which so have its tags, too."""
    todo = list(paths)
    while todo:
        new = users.get(todo.pop(), set()) - paths
        paths |= new
        todo += new


def _load(name: str) -> Any:
    """Return what lm-eval's manager of tasks loads for a name. Raises `SpecError`."""
    from lm_eval.tasks import TaskManager

    if name.endswith((".yaml", ".yml")):
        return _load_file(Path(name))
    files = _files()
    if name in files.tasks and name not in files.groups:
        return TaskManager(include_defaults=False).load(str(files.tasks[name]))
    if name in files.groups:
        return _manager({files.groups[name]}, files).load(name)
    if name in files.tags:
        return _manager(files.tags[name], files).load(name)
    known = [*files.tasks, *files.groups, *files.tags]
    raise SpecError(
        f"lm-eval has no task {name!r}.{nearest(name, known)} `lm-eval ls tasks` lists all; a "
        f"file of your own: {LM_EVAL}FILE.yaml."
    )


def _load_file(path: Path) -> Any:
    """Return what a YAML file of the user's stands for. Raises `SpecError`."""
    from lm_eval.tasks import TaskManager

    if not path.is_file():
        raise SpecError(f"{LM_EVAL}{path}: there is no such file.")
    names = _NAMED.findall(_text(path))
    if not names:
        raise SpecError(f"{LM_EVAL}{path} names no task: lm-eval's files begin with task: NAME.")
    groups = [name for kind, name in names if kind == "group"]
    if not groups:
        return TaskManager(include_defaults=False).load(str(path))
    return _manager({path}, _files()).load(groups[0])


def _manager(paths: set[Path], files: _Files) -> Any:
    """Return a manager that knows the tasks and groups of some files, and all that these name."""
    from lm_eval.tasks import TaskManager

    todo, seen = list(paths), set(paths)
    is_group = set(files.groups.values()) | paths
    while todo:
        path = todo.pop()
        new = files.named_in(path) - seen if path in is_group else set()
        seen |= new
        todo += new
    folders = {path.parent for path in seen}
    top = sorted(str(folder) for folder in folders if not folders & set(folder.parents))
    return TaskManager(include_defaults=False, include_path=top)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def _rows_of(data: Path | None) -> Iterator[None]:
    """Have tasks read their documents in the folder `data`, where there is one."""
    if data is None:
        yield
        return
    from lm_eval.api.task import ConfigurableTask

    download = ConfigurableTask.download

    def read(task: Any, *args: Any, **kwargs: Any) -> None:
        config = task.config
        if config.dataset_path in _LOCAL_BUILDERS or config.custom_dataset is not None:
            download(task, *args, **kwargs)
        else:
            task.dataset = _local_splits(config, data)

    with _replaced(ConfigurableTask, "download", read):
        yield


def _local_splits(config: Any, data: Path) -> dict[str, Any]:
    """Return the splits of a task's data set that a folder holds. Raises `DataError` where one
    that its queries or shots come from is missing.
    """
    shots = config.fewshot_config
    asked = config.test_split or config.validation_split
    shown = shots.split
    if shown is None and not shots.samples:
        shown = config.training_split or config.validation_split or asked
    wanted = [split for split in dict.fromkeys((asked, shown)) if split]
    all_splits = (asked, shown, config.training_split, config.validation_split)
    places = _places(config)
    for place in places:
        found = {}
        for split in filter(None, dict.fromkeys(all_splits)):
            files = find_files(data, f"{place}/{split}")
            if files:
                found[split] = _dataset(files[0])
        if set(wanted) <= set(found):
            return found
    looked = " or ".join(f"{data / place}/" for place in places)
    raise DataError(
        f"{LM_EVAL}{config.task} reads {' and '.join(wanted)} of {config.dataset_path}, and "
        f"{looked} holds no {wanted[0]}.jsonl (or {FORMS}) with all of them. Put them there with "
        "the hub's columns, or leave out --data to load them from the hub."
    )


def _places(config: Any) -> list[str]:
    """Return the folders, in that of --data, in which a task's files may lie."""
    base = str(config.dataset_path).rpartition("/")[2]
    return list(dict.fromkeys((config.task, f"{base}/{config.dataset_name}", base)))


def _dataset(path: Path) -> Any:
    """Return a file of rows as `datasets` holds them; numbers of a CSV file are numbers, as they
    are where lm-eval reads it. Raises `DataError`.
    """
    import datasets
    import pandas as pd
    import pyarrow
    import pyarrow.parquet

    if path.name.endswith(SUFFIXES[-1]):
        return datasets.Dataset(pyarrow.parquet.read_table(path))  # class ids stay ids
    rows = [row for _, row in file_rows(path)]
    if not path.name.removesuffix(".gz").endswith((".csv", ".tsv")):
        return datasets.Dataset(pyarrow.Table.from_pylist(rows))
    frame = pd.DataFrame(rows)
    for column in frame:
        with contextlib.suppress(ValueError, TypeError):
            frame[column] = pd.to_numeric(frame[column])
    return datasets.Dataset.from_pandas(frame, preserve_index=False)
