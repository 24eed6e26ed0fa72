"""Local models that learn from weights, not from context: `sft/hf/<model>`, `sft/demo`.

In: a node and its queries. Out: answers to the queries without shots, of the model after it was
fine-tuned on the node's shots (lora.py): at no shots, the model as it is. A shot is trained on as
it is asked: the prompt without shots and its input, then the answer, whose tokens alone have a
loss. A node's shots are pairs of edges, what is asked and the answer, as in a chat. One training
serves all queries of a node. Left out: several nodes at a time; keeping what was trained.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from icl_harness.draws import stable_seed
from icl_harness.errors import ModelError, SpecError
from icl_harness.models.base import Answer, GoldLikelihood, Model, Sampling
from icl_harness.models.forecast import Count, Counter
from icl_harness.models.hf import HfModel
from icl_harness.models.local.weights import one_line
from icl_harness.models.training import Training
from icl_harness.prompts.tree import Node, Query

if TYPE_CHECKING:
    from icl_harness.models.local.lora import Lesson

ANSWER = "answer"  # what a shot's only choice is called


class SftModel(Model):
    """A causal language model of `transformers` that is fine-tuned on the shots of each node.

    `model_args`: those of `hf/` models but `adapter`, and `sft_options.Options`. Raises
    `ModelError`. An answer's latency is that of `HfModel`; what training took is with the first
    answer after it.
    """

    gold_likelihood: GoldLikelihood = "weighed"

    def __init__(self, path_or_id: str, *, id: str, **model_args: str) -> None:
        from icl_harness.models.local.lora import Tuner
        from icl_harness.models.local.sft_options import read_options

        self.id = id
        if importlib.util.find_spec("peft") is None:
            raise ModelError(
                f"{id} needs the Python package peft: pip install 'icl-harness[local]'."
            )
        self._recipe, of_base = read_options(model_args, id)
        self._base = HfModel(path_or_id, id=id, kv_cache=None, **of_base)
        self._tuner = Tuner(self._base.runner, self._recipe)
        self._learned: str | None = ""  # the hash of the node; "": none, None: not known
        self._turn = asyncio.Lock()
        self.capabilities, self.no_chat = self._base.capabilities, self._base.no_chat

    def count_tokens(self, node: Node, query: str = "") -> int:
        """Return the exact tokens of the prompt without shots plus `query`. Where a shot with its
        answer does not fit the window by itself, those of the shot: so many shots do not fit.
        """
        count = self._base.count_tokens(node.path[0], query)
        window = self.capabilities.context_window
        if query or window is None or not node.shots:
            return count
        longest = max(len(same[0].ids) + 1 for same in self._lessons(node))
        return max(count, longest) if longest > window else count

    def counter(self) -> Counter:
        """Return what counts the tokens of prompts for a plan, and says what trainings take."""
        return _TrainingCounter(self)

    def n_training_tokens(self, node: Node) -> int:
        """Return how many tokens the model is fed while it is trained on a node's shots."""
        return sum(self._tuner.n_tokens(self._lessons(node), _seed(node)))

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Train on the node's shots unless that was done last, then yield answers batch by batch.
        Raises `ModelError` where the model cannot be trained.
        """
        async with self._turn:
            training = await self._learn(node)
            stream = self._base.answers(node.path[0], queries, sampling)
            async with aclosing(stream):
                async for answers in stream:
                    if training is not None:
                        answers = [replace(answers[0], training=training), *answers[1:]]
                        training = None
                    yield answers

    def limit(self, sampling: Sampling) -> int:
        """Return the most tokens that an answer may take, with its room for thoughts."""
        return self._base.limit(sampling)

    def describe(self) -> dict[str, Any]:
        """Return what is said of the model before it is trained, and how it is."""
        import peft

        return {
            **self._base.describe(),
            "fine_tuning": asdict(self._recipe),
            "peft": peft.__version__,
        }

    async def close(self) -> None:
        """Free the weights; the model cannot be used any more."""
        self._tuner.reset()
        await self._base.close()

    async def _learn(self, node: Node) -> Training | None:
        """Bring the model to what it is after a node's shots; return what that took, None where
        nothing was to be done.
        """
        wanted = node.hash if node.shots else ""
        if wanted == self._learned:
            return None
        self._learned = None
        self._base.forget()
        self._tuner.reset()
        training = None
        if wanted:
            lessons = self._lessons(node)
            self._base.check(node.path[0], [_asked(*shot) for shot in _shots(node)])
            training = await self._trained(self._tuner.train(lessons, _seed(node)))
        self._learned = wanted
        return training

    async def _trained(self, steps: Generator[None, None, Training]) -> Training:
        """Train; between the steps others have their turn, Ctrl-C above all."""
        try:
            while True:
                next(steps)
                await asyncio.sleep(0)
        except StopIteration as done:
            training: Training = done.value
            return training
        except Exception as error:  # whatever torch, peft and a model's own code raise
            raise ModelError(f"{self.id} cannot be fine-tuned: {one_line(error)}") from error

    def _lessons(self, node: Node) -> list[list[Lesson]]:
        """Return the tokens that a node's shots are trained on, equal shots together."""
        from icl_harness.models.local.choices import candidate
        from icl_harness.models.local.lora import Lesson

        is_chat = self._base.in_chat(node)
        queries = [_asked(*shot, is_chat=is_chat) for shot in _shots(node)]
        ids, read = self._base.with_choices(node.path[0], queries)
        lessons = []
        for group, choices in read:
            try:
                row = candidate(0, ids, group.branch, choices)
            except ValueError as error:
                raise SpecError(f"{self.id}: shot {group.queries[0].id}: {error}.") from error
            start = row.twig.n_shared
            fed = [*ids[:start].tolist(), *row.twig.own]
            lesson = Lesson(fed, [(start + place, token) for place, token in row.reads[0]])
            lessons.append([lesson] * len(group))
        return lessons


