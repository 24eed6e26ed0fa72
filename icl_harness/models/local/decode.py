"""What is done with logits: answers generated token by token, and choices weighed by likelihood.

In: a `Prefix` that has reached the node, and twigs of it. Out: token ids and text, or
log-likelihoods in nats.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icl_harness.models.answer_text import read_answer
from icl_harness.models.base import Sampling
from icl_harness.models.local.choices import Candidate
from icl_harness.models.local.kv import Prefix, Rows
from icl_harness.models.local.tokens import FEW, Twig
from icl_harness.thoughts import marks_thought

# finished rows leave once no more than this share of the batch goes on: leaving copies the others
LEAVE = 0.75


class Texts:
    """Text of generated ids, as it reads after the prompt's last token (a space at its start stays
    a space).
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._before: dict[int, str] = {}
        added = getattr(tokenizer, "added_tokens_decoder", {})
        # specials that mark thoughts; others are no part of a text
        self._marks = {
            i: token.content
            for i, token in added.items()
            if token.special and marks_thought(token.content)
        }

    def of(self, before: Sequence[int], new: Sequence[list[int]]) -> list[str]:
        """Return the text of each row's `new` ids; `before` is the id that stands before them."""
        for token in set(before) - self._before.keys():
            [self._before[token]] = self._decode([[token]])
        heads = [self._before[token] for token in before]
        texts = self._decode([[token, *ids] for token, ids in zip(before, new, strict=True)])
        odd = [
            i
            for i, (text, head) in enumerate(zip(texts, heads, strict=True))
            if not text.startswith(head)
        ]
        alone = dict(zip(odd, self._decode([new[i] for i in odd]), strict=True)) if odd else {}
        return [
            alone.get(i, text[len(head) :])
            for i, (text, head) in enumerate(zip(texts, heads, strict=True))
        ]

    def _decode(self, rows: list[list[int]]) -> list[str]:
        texts = self._without_specials(rows)
        if self._marks:
            for i, row in enumerate(rows):
                if not self._marks.keys().isdisjoint(row):
                    texts[i] = self._with_marks(row)
        return texts

    def _with_marks(self, row: list[int]) -> str:
        """Return the text of ids with the marks of thoughts in it."""
        parts: list[str] = []
        start = 0
        for place, token in enumerate(row):
            if token in self._marks:
                parts += [*self._without_specials([row[start:place]]), self._marks[token]]
                start = place + 1
        return "".join([*parts, *self._without_specials([row[start:]])])

    def _without_specials(self, rows: list[list[int]]) -> list[str]:
        texts: list[str]
        if getattr(self._tokenizer, "is_fast", False):
            fast = self._tokenizer.backend_tokenizer
            if len(rows) < FEW:
                return [fast.decode(row, skip_special_tokens=True) for row in rows]
            texts = fast.decode_batch(rows, skip_special_tokens=True)
        else:
            texts = self._tokenizer.batch_decode(
                rows, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        return texts


@dataclass(frozen=True, slots=True)
class Continuation:
    """One answer wanted: from the twig at `row`, with the request's own seed; `before` is the
    prompt's last id. `opened`: the prompt has begun a thought.
    """

    row: int
    seed: int
    before: int
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Generated:
    """The whole `text`; `n_tokens` generated, the end token or the stop string's among them.
    `cut`: the limit on tokens ended it, or it might have.
    """

    text: str
    n_tokens: int
    cut: bool


@torch.inference_mode()
def generate(
    prefix: Prefix,
    twigs: Sequence[Twig],
    wanted: Sequence[Continuation],
    sampling: Sampling,
    ends: Sequence[int],
    texts: Texts,
) -> list[Generated]:
    """Return one answer per continuation. Every twig is fed once, however many go on from it;
    `ends` are end tokens' ids.
    """
    rows, logits = _opened(prefix, twigs, wanted, sampling.max_tokens - 1)
    at = np.arange(len(wanted))  # the continuation that each row of the batch is
    points = _uniforms(wanted, sampling)
    new = np.zeros((len(wanted), sampling.max_tokens), np.int64)
    n_new, done = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    for step in range(sampling.max_tokens):
        tokens = _choose(logits, None if points is None else points[at, step], sampling.temperature)
        new[at, step] = tokens
        n_new[at[~done[at]]] += 1
        done[at] |= np.isin(tokens, ends)
        if step + 1 == sampling.max_tokens:
            break
        _mark_stopped(done, at, wanted, new[:, : step + 1], sampling.stop, texts)
        going = np.flatnonzero(~done[at])
        if len(going) == 0:
            break
        if len(going) <= LEAVE * len(at):
            rows.select(going)
            at, tokens = at[going], tokens[going]
        logits = rows.step(tokens)
    made = texts.of(
        [one.before for one in wanted],
        [row[:n].tolist() for row, n in zip(new, n_new, strict=True)],
    )
    return [
        Generated(text, int(n), not ended) for text, n, ended in zip(made, n_new, done, strict=True)
    ]


def _opened(
    prefix: Prefix, twigs: Sequence[Twig], wanted: Sequence[Continuation], more: int
) -> tuple[Rows, torch.Tensor]:
    """Feed the twigs; return a row per continuation and its first logits (wanted, vocabulary).
    `more`: tokens that may follow.
    """
    rows = prefix.rows(twigs, (range(len(twigs)), [len(twig.own) - 1 for twig in twigs]), more)
    source = np.array([one.row for one in wanted])
    if np.array_equal(source, np.arange(len(twigs))):
        return rows, rows.logits
    if more:
        rows.select(source)
    return rows, rows.logits[torch.as_tensor(source, device=rows.logits.device)]


def _uniforms(wanted: Sequence[Continuation], sampling: Sampling) -> NDArray[np.float64] | None:
    """One number in [0, 1) per continuation and step, from its own seed alone: whoever shares its
    batch changes nothing.
    """
    if sampling.temperature == 0:
        return None
    return np.stack([np.random.default_rng(one.seed).random(sampling.max_tokens) for one in wanted])


def _choose(
    logits: torch.Tensor, points: NDArray[np.float64] | None, temperature: float
) -> NDArray[np.int64]:
    """Return a token per row: the likeliest, or where its point falls in the cumulated ones."""
    if points is None:
        chosen = logits.argmax(dim=-1)
    else:
        reached = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
        at = torch.as_tensor(points, device=logits.device)[:, None] * reached[:, -1:]
        chosen = torch.searchsorted(reached, at, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    picked: NDArray[np.int64] = chosen.cpu().numpy()
    return picked


def _mark_stopped(
    done: NDArray[np.bool_],
    at: NDArray[np.int64],
    wanted: Sequence[Continuation],
    new: NDArray[np.int64],
    stop: tuple[str, ...],
    texts: Texts,
) -> None:
    """Mark the continuations whose text holds a stop string. Only the last tokens are read, then
    the whole where they hit.
    """
    going = [i for i in at.tolist() if not done[i]]
    if not stop or not going:
        return
    window = max(
        len(s.encode()) for s in stop
    )  # a stop string that ends in the newest token began this far back
    before = [
        int(new[i, -window - 1]) if new.shape[1] > window else wanted[i].before for i in going
    ]
    ends = texts.of(before, new[going, -window:].tolist())
    stops = re.compile("|".join(map(re.escape, stop)))
    hits = [i for i, text in zip(going, ends, strict=True) if stops.search(text)]
    whole = texts.of([wanted[i].before for i in hits], new[hits].tolist()) if hits else []
    for i, text in zip(hits, whole, strict=True):
        done[i] = read_answer(text, stop, opened=wanted[i].opened).stopped


@torch.inference_mode()
def weigh(prefix: Prefix, rows: Sequence[Candidate]) -> list[dict[int, float]]:
    """Return for each row the log-likelihoods of its choices, in nats, summed over their tokens."""
    places: list[tuple[int, int]] = []
    for r, row in enumerate(rows):
        places += [(r, token) for token in row.wanted]
    slots = {place: i for i, place in enumerate(places)}
    logits = prefix.rows(
        [row.twig for row in rows], ([r for r, _ in places], [token for _, token in places])
    ).logits
    norm = logits.logsumexp(dim=-1)
    where: list[tuple[int, int]] = []
    for r, row in enumerate(rows):
        where += [(slots[r, token], new) for token, new in chain.from_iterable(row.reads.values())]
    slot, token = torch.tensor(where, device=logits.device).T
    nats = iter((logits[slot, token] - norm[slot]).double().tolist())
    found: list[dict[int, float]] = []
    for row in rows:
        n_tokens = {choice: len(pairs) for choice, pairs in row.reads.items()}
        found.append({choice: sum(islice(nats, n)) for choice, n in n_tokens.items()})
    return found
