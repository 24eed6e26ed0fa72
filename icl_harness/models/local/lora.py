"""LoRA (Hu et al. 2022): small matrices beside a model's weights, trained on answers to prompts.

In: a model's forward pass, and lessons: tokens of a prompt with its answer. Out: the same model
with the matrices in it, by peft; the weights themselves never change, so that taking the matrices
out again leaves them bit by bit as they were. The loss is that of the answers' tokens alone. Left
out: which texts those are (sft.py); a stop before the last pass.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache

from icl_harness.models.local import attention
from icl_harness.models.local.kv import Runner
from icl_harness.models.local.recipe import BATCH, Recipe
from icl_harness.models.local.threads import few_threads
from icl_harness.models.local.tokens import common
from icl_harness.models.training import Training

if TYPE_CHECKING:
    from peft import PeftModel

LONGEST_GRADIENT = 1.0  # a longer one is cut to this: a few odd shots are not to decide
SORTED_AT_ONCE = 8  # batches whose lessons are sorted by length together, so that few are padded


@dataclass(frozen=True, slots=True)
class Lesson:
    """A prompt with its answer. `ids` are fed; `reads` are the places behind which the answer's
    tokens come, and these tokens.
    """

    ids: Sequence[int]
    reads: Sequence[tuple[int, int]]


Lessons = Sequence[Sequence[Lesson]]  # the equal ones together


@dataclass(frozen=True, slots=True)
class Batch:
    """What is fed in one step: lessons, whose first `n_shared` tokens are the same and fed once."""

    lessons: Sequence[Lesson]
    n_shared: int

    @property
    def n_tokens(self) -> int:
        """Return how many tokens are fed, without those that only fill up."""
        return self.n_shared + sum(len(lesson.ids) - self.n_shared for lesson in self.lessons)


class Tuner:
    """A model that is trained on lessons, time after time, each time from its own weights."""

    def __init__(self, runner: Runner, recipe: Recipe) -> None:
        self._runner = runner
        self._recipe = recipe
        self._adapted: PeftModel | None = None

    def train(self, lessons: Lessons, seed: int) -> Generator[None, None, Training]:
        """Train on lessons, a step at a time; the model then answers as one that learned them.

        Twenty different ones or more are enough to choose the learning rate: the one with the
        lowest loss on a fifth of them after training on the others.
        """
        recipe, started = self._recipe, time.perf_counter()
        rate, losses, chosen = recipe.middle, dict[float, float](), started
        learned, held = recipe.parts(lessons, seed)
        for one in recipe.learning_rates if held else ():
            yield from self._fit(learned, one, seed)
            losses[one] = self._loss(held)
        if losses:
            rate, chosen = min(losses, key=losses.__getitem__), time.perf_counter()
        yield from self._fit(lessons, rate, seed)
        if not self._is_finite():
            raise ValueError(
                f"at a learning rate of {rate:g} the weights grow without end. Give lower "
                "--model-arg learning_rates"
            )
        choice_tokens, tokens = self.n_tokens(lessons, seed)
        return Training(
            n_shots=sum(map(len, lessons)),
            learning_rate=rate,
            losses=losses,
            held_out=sum(map(len, held)),
            epochs=recipe.passes(sum(map(len, lessons))),
            tokens=choice_tokens + tokens,
            choice_tokens=choice_tokens,
            seconds=time.perf_counter() - started,
            choice_seconds=chosen - started,
        )

    def n_tokens(self, lessons: Lessons, seed: int) -> tuple[int, int]:
        """Return how many tokens are fed to choose the learning rate, and to train on all
        lessons.
        """
        learned, held = self._recipe.parts(lessons, seed)
        choice = 0
        if held:
            each = sum(batch.n_tokens for batch in self._batches(learned, seed))
            each += sum(batch.n_tokens for batch in self._one_pass(held, 0))
            choice = each * len(self._recipe.learning_rates)
        return choice, sum(batch.n_tokens for batch in self._batches(lessons, seed))

    def reset(self) -> None:
        """Take the matrices out of the model."""
        if self._adapted is not None:
            self._adapted.unload()
            self._adapted = None
            if self._runner.device.type == "cuda":
                torch.cuda.empty_cache()

    def _fit(self, lessons: Lessons, rate: float, seed: int) -> Iterator[None]:
        """Train new matrices on lessons. Yields after a step."""
        self.reset()
        runner = self._runner
        with _same_chance(runner, seed):
            self._adapted = _with_lora(runner.model, self._recipe.rank)
        weights = [w for w in self._adapted.parameters() if w.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
        batches = self._batches(lessons, seed)
        for step, batch in enumerate(batches):
            for group in optimiser.param_groups:
                group["lr"] = rate * (1 - step / len(batches))
            with few_threads(runner.model), plain_attention(runner.model):
                _step(runner, batch, weights, optimiser)
            yield

    def _is_finite(self) -> bool:
        """Return whether what was trained is numbers."""
        weights = [] if self._adapted is None else self._adapted.parameters()
        return all(bool(torch.isfinite(w).all()) for w in weights if w.requires_grad)

    def _batches(self, lessons: Lessons, seed: int) -> list[Batch]:
        """Return what is fed in all passes, step by step."""
        rng, found = np.random.default_rng(seed), list[Batch]()
        for _ in range(self._recipe.passes(sum(map(len, lessons)))):
            found += self._one_pass(lessons, rng)
        return found

    def _one_pass(self, lessons: Lessons, chance: int | np.random.Generator) -> list[Batch]:
        """Return what is fed in one pass, step by step."""
        level, every = self._runner.level, list(chain.from_iterable(lessons))
        n_shared = 0 if level else common_start(every)
        batches = in_batches(every, np.random.default_rng(chance), level=level)
        return [Batch(batch, n_shared) for batch in batches]

    @torch.no_grad()
    def _loss(self, lessons: Lessons) -> float:
        """Return the loss per token of the answers, infinite where it is no number."""
        runner, losses = self._runner, list[torch.Tensor]()
        with few_threads(runner.model), plain_attention(runner.model):
            for batch in self._one_pass(lessons, 0):
                losses.append(_losses(runner, batch))
        loss = float(torch.cat(losses).mean())
        return loss if math.isfinite(loss) else math.inf


def common_start(lessons: Sequence[Lesson]) -> int:
    """Return how many tokens all lessons begin with alike, none of them read for an answer."""
    first = lessons[0]
    n = min(lesson.reads[0][0] for lesson in lessons)
    for lesson in lessons[1:]:
        n = min(n, common(first.ids, lesson.ids))
    return n


def in_batches(
    lessons: Sequence[Lesson], rng: np.random.Generator, *, level: bool
) -> list[list[Lesson]]:
    """Return lessons in batches: at random, those of like length together; with `level`, those of
    the same length alone.
    """
    shuffled: list[int] = rng.permutation(len(lessons)).tolist()
    batches: list[list[Lesson]] = []
    for start in range(0, len(shuffled), BATCH * SORTED_AT_ONCE):
        some = [lessons[i] for i in shuffled[start : start + BATCH * SORTED_AT_ONCE]]
        some.sort(key=lambda lesson: len(lesson.ids))
        batch: list[Lesson] = []
        for lesson in some:
            if len(batch) == BATCH or (level and batch and len(batch[0].ids) != len(lesson.ids)):
                batches.append(batch)
                batch = []
            batch.append(lesson)
        batches.append(batch)
    return [batches[i] for i in rng.permutation(len(batches))]


@contextlib.contextmanager
def plain_attention(model: Any) -> Iterator[None]:
    """Let a model attend to what it is fed and no more: the attention to a shared prefix has no
    gradient.
    """
    before = model.config._attn_implementation
    if before != attention.NAME:
        yield
        return
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextlib.contextmanager
def _same_chance(runner: Runner, seed: int) -> Iterator[None]:
    """Have chance begin with a seed, and leave it as it was for everyone else."""
    devices = [runner.device] if runner.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _with_lora(model: Any, rank: int) -> PeftModel:
    """Put new matrices beside all of a model's linear layers but the last one, of which they change
    nothing yet.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a folder's name that peft cannot look up on the hub
        return get_peft_model(model, config)


