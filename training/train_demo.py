"""Trains the bundled model on the dialects world: `python training/train_demo.py`.

In: nothing but a seed. Out: a transformers model folder, log.jsonl and scores.csv (see README.md
beside this file). Step i's batch depends on (seed, i) alone and the learning rate on the step
alone: two integers (`--decay-from`, `--steps`) and the seed fix the whole run. `--minutes` lets the
clock pick the two; the log's last line says them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that the script runs from a checkout that is not installed

import make_tokenizer  # noqa: E402
from batches import Batch, Spelling, supervised_batch, unsupervised_batch  # noqa: E402
from evaluate import Score, logits_at, scores, table, write_scores  # noqa: E402

from icl_harness.tasks.dialect_world import P_DEFAULT, P_FLIPPED, P_RANDOM, Ints  # noqa: E402

MOST_SHOTS = 68  # a little past the 64 that are asked of the model
NEVER = 10**9  # a step that no run reaches
SAVE_EVERY = 500  # steps
NEWLINE_WEIGHT = 0.02  # enough for the model to end its answer


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, and how; `steps` and `decay_from` count optimiser steps."""

    seed: int = 0
    width: int = 96
    layers: int = 3
    heads: int = 4
    matrix_rate: float = 2e-2  # peak learning rate of Muon, for the layers' matrices
    vector_rate: float = 4e-3  # peak learning rate of AdamW, for embeddings and norms
    labelled: int = 16  # episodes with labelled shots in a step
    short_shots: int = 16  # the few shots, where accuracy rises, are a small part of long episodes
    short_labelled: int = 48
    unlabelled: int = 8  # rows of inputs alone in a step
    n_cuts: int = 8  # shot counts in an unlabelled row
    branches: int = 6  # queries at each of them
    early: int = 1500  # steps of episodes with few first words and many random maps
    warmup: int = 100
    first_shots: int = 8  # how long episodes are at first
    ramp: int = 2500  # steps over which they grow to MOST_SHOTS
    decay_from: int = 6600
    steps: int = 8755

    def rate(self, step: int) -> float:
        """Learning rate as a share of its peak: a short warm-up, flat, then linear to nearly
        nothing.
        """
        left = (self.steps - step) / max(self.steps - self.decay_from, 1)
        return min(1.0, (step + 1) / self.warmup, max(left, 0.01))

    def lesson(self, step: int) -> tuple[tuple[float, float, float], int]:
        """Map kinds of the labelled episodes, and among how many first words they choose (0: as the
        dialect has it).
        """
        if step < self.early:
            return (0.4, 0.1, 0.5), 6
        return (P_DEFAULT, P_FLIPPED, P_RANDOM), 0

    def size(self, step: int) -> tuple[int, int]:
        """Shots of an episode and labelled episodes: they grow, then every other step has many
        short ones.
        """
        if step < self.ramp:
            grown = (MOST_SHOTS - self.first_shots) * step / self.ramp
            return round(self.first_shots + grown), self.labelled
        return (MOST_SHOTS, self.labelled) if step % 2 else (self.short_shots, self.short_labelled)


def new_model(recipe: Recipe, vocabulary: int, newline: int) -> LlamaForCausalLM:
    """An untrained Llama; an answer ends at the newline as well as at the end token (id 0)."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.width,
        intermediate_size=2 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=make_tokenizer.CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=[0, newline],
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def label_loss(logits: torch.Tensor, batch: Batch, spelling: Spelling) -> torch.Tensor:
    """Cross-entropy of the next token with the exact Bayes posterior over the labels, in nats per
    label.
    """
    log_p = torch.log_softmax(logits, dim=-1)[..., torch.from_numpy(spelling.label)]
    return -(log_p * torch.from_numpy(batch.bayes).float()).sum(dim=-1).mean()


def cuts_of(rng: np.random.Generator, n: int, most: int) -> Ints:
    """`n` shot counts in 0..most: zero or one, and the others spread evenly over the square root of
    the count.
    """
    points = (np.arange(n - 1) + rng.random(n - 1)) / (n - 1)
    spread = 1 + points**2 * most
    return np.concatenate([[rng.integers(0, 2)], np.minimum(spread, most)]).astype(np.int64)


def optimisers_of(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices and AdamW for the rest; on this world Muon needed several times
    fewer steps.
    """
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in named if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=recipe.vector_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train_step(
    model: LlamaForCausalLM,
    optimisers: list[torch.optim.Optimizer],
    recipe: Recipe,
    spelling: Spelling,
    step: int,
) -> dict[str, float]:
    """One step on a labelled and an unlabelled batch; losses above the least possible (Bayes), in
    nats per label.
    """
    rng = np.random.default_rng((recipe.seed, step))
    shots, n_labelled = recipe.size(step)
    labelled = supervised_batch(rng, spelling, n_labelled, shots, *recipe.lesson(step))
    unlabelled = unsupervised_batch(
        rng, spelling, recipe.unlabelled, cuts_of(rng, recipe.n_cuts, shots), recipe.branches
    )
    losses = {}
    for name, batch in (("supervised", labelled), ("unsupervised", unlabelled)):
        places = batch.asked
        if name == "supervised":
            places = np.concatenate([places, places + 1])
        logits = logits_at(model, batch, places)
        loss = label_loss(logits[:, : len(batch.asked)], batch, spelling)
        entropy = -(batch.bayes * np.log(np.maximum(batch.bayes, 1e-12))).sum(axis=-1).mean()
        losses[name] = loss.item() - float(entropy)
        if name == "supervised":
            ends = torch.log_softmax(logits[:, len(batch.asked) :], dim=-1)[..., spelling.newline]
            loss = loss - NEWLINE_WEIGHT * ends.mean()
        torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser, peak in zip(optimisers, (recipe.matrix_rate, recipe.vector_rate), strict=True):
        optimiser.param_groups[0]["lr"] = peak * recipe.rate(step)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return losses


