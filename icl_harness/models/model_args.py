"""`--model-arg NAME=TEXT`: read into a provider's options and checked.

In: names and texts as the user typed them, and a class of options derived from `ModelArgs`. Out: an
object of that class. A field's description is the rule that a message states: "it must be …".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icl_harness.errors import ModelError, nearest


class ModelArgs(BaseModel):
    """The options of a kind of model, one field for each name that `--model-arg` may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def given(self, *, beside: type[ModelArgs]) -> dict[str, Any]:
        """Return the options that the user gave, but for those that `beside` has too."""
        names = self.model_fields_set - beside.model_fields.keys()
        return {name: getattr(self, name) for name in type(self).model_fields if name in names}


T = TypeVar("T", bound=ModelArgs)


def whole(default: int | None, *, least: int) -> Any:
    """Return a field for a whole number from `least` up."""
    return Field(default, ge=least, description=f"a whole number from {least} up")


def seconds(default: float) -> Any:
    """Return a field for a number of seconds above 0."""
    return Field(default, gt=0, allow_inf_nan=False, description="a number of seconds above 0")


def yes_no(default: bool | None) -> Any:
    """Return a field that is yes or no."""
    return Field(default, description="yes or no")


def word(default: str | None = None) -> Any:
    """Return a field for a text that is not empty."""
    return Field(default, min_length=1, description="a word")


def read_model_args(
    options: type[T], given: Mapping[str, str], id: str, *, others: Sequence[str] = ()
) -> T:
    """Return the options that a user gave to the model `id`; `others` are names that were read
    before. Raises `ModelError` in one line: which name, and what it takes.
    """
    fields = options.model_fields
    for name in given:
        if name not in fields:
            known = ", ".join(sorted({*fields, *others}))
            raise ModelError(
                f"{id} has no model-arg {name!r}; it takes {known}.{nearest(name, fields)}"
            )
    try:
        return options(**given)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise ModelError(
            f"{id}: --model-arg {name}={given[name]}: it must be {fields[name].description}."
        ) from None
