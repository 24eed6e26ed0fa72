"""Opening a model on vLLM, and saying what it is.

In: a folder or hub id and `--model-arg` strings. Out: vLLM's `LLM`. Its parameters are built here
as plain mappings, so that they can be looked at where vLLM is not installed.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from icl_harness.errors import ModelError, SpecError
from icl_harness.models.api.args import whole, word
from icl_harness.models.base import Sampling
from icl_harness.models.local.args import (
    dtype,
    file_hashes,
    one_line,
    option,
    read_options,
    true_false,
)

TEMPERATURES = (
    0.01,
    2.0,
)  # vLLM raises what is between 0 and the first, and refuses what is above the second


def _share(text: str) -> float:
    """a number above 0, at most 1"""
    number = float(text)
    if not 0 < number <= 1:
        raise ValueError
    return number


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `--model-arg key=value` may set: vLLM's own arguments of the same names.

    `dtype`: unless told, the checkpoint's own, and half precision for a float32 one.
    `context_window`: vLLM's max_model_len, in tokens; a smaller one needs less memory.
    `tensor_parallel_size`: GPUs that share the model. `gpu_memory_utilization`: the share of a
    GPU's memory to take.
    """

    dtype: str = option("auto", dtype)
    tensor_parallel_size: int = option(1, whole(1))
    gpu_memory_utilization: float | None = option(None, _share)
    context_window: int | None = option(None, whole(1))
    quantization: str | None = option(None, word)
    revision: str | None = option(None, word)
    trust_remote_code: bool = option(False, true_false)
    enforce_eager: bool = option(False, true_false)


def parse(model_args: Mapping[str, str]) -> Options:
    """Read the options from strings. Raises `ModelError` naming the option and what it may be."""
    return read_options(Options, model_args, "vllm")


def engine_arguments(path_or_id: str, options: Options) -> dict[str, Any]:
    """Return the keyword arguments of vLLM's `LLM`."""
    told = {option.name: getattr(options, option.name) for option in fields(options)}
    told["max_model_len"] = told.pop("context_window")
    told["tokenizer_revision"] = options.revision
    return {
        "model": path_or_id,
        "enable_prefix_caching": True,
        "logprobs_mode": "raw_logprobs",  # the model's own: before temperature and any mask
        "use_tqdm_on_load": False,
        **{name: value for name, value in told.items() if value is not None},
    }


def generating(sampling: Sampling, seed: int) -> dict[str, Any]:
    """Return the keyword arguments of `SamplingParams` for one answer. Raises `SpecError`: a
    temperature it lacks.
    """
    low, high = TEMPERATURES
    if sampling.temperature and not low <= sampling.temperature <= high:
        raise SpecError(
            f"temperature is {sampling.temperature}; vLLM samples at 0, or from {low} to {high}."
        )
    told: dict[str, Any] = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
    if sampling.temperature:
        told["seed"] = seed
    # The text is read from the ids afterwards; vLLM needs to know it only where a stop string may
    # end it.
    return {**told, "stop": list(sampling.stop), "detokenize": bool(sampling.stop)}


def weighing(wanted: list[int]) -> dict[str, Any]:
    """Return the keyword arguments of `SamplingParams` that tell the log-probabilities of the next
    token.
    """
    return {"max_tokens": 1, "temperature": 0.0, "logprob_token_ids": wanted, "detokenize": False}


def load(path_or_id: str, options: Options) -> Any:
    """Return vLLM's `LLM`. Raises `ModelError`: not installed, no GPU, not a model that vLLM can
    hold.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    try:
        # before torch is asked for GPUs: it sees to it that asking does not keep vLLM from forking
        import vllm
    except ImportError:
        raise ModelError(
            f"vllm/{path_or_id} needs the Python package vllm. It pins torch and transformers, so give it an "
            "environment of its own: pip install 'icl-harness[vllm]'."
        ) from None
    import torch

    if not torch.cuda.is_available():
        raise ModelError(
            f"vllm/{path_or_id} needs a CUDA GPU, and torch sees none. Without one use hf/{path_or_id}."
        )
    try:
        return vllm.LLM(**engine_arguments(path_or_id, options))
    except Exception as error:  # vLLM raises whatever its parts raise; the user gets one line
        raise ModelError(
            f"vllm/{path_or_id} cannot be opened by vLLM: {one_line(error)} "
            "If memory is short, set --model-arg context_window or gpu_memory_utilization."
        ) from error


def describe(engine: Any, path_or_id: str, options: Options) -> dict[str, Any]:
    """Return what a run folder says of the model. Local weights are hashed; the hub's are named by
    their commit.
    """
    import torch
    import transformers
    import vllm
    from vllm.platforms import current_platform

    config = engine.model_config
    told = {
        "python": platform.python_version(),
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "class": ", ".join(config.hf_config.architectures or []),
        "device": current_platform.get_device_name(),
        "dtype": str(config.dtype).removeprefix("torch."),
        "quantization": config.quantization,
        "tensor_parallel_size": options.tensor_parallel_size,
    }
    folder = Path(path_or_id)
    if not folder.is_dir():
        commit = getattr(config.hf_config, "_commit_hash", None)
        return {**told, "hub_id": path_or_id, "revision": commit or options.revision}
    return {**told, "sha256": file_hashes(folder)}
