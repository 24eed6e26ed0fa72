"""Draws: seeded orders of the pool, of which a prompt takes the first K.

In: the pool, a seed and names. Out: the same order everywhere and always.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from icl_harness.errors import SpecError
from icl_harness.examples import Example

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


def sample_clusters(
    examples: Sequence[Example], n: int | None, seed: int, name: str
) -> list[Example]:
    """Return at most `n` of the examples, those of a cluster all or none, in their own order.

    They are the first clusters of one permutation, so that a larger n keeps those of a smaller one.
    Raises `SpecError` where not even one fits.
    """
    if n is None or n >= len(examples):
        return list(examples)
    sizes = Counter(map(_cluster, examples))
    clusters = list(sizes)
    chosen: set[str] = set()
    for place in _permutation(len(clusters), "sample", seed, name):
        n -= sizes[clusters[place]]
        if n < 0:
            break
        chosen.add(clusters[place])
    if not chosen:
        raise SpecError(
            f"{name} stand together, up to {max(sizes.values())} of them: ask for as many or more."
        )
    return [example for example in examples if _cluster(example) in chosen]


def _cluster(example: Example) -> str:
    return f"id {example.id}" if example.cluster is None else f"cluster {example.cluster}"


def _permutation(size: int, *seed: object) -> list[int]:
    order: list[int] = np.random.default_rng(stable_seed(*seed)).permutation(size).tolist()
    return order
