"""Draws: seeded orders of the pool, of which a prompt takes the first K.

In: the pool, a seed and names. Out: the same order everywhere and always.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def stable_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on the parts alone, not on process, platform or earlier
    calls.
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def draw_order(pool: Sequence[T], seed: int, draw: int, name: str) -> list[T]:
    """Return draw `draw` of the pool: one permutation of it, so that the prompts of a draw are
    nested in K.

    Source: Agarwal et al. 2024, section 2 (a K-shot prompt holds the shots of all smaller ones of
    its seed).
    """
    return [pool[place] for place in _permutation(len(pool), "draw", seed, draw, name)]


def sample_examples(examples: Sequence[T], n: int | None, seed: int, name: str) -> list[T]:
    """Return `n` of the examples, or all where n is None, in their own order.

    They are the first n of one permutation, so that a larger n keeps those of a smaller one.
    """
    if n is None or n >= len(examples):
        return list(examples)
    chosen = _permutation(len(examples), "sample", seed, name)[:n]
    return [examples[place] for place in sorted(chosen)]


def _permutation(size: int, *seed: object) -> list[int]:
    order: list[int] = np.random.default_rng(stable_seed(*seed)).permutation(size).tolist()
    return order
