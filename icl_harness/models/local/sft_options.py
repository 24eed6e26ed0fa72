"""What `--model-arg` may set of a model that is fine-tuned on the shots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from icl_harness.errors import ModelError
from icl_harness.models.local import hf_open
from icl_harness.models.local.recipe import EPOCHS, LEARNING_RATES, RANK, Recipe
from icl_harness.models.model_args import read_model_args, whole


def _listed(text: object) -> object:
    return text.split(",") if isinstance(text, str) else text


def _ascending(rates: tuple[float, ...]) -> tuple[float, ...]:
    if not rates or not all(0 < rate < math.inf for rate in rates):
        raise ValueError
    return tuple(sorted(set(rates)))


Rates = Annotated[tuple[float, ...], BeforeValidator(_listed), AfterValidator(_ascending)]


class Options(hf_open.Options):
    """Beside those of `hf/` models. `learning_rates`: one, or several to choose from. `epochs`:
    passes over the shots, more over few ones. `rank`: of LoRA's matrices.
    """

    learning_rates: Rates = Field(
        LEARNING_RATES, description="numbers above 0 with commas, as in 3e-4,1e-3"
    )
    epochs: int = whole(EPOCHS, least=1)
    rank: int = whole(RANK, least=1)


def read_options(model_args: Mapping[str, str], id: str) -> tuple[Recipe, dict[str, str]]:
    """Return how a model is trained, and the texts that are for the model itself. Raises
    `ModelError` naming the option and what it may be.
    """
    options = read_model_args(Options, model_args, id)
    if options.adapter is not None:
        raise ModelError(
            f"{id}: --model-arg adapter: it trains an adapter of its own. Merge the other one into "
            "the weights first, or leave it out."
        )
    recipe = Recipe(learning_rates=options.learning_rates, epochs=options.epochs, rank=options.rank)
    own = set(Options.model_fields) - set(hf_open.Options.model_fields)
    return recipe, {name: text for name, text in model_args.items() if name not in own}
