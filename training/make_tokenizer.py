"""Writes the bundled model's tokenizer: all 256 bytes, and the dialects prompts' words as single
tokens.

In: the words and prompt texts of icl_harness.dialects. Out: tokenizer.json and
tokenizer_config.json in a folder. A piece of text between spaces (with the one space before it) is
one token if the vocabulary holds it, else its bytes: there are no merges. A newline is always a
token of its own, so the tokens of prompt segments that end in a newline are those of the whole
prompt. No beginning-of-text token is ever added.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from icl_harness.tasks.dialect_world import FORMAT, LABELS, PREAMBLE, WORDS

END = "<|end|>"  # padding, and the end of a text; never trained
PIECE = r" ?[^\s]+|\s"
CONTEXT_TOKENS = 8192


def pieces() -> list[str]:
    """Every multi-byte token, in the order of its id."""
    words = [spaced for word in (*WORDS, *LABELS) for spaced in (word, f" {word}")]
    fixed = " ".join((*PREAMBLE.values(), FORMAT)).replace("\n", "").split(" ")
    return list(dict.fromkeys([*words, " ->", *fixed, *(f" {word}" for word in fixed)]))


def build() -> PreTrainedTokenizerFast:
    """The tokenizer, ready to use."""
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    spelled = [
        piece.replace(" ", "\u0120") for piece in pieces()
    ]  # how byte-level vocabularies write a space
    vocab = {
        token: i for i, token in enumerate([END, *bytes_, *(s for s in spelled if len(s) > 1)])
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def save(folder: Path) -> PreTrainedTokenizerFast:
    """Build, write into `folder`, and give back."""
    tokenizer = build()
    tokenizer.save_pretrained(str(folder))
    return tokenizer
