"""Opening a `transformers` model, and saying what it is (floor 2, a helper of hf.py, which imports it late)."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from icl_harness.errors import ModelError, nearest

DTYPES = ("auto", "float32", "float16", "bfloat16")
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
HUB_TIMEOUT_S = 10.0
WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `--model-arg key=value` may set.

    `dtype`: default float32 on the CPU, else the checkpoint's own. `device_map`: as transformers takes it (needs
    accelerate). `batch_size`: the most rows per forward. `context_window`: in tokens, in the place of the config's.
    """

    dtype: str | None = None
    device: str | None = None
    device_map: str | None = None
    revision: str | None = None
    batch_size: int | None = None
    context_window: int | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ModelError(f"--model-arg dtype={self.dtype}: there is no such precision; use {', '.join(DTYPES)}.")


def parse(model_args: Mapping[str, str]) -> Options:
    """Read the options from strings. Raises `ModelError` naming the option and what it may be."""
    known = [field.name for field in fields(Options)]
    values: dict[str, Any] = {}
    for name, text in model_args.items():
        if name not in known:
            raise ModelError(f"--model-arg {name}: hf models take {', '.join(known)}.{nearest(name, known)}")
        if name in ("batch_size", "context_window"):
            if not re.fullmatch("[1-9][0-9]*", str(text)):
                raise ModelError(f"--model-arg {name}={text}: it must be a whole number above 0.")
            values[name] = int(text)
        elif name == "trust_remote_code":
            if str(text).lower() not in ("true", "false"):
                raise ModelError(f"--model-arg {name}={text}: it must be true or false.")
            values[name] = str(text).lower() == "true"
        else:
            values[name] = str(text)
    return Options(**values)


def load(path_or_id: str, options: Options) -> tuple[Any, Any, dict[str, Any]]:
    """Return (model, tokenizer, origin); `origin` is the folder or the hub id and revision. Raises `ModelError`."""
    import transformers

    origin, source = _locate(path_or_id, options)
    if options.trust_remote_code:
        source["trust_remote_code"] = True
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_cpu = options.device_map is None and device.startswith("cpu")
    placing = {} if options.device_map is None else {"device_map": options.device_map}
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(path_or_id, **source)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                path_or_id, dtype=options.dtype or ("float32" if on_cpu else "auto"), **placing, **source
            )
            if options.device_map is None:
                model = model.to(device)
    except Exception as error:  # transformers raises whatever its parts raise; the user gets one line
        line = " ".join(str(error).split())[:240]
        raise ModelError(
            f"hf/{path_or_id} cannot be opened as a causal language model of transformers: {line} "
            "It needs config.json, weights and a tokenizer, as save_pretrained writes them."
        ) from error
    return model.eval(), tokenizer, origin


def _locate(path_or_id: str, options: Options) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (origin, arguments for from_pretrained) of a folder or a hub id that is there. Raises `ModelError`."""
    folder = Path(path_or_id)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"{path_or_id} is no model: it has no config.json. "
                "Name a folder as save_pretrained writes it: config.json, weights and a tokenizer."
            )
        return {"folder": str(folder)}, {}
    if folder.exists():
        raise ModelError(f"{path_or_id} is a file. Name the folder that holds config.json, weights and a tokenizer.")
    if not HUB_ID.fullmatch(path_or_id):
        raise ModelError(f"{path_or_id} does not exist. Name a model's folder, or a hub id such as Qwen/Qwen3-0.6B.")
    return _locate_on_hub(path_or_id, options.revision)


def _locate_on_hub(repo: str, revision: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask the hub once. Where it does not answer, what was downloaded before is used; from_pretrained would retry."""
    import huggingface_hub as hub
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        commit = hub.HfApi().model_info(repo, revision=revision, timeout=HUB_TIMEOUT_S).sha
        return {"hub_id": repo, "revision": commit}, {"revision": commit}
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelError(
            f"hf/{repo}: no such folder here, and no such model{f' at {revision}' if revision else ''} on the hub "
            "that you may read. Check the spelling, or set HF_TOKEN if it is private."
        ) from error
    except Exception as error:
        cached = hub.try_to_load_from_cache(repo, "config.json", revision=revision)
        if isinstance(cached, str):
            return {"hub_id": repo, "revision": Path(cached).parent.name}, {
                "revision": revision,
                "local_files_only": True,
            }
        raise ModelError(
            f"hf/{repo}: no such folder here, and the hub does not answer ({type(error).__name__}). "
            "Name a model's folder, or download it first where there is a network."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep loading bars and notes off the terminal."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def context_window(model: Any) -> int | None:
    """Return the config's window in tokens, or None where it names none."""
    window = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return int(window) if window else None


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end an answer: the generation config's and the tokenizer's."""
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    found = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
    return sorted(int(token) for token in found if token is not None)


def describe(model: Any, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run folder says of the model. Local weights are hashed; the hub's are named by their commit."""
    import transformers

    told = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "class": type(model).__name__,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "n_params": sum(p.numel() for p in model.parameters()),
    }
    if "folder" not in origin:
        return {**told, **origin}
    folder = Path(origin["folder"])
    files = sorted(file for pattern in WEIGHTS for file in folder.glob(pattern))
    return {**told, "sha256": {file.name: _sha256(file) for file in files}}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
