"""llama.cpp's server for tests, with the bundled model on the CPU: `with serving(folder) as
base_url`.

In: an empty folder, for the model as GGUF and the server's log. The server sits in the package
xllamacpp; gguf writes the file. One slot, which keeps the keys and values of what it read last; a
window of `WINDOW` tokens. Left out: keys, streams, chat templates that write roles.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from icl_harness.models.local.provider import DEMO_FOLDER

NEEDS = ("gguf", "xllamacpp")
PLAIN = "{%- for message in messages %}{{ message['content'] }}{% endfor -%}"
WINDOW = 256  # the least that the server takes
START_S = 120.0  # a second on an idle machine
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def missing() -> list[str]:
    """Return the packages that the server lacks here."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the bundled model until the block ends. Raises `RuntimeError`, with the log, if it does
    not start.
    """
    write_gguf(folder / "bundled.gguf")
    address, log = folder / "address", folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, Path(__file__).resolve(), "bundled.gguf", "address"],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_S
        while not (address.exists() and address.read_text().endswith("\n")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"llama.cpp's server did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield f"{address.read_text().strip()}/v1"
    finally:
        process.kill()
        process.wait()


def write_gguf(path: Path) -> None:
    """Write the bundled model as llama.cpp reads it."""
    from gguf import GGUFWriter
    from safetensors.numpy import load_file

    config = json.loads((DEMO_FOLDER / "config.json").read_text())
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    add_tokenizer(writer, config)
    for name, weight in load_file(DEMO_FOLDER / "model.safetensors").items():
        if name != "lm_head.weight":  # the same as the embedding
            writer.add_tensor(*renamed(name, weight, config["num_attention_heads"]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: Any, config: dict[str, Any]) -> None:
    """Add the vocabulary, as one that is matched greedily: the model's has no merges, which
    llama.cpp insists on.
    """
    from gguf import TokenType
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    vocabulary = json.loads((DEMO_FOLDER / "tokenizer.json").read_text())["model"]["vocab"]
    to_byte = {character: byte for byte, character in bytes_to_unicode().items()}
    pad, newline = config["eos_token_id"]
    tokens = [
        "".join(f"\\x{to_byte[c]:02x}" for c in name)
        for name in sorted(vocabulary, key=vocabulary.get)
    ]
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list([token.encode() for token in tokens])
    writer.add_token_types(
        [TokenType.CONTROL if i == pad else TokenType.NORMAL for i in range(len(tokens))]
    )
    writer.add_eos_token_id(newline)
    writer.add_eot_token_id(pad)
    writer.add_pad_token_id(pad)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(PLAIN)


def renamed(name: str, weight: Any, n_heads: int) -> tuple[str, Any]:
    """Return a tensor under llama.cpp's name, the halves of rotary positions interleaved as it has
    them.
    """
    weight = np.ascontiguousarray(weight, np.float32)
    if name == "model.embed_tokens.weight":
        return "token_embd.weight", weight
    if name == "model.norm.weight":
        return "output_norm.weight", weight
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    if part in ("self_attn.q_proj", "self_attn.k_proj"):
        halves = weight.reshape(n_heads, 2, -1, weight.shape[1]).swapaxes(1, 2)
        weight = np.ascontiguousarray(halves.reshape(weight.shape))
    return f"blk.{layer}.{NAMES[part]}.weight", weight


def main(model: str, address: str) -> None:
    """Serve, and write down where. Ends when it is killed."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = 0  # one that is free; at 127.0.0.1
    params.n_ctx, params.n_parallel, params.n_gpu_layers = WINDOW, 1, 0
    # Floats as demo has them: in half precision two choices that are nearly as likely could change
    # places.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cpuparams.n_threads = 1  # more gain nothing on so small a model
    params.use_jinja = True
    params.warmup = False
    server = xllamacpp.Server(params)
    Path(address).write_text(f"{server.listening_address}\n")
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
