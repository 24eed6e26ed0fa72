"""Tasks of Inspect: "inspect:FILE@TASK", with its data set, its solver's prompt and its scorer.

In: a Python file with functions marked with Inspect's `@task`. Out: tasks. The solver itself is run
to make each prompt and to read each answer: an answer of ours stands in for the model's. What asks
a model more than once, or uses tools or a sandbox, is refused in one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import importlib.util
import math
import string
import sys
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from icl_harness.errors import DataError, IclError, SpecError, nearest
from icl_harness.examples import Example
from icl_harness.tasks.harnesses.names import INSPECT
from icl_harness.tasks.harnesses.verbatim import TEMPLATE, Verbatim
from icl_harness.tasks.metrics import Metric, accuracy
from icl_harness.tasks.rows import short
from icl_harness.tasks.scoring import Score
from icl_harness.tasks.sides import held_out_sides
from icl_harness.tasks.task import Task

BEFORE_GOLD = ("", "ANSWER: ", "The answer is ")  # how an answer may have to begin
N_TRIED = 5  # samples whose gold answers are scored to find that out
USUAL_TOKENS = 256  # of an answer, where a task does not say
LEAST_COMMON = 10  # characters with which all questions begin, so that they end an answer
LEFT = "Such tasks are left to Inspect."
T = TypeVar("T")


class Asked(NamedTuple):
    """What a solver sent when it asked for an answer, and what became of that."""

    system: str
    user: str
    state: Any


def tasks_of_inspect(name: str) -> list[Task]:
    """Return the tasks of a name that begins with "inspect:". Raises `SpecError` or `DataError`."""
    file, _, wanted = name.removeprefix(INSPECT).partition("@")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise SpecError(f"{name}: there is no Python file {file}. Write it as {INSPECT}FILE@TASK.")
    _check_installed()
    path = path.resolve()
    module = _module(path)
    functions = _task_functions(module)
    if wanted and wanted not in functions:
        raise SpecError(
            f"{file} has no task {wanted!r} of Inspect.{nearest(wanted, functions)} It has "
            f"{', '.join(functions) or 'none'}."
        )
    if not functions:
        raise SpecError(f"{file} has no function marked with Inspect's @task.")
    return [_task(path, one, functions[one]) for one in ([wanted] if wanted else functions)]


def _check_installed() -> None:
    try:
        import inspect_ai  # noqa: F401
    except ImportError as error:
        raise SpecError(
            f"{INSPECT}FILE@TASK needs inspect-ai, which cannot be imported ({error}): "
            "pip install 'icl-harness[inspect]'."
        ) from error


def _module(path: Path) -> ModuleType:
    """Run a file, in its folder. Raises `SpecError` with what went wrong."""
    spec = importlib.util.spec_from_file_location(f"icl_inspect_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent))
    try:
        with contextlib.chdir(path.parent):
            spec.loader.exec_module(module)
    except Exception as error:  # of the user's code
        raise SpecError(f"{path} cannot be run: {short(error)}.") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _task_functions(module: ModuleType) -> dict[str, Any]:
    from inspect_ai._util.registry import is_registry_object

    members = vars(module).items()
    return {name: value for name, value in members if is_registry_object(value, "task")}


def _task(path: Path, called: str, function: Any) -> Task:
    name = f"{INSPECT}{path.name}@{called}"
    try:
        with contextlib.chdir(path.parent):
            theirs = function()
            _refuse(theirs, name)
            return _made(theirs, name, path)
    except IclError:
        raise
    except Exception as error:  # of the task's own code, or of Inspect
        raise DataError(f"{name} cannot be made by Inspect: {short(error)}.") from error


def _refuse(theirs: Any, name: str) -> None:
    """Raise `SpecError` for a task of more than a question and an answer."""
    sandboxed = any(sample.sandbox or sample.files or sample.setup for sample in theirs.dataset)
    why = ""
    if theirs.sandbox or sandboxed:
        why = "runs in a sandbox"
    elif not theirs.scorer:
        why = "has no scorer"
    elif _scorer_name(theirs).startswith("model_graded"):
        why = "is scored by another model"
    if why:
        raise SpecError(f"{name} {why}. {LEFT}")


def _scorer_name(theirs: Any) -> str:
    from inspect_ai._util.registry import registry_unqualified_name

    return str(registry_unqualified_name(theirs.scorer[0]))


def _made(theirs: Any, name: str, path: Path) -> Task:
    samples = dict(zip(_ids(theirs.dataset), theirs.dataset, strict=True))
    asked = _prompts(theirs, name, samples)
    systems = {one.system for one in asked.values()}
    if len(systems) > 1:
        raise SpecError(
            f"{name}: its system message differs from sample to sample, so that queries share no "
            f"prompt. {LEFT}"
        )
    system = systems.pop()
    before, gold = _before_gold(theirs, samples)
    examples = [_example(id, samples[id], asked[id].user) for id in samples]
    sides = held_out_sides(examples, name, None)
    score = functools.partial(sample_score, theirs, samples, before)
    origin = _origin(theirs, path)
    letters = {example.choices for example in examples}
    doc = (
        f"Inspect {origin['harness_version']}, scorer {origin['scorer']}; "
        f"{len(sides.queries):,} queries and {len(sides.pool):,} shots of {len(samples):,} samples"
        f" ({sides.how})."
    )
    if gold < 1:
        doc += " Its scorer does not take gold answers as right that stand alone, as shots do."
    return Task(
        pool=Verbatim(items=tuple(sides.pool)),
        queries=Verbatim(items=tuple(sides.queries)),
        prompts=TEMPLATE,
        fields={
            "preamble": f"{system}\n\n" if system else "",
            "before_answer": f"\n{before}",
            "before_own": "\n",
            "before_choice": f"\n{before}",
            "after_shot": "\n\n",
        },
        labels=letters.pop() if len(letters) == 1 else (),
        scorer=score,
        metric=_metric(theirs, gold),
        max_tokens=theirs.config.max_tokens or USUAL_TOKENS,
        stop=_stop(theirs, examples),
        leaks="drop",
        origin=origin,
        source_hash=str(origin["sha256"]),
        name=name,
        doc=doc,
    )


def _ids(samples: Sequence[Any]) -> list[str]:
    """Return the ids of samples: their own where each has another one."""
    own = [str(sample.id) for sample in samples if sample.id is not None]
    is_whole = len(own) == len(set(own)) == len(samples)
    return own if is_whole else [f"sample-{number}" for number in range(len(samples))]


def _example(id: str, sample: Any, user: str) -> Example:
    target = sample.target
    letters: tuple[str, ...] = ()
    if sample.choices and len(sample.choices) <= len(string.ascii_uppercase):
        letters = tuple(string.ascii_uppercase[: len(sample.choices)])
    if not isinstance(target, str):
        target = ", ".join(target) if letters else next(iter(target), "")
    choices = letters if target in letters else ()
    return Example(id=id, input=user, target=target, choices=choices)


def _prompts(theirs: Any, name: str, samples: Mapping[str, Any]) -> dict[str, Asked]:
    """Return what the solver sends for each sample. Raises `SpecError`."""

    async def ask_all() -> dict[str, Asked]:
        return {id: await _ask(theirs, sample, "", name) for id, sample in samples.items()}

    found, again = _done(ask_all()), _done(ask_all())
    if any(found[id][:2] != again[id][:2] for id in samples):
        raise SpecError(
            f"{name}: its solver makes another prompt each time (it shuffles, say). Shuffle the "
            "data set by a seed instead."
        )
    return found


async def _ask(theirs: Any, sample: Any, answer: str, name: str) -> Asked:
    """Run the solver on a sample, with an answer in the place of the model's. Raises `SpecError`
    where it asks more than once, with more than a system message and a question, or with tools.
    """
    from inspect_ai.model import ChatMessageUser, ModelName, ModelOutput
    from inspect_ai.scorer import Target
    from inspect_ai.solver import TaskState
    from inspect_ai.solver._chain import unroll

    given = sample.input
    messages = [ChatMessageUser(content=given)] if isinstance(given, str) else list(given)
    sent: list[tuple[str, str]] = []
    n_asked = 0

    async def generate(state: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal n_asked
        n_asked += 1
        sent[:] = [(message.role, _text(message, name)) for message in state.messages]
        if state.tools:
            raise SpecError(f"{name} gives its model tools. {LEFT}")
        state.output = ModelOutput.from_content("icl/answer", answer)
        state.messages.append(state.output.message)
        return state

    state = TaskState(
        model=ModelName("icl/answer"),
        sample_id=sample.id if sample.id is not None else "sample",
        epoch=1,
        input=given,
        messages=[message.model_copy(deep=True) for message in messages],
        target=Target(sample.target),
        choices=sample.choices,
        metadata=dict(sample.metadata or {}),
    )
    for solve in unroll(theirs.solver):
        state = await solve(state, generate)
    roles = [role for role, _ in sent]
    if n_asked != 1 or roles[-1] != "user" or set(roles[:-1]) - {"system"}:
        raise SpecError(f"{name} is more than one question and its answer. {LEFT}")
    return Asked("\n\n".join(text for _, text in sent[:-1]), sent[-1][1], state)


def _text(message: Any, name: str) -> str:
    if not isinstance(message.content, str) and any(
        part.type != "text" for part in message.content
    ):
        raise SpecError(f"{name} has more than text in its prompts. {LEFT}")
    return str(message.text)


def _done(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns, also where a loop runs in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _value(theirs: Any, sample: Any, answer: str) -> tuple[float, str | None]:
    """Return what the task's first scorer makes of an answer: a number, and what it read."""
    from inspect_ai.scorer import Target, value_to_float

    asked = await _ask(theirs, sample, answer, "the task")
    score = await theirs.scorer[0](asked.state, Target(sample.target))
    if score is None or isinstance(score.value, dict | list):
        raise DataError("its scorer gives no single number")
    return float(value_to_float()(score.value)), score.answer


