"""An experiment: a spec with everything it names found, opened and checked.

In: a spec. Out: its tasks, examples, templates, models and prompt paths. All that can be refused is
refused here, before anything is asked or written.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icl_harness.counts import n_of
from icl_harness.draws import draw_order, sample_clusters, sample_examples
from icl_harness.errors import SpecError
from icl_harness.examples import Example, n_repeated
from icl_harness.models import fine_tunes, is_local, open_model
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import KvCache, Model, Sampling, weights_of
from icl_harness.models.replicas import Replica
from icl_harness.models.workers import Workers
from icl_harness.near_duplicates import described, near_duplicates
from icl_harness.prompts.filler import Filler, make_filler, n_bytes
from icl_harness.prompts.modes import Mode, PromptPath, ShotSource, gold_shots
from icl_harness.prompts.operators.registry import Context
from icl_harness.prompts.template import Template, load_template
from icl_harness.prompts.tree import Node, Query, Shot
from icl_harness.prompts.variants import Variant, check_variant, parse_variant, shot_source
from icl_harness.runner.choice_scores import bare_texts, correction_of, sent_scoring
from icl_harness.runner.data_sets import DataSets
from icl_harness.runner.fine_tuning import refuse_unanswered, refuse_untrainable
from icl_harness.runner.iterations import in_iterations
from icl_harness.runner.provenance import package_versions, scoring_hash, wording_hash
from icl_harness.runner.rationales import shown_in, worked_of
from icl_harness.runner.schedule import Schedule, every_query
from icl_harness.runner.spec import Spec
from icl_harness.runner.transfer import find_sources, refuse_own
from icl_harness.store.bank import Attempt, Bank
from icl_harness.tasks.loading import (
    Dataset,
    find_tasks,
    labels_of,
    with_labels_of_data,
)
from icl_harness.tasks.row_files import is_in_file, task_name
from icl_harness.tasks.task import Task

WEIGH_CHOICES = (
    "demo, hf/ and vllm/ models, openai/ ones with --model-arg api=completions at a server that "
    "echoes prompts with their log-probabilities"
)
TELL_LIKELIHOODS = f"{WEIGH_CHOICES}, baseline/bayes and baseline/ceiling"


@dataclass(frozen=True, kw_only=True)
class Line:
    """The cells that share one prompt path: all shot counts of a (model, task, variant, mode,
    draw).
    """

    model: str
    task: Task
    variant: str
    mode: Mode
    draw: int
    owner: Task | None = None  # of the pool, where that is another task's

    def __str__(self) -> str:
        return f"{self.task.name}, {self.mode}, {self.variant}, draw {self.draw}"

    @property
    def needs_bank(self) -> bool:
        """Return whether its shots depend on what the model has solved."""
        variant = parse_variant(self.variant)
        return variant.frame.shots and (self.mode == "reinforced" or variant.needs_bank)

    @property
    def for_bank(self) -> Line:
        """Return the line whose bank this one takes: that of the pool's task, with the labels and,
        of its own task, the words of this one.
        """
        steps = [step for step in parse_variant(self.variant).steps if step.operator.of_attempts]
        labels = parse_variant(self.variant).labels
        kept = Variant(labels=labels, steps=() if self.owner else tuple(steps))
        return replace(self, task=self.owner or self.task, owner=None, variant=str(kept))


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


class Experiment:
    """A spec, resolved. `models` are open ones that the spec names by their ids; they stay the
    caller's to close. `tasks` are those that the spec names and no file defines.

    With `workers`, local models are opened on them, not here; with `kv_cache` they keep keys and
    values there. APIs are asked on `terms`, those of the caller's too, which are left as they are.
    """

    def __init__(
        self,
        spec: Spec,
        models: Mapping[str, Model] | None = None,
        workers: Workers | None = None,
        kv_cache: KvCache | None = None,
        terms: Terms | None = None,
        batch: bool = False,
        tasks: Mapping[str, Task] | None = None,
    ) -> None:
        self.spec = spec
        self.workers = workers
        if kv_cache is not None and not any(
            name == "demo" or name.startswith("hf/") for name in spec.models
        ):
            raise SpecError("--kv-cache is for hf/ models, and none is named. Leave it out.")
        refuse_untrainable(spec)
        self._kv_cache = kv_cache
        self.terms = terms or Terms()
        self.batch = batch  # all cells are asked at once
        self._data = Path(spec.data) if spec.data else None
        self._models: dict[tuple[str, str], Model] = {}
        self._rendered: dict[tuple[str, str, Mode, bool], list[Query]] = {}
        self._in_python = set(tasks or {})
        self.tasks = self._find_tasks(tasks or {})
        self.spec = spec = with_scoring_of(self.tasks, spec)
        self._templates: dict[tuple[str, str], Template] = {}
        sources = find_sources(spec, self._data, tasks or {})
        self._data_sets = DataSets(spec, self._data, sources)
        for task in self.tasks:
            for variant in spec.variants:
                self._check(task, variant)
        self._given = dict(models or {})
        self._replicas = self._start(workers) if workers is not None else {}
        for name in spec.models:
            for task in self.tasks:
                self._models[name, task.name] = self._open(name, task)
            model = self._models[name, self.tasks[0].name]
            if spec.format == "chat" and not model.capabilities.chat:
                raise SpecError(
                    f"{name} {model.no_chat}. Use --format text; a local model of hf/ "
                    "takes them if its chat template leaves earlier turns as they are, and not "
                    "with --model-arg chat_template=true."
                )

            if spec.gold_nll and model.gold_likelihood == "none":
                raise SpecError(
                    f"{name} tells no log-likelihood of an answer that it did not give, which "
                    f"--gold-nll needs. {TELL_LIKELIHOODS} do. Leave it out, or the model."
                )
            if correction_of(spec.scoring) and not _takes_corrections(name, model):
                raise SpecError(
                    f"{name} tells no log-likelihood of each choice, which --scoring "
                    f"{spec.scoring} needs. {WEIGH_CHOICES} do. Use another --scoring, or leave "
                    "the model out."
                )

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
        return [source for source in self._data_sets.sources.values() if source.name not in names]

    def pool_owner(self, task: Task, variant: str) -> Task:
        """Return the task whose pool shots are drawn from: itself, unless a variant names one."""
        return self._data_sets.pool_owner(task, variant)

    def _other_owner(self, task: Task, variant: str) -> Task | None:
        owner = self.pool_owner(task, variant)
        return None if owner is task else owner

    def template(self, task: Task, variant: str = "default") -> Template:
        """Return the words of a task's prompts: its own, or those that a variant names."""
        name = parse_variant(variant).frame.prompts or task.prompts
        if (task.name, name) not in self._templates:
            worded = task if name == task.prompts else replace(task, prompts=name)
            self._templates[task.name, name] = load_template(worded)
        return self._templates[task.name, name]

    def header(self) -> dict[str, Any]:
        """Return what `run.json` says of this experiment."""
        data, tasks = {}, {}
        for task in self.tasks:
            found = self._data_sets.own(task, parse_variant(self.spec.variants[0]).labels, 0)
            data[task.name] = {"pool": found.pool_hash, "queries": found.queries_hash}
            tasks[task.name] = {
                **task.metric.describe(),
                "chance": task.chance,
                "n_pool": len(found.pool),
                "n_queries": self.n_queries(task),
                "n_dropped": found.n_dropped,
                "n_repeated": n_repeated(self.queries(task, self.spec.variants[0], 0)),
            }
            tasks[task.name] |= self._near_of(found) | self._transfers(task)
            if task.table is not None:
                tasks[task.name]["table"] = dict(task.table)
            elif task.origin is not None:
                tasks[task.name]["origin"] = dict(task.origin)
            elif task.name in self._in_python:
                tasks[task.name]["in_python"] = True  # no file holds it
        wording = {task.name: wording_hash(task, self.template(task)) for task in self.tasks}
        models = {
            name: self._models[name, self.tasks[0].name].describe() for name in self.spec.models
        }
        return {
            "spec": self.spec.as_dict(),
            "data": {**data, **self._data_of_sources(data)},
            "wording": {**self._other_wording(), **wording},
            "scoring": {task.name: scoring_hash(task) for task in self.tasks},
            # What identifies a local model's weights under its name; None where nothing does.
            "weights": {name: weights_of(model) for name, model in models.items()},
            "tasks": tasks,
            "data_dir": self.spec.data,
            "files": {task_name(name): name for name in self.spec.tasks if is_in_file(name)},
            "models": models,
            "versions": {"python": platform.python_version(), **package_versions()},
        }

    def _near_of(self, found: Dataset) -> dict[str, Any]:
        """Return what is to be said of pool examples that are nearly a query."""
        near = near_duplicates(found.pool, found.queries)
        about = described(found.pool, found.queries, near)
        return {"near_duplicates": about} if near else {}

    def _transfers(self, task: Task) -> dict[str, Any]:
        """Return what is to be said of other tasks' pools before a task's queries."""
        found = {}
        for variant in self.spec.variants:
            owner = self.pool_owner(task, variant)
            if owner is not task:
                data = self.dataset(task, variant, 0)
                about = {"n_pool": len(data.pool), "n_dropped": data.n_dropped}
                found[owner.name] = about | self._near_of(data)
        return {"shots_from": found} if found else {}

    def _data_of_sources(self, known: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """Return the hash of each pool that is another task's."""
        found = {}
        for source in self._data_sets.sources.values():
            if source.name not in known:
                found[source.name] = {"pool": self._data_sets.own(source, "default", 0).pool_hash}
        return found

    def _other_wording(self) -> dict[str, str]:
        """Return the hash of each wording that a variant names, and of the tasks that others have
        their shots from: attempts at their problems are worded as theirs.
        """
        found = {}
        for source in self._data_sets.sources.values():
            found[source.name] = wording_hash(source, self.template(source))
        for task in self.tasks:
            for variant in self.spec.variants:
                name = parse_variant(variant).frame.prompts
                if name:
                    key = f"{task.name}, prompts={name}"
                    found[key] = wording_hash(task, self.template(task, variant))
        return found

    def lines(self) -> Iterator[Line]:
        """Yield the lines of the grid, a draw at a time."""
        spec = self.spec
        for model, task, variant, mode, draw in itertools.product(
            spec.models, self.tasks, spec.variants, spec.modes, range(spec.draws)
        ):
            yield Line(
                model=model,
                task=task,
                variant=variant,
                mode=mode,
                draw=draw,
                owner=self._other_owner(task, variant),
            )

    def model(self, line: Line) -> Model:
        """Return the open model of a line."""
        return self._models[line.model, line.task.name]

    async def close(self) -> None:
        """Close the models that were opened here."""
        given = list(self._given.values())
        opened = {id(model): model for model in self._models.values() if model not in given}
        for model in opened.values():
            await model.close()

    def dataset(self, task: Task, variant: str, draw: int) -> Dataset:
        """Return the examples of a draw; only those of a `per_draw` task differ between draws. The
        pool may be another task's.
        """
        return self._data_sets.of(task, variant, draw)

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

    def _check(self, task: Task, variant: str) -> None:
        """Refuse what the task cannot give, and render one prompt of each mode to find a faulty
        template.
        """
        self._check_variant(task, variant)
        self.template(task, variant)
        spec, found = self.spec, self.dataset(task, variant, 0)
        self._check_shots(task, found.pool)
        if spec.bank_shots >= len(found.pool):
            raise SpecError(
                f"{task.name} has {n_of(len(found.pool), 'pool example')}; --bank-shots "
                f"{spec.bank_shots:,} leaves none to try. Ask for at most {len(found.pool) - 1:,}."
            )
        if spec.scoring != "generate" and not found.queries[0].choices:
            raise SpecError(f"{task.name} has no fixed choices to score. Use --scoring generate.")
        owner = self._other_owner(task, variant)
        trained = filter(fine_tunes, spec.models)
        for model, mode in itertools.product(("", *trained), spec.modes):
            line = Line(model=model, task=task, variant=variant, mode=mode, draw=0, owner=owner)
            self._render_one(line, found)
            self._check_chosen(line)

    def _check_shots(self, task: Task, pool: Sequence[Example]) -> None:
        spec = self.spec
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

    def _check_chosen(self, line: Line) -> None:
        """Refuse what a variant that chooses shots cannot give: so many, others in each draw."""
        variant, most = parse_variant(line.variant), max(self.spec.shots)
        if line.needs_bank or not variant.chooses:
            return
        path = self.path(line)
        there = len(path.shots)
        if most > there:
            raise SpecError(
                f"variant {line.variant} leaves {n_of(there, 'pool example')} of {line.task.name}; "
                f"--shots asks for {most:,}. Ask for at most {there:,}."
            )
        if not variant.same_in_draws or variant.selects or self.spec.draws == 1:
            return
        others = [self.path(replace(line, draw=draw)) for draw in range(1, self.spec.draws)]
        if most and all(path.node(most).hash == other.node(most).hash for other in others):
            raise SpecError(
                f"variant {line.variant} shows the same shots of {line.task.name} in every draw, "
                "so that draws say nothing of chance. Ask for --draws 1, or join order=1 to it."
            )

    def _check_variant(self, task: Task, variant: str) -> None:
        spec, changes = self.spec, parse_variant(variant)
        check_variant(changes, task, spec.modes)
        owner = self.pool_owner(task, variant)
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
                f"baseline/ceiling knows the default labels alone: leave it out for variant "
                f"{variant}."
            )

    def _render_one(self, line: Line, found: Dataset) -> None:
        """Render one prompt of a line. Raises `TemplateError` where its template is faulty."""
        bank = Bank((stand_in(found.pool[0]),)) if line.needs_bank else None
        path = self.path(line, bank)
        if not line.needs_bank and parse_variant(line.variant).frame.shots:
            self._check_selection(line, path)
        k = min(1, len(path.shots))
        refuse_unanswered(line.model, line.variant, path.node(k))
        path.query(found.queries[0], k, weighed=True)
        bare_texts(path, self.spec.scoring)

    def _check_selection(self, line: Line, path: PromptPath) -> None:
        """Refuse shot counts that a selection of shots cannot give, or does not change."""
        most, there = max(self.spec.shots), len(path.shots)
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

    def _start(self, workers: Workers) -> dict[str, Replica]:
        names = [name for name in self.spec.models if name not in self._given and is_local(name)]
        if not names:
            raise SpecError(
                "--workers is for local models (demo, hf/, vllm/), and none is named. Leave it out."
            )
        most = sum(line.model in names for line in self.lines())
        return workers.start(
            names, {"model_args": self.spec.model_args, "kv_cache": self._kv_cache}, most
        )

    def _open(self, name: str, task: Task) -> Model:
        known = self._given.get(name) or self._replicas.get(name)
        if known is not None and not known.is_api:
            if self.batch:
                raise SpecError(
                    f"{name} takes no batches: they are a way to ask APIs. Leave --batch out."
                )
            return known
        if not name.startswith("baseline/"):  # these are a task's own
            for (opened, _), model in self._models.items():
                if opened == name:
                    return model
        if known is not None:
            return known.with_terms(self.terms)
        return open_model(
            name,
            base_url=self.spec.base_url,
            model_args=self.spec.model_args,
            learner=task.learner,
            kv_cache=self._kv_cache,
            terms=self.terms,
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


def _takes_corrections(name: str, model: Model) -> bool:
    """Return whether a model can stand in a run that corrects its choices: reference learners do,
    with the answers that they always give.
    """
    return model.gold_likelihood == "weighed" or name.startswith("baseline/")
