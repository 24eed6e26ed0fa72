"""Opening a `transformers` model, and saying what it is.

In: a folder, a GGUF file, a packaged model's name or a hub id, and `--model-arg` texts. Out: a
model, its tokenizer, and where they come from.
"""

from __future__ import annotations

import contextlib
import json
import logging as python_logging
import platform
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field

from icl_harness.errors import ModelError
from icl_harness.models.local.gguf_file import open_gguf
from icl_harness.models.local.packaged import PACKAGES, find_packaged
from icl_harness.models.local.weights import file_hashes, one_line
from icl_harness.models.model_args import ModelArgs, read_model_args, whole, word, yes_no

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
HUB_TIMEOUT_S = 10.0
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


def _parsed(text: object) -> object:
    """Return what a text that looks like a JSON object holds."""
    return json.loads(text) if isinstance(text, str) and text.startswith("{") else text


Json = Annotated[dict[str, Any], BeforeValidator(_parsed)]


class Options(ModelArgs):
    """What `--model-arg key=value` may set.

    `dtype`: default float32 on the CPU, else the checkpoint's own. `device_map`, `quantization` (a
    JSON object, for weights that are not stored quantised) and `adapter` (a folder or hub id): as
    transformers takes them (extra `local`). `chat_template`: put each prompt into the tokenizer's
    chat template, as one turn of the user's. `batch_size`: the most rows per forward.
    `context_window`: in tokens, in the place of the config's. `reasoning_tokens`: room beside the
    answer, for models that think first.
    """

    dtype: Dtype | None = Field(None, description="auto, float32, float16 or bfloat16")
    device: str | None = word()
    device_map: Json | Annotated[str, Field(pattern="^[^{]")] | None = Field(
        None, description="a word, or a JSON object"
    )
    quantization: Json | None = Field(
        None, description="a JSON object, as config.json holds under quantization_config"
    )
    adapter: str | None = word()
    chat_template: bool = yes_no(False)
    revision: str | None = word()
    batch_size: int | None = whole(None, least=1)
    context_window: int | None = whole(None, least=1)
    reasoning_tokens: int = whole(0, least=0)
    trust_remote_code: bool = yes_no(False)

    @property
    def wishes(self) -> dict[str, Any]:
        """Return what from_pretrained is asked for beside the place and the dtype."""
        asked = {"device_map": self.device_map, "quantization_config": self.quantization}
        return {name: value for name, value in asked.items() if value is not None}


def parse(model_args: Mapping[str, str], id: str) -> Options:
    """Read the options from texts. Raises `ModelError` naming the option and what it may be."""
    return read_model_args(Options, model_args, id)


def load(path_or_id: str, options: Options) -> tuple[Any, Any, dict[str, Any]]:
    """Return (model, tokenizer, origin); `origin` is the folder or file, or the hub id and
    revision. Raises `ModelError`.
    """
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_cpu = options.device_map is None and device.startswith("cpu")
    dtype = options.dtype or ("float32" if on_cpu else "auto")
    file = _find_gguf(path_or_id)
    if file is not None:
        if options.wishes:
            raise ModelError(
                f"{file.name}: a GGUF file takes no --model-arg device_map or quantization."
            )
        with _quiet():
            model, tokenizer = open_gguf(file, dtype)
        origin: dict[str, Any] = {"file": str(file)}
    else:
        model, tokenizer, origin = _open_folder(path_or_id, options, dtype)
    placed = options.device_map is not None or getattr(model, "is_quantized", False)
    if not placed:
        model = _moved(model, device, path_or_id)
    if options.adapter is not None:
        origin["adapter"] = _adapt(model, options.adapter)
    return model.eval(), tokenizer, origin


def _find_gguf(path_or_id: str) -> Path | None:
    """Return the GGUF file that is meant, if one is. Raises `ModelError`: it is not there."""
    place = Path(path_or_id)
    if place.is_dir():
        return None
    if place.suffix == ".gguf":
        if not place.is_file():
            raise ModelError(f"{path_or_id} does not exist. Check the path.")
        return place
    return find_packaged(path_or_id)


def _moved(model: Any, device: str, name: str) -> Any:
    """Put a model on a device. Raises `ModelError`."""
    try:
        return model.to(device)
    except Exception as error:  # no such device, or no memory there
        raise ModelError(f"hf/{name} cannot be put on {device}: {one_line(error)}") from error


def _open_folder(path_or_id: str, options: Options, dtype: str) -> tuple[Any, Any, dict[str, Any]]:
    """Open a folder as save_pretrained writes it, here or on the hub."""
    import transformers

    origin, source = _locate(path_or_id, options.revision, "config.json")
    # said in either case: left out, transformers would ask on the terminal
    source["trust_remote_code"] = options.trust_remote_code
    wishes = options.wishes
    if source.get("local_files_only"):
        # with peft installed an adapter is looked for, too, and on the hub
        wishes["adapter_kwargs"] = {"local_files_only": True}
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(path_or_id, **source)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                path_or_id, dtype=dtype, **wishes, **source
            )
    except Exception as error:
        # transformers raises whatever its parts raise; the user gets one line
        if not options.trust_remote_code and "trust_remote_code" in str(error):
            raise ModelError(
                f"hf/{path_or_id} comes with code of its own, which is not run. Where you trust "
                "who wrote it, give --model-arg trust_remote_code=true."
            ) from error
        needs = "It needs config.json, weights and a tokenizer, as save_pretrained writes them."
        if options.wishes:
            needs = "Look at the quantization and device_map that are asked for."
        raise ModelError(
            f"hf/{path_or_id} cannot be opened as a causal language model of transformers: "
            f"{one_line(error)} {needs}"
        ) from error
    return model, tokenizer, origin