def _before_gold(theirs: Any, samples: Mapping[str, Any]) -> tuple[str, float]:
    """Return how a gold answer must begin to be right by the task's own scorer, and what it earns
    so on average, with some samples.
    """
    some = [_example(id, sample, "") for id, sample in list(samples.items())[:N_TRIED]]
    best = ("", -math.inf)
    for before in BEFORE_GOLD:
        found = [_done(_value(theirs, samples[one.id], f"{before}{one.target}"))[0] for one in some]
        mean = sum(found) / len(found)
        if mean > best[1]:
            best = before, mean
    return best


def sample_score(
    theirs: Any, samples: Mapping[str, Any], before: str, answer: str, example: Example
) -> Score:
    """Return what the task's scorer makes of an answer, or of a letter that was weighed."""
    if answer in example.choices:
        answer = f"{before}{answer}"
    value, read = _done(_value(theirs, samples[example.id], answer))
    parsed = answer.strip() if read is None else read
    return Score(None if value == 0 and not parsed else parsed, value)


def _metric(theirs: Any, gold: float) -> Metric:
    from inspect_ai._util.registry import registry_info, registry_unqualified_name

    scorer = theirs.scorer[0]
    listed = theirs.metrics or registry_info(scorer).metadata.get("metrics", [])
    names = [registry_unqualified_name(one) for one in listed if callable(one)]
    if "accuracy" in names and gold <= 1:
        return accuracy
    limits = (0.0, 1.0) if gold <= 1 else (-math.inf, math.inf)
    return replace(Metric(name=_scorer_name(theirs)), range=limits)


def _stop(theirs: Any, examples: Sequence[Example]) -> tuple[str, ...]:
    """Return what ends an answer: the task's own, else the words with which all questions begin."""
    if theirs.config.stop_seqs:
        return tuple(theirs.config.stop_seqs)
    inputs = sorted(example.input.split("\n")[0] for example in examples)
    pairs = zip(inputs[0], inputs[-1], strict=False)  # all lie between these two
    common = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return (f"\n\n{common}",) if len(common) >= LEAST_COMMON else ()


def _origin(theirs: Any, path: Path) -> dict[str, Any]:
    """Return what run.json says of the task."""
    installed = version("inspect-ai")
    digest = hashlib.sha256(installed.encode() + path.read_bytes())
    return {
        "harness": "inspect-ai",
        "harness_version": installed,
        "task_version": theirs.version,
        "sha256": digest.hexdigest(),
        "dataset": theirs.dataset.name,
        "scorer": _scorer_name(theirs),
    }
