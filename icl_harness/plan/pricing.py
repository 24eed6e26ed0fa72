"""What a plan must know of a model: how its tokens are counted, what its requests will cost.

In: a model. Out: a counter and, for one that is asked through an API, a forecast of its caches and
dollars.
"""

from __future__ import annotations

from dataclasses import dataclass

from icl_harness.models.base import Model, Sampling
from icl_harness.models.forecast import Counter, Forecast


def is_unpriced(model: Model) -> bool:
    """Return whether a model costs money and it is not known how much."""
    return model.is_api and model.price is None


def most_answer_tokens(model: Model, sampling: Sampling) -> int:
    """Return the tokens that an answer may take."""
    if sampling.scoring != "generate":
        return 0
    return model.limit(sampling)


def window_of(model: Model) -> tuple[int | None, str]:
    """Return the model's context window, None where it is not known, and who says so."""
    window = model.capabilities.context_window
    if window is not None:
        return window, "user" if model.is_api else "model"
    if model.price is not None:
        window = model.price.context_window
    return window, "" if window is None else "price table"


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Counts the tokens of one model's requests and foresees what they cost."""

    model: Model
    counter: Counter
    forecast: Forecast | None

    @classmethod
    def of(cls, model: Model) -> Costs:
        """Return those of a model."""
        return cls(model=model, counter=model.counter(), forecast=model.forecast())
