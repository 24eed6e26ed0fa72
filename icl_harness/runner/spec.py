"""The spec of a run: one object that the command line parses into, YAML holds, the run folder
stores and resume compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from icl_harness.errors import SpecError, nearest
from icl_harness.models import APIS
from icl_harness.models.base import Scoring
from icl_harness.prompts.modes import MODES, Format, Mode
from icl_harness.prompts.variants import parse_variant

OnOverflow = Literal["drop", "skip", "error"]
MOST_DRAWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What is asked for. Everything here but `data` (where the rows lie) decides the numbers of a
    run.

    `pool` and `queries` limit how many examples of the task are used (None: all; the same ones in
    every mode). `bank_*`: how the bank of reinforced mode is sampled; `bank`: an earlier run's bank
    instead. `worked`: solved examples in the unsupervised format block (at most 4, Agarwal et al.
    2024, section 3). `format`: shots as text, or as turns of a chat. `queries_per_request`: how
    many share a request (groups).
    """

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    modes: tuple[Mode, ...] = ("supervised",)
    shots: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64)
    draws: int = 3
    queries: int | None = None
    pool: int | None = None
    seed: int = 0
    variants: tuple[str, ...] = ("default",)
    format: Format = "text"
    queries_per_request: int = 1
    scoring: Scoring = "generate"
    temperature: float = 0.0
    max_tokens: int | None = None
    on_overflow: OnOverflow = "drop"
    worked: int = 0
    bank: str | None = None
    bank_samples: int = 4
    bank_temperature: float = 1.0
    bank_shots: int = 0
    base_url: str | None = None
    model_args: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None

    def __post_init__(self) -> None:
        canonical = tuple(str(parse_variant(variant)) for variant in self.variants)
        object.__setattr__(self, "variants", canonical)
        for name, most in (
            ("tasks", "task"),
            ("models", "model"),
            ("modes", "mode"),
            ("variants", "variant"),
        ):
            values = getattr(self, name)
            if not values:
                raise SpecError(f"no {most} is named. Name at least one.")
            _refuse_repeats(name, values)
            for value in values:
                if not value.isprintable():  # a line break, half a surrogate pair
                    raise SpecError(
                        f"{most} {value!a} is no name: it holds what cannot be printed."
                    )
        _one_of("mode", self.modes, MODES)
        _one_of("format", (self.format,), get_args(Format))
        _one_of("scoring", (self.scoring,), get_args(Scoring))
        _one_of("on-overflow", (self.on_overflow,), get_args(OnOverflow))
        if not self.shots:
            raise SpecError(
                "no shot count is named. Ask for at least one, such as --shots 0,1,4,16."
            )
        _refuse_repeats("shots", self.shots)
        if min(self.shots) < 0:
            raise SpecError(f"--shots holds {min(self.shots)}; a shot count is 0 or more.")
        object.__setattr__(self, "shots", tuple(sorted(self.shots)))
        self._check_numbers()
        self._refuse_idle_flags()

    def _refuse_idle_flags(self) -> None:
        """Refuse what would be accepted and do nothing."""
        if "unsupervised" not in self.modes and self.worked:
            raise SpecError("--worked belongs to the unsupervised mode, which is not asked for.")
        for name in ("bank", "bank_samples", "bank_temperature", "bank_shots"):
            default = next(f.default for f in fields(self) if f.name == name)
            if not self._needs_bank and getattr(self, name) != default:
                raise SpecError(
                    f"--{name.replace('_', '-')} belongs to the reinforced mode and the variant bank, and "
                    "neither is asked for."
                )
        if self.queries_per_request != 1 and self.scoring != "generate":
            raise SpecError(
                f"--queries-per-request needs written answers: --scoring {self.scoring} weighs one's choices."
            )
        for name in self.models:
            if self.scoring == "decisions" and not name.startswith(APIS):
                raise SpecError(
                    f"{name} offers no --scoring decisions, which asks providers; use --scoring choices."
                )
            if name.startswith("baseline/") and (
                self.queries_per_request != 1 or self.format != "text"
            ):
                option = "--queries-per-request" if self.queries_per_request != 1 else "--format"
                raise SpecError(
                    f"{name} reads no prompts, so {option} does nothing for it. Leave one of them out."
                )
        if self.model_args and all(name.startswith("baseline/") for name in self.models):
            raise SpecError("--model-arg does nothing for reference learners.")
        if self.base_url and not any(name.startswith(APIS) for name in self.models):
            raise SpecError(
                "--base-url belongs to openai/, anthropic/ and google/ models, and none is named."
            )

    @property
    def _needs_bank(self) -> bool:
        variants = map(parse_variant, self.variants)
        return "reinforced" in self.modes or any(variant.needs_bank for variant in variants)

    def _check_numbers(self) -> None:
        at_least = {
            "draws": 1, "queries": 1, "pool": 1, "seed": 0, "max_tokens": 1, "bank_samples": 1, "bank_shots": 0,
            "queries_per_request": 1,
        }  # fmt: skip
        for name, least in at_least.items():
            value = getattr(self, name)
            if value is not None and (
                not isinstance(value, int) or isinstance(value, bool) or value < least
            ):
                raise SpecError(
                    f"--{name.replace('_', '-')} is {value}; it takes a whole number of {least} or more."
                )
        if self.draws > MOST_DRAWS:
            raise SpecError(f"--draws is {self.draws}; it takes at most {MOST_DRAWS:,}.")
        if self.worked not in range(5):
            raise SpecError(
                f"--worked is {self.worked}; the format block takes 0 to 4 worked examples."
            )
        for name in ("temperature", "bank_temperature"):
            value = getattr(self, name)
            if (
                not isinstance(value, int | float)
                or isinstance(value, bool)
                or not 0 <= value < float("inf")
            ):
                raise SpecError(
                    f"--{name.replace('_', '-')} is {value}; it takes a number of 0 or more."
                )
        for name in ("bank", "base_url", "data"):
            if not isinstance(getattr(self, name), str | None):
                raise SpecError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; it takes a text."
                )
            if getattr(self, name) == "":
                raise SpecError(
                    f"--{name.replace('_', '-')} is empty; leave it out or give a text."
                )

    def as_dict(self) -> dict[str, Any]:
        """Return the spec as JSON holds it, without `data`: the data's hashes say more than its
        place.
        """
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        del found["data"]
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Spec:
        """Return the spec that `values` hold; lists and comma-separated texts both serve. Raises
        `SpecError`.
        """
        known = [f.name for f in fields(cls)]
        given: dict[str, Any] = {}
        for name, value in values.items():
            written = str(name).replace("-", "_")
            key = _SINGULAR.get(written, written)
            if key in given:
                raise SpecError(f"{where}: {written} and {key} are the same: give one.")
            given[key] = value
        for key in given:
            if key in ("dtype", "device_map"):
                raise SpecError(
                    f"{where}: {key} belongs under model_args, as in model_args: {{{key}: …}}."
                )
            if key in _HOW_IT_IS_RUN:
                option = f"--{key.replace('_', '-')}"
                raise SpecError(
                    f"{where}: {key} is no part of what is measured; give it as the option {option}."
                )
            if key not in known:
                raise SpecError(
                    f"{where}: unknown key {key!r}.{nearest(key, known)} Known: {', '.join(known)}."
                )
        for key in ("tasks", "models", "modes", "variants"):
            if key in given:
                given[key] = parse_names(given[key], key)
        if "shots" in given:
            given["shots"] = parse_shots(given["shots"])
        if not isinstance(given.get("model_args", {}), Mapping):
            raise SpecError(f"{where}: model_args must be a mapping of names to values.")
        given["model_args"] = {str(k): str(v) for k, v in given.get("model_args", {}).items()}
        try:
            return cls(**given)
        except TypeError as error:
            lacking = [key for key in ("tasks", "models") if key not in given]
            raise SpecError(
                f"{where}: {'lacks ' + ' and '.join(lacking) if lacking else error}."
            ) from error

    @classmethod
    def load(cls, path: Path, overrides: Mapping[str, Any]) -> Spec:
        """Read a spec from YAML; `overrides` (from the command line) win. Raises `SpecError`."""
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
        return cls.from_dict({**values, **overrides}, str(path))


