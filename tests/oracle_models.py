"""Local models that answer as a function of the prompt does: a network of `transformers` without
weights to train.

In: a function of a prompt's text that returns the answer, or None for what is no prompt. Out: a
folder that `hf/` and `vllm/` open. The tokens of the answer are those of a real tokenizer, written
one at a time and read out of a real cache: whatever a back end does with tokens, batches, keys and
values, stop strings and thoughts it does here. `ANSWERS` holds the functions; the model's config
names its own. Left out: attention, which tests/models/local holds to plain forwards.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from tests.tiny_models import build_tokenizer

ANSWERS: dict[str, Callable[[str], str | None]] = {}
THOUGHTS = ["<think>", "</think>"]  # special tokens, as in many models


END = 0  # the id of the tokenizer's <|end|>


class OracleConfig(PreTrainedConfig):
    """`answers`: the name of the function in `ANSWERS`; `tokenizer`: the folder of its tokens."""

    model_type = "icl_oracle"

    def __init__(self, answers: str = "", tokenizer: str = "", **others: Any) -> None:
        self.answers, self.tokenizer = answers, tokenizer
        self.num_hidden_layers = self.num_attention_heads = self.hidden_size = 1
        super().__init__(**others)


class OracleModel(PreTrainedModel, GenerationMixin):
    """The next token of the answer to a prompt; behind any other text a token that all of it
    decides, so that what was read wrongly is found out.
    """

    config_class = OracleConfig

    def __init__(self, config: OracleConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, 1)
        self._tokenizer = AutoTokenizer.from_pretrained(config.tokenizer)
        self._begun: dict[tuple[int, ...], list[int]] = {}  # ids so far -> what is left to write
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.tokens

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
    ) -> CausalLMOutputWithPast:
        """Return logits of which the likeliest token is sure. A cache keeps the ids as keys."""
        read = input_ids[:, None, :, None].float()
        if past_key_values is not None:
            read, _ = past_key_values.update(read, read, 0)
        read = read[:, 0, :, 0].long()
        is_read = torch.ones_like(read) if attention_mask is None else attention_mask
        places = is_read.cumsum(-1)
        sure = (read * places * is_read).cumsum(-1)[:, -input_ids.shape[1] :]
        sure = sure % self.config.vocab_size
        for row, (ids, mask) in enumerate(zip(read, is_read, strict=True)):
            token = self._next(tuple(ids[mask.bool()].tolist()))
            if token is not None:
                sure[row, -1] = token
        logits = nn.functional.one_hot(sure, self.config.vocab_size).float() * 100
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    def _next(self, ids: tuple[int, ...]) -> int | None:
        """Return the token of an answer that follows, or None where no prompt has been read."""
        left = self._begun.get(ids[:-1], [])
        if left and left[0] == ids[-1]:
            left = left[1:]
        else:
            answer = ANSWERS[self.config.answers](self._tokenizer.decode(ids))
            if answer is None:
                return None
            left = self._tokenizer(answer, add_special_tokens=False)["input_ids"]
        self._begun[ids] = left
        return left[0] if left else END


AutoConfig.register(OracleConfig.model_type, OracleConfig)
AutoModelForCausalLM.register(OracleConfig, OracleModel)


def save_oracle(folder: Path, answer: Callable[[str], str | None]) -> Path:
    """Write a model that answers so to `folder`, and return the folder."""
    tokenizer = build_tokenizer("llama3")
    tokenizer.add_special_tokens({"additional_special_tokens": THOUGHTS})
    tokenizer.save_pretrained(folder)
    ANSWERS[folder.name] = answer
    config = OracleConfig(
        answers=folder.name,
        tokenizer=str(folder),
        vocab_size=len(tokenizer),
        max_position_embeddings=1 << 16,
    )
    OracleModel(config).save_pretrained(folder)
    return folder
