"""What the cells of a line, and the bank of reinforced mode, are made of.

In: an experiment and one of its lines. Out: the `Scope` that its schedule draws on, and the `Cell`
under which the store keeps the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from icl_harness.draws import draw_order, stable_seed
from icl_harness.models import fine_tunes
from icl_harness.models.base import Sampling
from icl_harness.prompts.modes import Mode, PromptPath, gold_shots
from icl_harness.prompts.tree import Query
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.groups import group_sampling
from icl_harness.runner.line import Line
from icl_harness.runner.rationales import worked_of
from icl_harness.runner.schedule import Scope
from icl_harness.runner.spec import Spec
from icl_harness.store.records import Cell


def cell_of(spec: Spec, line: Line, shots: int) -> Cell:
    """Return the cell of a line with so many shots."""
    return Cell(
        task=line.task.name,
        model=line.model,
        mode=line.mode,
        variant=line.variant,
        format=spec.format,
        queries_per_request=spec.queries_per_request,
        shots=shots,
        draw=line.draw,
        metric=line.task.metric.name,
    )


def line_scope(experiment: Experiment, line: Line, path: PromptPath) -> Scope:
    """Return what the cells of a line request."""
    spec, sampling = experiment.spec, experiment.sampling(line.task)
    weighed = _reads_continuations(line, sampling)
    examples = experiment.queries(line.task, line.variant, line.draw)
    return Scope(
        path=path,
        examples={example.id: example for example in examples},
        queries=lambda k: experiment.rendered_queries(line, path, k, weighed=weighed),
        sampling=group_sampling(sampling, spec.queries_per_request),
        seed=stable_seed(spec.seed, line.task.name, line.draw),
        samples=spec.samples,
        per_request=spec.queries_per_request,
    )


def bank_scope(experiment: Experiment, line: Line) -> Scope:
    """Return what the bank of a line requests: several attempts at each problem of the pool."""
    line = line.for_bank
    spec, task = experiment.spec, line.task
    pool = experiment.dataset(task, line.variant, line.draw).pool
    order = draw_order(pool, spec.seed, 0, f"bank {task.name}")
    source = worked_of(order)[: spec.bank_shots]
    problems = [problem for problem in order if problem not in source]
    # Zero-shot asks for a rationale, even where the gold answers have none.
    mode: Mode = "supervised" if source else "reinforced"
    path = PromptPath(
        experiment.template(task, line.variant),
        mode,
        gold_shots(source, mode),
        experiment.variables(task, line.variant),
        format=spec.format,
        cuts=(len(source),),
        apart=fine_tunes(line.model),
    )

    sampling = replace(
        experiment.sampling(task), temperature=spec.bank_temperature, scoring="generate"
    )
    weighed = _reads_continuations(line, sampling)

    def queries(k: int) -> Sequence[Query]:
        return [path.query(problem, weighed=weighed) for problem in problems]

    return Scope(
        path=path,
        examples={problem.id: problem for problem in problems},
        queries=queries,
        sampling=sampling,
        # Whichever draw comes first makes the bank of all.
        seed=stable_seed("bank", spec.seed, task.name, line.draw if task.per_draw else 0),
        samples=spec.bank_samples,
    )


def _reads_continuations(line: Line, sampling: Sampling) -> bool:
    """Return whether the texts that give each choice are read: where choices are weighed, and by
    reference learners, which answer with them.
    """
    return sampling.scoring != "generate" or line.model.startswith("baseline/")
