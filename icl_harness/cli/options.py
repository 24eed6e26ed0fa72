"""The options of `icl run` and `icl plan`: what is asked for, and how it is carried out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from icl_harness.errors import SpecError

TASKS = typer.Argument(
    metavar="TASK", help="Tasks (icl tasks lists them), or one YAML file with the same keys."
)


def grid(
    tasks: Annotated[list[str], TASKS],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="demo, or provider/name; once for each model."),
    ] = None,
    modes: Annotated[
        str | None,
        typer.Option(metavar="MODES", help="supervised,reinforced,unsupervised. [supervised]"),
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(metavar="SHOTS", help="0,1,4,16 or 0,1..64 (powers of two). [0,1..64]"),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(metavar="N", help="Seeded orders of the pool. [3]")
    ] = None,
    queries: Annotated[
        int | None, typer.Option(metavar="N", help="Test examples asked in each cell. [all]")
    ] = None,
    pool: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pool examples used, the same in every mode. [all]"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of draws, pool and queries. [0]")
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Label map of the task; once for each. icl tasks TASK lists them. [default]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Run folder. [results/<named after what is asked>]"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Rows from DIR/<task>/{train,test}.jsonl|csv. [the hub]",
            envvar="ICL_DATA",
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORM",
            help="text, or chat: shots as turns of user and assistant. [text]",
        ),
    ] = None,
    queries_per_request: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Numbered queries in one request. It changes what is measured. [1]"
        ),
    ] = None,
    scoring: Annotated[
        str | None,
        typer.Option(
            metavar="SCORING",
            help="generate, choices, choices-normalised or decisions (experimental). [generate]",
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", help="Of the answers' sampling. [0]")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Longest answer. [the task's]")
    ] = None,
    on_overflow: Annotated[
        str | None,
        typer.Option(
            metavar="WAY",
            help="Prompt beyond the window: drop (whole shots), skip (its cell) or error. [drop]",
        ),
    ] = None,
    worked: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Unsupervised: solved examples in the format block, 0 to 4. [0]"
        ),
    ] = None,
    bank: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Reinforced: take the bank of this run folder or file."),
    ] = None,
    bank_samples: Annotated[
        int | None, typer.Option(metavar="N", help="Reinforced: attempts at each pool problem. [4]")
    ] = None,
    bank_temperature: Annotated[
        float | None, typer.Option(metavar="T", help="Reinforced: of the attempts' sampling. [1.0]")
    ] = None,
    bank_shots: Annotated[
        int | None,
        typer.Option(metavar="N", help="Reinforced: supervised shots before each attempt. [0]"),
    ] = None,
    model_arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="For the model's provider; once for each. A wrong key lists them.",
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="APIs: the server; with openai/ any compatible one."),
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="APIs: hand requests in as batches, at half the price.")
    ] = False,
    rpm: Annotated[
        float | None, typer.Option(metavar="N", help="APIs: the account's requests a minute.")
    ] = None,
    tpm: Annotated[
        float | None, typer.Option(metavar="N", help="APIs: the account's tokens a minute.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            metavar="USD",
            help="APIs: do not start where the prompts cost more; stop before passing it.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="DTYPE", help="Local models: float32, bfloat16, float16 or auto."),
    ] = None,
    device_map: Annotated[
        str | None,
        typer.Option(metavar="MAP", help="Local models: auto, …, as transformers takes it."),
    ] = None,
    kv_cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="demo, hf/: keep keys and values of prompts here for later runs."
        ),
    ] = None,
    kv_cache_gb: Annotated[
        float | None, typer.Option(metavar="GB", help="How much the --kv-cache may hold. [20]")
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="ray", help="Local models: replicas on every machine of a Ray cluster."
        ),
    ] = None,
    worker_cpus: Annotated[
        int | None, typer.Option(metavar="N", help="CPUs of a replica. [1; 0 beside a GPU]")
    ] = None,
) -> Any:
    """Return what `run` and `plan` are told: the spec, the run folder, how it is carried out."""
    from icl_harness.cli.execute import Execution, default_folder
    from icl_harness.models import APIS

    options = {
        "models": model, "modes": modes, "shots": shots, "draws": draws, "queries": queries, "pool": pool,
        "seed": seed, "variants": variant, "data": str(data) if data else None, "scoring": scoring,
        "format": form, "queries_per_request": queries_per_request,
        "temperature": temperature, "max_tokens": max_tokens, "on_overflow": on_overflow, "worked": worked,
        "bank": bank, "bank_samples": bank_samples, "bank_temperature": bank_temperature, "bank_shots": bank_shots,
        "base_url": base_url, "model_args": _model_args(model_arg or [], dtype=dtype, device_map=device_map),
    }  # fmt: skip
    given = {key: value for key, value in options.items() if value is not None}
    spec, cache = _spec(tasks, given), _kv_cache(kv_cache, kv_cache_gb)
    for option, value in (("--rpm", rpm), ("--tpm", tpm), ("--max-cost", max_cost)):
        if value is not None and not any(name.startswith(APIS) for name in spec.models):
            raise SpecError(
                f"{option} is for models of APIs ({', '.join(APIS)}), and none is named. Leave it out."
            )
    how = Execution(
        workers=workers, worker_cpus=worker_cpus, kv_cache=cache, batch=batch, rpm=rpm, tpm=tpm, max_cost=max_cost,
        say=_note,
    )  # fmt: skip
    return spec, out or default_folder(spec), how


def takes(options: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a function before its own; its first argument is what the
    function returns.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        names = inspect.signature(options, eval_str=True).parameters
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        def call(**given: Any) -> None:
            made = options(**{name: given.pop(name) for name in names})
            command(made, **given)

        call.__name__, call.__doc__ = command.__name__, command.__doc__
        call.__annotations__ = {**options.__annotations__, **command.__annotations__}
        call.__signature__ = inspect.Signature([*names.values(), *own])  # type: ignore[attr-defined]
        return call

    return decorate


def _kv_cache(folder: Path | None, most_gb: float | None) -> Any:
    from icl_harness.models.base import KvCache

    if folder is None and most_gb is not None:
        raise SpecError("--kv-cache-gb limits what --kv-cache keeps, which is not given.")
    return (
        None
        if folder is None
        else KvCache(folder=str(folder), **({} if most_gb is None else {"most_gb": most_gb}))
    )


def _spec(tasks: list[str], given: dict[str, Any]) -> Any:
    from icl_harness.runner.spec import Spec

    grids = [name for name in tasks if name.endswith((".yaml", ".yml"))]
    if grids and len(tasks) == 1:
        return Spec.load(Path(grids[0]), given)
    if grids:
        other = next(name for name in tasks if name != grids[0])
        raise SpecError(
            f"{grids[0]} names its own tasks. Leave {other!r} out, or write it into the file."
        )
    for name in tasks:
        _refuse_stray(name)
    if "models" not in given:
        raise SpecError(
            "no model is named. Name one with --model; --model demo needs no key and no network."
        )
    return Spec.from_dict({"tasks": tasks, **given}, "icl run")


def _refuse_stray(name: str) -> None:
    """Refuse what stands among the tasks and was meant for an option, whose values are joined
    otherwise.
    """
    from icl_harness.models import PROVIDERS
    from icl_harness.prompts.modes import MODES

    if name in MODES:
        what, remedy = "a mode", "Join modes by commas: --modes supervised,unsupervised."
    elif name.replace("..", "").replace(",", "").isdigit():
        what, remedy = "a number", "Join shot counts by commas: --shots 0,4,16."
    elif "/" in name and name.partition("/")[0] in PROVIDERS:
        what, remedy = "a model", "Give --model before each."
    else:
        return
    raise SpecError(f"{name!r} stands among the tasks, and is {what}. {remedy}")


def _note(text: str) -> None:
    typer.echo(f"icl: {text}", err=True)


def _model_args(texts: list[str], **named: str | None) -> dict[str, str] | None:
    """Return what --model-arg and the options that stand for one say; None where they say nothing."""
    pairs = {name: value for name, value in named.items() if value is not None}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise SpecError(f"--model-arg {text!r}: give it as key=value.")
        if key in pairs:
            raise SpecError(f"--model-arg {key} is given twice. Give it once.")
        pairs[key] = value
    return pairs or None
