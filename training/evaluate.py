"""Scores a dialects model on fresh episodes beside the exact Bayes learner: `python
training/evaluate.py`.

In: a model and a seed unlike training's. Out: both accuracies by mode, map and shots, as a table
and scores.csv.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that the script runs from a checkout that is not installed

from batches import Batch, Spelling, supervised_batch, unsupervised_batch  # noqa: E402

from icl_harness.tasks.dialect_world import MAP_KINDS, Ints  # noqa: E402

SHOTS = np.array([0, 1, 2, 4, 8, 16, 32, 64])
CHUNK = 100  # episodes in one forward pass


@dataclass(frozen=True, kw_only=True)
class Score:
    """Accuracies (0..1) on the same queries, their difference and 1.96 standard errors of it."""

    mode: str
    map: str
    shots: int
    n_queries: int
    model: float
    bayes: float
    difference: float
    margin: float


def logits_at(model: LlamaForCausalLM, batch: Batch, places: Ints) -> torch.Tensor:
    """Logits (B, places, vocabulary) at some places of a batch, under its mask and positions."""
    mask = positions = None
    if batch.sees is not None and batch.positions is not None:
        sees = torch.from_numpy(batch.sees)
        mask = torch.zeros(sees.shape).masked_fill(~sees, torch.finfo(torch.float32).min)
        mask = mask[None, None].expand(len(batch.tokens), 1, -1, -1)
        positions = torch.from_numpy(batch.positions)[None]
    hidden = model.model(
        torch.from_numpy(batch.tokens), attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    logits: torch.Tensor = model.lm_head(hidden[:, torch.from_numpy(places)])
    return logits


def fresh_batch(
    rng: np.random.Generator, spelling: Spelling, mode: str, kind: str
) -> tuple[Batch, Ints]:
    """CHUNK episodes of one map kind, and which of its asked labels stand at the shot counts of
    SHOTS.
    """
    if mode == "unsupervised":
        return unsupervised_batch(rng, spelling, CHUNK, SHOTS, branches=1), np.arange(len(SHOTS))
    mixture = (float(kind == "default"), float(kind == "flipped"), float(kind == "random"))
    return supervised_batch(rng, spelling, CHUNK, int(SHOTS.max()) + 1, mixture), SHOTS


@torch.no_grad()
def scores(model: LlamaForCausalLM, spelling: Spelling, n_episodes: int, seed: int) -> list[Score]:
    """One query per episode, mode, map kind and shot count; a right answer is the likeliest of all
    tokens.
    """
    rows: list[Score] = []
    for mode, kind in [("supervised", kind) for kind in MAP_KINDS] + [("unsupervised", "default")]:
        rng = np.random.default_rng((seed, len(rows)))
        right: list[tuple[np.ndarray, np.ndarray]] = []
        for _ in range(n_episodes // CHUNK):
            batch, at = fresh_batch(rng, spelling, mode, kind)
            said = logits_at(model, batch, batch.asked[at]).argmax(dim=-1).numpy()
            truth = batch.answers[:, at]
            right.append(
                (said == spelling.label[truth], batch.bayes[:, at].argmax(axis=-1) == truth)
            )
        by_model, by_bayes = (
            np.concatenate(parts).astype(float) for parts in zip(*right, strict=True)
        )
        gap = by_model - by_bayes
        margin = 1.96 * gap.std(axis=0) / np.sqrt(len(gap))
        for i, shots in enumerate(SHOTS.tolist()):
            values = [
                round(float(x[i]), 4)
                for x in (by_model.mean(0), by_bayes.mean(0), gap.mean(0), margin)
            ]
            names = ("model", "bayes", "difference", "margin")
            found = dict(zip(names, values, strict=True))
            rows.append(Score(mode=mode, map=kind, shots=shots, n_queries=len(gap), **found))
    return rows


def table(rows: list[Score]) -> str:
    """Lines of model and Bayes accuracy over shot counts, one pair for each mode and map kind."""
    lines = [f"{'shots':>26} " + " ".join(f"{shots:>4}" for shots in SHOTS)]
    for mode, kind in dict.fromkeys((row.mode, row.map) for row in rows):
        ours = [row for row in rows if (row.mode, row.map) == (mode, kind)]
        for who in ("model", "bayes"):
            points = " ".join(f"{getattr(row, who):4.2f}" for row in ours)
            lines.append(f"{mode:>12} {kind:>7} {who:>5} {points}")
    return "\n".join(lines)


def write_scores(rows: list[Score], path: Path) -> None:
    """The rows as CSV, columns in the order of Score."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def main() -> None:
    """Score the bundled model (or the folder given) on 2,400 fresh episodes of each kind."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "icl_harness" / "demo_model"
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    rows = scores(
        model, Spelling(AutoTokenizer.from_pretrained(folder)), n_episodes=2400, seed=10**6
    )
    write_scores(rows, ROOT / "training" / "scores.csv")
    print(table(rows))


if __name__ == "__main__":
    main()
