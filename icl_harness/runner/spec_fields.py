"""The fields of a spec: what each says, its default, and the option that gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from icl_harness.prompts.modes import Format, Mode
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.choice_scores import AnyScoring
from icl_harness.settings import Option, number, text, whole
from icl_harness.store.bank import PASSING_REWARD, Rules
from icl_harness.tasks.columns import Columns

OnOverflow = Literal["drop", "skip", "error"]
MOST_DRAWS = 10_000


class SpecFields(Columns):
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
            "generate, choices, choices-normalised (per token), choices-per-byte,"
            " choices-per-character, choices-pmi, choices-calibrated or decisions (experimental).",
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

    def is_usual(self, name: str) -> bool:
        """Return whether a field has its default."""
        return bool(getattr(self, name) == type(self).model_fields[name].default)

    @property
    def bank_rules(self) -> Rules:
        """Return which attempts become shots."""
        return Rules(threshold=self.bank_threshold, agree=self.bank_agree, keep=self.bank_keep)

    @property
    def needs_bank(self) -> bool:
        """Return whether attempts at pool problems are asked for."""
        variants = map(parse_variant, self.variants)
        return "reinforced" in self.modes or any(variant.needs_bank for variant in variants)
