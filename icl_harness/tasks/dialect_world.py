"""The `dialects` world: 32 invented words, 12 dialects, 4 labels, and the learner that is exactly
right.

In: a random generator, or shots and a query. Out: episodes, the text they are written in, label
probabilities. Numpy only. Left out: the task wrapper (tasks/dialects.py) and the training of the
bundled model (training/).

An input is two words drawn independently from one dialect; its label is that dialect's label for
the first word. So the second word shows only which dialect is spoken. An episode may also
rotate the labels ("flipped") or draw a fresh label for each word ("random"): then the labelled
shots must override what training taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MapKind = Literal["default", "flipped", "random"]
Mode = Literal["supervised", "reinforced", "unsupervised"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_WORDS = (
    "bamo beku bizu dofa duli fexo fina gavu gomi hefu hilo jadu jeno kiru kopa lemu "
    "luvi mafo mezu nabi niko pavo pudi rafu riso semo suvu tabi tozu vemi wuka zilo"
)
WORDS = tuple(_WORDS.split())
LABELS = (
    "north",
    "east",
    "south",
    "west",
)  # flipped = the next one: north -> east -> south -> west -> north
MAP_KINDS: tuple[MapKind, ...] = ("default", "flipped", "random")
N_WORDS, N_LABELS, N_DIALECTS = len(WORDS), len(LABELS), 12
CONCENTRATION = (
    3.0  # of the symmetric Dirichlet that each dialect's word frequencies are drawn from
)
WORLD_SEED = 1

# How often a labelled episode of the model's training is of each kind; unlabelled ones are always
# "default".
P_DEFAULT, P_FLIPPED, P_RANDOM = 0.75, 0.05, 0.20

PREAMBLE = {
    True: "Two words, then the answer.\n",
    False: "Two words a line, no answers.\n",
}  # by: are shots labelled?
FORMAT = "Now answer with north, east, south or west.\n"

_WORD_ID = {word: i for i, word in enumerate(WORDS)}
_LABEL_ID = {label: i for i, label in enumerate(LABELS)}


@dataclass(frozen=True)
class World:
    """The constants that training teaches: `frequencies` (12, 32), rows sum to 1; `labels` (12,
    32), label ids.
    """

    frequencies: Floats
    labels: Ints


@cache
def world() -> World:
    """The one world: the same arrays on every machine (a test holds them to a checksum)."""
    rng = np.random.default_rng(WORLD_SEED)
    frequencies = rng.dirichlet(np.full(N_WORDS, CONCENTRATION), size=N_DIALECTS)
    return World(frequencies, rng.integers(0, N_LABELS, size=(N_DIALECTS, N_WORDS)))


@dataclass(frozen=True)
class Episode:
    """One dialect and one word -> label map (`labels`, 32 label ids) for all shots and queries of a
    prompt.
    """

    dialect: int
    map_kind: MapKind
    labels: tuple[int, ...]

    @classmethod
    def sample(
        cls, rng: np.random.Generator, dialect: int | None = None, map_kind: MapKind | None = None
    ) -> Episode:
        """A fresh episode; what is not given is drawn (dialects uniformly, map kinds as in
        training).
        """
        if dialect is None:
            dialect = int(rng.integers(N_DIALECTS))
        if map_kind is None:
            map_kind = MAP_KINDS[rng.choice(3, p=(P_DEFAULT, P_FLIPPED, P_RANDOM))]
        labels = world().labels[dialect]
        if map_kind == "flipped":
            labels = (labels + 1) % N_LABELS
        elif map_kind == "random":
            labels = rng.integers(0, N_LABELS, size=N_WORDS)
        return cls(dialect, map_kind, tuple(int(label) for label in labels))

    def draw(self, rng: np.random.Generator, n: int) -> list[tuple[str, str]]:
        """`n` (input, target) pairs, drawn independently."""
        words = rng.choice(N_WORDS, size=(n, 2), p=world().frequencies[self.dialect])
        return [(f"{WORDS[a]} {WORDS[b]}", LABELS[self.labels[a]]) for a, b in words.tolist()]


def render_shot(text: str, target: str | None = None) -> str:
    """One shot as prompts/dialects.jinja writes it; without a target, the input alone."""
    return f"{text}\n" if target is None else f"{text} -> {target}\n"


def render_prompt(shots: Sequence[tuple[str, str | None]], query: str, mode: Mode) -> str:
    """A whole prompt as prompts/dialects.jinja writes it; the model goes on with " label" and a
    newline.
    """
    labelled = mode != "unsupervised"
    lines = [render_shot(text, target if labelled else None) for text, target in shots]
    return PREAMBLE[labelled] + "".join(lines) + ("" if labelled else FORMAT) + f"{query} ->"


def word_ids(text: str) -> tuple[int, int]:
    """The two word ids of an input; ValueError for anything but two words of this world."""
    ids = [_WORD_ID.get(word) for word in text.split()]
    if len(ids) != 2 or ids[0] is None or ids[1] is None:
        raise ValueError(f"A dialects input is two of its {N_WORDS} words; got {text!r}.")
    return ids[0], ids[1]


class BayesLearner:
    """The exact posterior over dialect x map kind after some shots, shared by all queries of a
    node.

    Prior: dialects uniform; map kinds as in the model's training, or only "default" with
    `ceiling=True` (the plain learner) and in unsupervised mode, whose shots' targets it does not
    look at. What fits no hypothesis (a remapped episode under `ceiling`) gives 1/4 to each label.
    Shots are added one by one, so a node's learner grows with K.
    """

    def __init__(
        self,
        shots: Sequence[tuple[str, str | None]] = (),
        mode: Mode = "supervised",
        ceiling: bool = False,
    ) -> None:
        self._labelled = mode != "unsupervised"
        prior = (
            (1.0, 0.0, 0.0) if ceiling or not self._labelled else (P_DEFAULT, P_FLIPPED, P_RANDOM)
        )
        with np.errstate(divide="ignore"):  # log 0 = -inf is meant
            self._log_prior = np.log(prior)
        self._log_words = np.zeros(N_DIALECTS)  # log p(all words so far | dialect)
        # log p(all targets so far | map kind, dialect): 0 or -inf, and for random maps -n log 4 of
        # n distinct words
        self._log_targets = np.zeros((3, N_DIALECTS))
        self._seen: dict[
            int, int
        ] = {}  # first word id -> its label id, all that a random map can go by
        for text, target in shots:
            self.add(text, target)

    def add(self, text: str, target: str | None = None) -> None:
        """Take in one more shot; in a labelled mode it needs its target."""
        first, second = word_ids(text)
        self._log_words += np.log(world().frequencies[:, [first, second]]).sum(axis=1)
        if not self._labelled:
            return
        if target not in _LABEL_ID:
            raise ValueError(f"A dialects target is one of {', '.join(LABELS)}; got {target!r}.")
        label = _LABEL_ID[target]
        taught = world().labels[:, first]
        self._log_targets[0, taught != label] = -np.inf
        self._log_targets[1, (taught + 1) % N_LABELS != label] = -np.inf
        if first not in self._seen:
            self._log_targets[2] -= np.log(N_LABELS)
        elif self._seen[first] != label:
            self._log_targets[2] = -np.inf
        self._seen[first] = label

    def predict(self, query: str) -> Floats:
        """p(label | shots, query's two words), in the order of LABELS; shape (4,)."""
        posterior: Floats = self.predict_many([query])[0]
        return posterior

    def predict_many(self, queries: Sequence[str]) -> Floats:
        """The same for many queries of one node; shape (queries, 4)."""
        ids = np.array([word_ids(query) for query in queries], dtype=np.int64).reshape(-1, 2)
        one_hot = np.eye(N_LABELS)
        log_words = (
            self._log_words + np.log(world().frequencies[:, ids]).sum(axis=2).T
        )  # (queries, 12)
        log_joint = (
            self._log_prior[:, None] + self._log_targets + log_words[:, None, :]
        )  # (queries, 3, 12)
        top = log_joint.max(axis=(1, 2), keepdims=True)
        weight = np.exp(
            log_joint - np.where(np.isfinite(top), top, 0.0)
        )  # all 0 where nothing fits
        taught = world().labels[:, ids[:, 0]].T  # (queries, 12)
        scores = np.einsum("qd,qdl->ql", weight[:, 0], one_hot[taught])
        scores += np.einsum("qd,qdl->ql", weight[:, 1], one_hot[(taught + 1) % N_LABELS])
        random_map = np.full((N_WORDS, N_LABELS), 1 / N_LABELS)
        for word, label in self._seen.items():
            random_map[word] = one_hot[label]
        scores += weight[:, 2].sum(axis=1, keepdims=True) * random_map[ids[:, 0]]
        total = scores.sum(axis=1, keepdims=True)
        return np.where(total > 0, scores / np.where(total > 0, total, 1.0), 1 / N_LABELS)


def bayes(
    shots: Sequence[tuple[str, str | None]], query_input: str, mode: Mode, ceiling: bool = False
) -> Floats:
    """p(label) for one query, in the order of LABELS; shape (4,). For many queries keep a
    BayesLearner.
    """
    return BayesLearner(shots, mode, ceiling).predict(query_input)
