"""What a run depends on beside its spec and data: how it is worded, how it is scored, on what
versions.

In: a task with its template. Out: hashes that `run.json` holds. `wording` is all that a model is
sent beside the examples, and where its answer ends. `scoring` is the content of the files that
score: the task file, the scorer's own, the library's. Content, not bytecode, which differs from one
Python to the next.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import icl_harness.tasks.metrics
import icl_harness.tasks.scoring
from icl_harness.prompts.template import Template
from icl_harness.runner.spec import Spec
from icl_harness.tasks.task import Task

PACKAGES = (
    "icl-harness", "numpy", "scikit-learn", "datasets", "torch", "transformers", "tokenizers",
    "openai", "anthropic", "google-genai", "math-verify", "sacrebleu", "rouge-score",
)  # fmt: skip


def wording_hash(task: Task, template: Template) -> str:
    """Return the hash of what a model is sent beside the examples, and where its answer ends."""
    words = [
        template.hash,
        task.fields,
        task.labels,
        task.label_maps,
        task.max_tokens,
        task.stop,
    ]
    return hashlib.sha256(json.dumps(words, default=str).encode()).hexdigest()


def scoring_hash(task: Task) -> str:
    """Return the hash of what scores an answer, and of the metric that puts scores together."""
    functions = (task.scorer, task.reward, task.metric.statistic, task.metric.aggregate)
    sources = chain(*map(_source, functions), _library())
    files = {task.source_hash, *map(_digest, sources)}
    names = [_name(function) for function in functions]
    return hashlib.sha256(json.dumps([task.metric.name, names, sorted(files)]).encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that numbers may depend on, of those installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def spec_defaults() -> dict[str, Any]:
    """Return the value of every option that is left out: an older run.json lacks newer ones."""
    return Spec(tasks=("any",), models=("any",)).as_dict()


def _name(function: Callable[..., Any] | None) -> str:
    if function is None:
        return ""
    named = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{named}"


def _source(function: Callable[..., Any] | None) -> Iterator[Path]:
    """Yield the file that a function was defined in, if there is one."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    module = sys.modules.get(type(function).__module__)
    file = code.co_filename if code is not None else getattr(module, "__file__", None)
    if function is not None and file and Path(file).is_file():
        yield Path(file)


def _library() -> list[Path]:
    scoring = Path(icl_harness.tasks.scoring.__file__).parent
    return [*sorted(scoring.glob("*.py")), Path(icl_harness.tasks.metrics.__file__)]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
