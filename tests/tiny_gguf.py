"""Tiny models of tests/tiny_models.py as GGUF files, in plain floats, with the names and order of
llama.cpp's converter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.llama_server import NAMES

TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def save_gguf(folder: Path, file: Path, pre: str = "gpt-2", **more: Any) -> Path:
    """Write a Llama of a folder, with a byte-level tokenizer, as a GGUF file. `more` are further
    keys and numbers of its header.
    """
    import gguf

    model, tokenizer = (
        made.from_pretrained(folder) for made in (AutoModelForCausalLM, AutoTokenizer)
    )
    config = model.config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer, pre)
    for key, number in more.items():
        writer.add_uint16(key.replace("_", ".", 1), number)
    for name, weight in model.state_dict().items():
        new, values = _tensor(name, weight.float().numpy(), config)
        writer.add_tensor(new, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tokenizer(writer: Any, tokenizer: Any, pre: str) -> None:
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_add_bos_token(tokenizer.bos_token_id is not None)


def _tensor(name: str, weight: np.ndarray, config: Any) -> tuple[str, np.ndarray]:
    """Return a tensor's name in llama.cpp, and its values: rotary pairs are adjacent there."""
    if name in TOP:
        return TOP[name], weight
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    if part in ("self_attn.q_proj", "self_attn.k_proj"):
        heads = config.num_attention_heads if "q_proj" in part else config.num_key_value_heads
        halves = weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2)
        weight = halves.reshape(weight.shape)
    return f"blk.{layer}.{NAMES[part]}.weight", weight
