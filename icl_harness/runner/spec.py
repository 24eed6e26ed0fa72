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
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from icl_harness.errors import SpecError
from icl_harness.models import is_api
from icl_harness.models.api.access import masked
from icl_harness.prompts.modes import Format, Mode
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.choice_scores import AnyScoring
from icl_harness.runner.execution import Execution
from icl_harness.runner.lists import check_names, parse_names, parse_shots
from icl_harness.settings import (
    Option,
    number,
    option_name,
    options_of,
    text,
    unknown,
    whole,
)
from icl_harness.store.bank import PASSING_REWARD, Rules
from icl_harness.tasks.columns import Columns
from icl_harness.tasks.row_files import is_row_file, task_name

OnOverflow = Literal["drop", "skip", "error"]
MOST_DRAWS = 10_000
OF_LATER_ITERATIONS = ("bank_prompts", "bank_prompt_shots")
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


class Spec(Columns):
    """What is measured. All fields but `data` (where the rows lie) decide the numbers of a run; so
    does the name of a task's file, not its folder.

    `pool` and `queries` limit how many examples of the task are used: None for all, and the same
    ones in every mode. `worked` is the number of solved examples in the unsupervised format block,
    at most 4 (Agarwal et al. 2024, section 3).
    """

    tasks: Annotated[tuple[str, ...], Field(validate_default=True)] = ()
    models: Annotated[
        tuple[str, ...],
        Field(validate_default=True),
        Option(
            "MODEL", "demo, or provider/name. Several: by commas, or one each.", names=("--model",)
        ),
    ] = ()
    modes: Annotated[tuple[Mode, ...], Option("MODES", "supervised,reinforced,unsupervised.")] = (
        "supervised",
    )
    shots: Annotated[
        tuple[int, ...], Option("SHOTS", "0,1,4,16 or 0,1..64 (powers of two).", "0,1..64")
    ] = (0, 1, 2, 4, 8, 16, 32, 64)
    draws: Annotated[int, whole(1, MOST_DRAWS), Option("N", "Seeded orders of the pool.")] = 3
    queries: Annotated[
        int | None, whole(1), Option("N", "Test examples asked in each cell.", "all")
    ] = None
    pool: Annotated[
        int | None, whole(1), Option("N", "Pool examples used, the same in every mode.", "all")
    ] = None
    seed: Annotated[int, whole(0), Option("N", "Of draws, pool and queries.")] = 0
    shots_from: Annotated[
        str | None,
        text(),
        Option("TASK", "Shots of another task's pool before these queries: a variant, too."),
    ] = None
    prompts: Annotated[
        tuple[str, ...],
        Option(
            "NAMES", "Wordings, as in classify,classify-terse: files of prompts/; variants, too."
        ),
    ] = ()
    variants: Annotated[
        tuple[str, ...],
        Option(
            "NAMES",
            "What else the prompt changes, as in default,flipped,noise=0.2+order=3. icl tasks"
            " TASK lists what there is.",
            names=("--variants", "--variant"),
        ),
    ] = ("default",)
    format: Annotated[
        Format, Option("FORM", "text, or chat: shots as messages of user and assistant.")
    ] = "text"
    queries_per_request: Annotated[
        int,
        whole(1),
        Option("N", "Numbered queries in one request. It changes what is measured."),
    ] = 1
    scoring: Annotated[
        AnyScoring,
        Option(
            "SCORING",
            "generate, choices, choices-normalised (per token), choices-per-byte, choices-pmi,"
            " choices-calibrated or decisions (experimental).",
        ),
    ] = "generate"
    gold_nll: Annotated[
        bool, Option("", "Store the NLL of the gold answer, too: icl curves RUN --metric gold_nll.")
    ] = False
    temperature: Annotated[float, number(least=0), Option("T", "Temperature of the answers.")] = 0.0
    samples: Annotated[
        int, whole(1), Option("N", "Answers to each query; several need a --temperature above 0.")
    ] = 1
    max_tokens: Annotated[int | None, whole(1), Option("N", "Longest answer.", "the task's")] = None
    on_overflow: Annotated[
        OnOverflow,
        Option("WAY", "Prompt beyond the window: drop (whole shots), skip (its cell) or error."),
    ] = "drop"
    worked: Annotated[
        int, whole(0, 4), Option("N", "Unsupervised: solved examples in the format block, 0 to 4.")
    ] = 0
    bank: Annotated[
        str | None,
        text(),
        Option("RUN", "Reinforced: take the bank of this run folder or file."),
    ] = None
    bank_samples: Annotated[
        int, whole(1), Option("N", "Reinforced: attempts at each pool problem.")
    ] = 4
    bank_temperature: Annotated[
        float, number(least=0), Option("T", "Reinforced: temperature of the attempts.")
    ] = 1.0
    bank_shots: Annotated[
        int, whole(0), Option("N", "Reinforced: supervised shots before each attempt.")
    ] = 0
    bank_iterations: Annotated[
        int,
        whole(1),
        Option(
            "N",
            "Reinforced: later iterations attempt what is unsolved, with shots of the bank.",
            names=("--bank-iterations", "--iterations"),
        ),
    ] = 1
    bank_prompts: Annotated[
        int,
        whole(1),
        Option("N", "Reinforced: prompts that a further iteration tries; the best goes on."),
    ] = 4
    bank_prompt_shots: Annotated[
        int, whole(1), Option("K", "Reinforced: shots of each of these prompts.")
    ] = 25
    bank_threshold: Annotated[
        float, number(above=0, most=1), Option("R", "Reinforced: the least reward that is kept.")
    ] = PASSING_REWARD
    bank_agree: Annotated[
        int, whole(1), Option("N", "Reinforced: keep problems that so many attempts solve.")
    ] = 1
    bank_keep: Annotated[
        int, whole(1), Option("N", "Reinforced: rationales kept of a problem, each a shot.")
    ] = 1
    base_url: Annotated[
        str | None,
        text(),
        Option("URL", "APIs: the server; with openai/ any compatible one."),
    ] = None
    model_args: Annotated[
        Mapping[str, str],
        Option(
            "KEY=VALUE",
            "For the model's provider; one each. A wrong key lists them.",
            names=("--model-arg",),
        ),
    ] = Field(default_factory=dict)
    data: Annotated[
        str | None,
        text(),
        Option("DIR", "Rows from DIR/<task>/{train,test}.jsonl|csv.", "the hub", env="ICL_DATA"),
    ] = None

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
        """Refuse what would be accepted and do nothing."""
        self._refuse_idle_modes()
        if self.samples > 1:
            self._refuse_idle_samples()
        if self.gold_nll:
            self._refuse_idle_gold_nll()
        if self.queries_per_request != 1 and self.scoring != "generate":
            raise SpecError(
                "--queries-per-request needs written answers, which --scoring"
                f" {self.scoring} does not ask for. Leave one of them out."
            )
        for name in self.models:
            self._refuse_idle_for(name)
        if self.model_args and all(name.startswith("baseline/") for name in self.models):
            raise SpecError("--model-arg does nothing for reference learners. Leave it out.")
        if self.models and all(name.startswith("baseline/") for name in self.models):
            self._refuse_idle_words()
        if self.base_url and not any(map(is_api, self.models)):
            raise SpecError(
                "--base-url is for openai/, anthropic/ and google/ models, and none is named."
                " Leave it out."
            )
        return self

    def _refuse_idle_modes(self) -> None:
        if "unsupervised" not in self.modes and self.worked:
            raise SpecError("--worked belongs to the unsupervised mode, which is not asked for.")
        if self._needs_bank:
            self._refuse_idle_bank_options()
            return
        for name in type(self).model_fields:
            if name.partition("_")[0] == "bank" and not self._is_usual(name):
                raise SpecError(
                    f"{option_name(name)} belongs to the reinforced mode and the variant bank, and"
                    " neither is asked for."
                )

    def _refuse_idle_words(self) -> None:
        """Refuse variants that change the words of prompts alone, where no model reads them."""
        for variant in map(parse_variant, self.variants):
            if variant.frame.prompts or not variant.frame.instruction:
                raise SpecError(
                    f"variant {variant}: {self.models[0]} reads no prompts, so their words do "
                    "nothing for it. Name a language model, too, or leave the variant out."
                )

    def _is_usual(self, name: str) -> bool:
        return bool(getattr(self, name) == type(self).model_fields[name].default)

    def _refuse_idle_bank_options(self) -> None:
        for name in ("bank_iterations", *OF_LATER_ITERATIONS):
            if self.bank and not self._is_usual(name):
                raise SpecError(
                    f"{option_name(name)} is for a bank that is yet to be made, and --bank names "
                    "one that is there. Leave one of them out."
                )
            if self.bank_iterations == 1 and not self._is_usual(name):
                raise SpecError(
                    f"{option_name(name)} is for iterations after the first. Ask for some, as in "
                    "--bank-iterations 2, or leave it out."
                )
        if self.bank is None and self.bank_agree > self.bank_samples:
            raise SpecError(
                f"--bank-agree is {self.bank_agree}, and --bank-samples {self.bank_samples}: no "
                f"problem has so many attempts. Ask for at most {self.bank_samples}."
            )
        if self.bank is None and self.bank_keep > self.bank_samples:
            raise SpecError(
                f"--bank-keep is {self.bank_keep}, and --bank-samples {self.bank_samples}: no "
                f"problem has so many attempts. Ask for at most {self.bank_samples}."
            )

    @property
    def bank_rules(self) -> Rules:
        """Return which attempts become shots."""
        return Rules(threshold=self.bank_threshold, agree=self.bank_agree, keep=self.bank_keep)

    @property
    def _needs_bank(self) -> bool:
        variants = map(parse_variant, self.variants)
        return "reinforced" in self.modes or any(variant.needs_bank for variant in variants)

    def _refuse_idle_samples(self) -> None:
        several = f"--samples {self.samples}"
        if self.scoring != "generate":
            raise SpecError(
                f"{several} needs written answers, which --scoring {self.scoring} does not ask for."
                " Leave one of them out."
            )
        if self.temperature == 0:
            raise SpecError(
                f"{several} at temperature 0 gives the same answer each time. Give a --temperature"
                " above 0, as in --temperature 0.7, or leave --samples out."
            )
        if self.queries_per_request != 1:
            raise SpecError(
                f"{several} and --queries-per-request exclude each other: answers of one request"
                " are not independent. Leave one of them out."
            )

    def _refuse_idle_gold_nll(self) -> None:
        if self.scoring != "generate":
            raise SpecError(
                f"--gold-nll is for written answers: --scoring {self.scoring} stores the NLL of the"
                " gold answer by itself. Leave it out."
            )
        if self.queries_per_request != 1:
            raise SpecError(
                "--gold-nll weighs the gold answer to one query, and --queries-per-request asks"
                " several in one request. Leave one of them out."
            )

    def _refuse_idle_for(self, model: str) -> None:
        if self.scoring == "decisions" and not is_api(model):
            raise SpecError(
                f"{model} offers no --scoring decisions, which asks providers;"
                " use --scoring choices."
            )
        if not model.startswith("baseline/"):
            return
        for name in ("queries_per_request", "format", "samples"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise SpecError(
                    f"{model} reads no prompts, so {option_name(name)} does nothing for it."
                    " Leave one of them out."
                )

    def as_dict(self) -> dict[str, Any]:
        """Return the spec as JSON holds it, without `data` and the folders of files: the rows'
        hashes say more than where they lie. A key in the path of the server's URL is masked.
        """
        # Columns are left out where there are none, as they were before there were any.
        unset = set(Columns.model_fields) - set(self.columns())
        unset |= {"shots_from", "prompts"}  # variants say it
        unset.update(filter(self._is_usual, UNSAID))
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
