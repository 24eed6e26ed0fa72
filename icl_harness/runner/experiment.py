"""An experiment: a spec with everything it names found, opened and checked.

In: a spec. Out: its prompts, and the models that are asked. All that can be refused is refused
here, before anything is asked or written.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from icl_harness.errors import SpecError
from icl_harness.models import is_local, open_model
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import KvCache, Model
from icl_harness.models.replicas import Replica
from icl_harness.models.workers import Workers
from icl_harness.runner.choice_scores import correction_of
from icl_harness.runner.feasible import check_task
from icl_harness.runner.fine_tuning import refuse_untrainable
from icl_harness.runner.line import Line
from icl_harness.runner.prompting import Prompting
from icl_harness.runner.run_header import make_header
from icl_harness.runner.spec import Spec
from icl_harness.tasks.task import Task

WEIGH_CHOICES = (
    "demo, hf/ and vllm/ models, openai/ ones with --model-arg api=completions at a server that "
    "echoes prompts with their log-probabilities"
)
TELL_LIKELIHOODS = f"{WEIGH_CHOICES}, baseline/bayes and baseline/ceiling"


class Experiment(Prompting):
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
        super().__init__(spec, tasks or {})
        spec = self.spec
        self.workers = workers
        if kv_cache is not None and not any(
            name == "demo" or name.startswith("hf/") for name in spec.models
        ):
            raise SpecError("--kv-cache is for hf/ models, and none is named. Leave it out.")
        refuse_untrainable(spec)
        self._kv_cache = kv_cache
        self.terms = terms or Terms()
        self.batch = batch  # all cells are asked at once
        for task in self.tasks:
            for variant in spec.variants:
                check_task(self, task, variant)
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

    def header(self) -> dict[str, Any]:
        """Return what `run.json` says of this experiment."""
        first = self.tasks[0].name
        return make_header(
            self, {name: self._models[name, first].describe() for name in self.spec.models}
        )

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
                owner=self.other_owner(task, variant),
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


def _takes_corrections(name: str, model: Model) -> bool:
    """Return whether a model can stand in a run that corrects its choices: reference learners do,
    with the answers that they always give.
    """
    return model.gold_likelihood == "weighed" or name.startswith("baseline/")
