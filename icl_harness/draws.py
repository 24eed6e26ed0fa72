"""Draws: seeded orders of the pool, of which a prompt takes the first K."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def stable_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on the parts alone: not on the process, the platform or the
    order of calls.
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def draw_order(pool: Sequence[T], seed: int, draw: int, name: str) -> list[T]:
    """Return draw `draw` of the pool: one permutation, so that the K-shot prompts of a draw are
    nested in K.

    Source: Agarwal et al. 2024, section 2 (every K-shot prompt holds the shots of the smaller ones
    of its seed).
    """
    rng = np.random.default_rng(stable_seed("draw", seed, draw, name))
    return [pool[i] for i in rng.permutation(len(pool))]


def sample_examples(examples: Sequence[T], n: int | None, seed: int, name: str) -> list[T]:
    """Return `n` of the examples (all where n is None), in their own order; the first n of one
    permutation, so that a larger n keeps those of a smaller one.
    """
    if n is None or n >= len(examples):
        return list(examples)
    rng = np.random.default_rng(stable_seed("sample", seed, name))
    return [examples[i] for i in sorted(rng.permutation(len(examples))[:n])]