def _shots(node: Node) -> list[tuple[str, str, str]]:
    """Return the shots of a node: id, what is asked, answer. Raises `SpecError`."""
    found = []
    for asked, answer in pairwise(node.path):
        if answer.shot is not None:
            if answer.shot.target is None:
                raise SpecError(
                    f"shot {answer.shot.id} shows no answer, so that nothing is learned."
                )
            found.append((answer.shot.id, asked.segment, answer.segment))
    return found


def _asked(id: str, asked: str, answer: str, *, is_chat: bool = False) -> Query:
    """Return a shot as the query that it answers. With the answer come the words between shots, in
    a chat the end of the turn, so that the model learns to stop.
    """
    if is_chat:
        return Query(
            id=id, text=asked, choices=(ANSWER,), continuations=(answer.strip(),), ending="\n"
        )
    return Query(id=id, text=asked, choices=(ANSWER,), continuations=(answer,))


def _seed(node: Node) -> int:
    """Return the seed of a training: the same shots make the same model, whoever trains it when."""
    return stable_seed("sft", node.hash)


class _TrainingCounter(Counter):
    """Counts the tokens of prompts, and in a note those of the trainings that they need."""

    def __init__(self, model: SftModel) -> None:
        super().__init__(model.count_tokens, model.counts_by)
        self._model = model
        self._trained: dict[str, int] = {}  # node -> tokens

    async def count(self, node: Node, queries: Sequence[Query]) -> Count | None:
        """Return the tokens of prompts."""
        if node.shots and node.hash not in self._trained:
            self._trained[node.hash] = self._model.n_training_tokens(node)
            self.notes = [self._note()]
        return await super().count(node, queries)

    def _note(self) -> str:
        n, tokens = len(self._trained), sum(self._trained.values())
        return (
            f"{self._model.id}: {n:,} training{'s' * (n > 1)} on {tokens:,} tokens come on top of "
            "the prompts, each pass over a shot counted; a token of a training takes about 3 times "
            "as long as one of a prompt"
        )
