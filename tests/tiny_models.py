"""Tiny random transformers models and tokenizers on disk, so that tests of local models need no
network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CORPUS = [
    "Review: a warm and funny film.\nSentiment: positive\n\nReview: dull, slow "
    "and too long.\nSentiment: negative\n",
    "what is the capital of france? answer: paris. 12 + 345 = 357, 1,000.50 dollars\n\n\n",
    "The quick brown fox jumps over the lazy dog; naïve café 你好 世界 🙂🙃 "
    "\t tabs  and   spaces\n",
    "def f(x):\n    return x * 2\n\nclass Foo:\n        pass\n" * 2,
]
TOKENIZERS = ("byte_bpe", "llama3", "sp_bpe", "unigram", "wordpiece")
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Sliding windows (gemma, mistral, gpt_oss), chunks (llama4), soft caps (gemma2), sinks (gpt_oss),
# experts (the last 3).
MODELS = (
    "llama", "qwen3", "gpt2", "gemma3", "gemma2", "mistral", "phi", "phi3", "gpt_neox",
    "gemma3n", "qwen3_moe", "gpt_oss", "llama4",
)  # fmt: skip


def build_tokenizer(kind: str) -> Any:
    """Return a small trained fast tokenizer of one of the `TOKENIZERS` families."""
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    options: dict[str, Any] = {"vocab_size": 400, "show_progress": False}
    special: dict[str, str] = {"eos_token": "<|end|>"}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind in ("byte_bpe", "llama3"):
        tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        if kind == "llama3":
            split = pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated")
            byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
            special["bos_token"] = "<|begin|>"
        tokenizer.decoder = decoders.ByteLevel()
        names = ["<|end|>", "<|begin|>"][: 1 + (kind == "llama3")]
        trainer = trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=names, **options)
    elif (
        kind == "sp_bpe"
    ):  # Llama 2 and Gemma: no pre-tokenizer, spaces are ▁, a dummy prefix, unknown bytes as tokens
        byte_tokens = [f"<0x{i:02X}>" for i in range(256)]
        options["vocab_size"] = 700
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        strip = decoders.Strip(content=" ", left=1, right=0)
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip]
        )
        names = ["<unk>", "<s>", "</s>", *byte_tokens]
        trainer = trainers.BpeTrainer(special_tokens=names, max_token_length=8, **options)
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        names = ["<unk>", "<s>", "</s>"]
        trainer = trainers.UnigramTrainer(special_tokens=names, unk_token="<unk>", **options)
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    elif kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece(cleanup=False)
        trainer = trainers.WordPieceTrainer(special_tokens=["[UNK]", "[EOS]"], **options)
        special = {"eos_token": "[EOS]", "unk_token": "[UNK]"}
    else:
        raise ValueError(f"no tokenizer kind {kind!r}; there are {', '.join(TOKENIZERS)}")
    tokenizer.train_from_iterator(CORPUS, trainer)
    if "bos_token" in special:
        bos = special["bos_token"]
        pairs = [(bos, tokenizer.token_to_id(bos))]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=pairs
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special
    )


def build_config(kind: str, vocab_size: int, context: int, spread: float = 0.2) -> Any:
    """Return the config of a tiny model of one of the `MODELS` families; windows and chunks are 16
    tokens.

    `spread` is the deviation of the random weights: the smaller, the flatter is what the model
    tells.
    """
    import transformers as tf

    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "initializer_range": spread,
        "tie_word_embeddings": False,
    }
    if kind == "gpt2":
        return tf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=context, **common)
    common |= {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": context,
    }
    if kind == "gpt_neox":
        return tf.GPTNeoXConfig(**common)
    common |= {"num_key_value_heads": 2}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    layers = ["sliding_attention", "full_attention"]
    if kind == "phi":
        return tf.PhiConfig(**common)
    if kind == "phi3":
        return tf.Phi3Config(**common)
    if kind == "phi3_longrope":  # other rotary frequencies for prompts of more than 64 tokens
        factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
        rope = {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "original_max_position_embeddings": 64,
            **factors,
        }
        return tf.Phi3Config(rope_parameters=rope, original_max_position_embeddings=64, **common)
    common |= {"head_dim": 8}
    if kind == "llama":
        return tf.LlamaConfig(**common)
    if kind == "llama_dynamic":
        return tf.LlamaConfig(
            rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}, **common
        )
    if kind == "wide_llama":  # heads of a width that GPU kernels take
        wide = {
            "hidden_size": 128,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 64,
        }
        return tf.LlamaConfig(**common | wide | {"intermediate_size": 256})
    if kind == "qwen3":
        return tf.Qwen3Config(**common)
    if kind == "qwen3_moe":
        return tf.Qwen3MoeConfig(
            num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, **common
        )
    if kind == "mistral":
        return tf.MistralConfig(sliding_window=16, **common)
    if kind == "gemma3":
        return tf.Gemma3TextConfig(
            sliding_window=16, layer_types=layers, query_pre_attn_scalar=8, **common
        )
    if kind == "gemma2":
        caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}
        return tf.Gemma2Config(
            sliding_window=16, layer_types=layers, query_pre_attn_scalar=8, **caps, **common
        )
    if kind in (
        "gemma3n",
        "gemma4",
    ):  # the last two layers read the keys and values of the first two
        per_layer = {"vocab_size_per_layer_input": vocab_size, "hidden_size_per_layer_input": 8}
        common |= {
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 2,
            "layer_types": layers * 2,
            **per_layer,
        }
        if kind == "gemma4":
            return tf.Gemma4TextConfig(sliding_window=16, global_head_dim=16, **common)
        return tf.Gemma3nTextConfig(
            sliding_window=16, laurel_rank=4, activation_sparsity_pattern=None, **common
        )
    if kind == "gpt_oss":
        return tf.GptOssConfig(sliding_window=16, layer_types=layers, **experts, **common)
    if kind == "llama4":
        kinds = ["chunked_attention", "full_attention"]
        chunks = {
            "attention_chunk_size": 16,
            "layer_types": kinds,
            "no_rope_layers": [1, 0],
            "floor_scale": 20,
        }
        return tf.Llama4TextConfig(intermediate_size_mlp=64, **chunks, **experts, **common)
    raise ValueError(f"no model kind {kind!r}; there are {', '.join(MODELS)}")


def save_tiny_model(
    folder: Path,
    kind: str = "llama",
    tokenizer: str = "byte_bpe",
    *,
    context: int = 512,
    seed: int = 0,
    spread: float = 0.2,
) -> Path:
    """Write a random model and its tokenizer to `folder` as `save_pretrained` does, and return the
    folder.
    """
    import torch
    from transformers import AutoModelForCausalLM

    tok = build_tokenizer(tokenizer)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(build_config(kind, len(tok), context))
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder
