"""Training batches of the dialects world, with the exact Bayes posterior of every label in them.

In: a numpy generator and sizes. Out: token ids, the positions whose next token is a label, and
p(label) there. The posteriors are computed here a second time, for whole batches; a test holds them
to the BayesLearner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from icl_harness.tasks.dialect_world import (
    FORMAT,
    LABELS,
    N_DIALECTS,
    N_LABELS,
    N_WORDS,
    P_DEFAULT,
    P_FLIPPED,
    P_RANDOM,
    PREAMBLE,
    WORDS,
    Floats,
    Ints,
    world,
)

LOG_FREQUENCIES = np.log(world().frequencies)
SHOT_TOKENS, INPUT_TOKENS = 5, 3  # "w1 w2 -> label \n" and "w1 w2 \n"


@dataclass(frozen=True)
class Batch:
    """`tokens` (B, T); `asked` (n,) places in T whose next token is a label; `bayes` (B, n, 4) and
    `answers` (B, n).

    `positions` (T,) and `sees` (T, T) are the rotary positions and the attention mask; None means
    plain causal order.
    """

    tokens: Ints
    asked: Ints
    bayes: Floats
    answers: Ints
    positions: Ints | None = None
    sees: NDArray[np.bool_] | None = None


class Spelling:
    """Token ids of the fixed pieces of a prompt: arrays that a word id or a label id looks itself
    up in.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        def ids(text: str) -> Ints:
            return np.asarray(tokenizer(text)["input_ids"], dtype=np.int64)

        self.size = len(tokenizer)
        self.preamble = {labelled: ids(text) for labelled, text in PREAMBLE.items()}
        self.format = ids(FORMAT)
        self.first = np.concatenate([ids(word) for word in WORDS])
        self.second = np.concatenate([ids(f" {word}") for word in WORDS])
        self.label = np.concatenate([ids(f" {label}") for label in LABELS])
        self.arrow, self.newline = int(ids(" ->")[0]), int(ids("\n")[0])


def draw_words(rng: np.random.Generator, dialects: Ints, n: int) -> Ints:
    """Word ids of `n` inputs for each of B dialects; shape (B, n, 2)."""
    cumulative = np.cumsum(world().frequencies, axis=1)[dialects]  # (B, 32)
    points = rng.random((len(dialects), n * 2, 1))
    words = (points > cumulative[:, None, :]).sum(axis=2)
    drawn: Ints = np.minimum(words, N_WORDS - 1).reshape(len(dialects), n, 2)
    return drawn


def draw_maps(
    rng: np.random.Generator, dialects: Ints, mixture: tuple[float, float, float]
) -> Ints:
    """One word -> label map for each of B episodes, their kinds drawn from `mixture`; shape (B,
    32).
    """
    kinds = rng.choice(3, size=len(dialects), p=mixture)[:, None]
    taught = world().labels[dialects]
    fresh = rng.integers(0, N_LABELS, size=taught.shape)
    maps: Ints = np.where(kinds == 2, fresh, (taught + kinds) % N_LABELS)
    return maps


def supervised_bayes(words: Ints, answers: Ints) -> Floats:
    """p(label i | words 0..i, labels 0..i-1) under the training mixture; (B, K, 2) and (B, K) in,
    (B, K, 4) out.
    """
    first = words[:, :, 0]
    log_words = np.cumsum(LOG_FREQUENCIES[:, words].sum(axis=3), axis=2).transpose(
        1, 2, 0
    )  # (B, K, 12)
    weight = np.exp(log_words - log_words.max(axis=2, keepdims=True))
    taught = world().labels[:, first].transpose(1, 2, 0)  # (B, K, 12)
    one_hot = np.eye(N_LABELS)
    scores = np.zeros((*answers.shape, N_LABELS))
    for rotation, prior in ((0, P_DEFAULT), (1, P_FLIPPED)):
        said = (taught + rotation) % N_LABELS
        wrong = np.cumsum(said != answers[:, :, None], axis=1)
        fits = np.concatenate([np.ones_like(wrong[:, :1]), wrong[:, :-1] == 0], axis=1)
        scores += prior * np.einsum("bkd,bkdl->bkl", weight * fits, one_hot[said])
    same = np.tril(
        first[:, :, None] == first[:, None, :], k=-1
    )  # (B, K, K): is shot j < i the same first word?
    seen = same.any(axis=2)
    known = np.cumsum(~seen, axis=1) - ~seen  # distinct first words before shot i
    recalled = np.where(seen[:, :, None], one_hot[answers], 1 / N_LABELS)
    scores += (P_RANDOM * weight.sum(axis=2) * float(N_LABELS) ** -known)[:, :, None] * recalled
    posterior: Floats = scores / scores.sum(axis=2, keepdims=True)
    return posterior