class Run:
    """A training run under way: the model, its optimisers, the step it is at and the time it began
    (monotonic, s).
    """

    def __init__(self, recipe: Recipe, out: Path, log: Path) -> None:
        self.recipe, self._out, self.log = recipe, out, log
        self._spelling = Spelling(make_tokenizer.save(out))
        self.model = new_model(recipe, self._spelling.size, self._spelling.newline)
        self._optimisers = optimisers_of(self.model, recipe)
        self.step, self._began, self._losses = 0, time.monotonic(), list[list[float]]()

    def note(self, **event: object) -> None:
        """Append one line of JSON to the log at once (an interrupted run keeps its log) and show
        it.
        """
        line = json.dumps(event)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def resume(self, checkpoint: Path) -> None:
        """Go on from what `keep` wrote."""
        state = torch.load(checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimiser, kept in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.step, self._began = state["step"], time.monotonic() - state["seconds"]
        self.note(event="resumed", step=self.step)

    def keep(self, checkpoint: Path | None) -> None:
        """Save the model as it is, and with `checkpoint` also what a resumed run needs."""
        self.model.save_pretrained(str(self._out))
        if checkpoint is not None:
            optimisers = [optimiser.state_dict() for optimiser in self._optimisers]
            state = {"model": self.model.state_dict(), "optimisers": optimisers}
            torch.save(
                {**state, "step": self.step, "seconds": time.monotonic() - self._began}, checkpoint
            )

    def advance(self, minutes: float | None) -> None:
        """One step. Three quarters through `minutes` the decay is fixed so that it ends about when
        they do.
        """
        start = time.monotonic()
        losses = train_step(self.model, self._optimisers, self.recipe, self._spelling, self.step)
        taken = time.monotonic() - start
        self._losses.append([*losses.values(), taken])
        self.step += 1
        seconds = time.monotonic() - self._began
        undecided = self.recipe.decay_from == NEVER and self.step % 100 == 0
        if minutes is not None and undecided and seconds > 45 * minutes:
            pace = float(np.mean(self._losses, axis=0)[-1])  # seconds a step, of late
            steps = self.step + max(1, round((60 * minutes - seconds) / pace))
            self.recipe = replace(self.recipe, decay_from=self.step, steps=steps)
        if self.step % 100 == 0 or self.step == self.recipe.steps:
            above = np.mean(self._losses, axis=0)[:2].round(4).tolist()
            rate = round(self.recipe.rate(self.step), 4)
            self.note(step=self.step, seconds=round(seconds), rate=rate, nats_above_bayes=above)
            self._losses = []

    def held_out(self, n_episodes: int, seed: int) -> list[Score]:
        """Scores on fresh episodes; the seed is unlike any of training's, which are pairs (seed,
        step).
        """
        self.model.eval()
        rows = scores(self.model, self._spelling, n_episodes, seed)
        self.model.train()
        return rows


def train(run: Run, minutes: float | None, checkpoint: Path | None) -> list[Score]:
    """Train to the last step, saving and scoring on the way; returns the final held-out scores."""
    resumed = checkpoint is not None and checkpoint.exists()
    if not resumed:
        run.log.write_text("", encoding="utf-8")
    n_parameters = sum(p.numel() for p in run.model.parameters())
    run.note(
        event="start", recipe=asdict(run.recipe), n_parameters=n_parameters, torch=torch.__version__
    )
    if checkpoint is not None and resumed:
        run.resume(checkpoint)
    while run.step < run.recipe.steps:
        run.advance(minutes)
        if run.step % SAVE_EVERY == 0:
            run.keep(checkpoint)
            rows = run.held_out(n_episodes=200, seed=10**5)
            run.note(
                held_out=[[row.mode, row.map, row.shots, round(row.model, 3)] for row in rows],
                step=run.step,
            )
    run.keep(checkpoint)
    run.note(event="end", decay_from=run.recipe.decay_from, steps=run.step)
    return run.held_out(n_episodes=2400, seed=10**6)


def main() -> None:
    """Read the command line and train; the defaults repeat the run that made the bundled model."""
    parser = argparse.ArgumentParser(description="Trains the bundled model on the dialects world.")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "icl_harness" / "demo_model", help="model folder"
    )
    parser.add_argument(
        "--log", type=Path, default=ROOT / "training", help="folder of log.jsonl and scores.csv"
    )
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="optimiser steps")
    parser.add_argument(
        "--decay-from",
        type=int,
        default=Recipe.decay_from,
        help="step at which the rate starts to fall",
    )
    parser.add_argument(
        "--minutes", type=float, help="let the clock choose --steps and --decay-from"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="file to save to, and to resume from if it is there"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    steps, decay_from = options.steps, options.decay_from
    if options.minutes is not None:
        steps = decay_from = NEVER
    options.log.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(seed=options.seed, steps=steps, decay_from=decay_from)
    rows = train(
        Run(recipe, options.out, options.log / "log.jsonl"), options.minutes, options.checkpoint
    )
    write_scores(rows, options.log / "scores.csv")
    print(table(rows))


if __name__ == "__main__":
    main()
