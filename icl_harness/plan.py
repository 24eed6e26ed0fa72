"""How many whole shots of a prompt fit into a model's context window (floor 3)."""

from __future__ import annotations

from collections.abc import Sequence

from icl_harness.models.base import Model, Sampling
from icl_harness.modes import PromptPath
from icl_harness.prompts import Query


def reserved_tokens(model: Model, path: PromptPath, queries: Sequence[Query], sampling: Sampling) -> int:
    """Return the tokens that the longest query and its answer take behind a prefix; 0 where they are not counted."""
    root = path.node(0)
    base = model.count_tokens(root)
    if model.capabilities.context_window is None or base is None:
        return 0
    if sampling.scoring == "generate":
        return max((model.count_tokens(root, q.text) or 0) for q in queries) - base + sampling.max_tokens
    texts = [q.text + max(q.continuations, key=len, default="") for q in queries]
    return max((model.count_tokens(root, text) or 0) for text in texts) - base


def fitting_shots(model: Model, path: PromptPath, shots: int, reserved: int) -> int | None:
    """Return the most whole shots, up to `shots`, whose prefix leaves `reserved` tokens in the window; None where not
    even the prompt without shots fits. `shots` where the model does not tell its window or its tokens."""
    window = model.capabilities.context_window

    def fits(k: int) -> bool:
        tokens = model.count_tokens(path.node(k))
        return window is None or tokens is None or tokens + reserved <= window

    if fits(shots):
        return shots
    if not fits(0):
        return None
    low, high = 0, shots  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
