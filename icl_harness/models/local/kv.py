"""A model's forward pass, and what branches from a path of the prompt tree.

In: a transformers model, token ids. Out: logits of the places asked for. `Prefix` holds the path
that the runner walks, and `Rows` are prompts that share tokens with it. There are several ways of
keeping them; ways.py finds a model's.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import (
    DummyLayer,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from icl_harness.errors import ModelError
from icl_harness.models.base import KvCache
from icl_harness.models.local.tokens import Ids, Twig

CHUNK = 1024  # tokens of a row per forward: bounds the activations
Places = tuple[Sequence[int], Sequence[int]]  # rows, and a token of each


class Runner:
    """A model's forward pass with a cache.

    `rigid`: its caches can be neither cropped nor padded. `level`: rows of a batch must be chains
    of one length, for that reason or as its attention tells a token's position by its column (Llama
    4's temperature). Logits are made for the wanted tokens alone, as the hidden states of others
    are left out before the model's last matrix.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = model.get_input_embeddings().weight.device
        self.takes = frozenset(inspect.signature(model.forward).parameters)
        layers = DynamicCache(config=model.config).layers
        plain = (
            DynamicLayer,
            DynamicSlidingWindowLayer,
            DummyLayer,
        )  # the last: a layer that reads another's
        self.rigid = not all(type(layer) in plain for layer in layers)
        self.level = self.rigid or bool(
            getattr(model.config.get_text_config(), "attn_temperature_tuning", False)
        )
        self.n_layers = len(layers)
        self.n_bytes: int = sum(p.numel() * p.element_size() for p in model.parameters())
        self._wanted: Any = None
        self._head = model.get_output_embeddings()
        if self._head is not None:
            self._head.register_forward_pre_hook(self._narrowed)

    def forward(
        self, tokens: Any, cache: Any, positions: Any, *, mask: Any = None, wanted: Any
    ) -> torch.Tensor:
        """Return the logits behind the `wanted` places (rows, columns) of `tokens` (rows, n):
        (wanted, vocabulary).
        """
        inputs: dict[str, Any] = {}
        if "position_ids" in self.takes:  # others count their places in the mask
            inputs["position_ids"] = self.tensor(positions)
        if mask is not None:
            inputs["attention_mask"] = self.tensor(mask)
        if cache is not None:
            inputs |= {"past_key_values": cache, "use_cache": True}
        elif "use_cache" in self.takes:
            inputs["use_cache"] = False
        self._wanted = wanted
        try:
            out = self.model(input_ids=self.tensor(tokens), **inputs)
        finally:
            self._wanted = None
        logits: torch.Tensor = (
            out.logits[0]
            if self._head is not None
            else out.logits[self._places(wanted, out.logits)]
        )
        return logits.float()

    def tensor(self, array: Any) -> torch.Tensor:
        """Return indices on the model's first device."""
        return torch.as_tensor(np.asarray(array), dtype=torch.long, device=self.device)

    def _narrowed(self, head: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._wanted is None:
            return None
        hidden, *others = args
        return (hidden[self._places(self._wanted, hidden)][None], *others)

    def _places(self, wanted: Any, near: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(
            torch.as_tensor(index, dtype=torch.long, device=near.device) for index in wanted
        )


class Prefix(ABC):
    """The keys and values of one path. `n_prefilled` counts the tokens ever fed to it; `way` says
    how rows branch.

    `trees`: rows may be trees. `bytes_per_token`: of keys and values of one token of one row, over
    all layers.
    """

    way: str
    trees = False
    bytes_per_token = 0

    def __init__(self, runner: Runner, chunk: int = CHUNK) -> None:
        self.runner = runner
        self.chunk = chunk  # tokens of a row per forward
        self.n_prefilled = 0
        self.forget()

    @abstractmethod
    def forget(self) -> None:
        """Free the cache."""

    @abstractmethod
    def reach(self, ids: Ids) -> None:
        """Make the cache that of `ids` (n,): keep what it has in common, drop the rest, feed what
        it lacks.
        """

    @abstractmethod
    def rows(self, twigs: Sequence[Twig], wanted: Places, room: int = 0) -> Rows:
        """Feed each twig's tokens, one row a twig; `wanted` are rows and tokens of twigs. `room`:
        tokens to come.
        """

    def keep_on_disk(self, cache: KvCache, description: Mapping[str, Any]) -> None:
        """Look for keys and values in a folder before computing them, and leave them there.
        `description` is the model's own.

        Raises `ModelError` where this way of branching cannot.
        """
        raise ModelError(
            f"--kv-cache: {type(self.runner.model).__name__} runs on copies of its prefix, which "
            "are not kept on disk. Leave it out for this model."
        )


class Rows(ABC):
    """A batch of prompts that branch from a prefix. `logits` (wanted, vocabulary) follow the tokens
    wanted of them.
    """

    logits: torch.Tensor

    @abstractmethod
    def step(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        """Feed one more token to each row, shape (rows,); return the next one's logits (rows,
        vocabulary).
        """

    @abstractmethod
    def select(self, rows: NDArray[np.int64]) -> None:
        """Go on with `rows` (indices; repeats allowed) only."""


def in_order(found: Sequence[torch.Tensor], order: Sequence[NDArray[np.int64]]) -> torch.Tensor:
    """Join the logits of chunks; `order` says which of all that were wanted each chunk held."""
    if len(found) == 1:
        return found[0]
    back = np.argsort(np.concatenate(order))
    return torch.cat(list(found))[torch.as_tensor(back, device=found[0].device)]