@torch.enable_grad()
def _step(
    runner: Runner,
    batch: Batch,
    weights: Sequence[torch.Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    torch.autograd.backward(_losses(runner, batch).mean())
    torch.nn.utils.clip_grad_norm_(weights, LONGEST_GRADIENT)
    optimiser.step()
    optimiser.zero_grad()


def _losses(runner: Runner, batch: Batch) -> torch.Tensor:
    """Return minus the log-likelihood of each token of the answers."""
    start, n = batch.n_shared, len(batch.lessons)
    cache = None
    if start:
        cache = DynamicCache(config=runner.model.config)
        shared = [batch.lessons[0].ids[:start]]
        runner.forward(shared, cache, [range(start)], wanted=([0], [start - 1]))
        cache.batch_repeat_interleave(n)
    tokens, fed = _padded([lesson.ids[start:] for lesson in batch.lessons])
    mask = np.concatenate([np.ones((n, start), np.int64), fed], axis=1)
    rows, places, targets = list[int](), list[int](), list[int]()
    for row, lesson in enumerate(batch.lessons):
        for place, token in lesson.reads:
            rows.append(row)
            places.append(place - start)
            targets.append(token)
    positions = np.tile(start + np.arange(tokens.shape[1]), (n, 1))
    logits = runner.forward(tokens, cache, positions, mask=mask, wanted=(rows, places))
    wanted = torch.as_tensor(targets, device=logits.device)
    return torch.nn.functional.cross_entropy(logits, wanted, reduction="none")


def _padded(texts: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tokens of texts (texts, longest), filled up at the end, where nothing looks back
    from, and which of them are the texts' own.
    """
    shape = len(texts), max(map(len, texts))
    tokens, fed = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, ids in enumerate(texts):
        tokens[row, : len(ids)] = ids
        fed[row, : len(ids)] = 1
    return tokens, fed
