"""What `run.json` says of a run: its spec, hashes of data and words, models, versions.

In: the prompts of a spec, and what the models say of themselves. Out: a dict for JSON.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from icl_harness.examples import n_repeated
from icl_harness.models.base import weights_of
from icl_harness.near_duplicates import described, near_duplicates
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.prompting import Prompting
from icl_harness.runner.provenance import package_versions, scoring_hash, wording_hash
from icl_harness.tasks.loading import (
    Dataset,
)
from icl_harness.tasks.row_files import is_in_file, task_name
from icl_harness.tasks.task import Task


def make_header(prompting: Prompting, models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `run.json` says; `models` are what the models say of themselves."""
    data, tasks = {}, {}
    for task in prompting.tasks:
        found = prompting.data_sets.own(task, parse_variant(prompting.spec.variants[0]).labels, 0)
        data[task.name] = {"pool": found.pool_hash, "queries": found.queries_hash}
        tasks[task.name] = {
            **task.metric.describe(),
            "chance": task.chance,
            "n_pool": len(found.pool),
            "n_queries": prompting.n_queries(task),
            "n_dropped": found.n_dropped,
            "n_repeated": n_repeated(prompting.queries(task, prompting.spec.variants[0], 0)),
        }
        tasks[task.name] |= _near_of(found) | _transfers(prompting, task)
        if task.table is not None:
            tasks[task.name]["table"] = dict(task.table)
        elif task.origin is not None:
            tasks[task.name]["origin"] = dict(task.origin)
        elif task.name in prompting.in_python:
            tasks[task.name]["in_python"] = True  # no file holds it
    wording = {task.name: wording_hash(task, prompting.template(task)) for task in prompting.tasks}
    return {
        "spec": prompting.spec.as_dict(),
        "data": {**data, **_data_of_sources(prompting, data)},
        "wording": {**_other_wording(prompting), **wording},
        "scoring": {task.name: scoring_hash(task) for task in prompting.tasks},
        # What identifies a local model's weights under its name; None where nothing does.
        "weights": {name: weights_of(about) for name, about in models.items()},
        "tasks": tasks,
        "data_dir": prompting.spec.data,
        "files": {task_name(name): name for name in prompting.spec.tasks if is_in_file(name)},
        "models": dict(models),
        "versions": {"python": platform.python_version(), **package_versions()},
    }


def _near_of(found: Dataset) -> dict[str, Any]:
    """Return what is to be said of pool examples that are nearly a query."""
    near = near_duplicates(found.pool, found.queries)
    about = described(found.pool, found.queries, near)
    return {"near_duplicates": about} if near else {}


def _transfers(prompting: Prompting, task: Task) -> dict[str, Any]:
    """Return what is to be said of other tasks' pools before a task's queries."""
    found = {}
    for variant in prompting.spec.variants:
        owner = prompting.pool_owner(task, variant)
        if owner is not task:
            data = prompting.dataset(task, variant, 0)
            about = {"n_pool": len(data.pool), "n_dropped": data.n_dropped}
            found[owner.name] = about | _near_of(data)
    return {"shots_from": found} if found else {}


def _data_of_sources(prompting: Prompting, known: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the hash of each pool that is another task's."""
    found = {}
    for source in prompting.data_sets.sources.values():
        if source.name not in known:
            found[source.name] = {"pool": prompting.data_sets.own(source, "default", 0).pool_hash}
    return found


def _other_wording(prompting: Prompting) -> dict[str, str]:
    """Return the hash of each wording that a variant names, and of the tasks that others have
    their shots from: attempts at their problems are worded as theirs.
    """
    found = {}
    for source in prompting.data_sets.sources.values():
        found[source.name] = wording_hash(source, prompting.template(source))
    for task in prompting.tasks:
        for variant in prompting.spec.variants:
            name = parse_variant(variant).frame.prompts
            if name:
                key = f"{task.name}, prompts={name}"
                found[key] = wording_hash(task, prompting.template(task, variant))
    return found