def _adapt(model: Any, adapter: str) -> dict[str, Any]:
    """Put a PEFT adapter on a model; return its origin. Raises `ModelError`."""
    try:
        with _quiet():
            origin, where = _locate(adapter, None, "adapter_config.json")
            model.load_adapter(adapter, adapter_kwargs=where)
    except Exception as error:
        raise ModelError(
            f"--model-arg adapter={adapter} cannot be put on the model: {one_line(error)}"
        ) from error
    return origin


def _locate(
    path_or_id: str, revision: str | None, config: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (origin, arguments for from_pretrained) of an existing folder or hub id. Raises
    `ModelError`.
    """
    folder = Path(path_or_id)
    if folder.is_dir():
        if not (folder / config).is_file():
            raise ModelError(
                f"{path_or_id} is no model: it has no {config}. "
                f"Name a folder as save_pretrained writes it: {config}, weights and a tokenizer."
            )
        return {"folder": str(folder)}, {}
    if folder.exists():
        raise ModelError(
            f"{path_or_id} is a file. Name a GGUF file, or the folder that holds config.json, "
            "weights and a tokenizer."
        )
    if not HUB_ID.fullmatch(path_or_id):
        raise ModelError(
            f"{path_or_id} does not exist. Name a model's folder, a GGUF file, a hub id such as "
            f"Qwen/Qwen3-0.6B, or {' or '.join(PACKAGES)}."
        )
    return _locate_on_hub(path_or_id, revision)


def _locate_on_hub(repo: str, revision: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask the hub once. Where it does not answer, what was downloaded before is used;
    from_pretrained would retry.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    at = f" at {revision}" if revision else ""
    try:
        commit = hub.HfApi().model_info(repo, revision=revision, timeout=HUB_TIMEOUT_S).sha
        return {"hub_id": repo, "revision": commit}, {"revision": commit}
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelError(
            f"hf/{repo}: no such folder here, and no such model{at} on the hub that you may read. "
            "Check the spelling, or set HF_TOKEN if it is private."
        ) from error
    except Exception as error:
        cached = hub.try_to_load_from_cache(repo, "config.json", revision=revision)
        if isinstance(cached, str):
            return {"hub_id": repo, "revision": Path(cached).parent.name}, {
                "revision": revision,
                "local_files_only": True,
            }
        raise ModelError(
            f"hf/{repo}: no such folder here, and the hub does not answer "
            f"({type(error).__name__}). Name a model's folder, or download it first where there is "
            "a network."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep loading bars and notes off the terminal."""
    from transformers.utils import logging

    level, other = logging.get_verbosity(), python_logging.getLogger("bitsandbytes")
    other.setLevel(python_logging.ERROR)
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the libraries about each other
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def context_window(model: Any) -> int | None:
    """Return the config's window in tokens, or None where it names none."""
    config = model.config.get_text_config(decoder=True)
    window = getattr(config, "max_position_embeddings", None) or getattr(
        config, "max_seq_len", None
    )
    return int(window) if window else None


def steady_window(model: Any) -> int | None:
    """Return up to how many tokens every position means the same in all prompts; None where it
    always does.

    Rotary frequencies of the kinds longrope and dynamic follow the length of the whole prompt
    beyond this, so that two prompts with the same shots have other keys.
    """
    config = model.config.get_text_config(decoder=True)
    found = getattr(config, "rope_parameters", None) or {}
    for rope in (found, *(part for part in found.values() if isinstance(part, dict))):
        kind = str(rope.get("rope_type", ""))
        if kind == "longrope" or "dynamic" in kind:
            places = (rope, vars(config))
            first = (place.get("original_max_position_embeddings") for place in places)
            return int(next((n for n in first if n), config.max_position_embeddings))
    return None


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end an answer: the generation config's and the tokenizer's."""
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    found = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
    return sorted(int(token) for token in found if token is not None)


def describe(model: Any, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run folder says of the model. Local files are hashed; the hub's are named by
    their commit.
    """
    import transformers

    facts = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "class": type(model).__name__,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "n_params": sum(p.numel() for p in model.parameters()),
    }
    facts |= _identity(origin)
    if "adapter" in origin:
        facts["adapter"] = _identity(origin["adapter"])
    if getattr(model.config, "quantization_config", None) is not None:
        facts["quantization"] = str(model.config.quantization_config)
    return facts


def _identity(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hashes of local files; of a model of the hub, its name and commit."""
    place = origin.get("folder") or origin.get("file")
    return {"sha256": file_hashes(Path(place))} if place else dict(origin)
