"""The options of `icl_harness.run`, spelt out so that editors complete and checkers check them.

A test holds the names to the fields of `Spec` and `Execution`, which say what each takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import Literal, TypeAlias, TypedDict

from icl_harness.cli.python_objects import GivenTask
from icl_harness.models.api.timing import Timing
from icl_harness.prompts.modes import Format, Mode
from icl_harness.runner.choice_scores import AnyScoring
from icl_harness.runner.spec_fields import OnOverflow
from icl_harness.tasks.columns import Answers

Names: TypeAlias = str | Iterable[str]
Folder: TypeAlias = str | PathLike[str]


class RunOptions(TypedDict, total=False):
    """What `run` takes beside tasks, model and folder; `icl run --help` says more of each."""

    # what is measured
    modes: Mode | Iterable[Mode]
    shots: int | str | Iterable[int]
    draws: int
    queries: int | None
    pool: int | None
    seed: int
    shots_from: GivenTask | None
    prompts: Names
    variants: Names
    format: Format
    queries_per_request: int
    scoring: AnyScoring | str
    gold_nll: bool
    temperature: float
    samples: int
    max_tokens: int | None
    on_overflow: OnOverflow
    worked: int
    bank: Folder | None
    bank_samples: int
    bank_temperature: float
    bank_shots: int
    bank_iterations: int
    bank_prompts: int
    bank_prompt_shots: int
    bank_threshold: float
    bank_agree: int
    bank_keep: int
    base_url: str | None
    model_args: Mapping[str, str]
    data: Folder | None
    # which columns of a file or a frame
    input: Names | None
    target: str | None
    split: str | None
    group: str | None
    answers: Answers | None
    instruction: str | None
    # one of several, where there is but one
    mode: Mode
    variant: str
    # how it is carried out
    batch: bool
    rpm: float | None
    tpm: float | None
    max_cost: float | None
    kv_cache: Folder | None
    kv_cache_gb: float | None
    workers: Literal["ray"] | None
    worker_cpus: int | None
    say: Callable[[str], None]
    timing: Timing
