"""Tiny models that are trained, in seconds, to write given texts: what they answer is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from tests.tiny_models import build_config, build_tokenizer


def save_trained_model(
    folder: Path,
    text: Callable[[random.Random], str],
    *,
    kind: str = "llama",
    tokenizer: str | PreTrainedTokenizerBase = "byte_bpe",
    steps: int = 120,
) -> Path:
    """Write a model that goes on as `text` does, of which each call gives another example, and
    return the folder.
    """
    tok = build_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
    torch.set_num_threads(1)  # so small a model is slower with more
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(build_config(kind, len(tok), 512, 0.1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng = random.Random(0)
    for _ in range(steps):
        rows = [tok(text(rng), add_special_tokens=False)["input_ids"] for _ in range(8)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        labels = torch.tensor([row + [-100] * (width - len(row)) for row in rows])
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder
