"""What a run measures: one object that the command line and YAML give, that the run folder stores
and that a resumed run is compared with.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationInfo, field_validator, model_validator

from icl_harness.errors import SpecError
from icl_harness.models.api.access import masked
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.execution import Execution
from icl_harness.runner.idle_options import OF_LATER_ITERATIONS, refuse_idle_options
from icl_harness.runner.lists import check_names, parse_names, parse_shots
from icl_harness.runner.spec_fields import SpecFields
from icl_harness.settings import option_name, options_of, unknown
from icl_harness.tasks.columns import Columns
from icl_harness.tasks.row_files import is_row_file, task_name

# Fields of which run.json says nothing while they are as usual, as it did before there were any.
UNSAID = (
    "gold_nll",
    "bank_iterations",
    *OF_LATER_ITERATIONS,
    "bank_threshold",
    "bank_agree",
    "bank_keep",
)
OF_PRESET = ("title", "also", "beside", "parts")


class Spec(SpecFields):
    """What is measured, as read: names in lists, other names of variants, what contradicts itself
    refused.
    """

    @model_validator(mode="before")
    @classmethod
    def _as_variants(cls, values: Any) -> Any:
        """Turn --shots-from and --prompts into operators of the variants, by which the cells of a
        run are told apart.
        """
        if not isinstance(values, Mapping):
            return values
        given = dict(values)
        source, wordings = given.pop("shots_from", None), given.pop("prompts", None)
        names = parse_names(given.get("variants"), "variants") or ("default",)
        worded = parse_names(wordings, "prompts")
        check_names(worded or ("own",), "prompts")
        if worded:
            pairs = itertools.product(names, worded)
            names = tuple(f"{variant}+prompts={wording}" for variant, wording in pairs)
        if source is not None:
            names = tuple(f"{variant}+shots-from={source}" for variant in names)
        return {**given, "variants": names} if worded or source is not None else given

    @field_validator("tasks", "models", "modes", "variants", mode="before")
    @classmethod
    def _read_names(cls, value: Any, info: ValidationInfo) -> tuple[str, ...]:
        name = info.field_name or ""
        names = parse_names(value, name)
        if name == "variants":
            names = tuple(str(parse_variant(variant)) for variant in names)
        check_names(names, name.removesuffix("s"))
        return names

    @field_validator("shots", mode="before")
    @classmethod
    def _read_shots(cls, value: Any) -> tuple[int, ...]:
        shots = parse_shots(value)
        if not shots:
            raise SpecError("no shot count is named. Name at least one, as in --shots 0,1,4,16.")
        if shots[0] < 0:
            raise SpecError(f"--shots holds {shots[0]}; a shot count is 0 or more.")
        return shots

    @field_validator("model_args", mode="before")
    @classmethod
    def _read_model_args(cls, value: Any) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise SpecError("model_args must be a mapping of names to values.")
        return {str(name): str(text) for name, text in value.items()}

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        """Refuse columns where no task is a file of rows, and two files of one name."""
        names = list(map(task_name, self.tasks))
        for name in names:
            if names.count(name) > 1:
                raise SpecError(
                    f"two files are called {name}, as their tasks would be. Rename one, or run them"
                    " apart."
                )
        pools = [parse_variant(variant).frame.pool for variant in self.variants]
        if self.columns() and not any(map(is_row_file, [*self.tasks, *pools])):
            raise SpecError(
                f"{option_name(next(iter(self.columns())))} is for a file of rows as the task, as "
                "in icl run tickets.csv, and none is named. Leave it out."
            )
        return self

    @model_validator(mode="after")
    def _refuse_idle_options(self) -> Self:
        refuse_idle_options(self)
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return the spec as JSON holds it, without `data` and the folders of files: the rows'
        hashes say more than where they lie. A key in the path of the server's URL is masked.
        """
        # Columns are left out where there are none, as they were before there were any.
        unset = set(Columns.model_fields) - set(self.columns())
        unset |= {"shots_from", "prompts"}  # variants say it
        unset.update(filter(self.is_usual, UNSAID))
        fields = self.model_dump(mode="json", exclude={"data", *unset})
        fields["tasks"] = list(map(task_name, self.tasks))
        return {**fields, "base_url": masked(self.base_url) if self.base_url else self.base_url}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Spec:
        """Return the spec that `values` hold, as YAML or Python give them: names in the singular
        too, lists or texts with commas. Raises `SpecError`, which opens with `where`.
        """
        try:
            return cls(**_by_field(values))
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from error

    @classmethod
    def of_run(cls, header: Mapping[str, Any], where: str) -> Spec:
        """Return the spec of a `run.json`, with the places where its rows were."""
        files = header.get("files", {})
        names = [files.get(name, name) for name in header["spec"]["tasks"]]
        given = {**header["spec"], "tasks": names, "data": header.get("data_dir")}
        return cls.from_dict(given, where)

    @classmethod
    def load(cls, path: Path, overrides: Mapping[str, Any]) -> Spec:
        """Read a spec from YAML; `overrides` (from the command line) win. What a preset has beside
        the keys of a grid (presets.py) is passed over. Raises `SpecError`.
        """
        where = str(path)
        if overrides:
            where = f"{path} with {', '.join(map(option_name, overrides))}"
        values = {}
        for name, value in read_yaml(path).items():
            if name not in OF_PRESET and field_of(name) not in overrides:
                values[name] = value
        return cls.from_dict({**values, **overrides}, where)


def default_folder(spec: Spec, tables: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Return `results/<tasks>-<models>-<hash>`, so that the same command finds its run again.
    `tables`: those of tasks that are rows of Python, which have one name and may be others.
    """
    fields = spec.as_dict()
    if spec.samples == 1:  # runs made before there were samples keep their folder
        del fields["samples"]
    asked = [fields, *tables] if tables else fields
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:6]
    tasks = tuple(map(task_name, spec.tasks))
    name = "-".join(re.sub(r"[^\w.]+", "_", part) for part in (*tasks[:3], *spec.models[:2]))
    return Path("results") / f"{name[:60]}-{digest}"


_OTHER_NAMES = {
    "task": "tasks",
    "model": "models",
    "mode": "modes",
    "variant": "variants",
    "iterations": "bank_iterations",
}


def field_of(written: object) -> str:
    """Return the field that a name means: `on-overflow`, one in the singular, or --iterations."""
    name = str(written).replace("-", "_")
    return _OTHER_NAMES.get(name, name)


def _by_field(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by the names of fields. Raises `SpecError` for a name that is none."""
    given: dict[str, Any] = {}
    for written, value in values.items():
        field = field_of(written)
        if field in given:
            raise SpecError(f"{written} and {field} are the same: give one.")
        _refuse_unknown(field)
        given[field] = value
    return given


def _refuse_unknown(name: str) -> None:
    if name in ("dtype", "device_map"):
        raise SpecError(f"{name} belongs under model_args, as in model_args: {{{name}: …}}.")
    carried_out = {field for field, _, _ in options_of(Execution)}
    if name in carried_out | {"out"}:
        raise SpecError(
            f"{name} does not change what is measured; give it as the option {option_name(name)}."
        )
    if name not in Spec.model_fields:
        raise SpecError(unknown("key", name, tuple(Spec.model_fields)))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds. Raises `SpecError`."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict):
        raise SpecError(
            f"{path} must hold a mapping such as 'tasks: [dialects]', one key per line."
        )
    return values
