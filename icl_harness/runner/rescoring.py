"""Scoring stored answers again: with the task file as it is now, asking no model.

In: a run folder. Out: the same folder with new scores and metric, or untouched where that is
impossible. A folder of version 0.1 holds no gold answers: they are read from the task's data, which
must be the run's. Left out: the banks of reinforced mode. Their rewards decided which shots were
shown, and those prompts have been answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icl_harness.errors import DataError, SpecError, StoreError, TemplateError
from icl_harness.examples import Example
from icl_harness.models.answer_text import read_answer
from icl_harness.models.base import Capabilities
from icl_harness.models.scripted import ScriptedModel
from icl_harness.prompts.template import load_template
from icl_harness.runner.banks import bank_name
from icl_harness.runner.cut_answers import apply_scorer, score_answer
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.line import Line
from icl_harness.runner.provenance import scoring_hash, wording_hash
from icl_harness.runner.scopes import cell_of
from icl_harness.runner.spec import Spec
from icl_harness.store.bank import Rules, bank_file, bank_files, read_bank
from icl_harness.store.header import refuse_imported, write_header
from icl_harness.store.records import NewScore, RunStore
from icl_harness.tasks.loading import find_tasks, with_labels_of_data
from icl_harness.tasks.scoring import Score
from icl_harness.tasks.table_task import remembered_task
from icl_harness.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Rescoring:
    """What came of it: answers scored, scores that changed, and what the user should know."""

    n_scored: int
    n_changed: int
    notes: tuple[str, ...]


def rescore(folder: Path, given: Mapping[str, Task] | None = None) -> Rescoring:
    """Score a run's answers again; `given` are tasks that no file defines. Raises `StoreError`,
    `SpecError` or `DataError` where it cannot be done, and then changes nothing.
    """
    with contextlib.closing(RunStore.open_for_writing(folder)) as store:
        header = store.header
        refuse_imported(folder, header, "its scores are not this library's to give again")
        tasks = _tasks(folder, header, given or {})
        wording = header.get("wording")
        if wording is None:
            wording = _adopt(store, header)
        is_written = header["spec"].get("scoring", "generate") == "generate"
        n_scored, new = _scores(store, tasks, is_written=is_written)
        scoring = {name: scoring_hash(task) for name, task in tasks.items()}
        metrics = {name: task.metric.name for name, task in tasks.items()}
        before = header.get("scoring") or header.get("prompts", {})
        rescored = store.replace_scores(new, metrics, scoring, before)
        # A kill between the two is mended by doing it again: the scores are then the same.
        levels = {name: _level(task) for name, task in tasks.items()}
        about = {name: {**old, **levels.get(name, {})} for name, old in header["tasks"].items()}
        now = {**header, "wording": wording, "scoring": scoring, "tasks": about}
        write_header(folder, {**now, "rescored": rescored})
        notes = (*_wording_notes(tasks, wording), *_bank_notes(folder, header))
    return Rescoring(n_scored=n_scored, n_changed=len(new), notes=notes)


def _tasks(folder: Path, header: Mapping[str, Any], given: Mapping[str, Task]) -> dict[str, Task]:
    """Return a run's tasks as they are now, with labels of the data where they are there."""
    data = Path(header["data_dir"]) if header.get("data_dir") else None
    _refuse_unknown(folder, header, given)
    found = {}
    for name in header["spec"]["tasks"]:
        table = header["tasks"].get(name, {}).get("table")
        if table is not None:  # a file of rows, or rows of Python: their file is not needed
            found[name] = remembered_task(name, table)
            continue
        place = header.get("files", {}).get(name, name)
        for task in [given[name]] if name in given else _filed(folder, header, place, data):
            if task.name in header["tasks"]:
                with contextlib.suppress(DataError):
                    task = with_labels_of_data(task, data)
                found[task.name] = task
    return found


def _filed(folder: Path, header: Mapping[str, Any], name: str, data: Path | None) -> list[Task]:
    """Return the tasks of a name's file. Raises `SpecError` for one that Python gave, even where a
    file has its name.
    """
    in_python = f"icl_harness.rescore({str(folder)!r}, task)"
    if header["tasks"].get(name, {}).get("in_python"):
        raise SpecError(
            f"{folder}: its task {name} was given in Python, and no file holds it. Score it again "
            f"there: {in_python}"
        )
    try:
        return find_tasks(name, data)
    except SpecError as error:
        raise SpecError(
            f"{folder}: {error} Where the task was given in Python, score it again there: "
            f"{in_python}"
        ) from error


def _refuse_unknown(folder: Path, header: Mapping[str, Any], given: Mapping[str, Task]) -> None:
    """Raise `SpecError` for a task that is not the run's."""
    for name in given:
        if name not in header["tasks"]:
            there = ", ".join(header["tasks"])
            raise SpecError(
                f"{folder} is no run of the task {name!r}: it has {there}. Name the task so, as in"
                f" Task(name={next(iter(header['tasks']))!r}, …)."
            )


def _level(task: Task) -> dict[str, Any]:
    described = task.metric.describe()
    return described if task.labels_from_data else {**described, "chance": task.chance}


