"""The options of `icl run` and `icl plan`: what is asked for, and how it is carried out (floor 5)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from icl_harness.errors import SpecError

ARGUMENTS = typer.Argument(help="Tasks (see icl tasks), or one YAML file with the same keys as these options.")


def grid(
    tasks: Annotated[list[str], ARGUMENTS],
    model: Annotated[list[str] | None, typer.Option(help="provider/name; may be repeated. demo needs no key.")] = None,
    modes: Annotated[str | None, typer.Option(help="supervised, reinforced, unsupervised; comma-separated.")] = None,
    shots: Annotated[str | None, typer.Option(help="0,1,4,16 or 1..1024 (powers of two).")] = None,
    draws: Annotated[int | None, typer.Option(help="Seeded orders of the pool. [3]")] = None,
    queries: Annotated[int | None, typer.Option(help="Test examples asked in each cell. [all]")] = None,
    pool: Annotated[int | None, typer.Option(help="Use only this many pool examples, in every mode. [all]")] = None,
    seed: Annotated[int | None, typer.Option(help="[0]")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Label maps of the task: default, flipped, …")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. [results/<name that follows from the spec>]")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Rows from DIR/<task>/{train,test}.jsonl|csv.", envvar="ICL_DATA")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="text, or chat: shots as turns of user and assistant. [text]")
    ] = None,
    queries_per_request: Annotated[
        int | None, typer.Option(help="Numbered queries asked in one request. It changes what is measured. [1]")
    ] = None,
    scoring: Annotated[
        str | None, typer.Option(help="generate, choices, choices-normalised or decisions (experimental). [generate]")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="[0]")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer. [the task's]")] = None,
    on_overflow: Annotated[str | None, typer.Option(help="drop (whole shots), skip or error. [drop]")] = None,
    worked: Annotated[
        int | None, typer.Option(help="Solved examples in the unsupervised format block, 0 to 4. [0]")
    ] = None,
    bank: Annotated[str | None, typer.Option(help="Reinforced: take the bank of this run folder or file.")] = None,
    bank_samples: Annotated[int | None, typer.Option(help="Reinforced: attempts per pool problem. [4]")] = None,
    bank_temperature: Annotated[float | None, typer.Option(help="Reinforced: their temperature. [1.0]")] = None,
    bank_shots: Annotated[
        int | None, typer.Option(help="Reinforced: supervised shots they are sampled from. [0]")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Server address, for openai/ any compatible server.")] = None,
    model_arg: Annotated[
        list[str] | None, typer.Option(help="key=value for the model's provider; may be repeated.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Local models: float32, bfloat16, float16 or auto; as --model-arg dtype=…")
    ] = None,
    device_map: Annotated[
        str | None, typer.Option(help="Local models: as transformers takes it; as --model-arg device_map=…")
    ] = None,
    kv_cache: Annotated[
        Path | None, typer.Option(help="hf/ models: keep keys and values of prompts here for later runs.")
    ] = None,
    kv_cache_gb: Annotated[float | None, typer.Option(help="How much the folder may hold. [20]")] = None,
    workers: Annotated[
        str | None, typer.Option(help="ray: replicas of local models on every machine of a Ray cluster.")
    ] = None,
    worker_cpus: Annotated[int | None, typer.Option(help="CPUs per replica. [1; beside a GPU 0]")] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="APIs: hand requests in as batches, at half the price.")
    ] = False,
    rpm: Annotated[float | None, typer.Option(help="APIs: the account's requests a minute.")] = None,
    tpm: Annotated[float | None, typer.Option(help="APIs: the account's tokens a minute.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="APIs: dollars; refuse to start above them, stop before passing them.")
    ] = None,
) -> Any:
    """Return what `run` and `plan` are told: the spec, the run folder, how it is carried out."""
    from icl_harness.runs import Execution, default_folder

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
    how = Execution(
        workers=workers, worker_cpus=worker_cpus, kv_cache=cache, batch=batch, rpm=rpm, tpm=tpm, max_cost=max_cost,
        say=_note,
    )  # fmt: skip
    return spec, out or default_folder(spec), how


def takes(options: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a function before its own; its first argument is what the function returns."""

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
    return None if folder is None else KvCache(folder=str(folder), **({} if most_gb is None else {"most_gb": most_gb}))


def _spec(tasks: list[str], given: dict[str, Any]) -> Any:
    from icl_harness.grid import Spec

    if len(tasks) == 1 and tasks[0].endswith((".yaml", ".yml")):
        return Spec.load(Path(tasks[0]), given)
    return Spec.from_dict({"tasks": tasks, **given}, "icl run")


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
