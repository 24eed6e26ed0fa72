"""vLLM's engine as the provider calls it, on plain transformers: greedy, stops where vLLM would."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl_harness.models.local import vllm_open
from icl_harness.models.vllm import VllmModel


class FakeEngine:
    """`calls`: the prompts and parameters of each call."""

    def __init__(self, folder: Path, ends: Sequence[int] = ()) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.weights = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        window = self.weights.config.max_position_embeddings
        self.model_config = SimpleNamespace(
            max_model_len=window,
            hf_config=self.weights.config,
            dtype=torch.float32,
            quantization=None,
        )
        self.ends = ends
        self.calls: list[list[Any]] = []

    def get_tokenizer(self) -> Any:
        return self.tokenizer

    def generate(self, prompts: Any, params: Any, use_tqdm: bool) -> list[Any]:
        self.calls.append(params)
        return [
            self._one(prompt["prompt_token_ids"], one)
            for prompt, one in zip(prompts, params, strict=True)
        ]

    @torch.inference_mode()
    def _one(self, ids: list[int], params: Any) -> Any:
        new: list[int] = []
        told, finish, reason = [], "length", None
        for _ in range(params.max_tokens):
            logprobs = self.weights(input_ids=torch.tensor([ids + new])).logits[0, -1]
            logprobs = logprobs.log_softmax(-1)
            wanted = getattr(params, "logprob_token_ids", [])
            told.append({i: SimpleNamespace(logprob=logprobs[i].item()) for i in wanted})
            new.append(int(logprobs.argmax()))
            if new[-1] in self.ends:
                finish = "stop"
                break
            text = self.tokenizer.decode(new)
            hits = [stop for stop in getattr(params, "stop", []) if stop in text]
            if hits:
                finish, reason = "stop", hits[0]
                break
        output = SimpleNamespace(
            token_ids=new, logprobs=told, finish_reason=finish, stop_reason=reason
        )
        return SimpleNamespace(outputs=[output], num_cached_tokens=0)


def open_fake_vllm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ends: Sequence[int] = (), **args: str
) -> tuple[VllmModel, FakeEngine]:
    """Return the provider on a fake engine, and that; `ends` are the ids that end an answer."""
    engine = FakeEngine(folder, ends)
    monkeypatch.setattr(vllm_open, "load", lambda name, options: engine)
    device = SimpleNamespace(get_device_name=lambda: "fake")
    platforms = SimpleNamespace(current_platform=device)
    fake = SimpleNamespace(
        SamplingParams=SimpleNamespace, TokensPrompt=dict, platforms=platforms, __version__="fake"
    )
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    return VllmModel(str(folder), **args), engine