def supervised_batch(
    rng: np.random.Generator,
    spelling: Spelling,
    size: int,
    shots: int,
    mixture: tuple[float, float, float] = (P_DEFAULT, P_FLIPPED, P_RANDOM),
    repeats: int = 0,
) -> Batch:
    """`size` episodes of `shots` labelled shots; every label is asked for, so shot counts
    0..shots-1 train at once.
    """
    dialects = rng.integers(0, N_DIALECTS, size=size)
    words = draw_words(rng, dialects, shots)
    if repeats:
        again = rng.integers(0, min(repeats, shots), size=(size, shots))
        words[:, :, 0] = np.take_along_axis(words[:, :, 0], again, axis=1)
    answers = np.take_along_axis(draw_maps(rng, dialects, mixture), words[:, :, 0], axis=1)
    body = np.empty((size, shots, SHOT_TOKENS), dtype=np.int64)
    body[:, :, 0] = spelling.first[words[:, :, 0]]
    body[:, :, 1] = spelling.second[words[:, :, 1]]
    body[:, :, 2] = spelling.arrow
    body[:, :, 3] = spelling.label[answers]
    body[:, :, 4] = spelling.newline
    head = spelling.preamble[True]
    tokens = np.concatenate([np.tile(head, (size, 1)), body.reshape(size, -1)], axis=1)
    asked = len(head) + SHOT_TOKENS * np.arange(shots) + 2
    return Batch(tokens, asked, supervised_bayes(words, answers), answers)


def branch_layout(
    head: int, cuts: Ints, format_tokens: int, branches: int
) -> tuple[Ints, NDArray[np.bool_]]:
    """Positions (T,) and mask (T, T) of a row of inputs with, at each cut, a format block and its
    query branches.

    A cut's format block sees the inputs before the cut and itself; a branch sees these two and
    itself. Each token stands where it would in a plain prompt of that shot count: the row holds
    many prompts at the price of one.
    """
    inputs = head + INPUT_TOKENS * int(cuts.max())
    per_cut = format_tokens + INPUT_TOKENS * branches
    total = inputs + len(cuts) * per_cut
    positions, sees = np.arange(total), np.tril(np.ones((total, total), dtype=bool))
    sees[inputs:] = False
    for i, cut in enumerate(cuts.tolist()):
        start, prefix = inputs + i * per_cut, head + INPUT_TOKENS * cut
        stop = start + format_tokens
        positions[start:stop] = prefix + np.arange(format_tokens)
        sees[start : start + per_cut, :prefix] = True
        sees[start:stop, start:stop] = np.tril(np.ones((format_tokens, format_tokens), dtype=bool))
        for branch in range(stop, start + per_cut, INPUT_TOKENS):
            own = slice(branch, branch + INPUT_TOKENS)
            positions[own] = prefix + format_tokens + np.arange(INPUT_TOKENS)
            sees[own, start:stop] = True
            sees[own, own] = np.tril(np.ones((INPUT_TOKENS, INPUT_TOKENS), dtype=bool))
    return positions, sees


def unsupervised_batch(
    rng: np.random.Generator, spelling: Spelling, size: int, cuts: Ints, branches: int
) -> Batch:
    """`size` episodes of unlabelled inputs, with `branches` queries asked after each of the shot
    counts `cuts`.
    """
    dialects = rng.integers(0, N_DIALECTS, size=size)
    shots, n_cuts = int(cuts.max()), len(cuts)
    words = draw_words(rng, dialects, shots + n_cuts * branches)
    queries = words[:, shots:].reshape(size, n_cuts, branches, 2)
    answers = world().labels[dialects[:, None, None], queries[..., 0]]
    log_shots = LOG_FREQUENCIES[:, words[:, :shots]].sum(axis=3)  # (12, B, shots)
    log_shots = np.concatenate(
        [np.zeros_like(log_shots[:, :, :1]), np.cumsum(log_shots, axis=2)], axis=2
    )
    log_joint = log_shots[:, :, cuts, None] + LOG_FREQUENCIES[:, queries].sum(
        axis=4
    )  # (12, B, cuts, branches)
    weight = np.exp(log_joint - log_joint.max(axis=0))
    taught = np.eye(N_LABELS)[world().labels[:, queries[..., 0]]]  # (12, B, cuts, branches, 4)
    bayes = np.einsum("dbcq,dbcql->bcql", weight / weight.sum(axis=0), taught)

    head = spelling.preamble[False]
    inputs = np.empty((size, shots, INPUT_TOKENS), dtype=np.int64)
    inputs[:, :, 0] = spelling.first[words[:, :shots, 0]]
    inputs[:, :, 1] = spelling.second[words[:, :shots, 1]]
    inputs[:, :, 2] = spelling.newline
    asked = np.empty((size, n_cuts, branches, INPUT_TOKENS), dtype=np.int64)
    asked[..., 0], asked[..., 1] = spelling.first[queries[..., 0]], spelling.second[queries[..., 1]]
    asked[..., 2] = spelling.arrow
    block = np.concatenate(
        [np.tile(spelling.format, (size, n_cuts, 1)), asked.reshape(size, n_cuts, -1)], axis=2
    )
    tokens = np.concatenate(
        [np.tile(head, (size, 1)), inputs.reshape(size, -1), block.reshape(size, -1)], axis=1
    )
    positions, sees = branch_layout(len(head), cuts, len(spelling.format), branches)
    ends = tokens.shape[1] - n_cuts * block.shape[2] + np.arange(n_cuts)[:, None] * block.shape[2]
    places = ends + len(spelling.format) + INPUT_TOKENS * np.arange(branches) + INPUT_TOKENS - 1
    n = n_cuts * branches
    return Batch(
        tokens,
        places.reshape(-1),
        bayes.reshape(size, n, N_LABELS),
        answers.reshape(size, n),
        positions,
        sees,
    )
