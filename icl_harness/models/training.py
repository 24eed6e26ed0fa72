"""What a training on shots took, as it is told beside the first answer after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training. `held_out`: how many shots the learning rate was chosen on (0: it was not
    chosen), and `losses` what each rate came to on them, in nats per token of an answer.

    Tokens are those that the model was fed, once for each pass over them; `choice_tokens` and
    `choice_seconds` are the part of all that choosing the rate took.
    """

    n_shots: int
    learning_rate: float
    losses: Mapping[float, float]
    held_out: int
    epochs: int
    tokens: int
    choice_tokens: int
    seconds: float
    choice_seconds: float
