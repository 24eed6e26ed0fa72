"""GGUF files, the format of llama.cpp: opened by transformers, their weights made whole again.

In: a file. Out: a model and a tokenizer. transformers takes a file's vocabulary and merges, but not
how the file says that text is split into words before, nor whether a BOS token comes first; both
are set here, so that ids are those of llama.cpp. Left out: files in several parts; files whose rule
of splitting is not in `SPLITS`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icl_harness.errors import ModelError
from icl_harness.models.local.weights import one_line

# How text is split into words before merges, by the file's `tokenizer.ggml.pre`. The rules are
# those that the models' own tokenizer files state.
_CASED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGITS = (r"\p{N}", _GPT2)  # every digit alone, then as GPT-2
_LLAMA3 = (_CASED + r"\p{N}{1,3}" + _REST,)
_QWEN2 = (_CASED + r"\p{N}" + _REST,)
SPLITS: dict[str, tuple[str, ...]] = {
    "gpt-2": (_GPT2,),
    "phi-2": (_GPT2,),
    "olmo": (_GPT2,),
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "llama-bpe": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
}
NEEDS = "It needs a GGUF file of a causal language model that transformers reads."


def open_gguf(file: Path, dtype: str) -> tuple[Any, Any]:
    """Return (model, tokenizer) of a file, on the CPU. Raises `ModelError`."""
    import transformers

    reader = _read(file)
    source: dict[str, Any] = {
        "pretrained_model_name_or_path": str(file.parent),
        "gguf_file": file.name,
        "trust_remote_code": False,  # left out, transformers would ask on the terminal
    }
    try:
        with _read_once(reader), contextlib.redirect_stderr(io.StringIO()):  # a bar of its own
            tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
            model = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=dtype)
    except Exception as error:  # transformers raises whatever its parts raise
        raise ModelError(
            f"{file.name} cannot be opened by transformers: {one_line(error)} {NEEDS}"
        ) from error
    _split_as(reader, tokenizer, file.name)
    _begin_as(reader, tokenizer)
    # The weights are floats now like any others.
    model.is_quantized = False
    del model.config.quantization_config
    return model, tokenizer


def _read(file: Path) -> Any:
    """Return gguf's reader of a file. Raises `ModelError`: no GGUF file, or a part of one."""
    try:
        import gguf
    except ImportError:
        raise ModelError(f"{file.name} needs the Python package gguf: pip install gguf") from None
    try:
        reader = gguf.GGUFReader(file)
    except Exception as error:  # of a file that is cut short, too
        raise ModelError(
            f"{file.name} is no whole GGUF file: {one_line(error)} Download it again."
        ) from error
    if (_field(reader, "split.count") or 1) > 1:
        raise ModelError(
            f"{file.name} is one of several parts. Join them first: llama-gguf-split --merge."
        )
    return reader


@contextlib.contextmanager
def _read_once(reader: Any) -> Iterator[None]:
    """Let transformers, which reads a file anew for its config, its tokenizer and its weights, have
    what was read: that takes seconds for a large vocabulary.
    """
    import gguf

    before = gguf.GGUFReader
    gguf.GGUFReader = lambda path: reader  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        gguf.GGUFReader = before  # type: ignore[misc]


def _field(reader: Any, name: str) -> Any:
    field = reader.fields.get(name)
    return None if field is None else field.contents()


def _split_as(reader: Any, tokenizer: Any, name: str) -> None:
    """Have a tokenizer split text into words as the file says. Raises `ModelError`."""
    from tokenizers import Regex, pre_tokenizers

    if _field(reader, "tokenizer.ggml.model") != "gpt2":
        return  # SentencePiece's: text is not split before
    rule = _field(reader, "tokenizer.ggml.pre") or "none"
    if rule not in SPLITS:
        raise ModelError(
            f"{name} splits text by the rule {rule!r}, which is not known here; token ids would "
            f"differ. Known are {', '.join(SPLITS)}. Open the model's original folder instead."
        )
    splits = [pre_tokenizers.Split(Regex(one), "isolated") for one in SPLITS[rule]]
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_])
    backend.model.ignore_merges = rule == "llama-bpe"


def _begin_as(reader: Any, tokenizer: Any) -> None:
    """Have a tokenizer put BOS before a text where the file says so, and nothing behind it."""
    from tokenizers import processors

    begins = _field(reader, "tokenizer.ggml.add_bos_token")
    if begins is None:  # what llama.cpp takes for granted then
        kind = _field(reader, "tokenizer.ggml.model")
        begins = kind == "llama" or _field(reader, "tokenizer.ggml.pre") == "llama-bpe"
    bos = tokenizer.bos_token
    head = [(bos, tokenizer.bos_token_id)] if begins and bos is not None else []
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=[*(token for token, _ in head), "$A"], special_tokens=head
    )
