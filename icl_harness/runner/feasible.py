"""What a task, its pool and its template cannot give: refused before anything is asked.

In: the prompts of a spec, a task and a variant. Out: nothing, or a `SpecError` with the remedy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from icl_harness.counts import n_of
from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.models import fine_tunes
from icl_harness.prompts.modes import PromptPath
from icl_harness.prompts.variants import check_variant, parse_variant
from icl_harness.runner.choice_scores import bare_texts
from icl_harness.runner.fine_tuning import refuse_unanswered
from icl_harness.runner.line import Line
from icl_harness.runner.prompting import Prompting
from icl_harness.runner.rationales import worked_of
from icl_harness.runner.transfer import refuse_own
from icl_harness.store.bank import Attempt, Bank
from icl_harness.tasks.loading import (
    Dataset,
)
from icl_harness.tasks.task import Task


def check_task(prompting: Prompting, task: Task, variant: str) -> None:
    """Refuse what the task cannot give, and render one prompt of each mode to find a faulty
    template.
    """
    _check_variant(prompting, task, variant)
    prompting.template(task, variant)
    spec, found = prompting.spec, prompting.dataset(task, variant, 0)
    _check_shots(prompting, task, found.pool)
    if spec.bank_shots >= len(found.pool):
        raise SpecError(
            f"{task.name} has {n_of(len(found.pool), 'pool example')}; --bank-shots "
            f"{spec.bank_shots:,} leaves none to try. Ask for at most {len(found.pool) - 1:,}."
        )
    if spec.scoring != "generate" and not found.queries[0].choices:
        raise SpecError(f"{task.name} has no fixed choices to score. Use --scoring generate.")
    owner = prompting.other_owner(task, variant)
    trained = filter(fine_tunes, spec.models)
    for model, mode in itertools.product(("", *trained), spec.modes):
        line = Line(model=model, task=task, variant=variant, mode=mode, draw=0, owner=owner)
        _render_one(prompting, line, found)
        _check_chosen(prompting, line)


def _check_shots(prompting: Prompting, task: Task, pool: Sequence[Example]) -> None:
    spec = prompting.spec
    most, there = max(spec.shots), len(pool) - spec.worked
    if most > there:
        limit = " left by --pool" if spec.pool else ""
        less = f", of which --worked takes {spec.worked}" if spec.worked else ""
        raise SpecError(
            f"{task.name} has {n_of(len(pool), 'pool example')}{limit}{less}; --shots asks for "
            f"{most:,}. Ask for at most {max(there, 0):,}."
        )
    worked = len(worked_of(pool))
    if "supervised" in spec.modes and most > worked:
        raise SpecError(
            f"{task.name} has {n_of(worked, 'problem')} with a rationale, the shots of "
            f"supervised mode; --shots asks for {most:,}. Ask for at most {worked:,}, or for "
            "the other modes in a run of their own."
        )
    if "unsupervised" in spec.modes and spec.worked > worked:
        raise SpecError(
            f"{task.name} has {n_of(worked, 'problem')} with a rationale; --worked asks for "
            f"{spec.worked}. Ask for at most {worked:,}."
        )
    if worked < len(pool) and spec.bank_shots > worked:
        raise SpecError(
            f"{task.name} has {n_of(worked, 'problem')} with a rationale; --bank-shots asks "
            f"for {spec.bank_shots:,}. Ask for at most {worked:,}."
        )


def _check_chosen(prompting: Prompting, line: Line) -> None:
    """Refuse what a variant that chooses shots cannot give: so many, others in each draw."""
    variant, most = parse_variant(line.variant), max(prompting.spec.shots)
    if line.needs_bank or not variant.chooses:
        return
    path = prompting.path(line)
    there = len(path.shots)
    if most > there:
        raise SpecError(
            f"variant {line.variant} leaves {n_of(there, 'pool example')} of {line.task.name}; "
            f"--shots asks for {most:,}. Ask for at most {there:,}."
        )
    if not variant.same_in_draws or variant.selects or prompting.spec.draws == 1:
        return
    others = [prompting.path(replace(line, draw=draw)) for draw in range(1, prompting.spec.draws)]
    if most and all(path.node(most).hash == other.node(most).hash for other in others):
        raise SpecError(
            f"variant {line.variant} shows the same shots of {line.task.name} in every draw, "
            "so that draws say nothing of chance. Ask for --draws 1, or join order=1 to it."
        )


def _check_variant(prompting: Prompting, task: Task, variant: str) -> None:
    spec, changes = prompting.spec, parse_variant(variant)
    check_variant(changes, task, spec.modes)
    owner = prompting.pool_owner(task, variant)
    if changes.frame.pool:
        refuse_own(task, owner)
        check_variant(changes, owner, spec.modes)
    if changes.selects and spec.queries_per_request > 1:
        raise SpecError(
            f"variant {variant} shows each query shots of its own, so that queries cannot "
            "share a request. Leave out --queries-per-request or the variant."
        )
    if changes.changes_labels and "baseline/ceiling" in spec.models:
        raise SpecError(
            f"baseline/ceiling knows the default labels alone: leave it out for variant {variant}."
        )


def _render_one(prompting: Prompting, line: Line, found: Dataset) -> None:
    """Render one prompt of a line. Raises `TemplateError` where its template is faulty."""
    bank = Bank((stand_in(found.pool[0]),)) if line.needs_bank else None
    path = prompting.path(line, bank)
    if not line.needs_bank and parse_variant(line.variant).frame.shots:
        _check_selection(prompting, line, path)
    k = min(1, len(path.shots))
    refuse_unanswered(line.model, line.variant, path.node(k))
    path.query(found.queries[0], k, weighed=True)
    bare_texts(path, prompting.spec.scoring)


def _check_selection(prompting: Prompting, line: Line, path: PromptPath) -> None:
    """Refuse shot counts that a selection of shots cannot give, or does not change."""
    most, there = max(prompting.spec.shots), len(path.shots)
    if most > there:
        raise SpecError(
            f"variant {line.variant} leaves {n_of(there, 'pool example')} of {line.task.name} "
            f"to a query; --shots asks for {most:,}. Ask for at most {there:,}."
        )
    if path.selects and 0 < most <= path.n_shared:
        raise SpecError(
            f"variant {line.variant}: all shots are shared up to {path.n_shared:,}, so that "
            f"--shots up to {most:,} show nothing else than without it. Ask for more shots."
        )


def stand_in(example: Example) -> Attempt:
    """Return an attempt that lets the words of reinforced mode be rendered before there is a bank:
    the gold answer.
    """
    return Attempt(
        id=example.id,
        sample=0,
        problem="",
        answer=example.rationale or example.target,
        parsed=None,
        reward=1.0,
        node="",
        model="",
        kept=True,
    )
