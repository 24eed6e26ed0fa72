"""Opening a model on vLLM, and saying what it is.

In: a folder or hub id and `--model-arg` strings. Out: vLLM's `LLM`. Its parameters are built here
as plain mappings, so that they can be looked at where vLLM is not installed.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from icl_harness.errors import ModelError, SpecError
from icl_harness.models.base import Sampling
from icl_harness.models.local.weights import file_hashes, one_line
from icl_harness.models.model_args import ModelArgs, read_model_args, whole, word, yes_no

# vLLM raises what is between 0 and the first, and refuses what is above the second
TEMPERATURES = (0.01, 2.0)


class Options(ModelArgs):
    """What `--model-arg key=value` may set: vLLM's own arguments of the same names.

    `dtype`: unless given, the checkpoint's own, and half precision for a float32 one.
    `context_window`: vLLM's max_model_len, in tokens; a smaller one needs less memory.
    `tensor_parallel_size`: GPUs that share the model. `gpu_memory_utilization`: the share of a
    GPU's memory to take. `cascade_attention`: have all of a node's prompts read the node's keys and
    values once, where the engine can. `reasoning_tokens`: room beside the answer, for models that
    think first.
    """

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="auto, float32, float16 or bfloat16"
    )
    tensor_parallel_size: int = whole(1, least=1)
    gpu_memory_utilization: float | None = Field(
        None, gt=0, le=1, allow_inf_nan=False, description="a number above 0, at most 1"
    )
    context_window: int | None = whole(None, least=1)
    quantization: str | None = word()
    revision: str | None = word()
    trust_remote_code: bool = yes_no(False)
    enforce_eager: bool = yes_no(False)
    reasoning_tokens: int = whole(0, least=0)
    cascade_attention: bool = yes_no(True)


def parse(model_args: Mapping[str, str], id: str) -> Options:
    """Read the options from texts. Raises `ModelError` naming the option and what it may be."""
    return read_model_args(Options, model_args, id)


def engine_arguments(path_or_id: str, options: Options) -> dict[str, Any]:
    """Return the keyword arguments of vLLM's `LLM`."""
    given = options.model_dump(exclude_none=True)
    del given["reasoning_tokens"]
    given["disable_cascade_attn"] = not given.pop("cascade_attention")
    if "context_window" in given:
        given["max_model_len"] = given.pop("context_window")
    if options.revision is not None:
        given["tokenizer_revision"] = options.revision
    return {
        "model": path_or_id,
        "enable_prefix_caching": True,
        "logprobs_mode": "raw_logprobs",  # the model's own: before temperature and any mask
        "use_tqdm_on_load": False,
        **given,
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
    params: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
    }
    if sampling.temperature:
        params["seed"] = seed
    # The text is read from the ids afterwards; vLLM needs to know it only where a stop string may
    # end it.
    return {**params, "stop": list(sampling.stop), "detokenize": bool(sampling.stop)}


def weighing(wanted: list[int]) -> dict[str, Any]:
    """Return the keyword arguments of `SamplingParams` that give the log-probabilities of the next
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
            f"vllm/{path_or_id} needs the Python package vllm. It pins torch and transformers, so "
            "give it an environment of its own: pip install 'icl-harness[vllm]'."
        ) from None
    import torch

    if not torch.cuda.is_available():
        raise ModelError(
            f"vllm/{path_or_id} needs a CUDA GPU, and torch sees none. "
            f"Without one use hf/{path_or_id}."
        )
    try:
        return start(vllm.LLM, engine_arguments(path_or_id, options))
    except Exception as error:  # vLLM raises whatever its parts raise; the user gets one line
        raise ModelError(
            f"vllm/{path_or_id} cannot be opened by vLLM: {one_line(error)} "
            "If memory is short, set --model-arg context_window or gpu_memory_utilization."
        ) from error


def start(make: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Start an engine; without cascade attention where it refuses that (older versions, and
    attention back ends that have none).
    """
    try:
        return make(**arguments)
    except Exception as error:
        if arguments["disable_cascade_attn"] or "cascade" not in str(error):
            raise
    without = {name: arguments[name] for name in arguments if name != "disable_cascade_attn"}
    return make(**without)


def describe(engine: Any, path_or_id: str, options: Options) -> dict[str, Any]:
    """Return what a run folder says of the model. Local weights are hashed; the hub's are named by
    their commit.
    """
    import torch
    import transformers
    import vllm
    from vllm.platforms import current_platform

    config = engine.model_config
    facts = {
        "python": platform.python_version(),
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "class": ", ".join(config.hf_config.architectures or []),
        "device": current_platform.get_device_name(),
        "dtype": str(config.dtype).removeprefix("torch."),
        "quantization": config.quantization,
        "tensor_parallel_size": options.tensor_parallel_size,
        "cascade_attention": not getattr(config, "disable_cascade_attn", True),
    }
    folder = Path(path_or_id)
    if not folder.is_dir():
        commit = getattr(config.hf_config, "_commit_hash", None)
        return {**facts, "hub_id": path_or_id, "revision": commit or options.revision}
    return {**facts, "sha256": file_hashes(folder)}
