"""How a model is fine-tuned: what `--model-arg` may set, and what follows from it.

Rank and scale as Schulman et al. 2025 ("LoRA without regret") and Dettmers et al. 2023 have them,
matrices beside all linear layers. Nothing here needs torch or peft.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

LEARNING_RATES = (3e-4, 1e-3, 3e-3)
EPOCHS = 10
LEAST_STEPS = 20
RANK = 16
BATCH = 8  # shots a step
ENOUGH_TO_CHOOSE = 20  # different shots; a fifth of fewer says little

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """`learning_rates`, ascending; `epochs`: the least passes over the shots; `rank`: of LoRA's
    matrices.
    """

    learning_rates: tuple[float, ...] = LEARNING_RATES
    epochs: int = EPOCHS
    rank: int = RANK

    @property
    def middle(self) -> float:
        """Return the rate that is used where none can be chosen."""
        return self.learning_rates[(len(self.learning_rates) - 1) // 2]

    def parts(self, shots: Sequence[T], seed: int) -> tuple[list[T], list[T]]:
        """Return different shots in two parts: to train on while a rate is chosen, and a fifth to
        choose it by; the second is empty where there is nothing to choose, or too little to go by.
        """
        if len(self.learning_rates) == 1 or len(shots) < ENOUGH_TO_CHOOSE:
            return list(shots), []
        chosen: list[int] = np.random.default_rng(seed).permutation(len(shots)).tolist()
        held = set(chosen[: len(shots) // 5])
        learned = [shot for i, shot in enumerate(shots) if i not in held]
        return learned, [shots[i] for i in sorted(held)]

    def passes(self, n_shots: int) -> int:
        """Return how often shots are passed over: few ones more often, or they change little."""
        steps = math.ceil(n_shots / BATCH)
        return max(self.epochs, math.ceil(LEAST_STEPS / steps))
