"""Settings that check themselves: what a command line, a YAML file or Python gives, held to rules.

In: names and values. Out: a frozen object, or a `SpecError` of one line: which option, what it was
given and what it takes. A field's description is that rule; its `Option` says how it stands on the
command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from icl_harness.errors import SpecError, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


@dataclass(frozen=True)
class Option:
    """How a field stands on the command line.

    `default` is what help shows as the default where the field's own value does not say it, `names`
    are the options where they are not the field's name, `env` is an environment variable that gives
    the value.
    """

    metavar: str
    help: str
    default: str | None = None
    names: tuple[str, ...] = ()
    env: str | None = None


class Settings(BaseModel):
    """A frozen object whose fields are checked when it is made. Raises `SpecError`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return check(values)
        except ValidationError as error:
            raise SpecError(_one_line(cls, error.errors()[0])) from None

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_yes(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse the `yes` of a YAML file for a number: it would pass for 1. A number of numpy's is
        the number.
        """
        if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
            value = value.item()
        if isinstance(value, PathLike):
            value = fspath(value)
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("yes and no are for switches")
        return value


def options_of(settings: type[Settings]) -> Iterator[tuple[str, FieldInfo, Option]]:
    """Yield the fields that have an option on the command line: name, field and option."""
    for name, field in settings.model_fields.items():
        for option in field.metadata:
            if isinstance(option, Option):
                yield name, field, option


def option_name(name: str) -> str:
    """Return the option of a field's name, as in ``--max-tokens``."""
    return f"--{name.replace('_', '-')}"


def whole(least: int, most: int | None = None) -> Any:
    """Return the rule of a whole number from `least` to `most`."""
    rule = f"of {least} or more" if most is None else f"from {least} to {most:,}"
    return Field(ge=least, le=most, description=f"a whole number {rule}")


def number(
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    unit: str = "",
) -> Any:
    """Return the rule of a finite number of at least `least`, or above `above`, of some unit; of at
    most `most`, where that is given.
    """
    rule = f"above {above:g}" if above is not None else f"of {least:g} or more"
    if most is not None:
        rule += f", at most {most:g}"
    what = f"a number of {unit}" if unit else "a number"
    return Field(ge=least, gt=above, le=most, allow_inf_nan=False, description=f"{what} {rule}")


def text() -> Any:
    """Return the rule of a text that is not empty."""
    return Field(min_length=1, description="a text")


def unknown(what: str, name: object, known: tuple[str, ...]) -> str:
    """Return the message about a name that is none of those known."""
    return f"unknown {what} {name!r}.{nearest(str(name), known)} Known: {', '.join(known)}."


def _one_line(settings: type[Settings], fault: ErrorDetails) -> str:
    name, value = str(fault["loc"][0]), fault["input"]
    field = settings.model_fields.get(name)
    if field is None:
        return unknown("key", name, tuple(settings.model_fields))
    if fault["type"] == "literal_error":
        what = name.removesuffix("s") if len(fault["loc"]) > 1 else name  # one of several
        return unknown(what.replace("_", "-"), value, _choices(field.annotation))
    if fault["type"] == "string_too_short":
        return f"{option_name(name)} is empty; leave it out or give {field.description}."
    shown = value if str(value).strip() else repr(value)
    return f"{option_name(name)} is {shown}; it takes {field.description}."


def _choices(annotation: Any) -> tuple[str, ...]:
    """Return the values of a `Literal`, also within a tuple or an optional type."""
    inside = get_args(annotation)
    return inside if isinstance(inside[0], str) else get_args(inside[0])
