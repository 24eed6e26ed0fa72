"""What a spec shows: its tasks, their examples, the words and the prompts of each line.

In: a spec. Out: examples, templates, paths of prompts. Left out: models, but for the counting of
tokens (experiment.py); what is refused (feasible.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from icl_harness.draws import draw_order, sample_clusters, sample_examples
from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.models import fine_tunes
from icl_harness.models.base import Model, Sampling
from icl_harness.prompts.filler import Filler, make_filler, n_bytes
from icl_harness.prompts.modes import Mode, PromptPath, ShotSource, gold_shots
from icl_harness.prompts.operators.registry import Context
from icl_harness.prompts.template import Template, load_template
from icl_harness.prompts.tree import Node, Query, Shot
from icl_harness.prompts.variants import parse_variant, shot_source
from icl_harness.runner.choice_scores import bare_texts, sent_scoring
from icl_harness.runner.data_sets import DataSets
from icl_harness.runner.iterations import in_iterations
from icl_harness.runner.line import Line
from icl_harness.runner.rationales import shown_in, worked_of
from icl_harness.runner.schedule import Schedule, every_query
from icl_harness.runner.spec import Spec
from icl_harness.runner.transfer import find_sources
from icl_harness.store.bank import Bank
from icl_harness.tasks.loading import (
    Dataset,
    find_tasks,
    labels_of,
    with_labels_of_data,
)
from icl_harness.tasks.task import Task


class Prompting:
    """The prompts of a spec. `tasks` are those that the spec names and no file defines."""

    def __init__(self, spec: Spec, tasks: Mapping[str, Task]) -> None:
        self.spec = spec
        self._data = Path(spec.data) if spec.data else None
        self._models: dict[tuple[str, str], Model] = {}  # by name and task, once they are open
        self._rendered: dict[tuple[str, str, Mode, bool], list[Query]] = {}
        self.in_python = set(tasks)
        self.tasks = self._find_tasks(tasks)
        self.spec = spec = with_scoring_of(self.tasks, spec)
        self._templates: dict[tuple[str, str], Template] = {}
        self.data_sets = DataSets(spec, self._data, find_sources(spec, self._data, tasks))

    def _find_tasks(self, given: Mapping[str, Task]) -> list[Task]:
        found: dict[str, Task] = {}
        where = (self._data, self.spec)
        for name in self.spec.tasks:
            for task in [given[name]] if name in given else find_tasks(name, *where):
                found[task.name] = with_labels_of_data(task, self._data)
        return list(found.values())

    @property
    def sources(self) -> list[Task]:
        """Return the tasks of whom nothing is asked: their pools are shown before other queries."""
        names = {task.name for task in self.tasks}
        return [source for source in self.data_sets.sources.values() if source.name not in names]

    def pool_owner(self, task: Task, variant: str) -> Task:
        """Return the task whose pool shots are drawn from: itself, unless a variant names one."""
        return self.data_sets.pool_owner(task, variant)

    def other_owner(self, task: Task, variant: str) -> Task | None:
        """Return the task whose pool shots are drawn from, where it is another one."""
        owner = self.pool_owner(task, variant)
        return None if owner is task else owner

    def template(self, task: Task, variant: str = "default") -> Template:
        """Return the words of a task's prompts: its own, or those that a variant names."""
        name = parse_variant(variant).frame.prompts or task.prompts
        if (task.name, name) not in self._templates:
            worded = task if name == task.prompts else replace(task, prompts=name)
            self._templates[task.name, name] = load_template(worded)
        return self._templates[task.name, name]

    def dataset(self, task: Task, variant: str, draw: int) -> Dataset:
        """Return the examples of a draw; only those of a `per_draw` task differ between draws. The
        pool may be another task's.
        """
        return self.data_sets.of(task, variant, draw)

    def queries(self, task: Task, variant: str, draw: int) -> list[Example]:
        """Return the examples that are asked: the same in every cell of a task (of a draw,
        where it is generated for each).
        """
        found = self.dataset(task, variant, draw).queries
        if task.whole_clusters:
            return sample_clusters(found, self.spec.queries, self.spec.seed, f"queries {task.name}")
        return sample_examples(found, self.spec.queries, self.spec.seed, f"queries {task.name}")

    def rendered_queries(
        self, line: Line, path: PromptPath, k: int, *, weighed: bool
    ) -> list[Query]:
        """Return the queries of a line as they stand behind `k` shots of its path, with the
        continuations of their choices where these are weighed. What no draw, model or shot count
        changes is rendered once.
        """
        examples, gold = self.queries(line.task, line.variant, line.draw), self.spec.gold_nll
        bare = bare_texts(path, self.spec.scoring)
        if line.task.per_draw:
            found = [path.query(example, k, weighed=weighed, gold=gold) for example in examples]
            return [replace(query, bare=bare) for query in found]
        key = (line.task.name, line.variant, line.mode, weighed)
        if key not in self._rendered:
            found = [path.query(example, 0, weighed=weighed, gold=gold) for example in examples]
            self._rendered[key] = [replace(query, bare=bare) for query in found]
        queries = self._rendered[key]
        if not path.selects:
            return queries
        shown = [path.query(example, k) for example in examples]
        return [replace(query, own=its.own) for query, its in zip(queries, shown, strict=True)]

    def schedule(self, line: Line) -> Schedule:
        """Return what the cells of a line request, in which order."""
        return every_query

    def bank_schedule(self, line: Line) -> Schedule:
        """Return what the bank of a line requests, in which order."""
        line = line.for_bank
        spec, task = self.spec, line.task
        if spec.bank_iterations == 1:
            return every_query

        def make_path(shots: Sequence[Shot]) -> PromptPath:
            template = self.template(task, line.variant)
            variables = self.variables(task, line.variant)
            return PromptPath(
                template,
                "reinforced",
                shots,
                variables,
                format=spec.format,
                cuts=(len(shots),),
                apart=fine_tunes(line.model),
            )

        weighed = line.model.startswith("baseline/")  # these answer with a choice
        name = f"{task.name} {line.draw}" if task.per_draw else task.name
        return in_iterations(spec, name, make_path, weighed=weighed)

    def n_queries(self, task: Task) -> int:
        """Return how many queries each cell of a task asks."""
        return len(self.queries(task, self.spec.variants[0], 0))

    def path(self, line: Line, bank: Bank | None = None, model: Model | None = None) -> PromptPath:
        """Return the prompts of a line; what needs a bank takes its shots from `bank`. `model`: the
        line's, where another replica of it counts tokens.
        """
        pool = self.dataset(line.task, line.variant, line.draw).pool
        owner, frame = self.pool_owner(line.task, line.variant), parse_variant(line.variant).frame
        # A pool that is generated for each draw comes in an order of its own (class-balanced, say);
        # a fixed pool is permuted.
        order = (
            list(pool)
            if owner.per_draw
            else draw_order(pool, self.spec.seed, line.draw, owner.name)
        )
        order = shown_in(line.mode, order)
        if bank is not None:
            order = bank.expanded(order)
        worked: Sequence[Example] = ()
        if line.mode == "unsupervised" and self.spec.worked:
            worked = worked_of(order)[-self.spec.worked :]
            order = [example for example in order if example not in worked]
        return PromptPath(
            self.template(line.task, line.variant),
            line.mode,
            self._shots(line, order, bank) if frame.shots else (),
            self.variables(line.task, line.variant),
            worked,
            format=self.spec.format,
            cuts=self.spec.shots,
            instruction=frame.instruction,
            filler=self._filler(line, model) if frame.filler else None,
            apart=fine_tunes(line.model),
        )

    def _filler(self, line: Line, model: Model | None) -> Filler:
        """Return what makes text as long as the shots of a line: in tokens, where a local model
        tells them.
        """
        model = model or self._models.get((line.model, line.task.name))
        is_told = model is not None and not model.is_api and model.count_tokens(Node("a"))
        labels = labels_of(line.task, parse_variant(line.variant).labels)

        def n_tokens(text: str) -> int:
            assert model is not None
            return model.count_tokens(Node(text)) or 0

        measure = n_tokens if is_told else n_bytes
        return make_filler(measure, labels, self.spec.seed, line.draw, line.task.name)

    def _shots(self, line: Line, order: Sequence[Example], bank: Bank | None) -> ShotSource:
        variant, owner = parse_variant(line.variant), self.pool_owner(line.task, line.variant)
        context = Context(
            task=owner.name,
            seed=self.spec.seed,
            draw=line.draw,
            labels=labels_of(owner, variant.labels),
            solved=set() if bank is None else set(bank.rationales()),
        )

        def make(examples: Sequence[Example]) -> list[Shot]:
            if line.mode == "reinforced" and bank is not None:
                return bank.shots(examples)
            return gold_shots(examples, line.mode)

        return shot_source(variant, order, context, make)

    def gold_answers(self, line: Line) -> dict[str, str]:
        """Return the gold answer to each pool problem as a model would write it, by the problem's
        id.
        """
        template = self.template(line.task, line.variant)
        variables = self.variables(line.task, line.variant)
        path = PromptPath(template, line.mode, [], variables, format=self.spec.format)
        pool = self.dataset(line.task, line.variant, line.draw).pool
        return {example.id: path.gold_answer(example) for example in pool}

    def variables(self, task: Task, variant: str) -> dict[str, Any]:
        """Return what every block of a task's template may use."""
        return {**task.fields, "labels": labels_of(task, parse_variant(variant).labels)}

    def sampling(self, task: Task) -> Sampling:
        """Return how the answers of a task's cells are made."""
        return Sampling(
            max_tokens=self.spec.max_tokens or task.max_tokens,
            temperature=self.spec.temperature,
            stop=task.stop,
            scoring=sent_scoring(self.spec.scoring),
        )


def with_scoring_of(tasks: Sequence[Task], spec: Spec) -> Spec:
    """Return the spec with the scoring that its tasks are defined by, where none is asked for.
    Raises `SpecError` where that is not the same for all.
    """
    wanted = {task.name: task.scoring or "generate" for task in tasks}
    if "scoring" in spec.model_fields_set or set(wanted.values()) == {spec.scoring}:
        return spec
    if len(set(wanted.values())) > 1:
        each = ", ".join(f"{name} {scoring}" for name, scoring in list(wanted.items())[:4])
        raise SpecError(
            f"tasks are scored in different ways ({each}). Give one --scoring for all, or run "
            "them apart."
        )
    asked = {name: getattr(spec, name) for name in spec.model_fields_set}
    return Spec.model_validate({**asked, "scoring": next(iter(wanted.values()))})
