"""How many whole shots of a prompt fit into a model's context window."""

from __future__ import annotations

from collections.abc import Sequence

from icl_harness.models.base import Model, Sampling
from icl_harness.prompts.modes import PromptPath
from icl_harness.prompts.tree import Query


def reserved_tokens(
    model: Model, path: PromptPath, queries: Sequence[Query], sampling: Sampling
) -> int:
    """Return the tokens that the longest query and its answer take behind a prefix; 0 where they
    are not counted.
    """
    if model.capabilities.context_window is None:
        return 0
    root = path.node(0)
    if sampling.scoring == "generate":
        texts, n_new = [q.text for q in queries], sampling.max_tokens
    else:
        texts, n_new = [q.text + max(q.continuations, key=len, default="") for q in queries], 0
    base, longest = model.count_tokens(root), model.count_longest(root, texts)
    return 0 if base is None or longest is None else longest - base + n_new


def fitting_shots(model: Model, path: PromptPath, shots: int, reserved: int) -> int | None:
    """Return the most whole shots, up to `shots`, whose prefix leaves `reserved` tokens in the
    window; None where not even the prompt without shots fits. `shots` where the model does not tell
    its window or its tokens.
    """
    window = model.capabilities.context_window

    def fits(k: int) -> bool:
        if window is None:
            return True
        tokens = model.count_tokens(path.node(k))
        return tokens is None or tokens + reserved <= window

    if fits(shots):
        return shots
    if not fits(0):
        return None
    low, high = 0, shots  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