_HOW_IT_IS_RUN = (
    "out",
    "workers",
    "worker_cpus",
    "kv_cache",
    "kv_cache_gb",
    "batch",
    "rpm",
    "tpm",
    "max_cost",
)
_SINGULAR = {"task": "tasks", "model": "models", "mode": "modes", "variant": "variants"}


def parse_names(value: Any, what: str = "names") -> tuple[str, ...]:
    """Return the names in a comma-separated text, or in a list of such texts."""
    if isinstance(value, Mapping):
        raise SpecError(f"{what}: give a name or a list of names, not a mapping.")
    parts = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return tuple(
        name for part in parts for name in (p.strip() for p in str(part).split(",")) if name
    )


def parse_shots(value: Any) -> tuple[int, ...]:
    """Return the shot counts of ``0,1,4`` or ``1..1024`` (powers of two from 1; both ends belong to
    it), or of a list.

    Raises `SpecError` naming the part that is no shot count.
    """
    parts = (
        value.split(",")
        if isinstance(value, str)
        else value
        if isinstance(value, Sequence)
        else [value]
    )
    counts: set[int] = set()
    for part in (str(p).strip() for p in parts):
        low, dots, high = part.partition("..")
        try:
            counts.update(_powers(int(low), int(high)) if dots else [int(part)])
        except ValueError:
            raise SpecError(
                f"--shots: {part!r} is not a shot count. Give whole numbers such as 0,1,4,16 or a range 1..1024."
            ) from None
    return tuple(sorted(counts))


def _powers(low: int, high: int) -> set[int]:
    if low < 0 or high < low:
        raise SpecError(f"--shots: {low}..{high} is empty. A range rises, from 0 or more.")
    return {low, high, *(1 << i for i in range(high.bit_length()) if low <= 1 << i <= high)}


def _refuse_repeats(name: str, values: Sequence[Any]) -> None:
    twice = [v for i, v in enumerate(values) if v in values[:i]]
    if twice:
        raise SpecError(f"{name}: {twice[0]!r} is named twice. Name each once.")


def _one_of(what: str, values: Sequence[Any], known: Sequence[str]) -> None:
    for value in values:
        if value not in known:
            raise SpecError(
                f"unknown {what} {value!r}.{nearest(str(value), known)} Known: {', '.join(known)}."
            )