def _scores(
    store: RunStore, tasks: Mapping[str, Task], *, is_written: bool
) -> tuple[int, list[NewScore]]:
    """Return how many answers were scored, and the scores that are not what they were.
    `is_written`: models wrote them, so that they are read anew out of all that was written.
    """
    examples: dict[str, Example] = {}
    known: dict[tuple[str, bool], Score] = {}  # answer, whether it was cut -> score, of one query
    n_scored, new = 0, list[NewScore]()
    cells, query = ("", ""), ""
    for text in store.scored_texts():
        if (text.task, text.variant) != cells:
            cells = (text.task, text.variant)
            examples, query = store.queries(*cells), ""
        if text.key[1] != query:
            query, known = text.key[1], {}
        task = tasks[text.task]
        written = text.answer if text.whole is None else text.whole
        answer, is_cut = text.answer, bool(text.cut)
        if is_written and text.per_request == 1 and not text.model.startswith("baseline/"):
            reading = read_answer(written, task.stop)
            answer, is_cut = reading.answer, is_cut and not reading.stopped
        if (answer, is_cut) not in known:
            score = score_answer(task, task.scorer, answer, examples[query], is_cut=is_cut)
            known[answer, is_cut] = score
        score = known[answer, is_cut]
        n_scored += 1
        if (score.parsed, score.value, answer) != (text.parsed, text.score, text.answer):
            whole = None if written == answer else written
            new.append(NewScore(text.key, score.parsed, score.value, answer, whole))
    return n_scored, new


class _NoModel(ScriptedModel):
    """Stands for a model where no requests are made."""

    def __init__(self, id: str) -> None:
        super().__init__(lambda prompt: "", id=id)
        self.capabilities = Capabilities(context_window=None, chat=True)


def experiment_of(header: Mapping[str, Any]) -> Experiment:
    """Return a run's experiment as its run.json describes it, without its models."""
    spec = Spec.of_run(header, "run.json")
    return Experiment(spec, {name: _NoModel(name) for name in spec.models})


def _adopt(store: RunStore, header: Mapping[str, Any]) -> dict[str, str]:
    """Give a run of version 0.1 its gold answers and the hashes of its wording. Raises `StoreError`
    where its data or its prompts are not what they would be now.
    """
    experiment = experiment_of(header)
    data = experiment.header()["data"]
    for name, hashes in header["data"].items():
        if data.get(name) != hashes:
            raise StoreError(
                f"{store.path}: the data of {name} have changed since the run, so its answers "
                "cannot be scored again. Put the data back."
            )
    changed = set()
    for line in experiment.lines():
        queries = experiment.queries(line.task, line.variant, line.draw)
        store.add_queries(line.task.name, line.variant, queries)
        if not _same_prompts(store, experiment, line):
            changed.add(line.task.name)
    return {
        task.name: wording_hash(task, experiment.template(task))
        if task.name not in changed
        else "another"
        for task in experiment.tasks
    }


def _same_prompts(store: RunStore, experiment: Experiment, line: Line) -> bool:
    """Return whether the stored prefixes of a line are those that would be sent now."""
    bank = None
    if line.needs_bank:
        file = bank_file(store.path, bank_name(line))
        if not file.exists():
            return True
        bank = read_bank(file)
    path = experiment.path(line, bank)
    for shots in experiment.spec.shots:
        cell = cell_of(experiment.spec, line, shots)
        used = store.answers_by_shots(cell)
        if not store.leaves(cell) <= {path.node(k).hash for k in used}:
            return False
    return True


def _wording_notes(tasks: Mapping[str, Task], wording: Mapping[str, str]) -> Iterator[str]:
    """Yield what is to be said of tasks whose prompts would be others now."""
    for name, task in tasks.items():
        if task.labels_from_data:  # its labels are not known where its data are not
            continue
        if _current_wording(task) != wording[name]:
            yield (
                f"{name}: its wording has changed since (template, fields, labels, stop or "
                "max_tokens). These are answers to the old wording, and the run cannot go on "
                "with the new: choose another --out for it"
            )


def _current_wording(task: Task) -> str | None:
    """Return the hash of a task's wording as it is now; None where its template is gone or broken,
    which scoring does not need.
    """
    try:
        return wording_hash(task, load_template(task))
    except (SpecError, TemplateError):
        return None


def _bank_notes(folder: Path, header: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be said of the banks: their rewards stay as they are."""
    if not bank_files(folder):
        return
    yield "the rewards of the banks, and so the shots that were shown, stay as they were"
    try:
        experiment = experiment_of(header)
        for line in experiment.lines():
            file = bank_file(folder, bank_name(line))
            if line.needs_bank and file.exists():
                n = _n_other_rewards(experiment, line, file, experiment.spec.bank_rules)
                if n:
                    yield (
                        f"{file.name}: {n} attempts would earn another reward now; a new run would "
                        f"show other shots in {line}"
                    )
    except (DataError, SpecError) as error:  # rows of Python, a file of other columns
        yield f"the banks were not compared with the new scorer, as their data are missing: {error}"


def _n_other_rewards(experiment: Experiment, line: Line, file: Path, rules: Rules) -> int:
    """Return how many attempts of a bank would pass or fail otherwise now."""
    line = line.for_bank
    task = line.task
    pool = {e.id: e for e in experiment.dataset(task, line.variant, line.draw).pool}
    n = 0
    for attempt in read_bank(file).attempts:
        if attempt.answer is not None and attempt.id in pool:
            reward = task.reward or task.scorer
            value = apply_scorer(task, reward, attempt.answer, pool[attempt.id]).value
            n += rules.is_right(replace(attempt, reward=value)) != rules.is_right(attempt)
    return n
