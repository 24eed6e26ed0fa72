"""What a spec asks for that would do nothing: refused in one line, with the remedy.

In: a spec, whose fields are valid one by one. Out: nothing, or a `SpecError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icl_harness.errors import SpecError
from icl_harness.models import is_api
from icl_harness.prompts.variants import parse_variant
from icl_harness.settings import option_name

if TYPE_CHECKING:
    from icl_harness.runner.spec_fields import SpecFields

OF_LATER_ITERATIONS = ("bank_prompts", "bank_prompt_shots")


def refuse_idle_options(spec: SpecFields) -> None:
    """Refuse what would be accepted and do nothing."""
    _refuse_idle_modes(spec)
    if spec.samples > 1:
        _refuse_idle_samples(spec)
    if spec.gold_nll:
        _refuse_idle_gold_nll(spec)
    if spec.queries_per_request != 1 and spec.scoring != "generate":
        raise SpecError(
            "--queries-per-request needs written answers, which --scoring"
            f" {spec.scoring} does not ask for. Leave one of them out."
        )
    for name in spec.models:
        _refuse_idle_for(spec, name)
    if spec.model_args and all(name.startswith("baseline/") for name in spec.models):
        raise SpecError("--model-arg does nothing for reference learners. Leave it out.")
    if spec.models and all(name.startswith("baseline/") for name in spec.models):
        _refuse_idle_words(spec)
    if spec.base_url and not any(map(is_api, spec.models)):
        raise SpecError(
            "--base-url is for openai/, anthropic/ and google/ models, and none is named."
            " Leave it out."
        )


def _refuse_idle_modes(spec: SpecFields) -> None:
    if "unsupervised" not in spec.modes and spec.worked:
        raise SpecError("--worked belongs to the unsupervised mode, which is not asked for.")
    if spec.needs_bank:
        _refuse_idle_bank_options(spec)
        return
    for name in type(spec).model_fields:
        if name.partition("_")[0] == "bank" and not spec.is_usual(name):
            raise SpecError(
                f"{option_name(name)} belongs to the reinforced mode and the variant bank, and"
                " neither is asked for."
            )


def _refuse_idle_words(spec: SpecFields) -> None:
    """Refuse variants that change the words of prompts alone, where no model reads them."""
    for variant in map(parse_variant, spec.variants):
        if variant.frame.prompts or not variant.frame.instruction:
            raise SpecError(
                f"variant {variant}: {spec.models[0]} reads no prompts, so their words do "
                "nothing for it. Name a language model, too, or leave the variant out."
            )


def _refuse_idle_bank_options(spec: SpecFields) -> None:
    for name in ("bank_iterations", *OF_LATER_ITERATIONS):
        if spec.bank and not spec.is_usual(name):
            raise SpecError(
                f"{option_name(name)} is for a bank that is yet to be made, and --bank names "
                "one that is there. Leave one of them out."
            )
        if spec.bank_iterations == 1 and not spec.is_usual(name):
            raise SpecError(
                f"{option_name(name)} is for iterations after the first. Ask for some, as in "
                "--bank-iterations 2, or leave it out."
            )
    if spec.bank is None and spec.bank_agree > spec.bank_samples:
        raise SpecError(
            f"--bank-agree is {spec.bank_agree}, and --bank-samples {spec.bank_samples}: no "
            f"problem has so many attempts. Ask for at most {spec.bank_samples}."
        )
    if spec.bank is None and spec.bank_keep > spec.bank_samples:
        raise SpecError(
            f"--bank-keep is {spec.bank_keep}, and --bank-samples {spec.bank_samples}: no "
            f"problem has so many attempts. Ask for at most {spec.bank_samples}."
        )


def _refuse_idle_samples(spec: SpecFields) -> None:
    several = f"--samples {spec.samples}"
    if spec.scoring != "generate":
        raise SpecError(
            f"{several} needs written answers, which --scoring {spec.scoring} does not ask for."
            " Leave one of them out."
        )
    if spec.temperature == 0:
        raise SpecError(
            f"{several} at temperature 0 gives the same answer each time. Give a --temperature"
            " above 0, as in --temperature 0.7, or leave --samples out."
        )
    if spec.queries_per_request != 1:
        raise SpecError(
            f"{several} and --queries-per-request exclude each other: answers of one request"
            " are not independent. Leave one of them out."
        )


def _refuse_idle_gold_nll(spec: SpecFields) -> None:
    if spec.scoring != "generate":
        raise SpecError(
            f"--gold-nll is for written answers: --scoring {spec.scoring} stores the NLL of the"
            " gold answer by itself. Leave it out."
        )
    if spec.queries_per_request != 1:
        raise SpecError(
            "--gold-nll weighs the gold answer to one query, and --queries-per-request asks"
            " several in one request. Leave one of them out."
        )


def _refuse_idle_for(spec: SpecFields, model: str) -> None:
    if spec.scoring == "decisions" and not is_api(model):
        raise SpecError(
            f"{model} offers no --scoring decisions, which asks providers; use --scoring choices."
        )
    if not model.startswith("baseline/"):
        return
    for name in ("queries_per_request", "format", "samples"):
        if getattr(spec, name) != type(spec).model_fields[name].default:
            raise SpecError(
                f"{model} reads no prompts, so {option_name(name)} does nothing for it."
                " Leave one of them out."
            )
