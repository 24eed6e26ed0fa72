"""Keys and values of the prompt tree (floor 2): one growing prefix, and batches of rows that branch from it.

In: a transformers model and token ids. Out: logits. `Prefix` holds the path that the runner walks: it is extended in
place, and cropped to the last common token where the path turns. `Rows` are prompts that share tokens with it, each
fed only what the prefix lacks. A row gets its own copy of the prefix's keys and values, aligned to the right, so that
attention masks, sliding windows and positions are those of a plain left-padded batch and any model can run it.
Left out: attention to a prefix that is not copied. It would replace `Rows` and leave its callers alone.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from icl_harness.errors import ModelError
from icl_harness.models.tokens import Branch, Ids, common

CHUNK = 1024  # tokens per forward of a prefill: bounds the activations
CPU_BATCH_BYTES = 1 << 26  # of copied keys and values and of logits; more is slower on CPUs, until weights weigh more
CUDA_SHARE = 0.4  # of the free memory, for the same


class _Layer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, (rows, heads, tokens, width), as views of buffers with room to grow.

    A sliding-window layer is kept whole, too: the mask hides what is out of the window, and the layer can be cropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.buffers: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new tokens behind those that are there; O(new tokens) but for the rare growth."""
        used = self.get_seq_length()
        self.reserve(key_states, value_states, used, used + key_states.shape[-2])
        return self.keys, self.values

    def reserve(self, keys: torch.Tensor, values: torch.Tensor, used: int, total: int) -> None:
        """Make `total` tokens, of which the last ones are `keys` and `values` and the first `used` are kept."""
        if not self.buffers or self.buffers[0].shape[-2] < total:
            room = max(total + 32, total * 5 // 4)
            grown = [new.new_empty((*new.shape[:-2], room, new.shape[-1])) for new in (keys, values)]
            for new, old in zip(grown, self.buffers, strict=bool(self.buffers)):
                new[..., :used, :] = old[..., :used, :]
            self.buffers = grown
        for buffer, new in zip(self.buffers, (keys, values), strict=True):
            buffer[..., total - new.shape[-2] : total, :] = new
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.keys, self.values = (buffer[..., :total, :] for buffer in self.buffers)

    def select(self, rows: torch.Tensor) -> None:
        """Keep `rows` (repeats allowed) of the batch."""
        if not self.buffers:
            return
        self.buffers = [buffer[rows.to(buffer.device)] for buffer in self.buffers]
        total = self.get_seq_length()
        self.keys, self.values = (buffer[..., :total, :] for buffer in self.buffers)

    def spread(self, lengths: Sequence[int], columns: int) -> _Layer:
        """Return a layer of one row per length: this one's first `length` tokens at the right end of `columns`."""
        out = _Layer()
        for source in (self.keys, self.values):
            buffer = source.new_empty((len(lengths), source.shape[1], columns + 32, source.shape[3]))
            for length in sorted(set(lengths)):
                rows = slice(None) if len(set(lengths)) == 1 else [i for i, n in enumerate(lengths) if n == length]
                buffer[rows, :, : columns - length] = 0.0  # masked, but must not be NaN
                buffer[rows, :, columns - length : columns] = source[:, :, :length]
            out.buffers.append(buffer)
        out.dtype, out.device, out.is_initialized = self.keys.dtype, self.keys.device, True
        out.keys, out.values = (buffer[..., :columns, :] for buffer in out.buffers)
        return out


class Runner:
    """A model's forward pass with a cache. `rigid`: its caches cannot be cropped or padded (recurrent states)."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = model.get_input_embeddings().weight.device
        self._takes = inspect.signature(model.forward).parameters.keys()
        layers = DynamicCache(config=model.config).layers
        self.rigid = not all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
        self._n_layers = len(layers)
        self.n_bytes: int = sum(p.numel() * p.element_size() for p in model.parameters())
        if self.rigid and not self._resumes():
            name = type(model).__name__
            raise ModelError(f"{name} does not go on from a cache in this transformers; use a model that does.")

    def new_cache(self) -> Any:
        """Return an empty cache."""
        if self.rigid:
            return DynamicCache(config=self.model.config)
        return Cache(layers=[_Layer() for _ in range(self._n_layers)])

    def forward(self, tokens: Any, cache: Any, positions: Any, mask: Any, keep: int) -> torch.Tensor:
        """Return the logits of the last `keep` of `tokens` (rows, n): (rows, keep, vocabulary), float32."""
        inputs: dict[str, Any] = {"logits_to_keep": keep} if "logits_to_keep" in self._takes else {}
        if "position_ids" in self._takes:  # others count their places in the mask
            inputs["position_ids"] = self._tensor(positions)
        if mask is not None:
            inputs["attention_mask"] = self._tensor(mask)
        out = self.model(input_ids=self._tensor(tokens), past_key_values=cache, use_cache=True, **inputs)
        logits: torch.Tensor = out.logits[:, -keep:].float()
        return logits

    @torch.inference_mode()
    def _resumes(self) -> bool:
        """Whether tokens fed in pieces tell what they tell in one. Some recurrent models take no cache, silently."""
        tokens = np.arange(12)[None] + 3
        places = np.arange(12)[None]
        whole = self.forward(tokens, self.new_cache(), places, None, 1)
        cache = self.new_cache()
        for piece in (slice(0, 5), slice(5, 11), slice(11, 12)):
            last = self.forward(tokens[:, piece], cache, places[:, piece], None, 1)
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.1
        return bool((whole - last).abs().max() <= tolerance * (1 + whole.abs().max()))

    def _tensor(self, array: Any) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.long, device=self.device)


class Prefix:
    """The keys and values of one path, one row. `n_prefilled` counts the tokens ever fed to it."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.n_prefilled = 0
        self.forget()

    def forget(self) -> None:
        """Free the cache."""
        self.ids: Ids = np.zeros(0, np.int32)
        self.cache = self.runner.new_cache()

    @torch.inference_mode()
    def reach(self, ids: Ids) -> None:
        """Make the cache that of `ids` (n,): keep what it has in common, drop the rest, feed what it lacks."""
        kept = common(self.ids, ids)
        if kept < len(self.ids):
            if kept == 0 or self.runner.rigid:
                self.forget()
                kept = 0
            else:
                self.cache.crop(kept - len(self.ids))
                self.ids = ids[:kept]
        for start in range(kept, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            positions = np.arange(start, start + len(chunk))[None]
            try:
                self.runner.forward(chunk[None], self.cache, positions, None, 1)
            except BaseException:
                self.forget()  # the layers may have stopped at different tokens
                raise
            self.ids = ids[: start + len(chunk)]
            self.n_prefilled += len(chunk)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values of one token of one row, over all layers."""
        if len(self.ids) and not self.runner.rigid:
            pairs = ((layer.keys, layer.values) for layer in self.cache.layers if layer.is_initialized)
            return sum(t.shape[1] * t.shape[3] * t.element_size() for pair in pairs for t in pair)
        config = self.runner.model.config.get_text_config(decoder=True)
        return 2 * int(config.num_hidden_layers) * int(config.hidden_size) * int(self.runner.model.dtype.itemsize)


class Rows:
    """A batch of prompts that branch from a prefix, and what they generate."""

    def __init__(self, prefix: Prefix, branches: Sequence[Branch], keep: int = 1) -> None:
        """Feed each branch's own tokens; `logits` (rows, keep, vocabulary) are those of the last `keep` tokens.

        All rows end in one column. A row with fewer own tokens than the longest is fed the prefix's last ones again,
        in the place of padding; only where the prefix is too short for that is it padded, on the left.
        """
        self._runner = prefix.runner
        lengths = np.array([len(branch) for branch in branches])
        fed = max(1, *(len(branch.own) for branch in branches))
        cached = np.maximum(lengths - fed, 0)
        columns = int(cached.max())
        tokens = np.zeros((len(branches), fed), np.int64)
        for row, branch in zip(tokens, branches, strict=True):
            n_own = len(branch.own)
            again = prefix.ids[max(0, len(branch) - fed) : branch.n_shared]
            row[fed - n_own :] = branch.own
            row[fed - n_own - len(again) : fed - n_own] = again
        self._cache = self._copy(prefix, cached.tolist(), columns)
        self._mask = np.arange(columns + fed) >= (columns + fed - lengths)[:, None]
        self._next = lengths  # the position of each row's next token
        positions = np.maximum(lengths[:, None] + np.arange(-fed, 0), 0)
        self.logits = self._forward(tokens, positions, keep)

    def step(self, tokens: Any) -> torch.Tensor:
        """Feed one more token to each row, shape (rows,); return the next one's logits (rows, vocabulary)."""
        self._mask = np.concatenate([self._mask, np.ones((len(self._mask), 1), bool)], axis=1)
        positions, self._next = self._next[:, None], self._next + 1
        return self._forward(np.asarray(tokens)[:, None], positions, 1)[:, -1]

    def select(self, rows: Any) -> None:
        """Go on with `rows` (indices; repeats allowed) only."""
        self._mask, self._next = self._mask[rows], self._next[rows]
        index = torch.as_tensor(rows, device=self._runner.device)
        if self._runner.rigid:
            self._cache.reorder_cache(index)
        else:
            for layer in self._cache.layers:
                layer.select(index)

    def _copy(self, prefix: Prefix, cached: list[int], columns: int) -> Any:
        if not self._runner.rigid:
            layers = prefix.cache.layers if columns else []
            spread = [layer.spread(cached, columns) if layer.is_initialized else _Layer() for layer in layers]
            return Cache(layers=spread) if columns else self._runner.new_cache()
        if set(cached) != {len(prefix.ids)}:
            raise ValueError("rows of a model with recurrent states must all branch at the prefix's last token")
        cache = copy.deepcopy(prefix.cache)
        cache.reorder_cache(torch.zeros(len(cached), dtype=torch.long, device=self._runner.device))
        return cache

    def _forward(self, tokens: Any, positions: Any, keep: int) -> torch.Tensor:
        mask = None if self._mask.all() else self._mask
        return self._runner.forward(tokens, self._cache, positions, mask, keep)


@dataclass(frozen=True, slots=True)
class Done:
    """A batch of rows and what came of each; `results` is None where the prefix or even one row did not fit."""

    rows: list[Any]
    results: list[Any] | None
    seconds: float


def in_batches(
    prefix: Prefix,
    ids: Ids,
    rows: list[Any],
    most: int,
    solve: Callable[[list[Any]], list[Any]],
    *,
    n_new: int = 0,
    keep: int = 1,
    copies: int = 1,
) -> Iterator[Done]:
    """Bring the prefix to the node's `ids` and solve rows (things with a `branch`), at most `most` at a time.

    Rows of like lengths go together; batches shrink to what memory holds when a row becomes `copies` rows that grow by
    `n_new` tokens and hold the logits of `keep`; where memory ends all the same they are halved. `seconds` leave the
    prefill out.
    """
    rigid = prefix.runner.rigid
    rows = sorted(rows, key=lambda row: (row.branch.n_shared if rigid else 0, len(row.branch.own)))
    at = 0
    while at < len(rows):
        batch, results, halved = rows[at:], None, 0
        started = time.perf_counter()
        try:
            prefix.reach(ids[: rows[at].branch.n_shared] if rigid else ids)
            started = time.perf_counter()
            batch = rows[at : at + _n_fitting(prefix, rows[at:], max(1, most // copies), n_new, keep, copies)]
            halved = len(batch) // 2
            results = solve(batch)
        except torch.OutOfMemoryError:
            most = max(1, halved * copies)
        if results is None:  # after the handler, whose traceback holds the batch's tensors
            if prefix.runner.device.type == "cuda":
                torch.cuda.empty_cache()
            if halved:
                continue
        yield Done(batch, results, time.perf_counter() - started)
        at += len(batch)


def _n_fitting(prefix: Prefix, rows: list[Any], most: int, n_new: int, keep: int, copies: int) -> int:
    """Return how many of the first `rows` (shortest first) make a batch within memory; at least 1."""
    if prefix.runner.rigid:  # without padding, so of one length only
        first = rows[0].branch
        alike = (first.n_shared, len(first.own))
        rows = list(itertools.takewhile(lambda row: (row.branch.n_shared, len(row.branch.own)) == alike, rows))
    space = max(CPU_BATCH_BYTES, prefix.runner.n_bytes // 2)
    if prefix.runner.device.type == "cuda":
        space = int(CUDA_SHARE * torch.cuda.mem_get_info(prefix.runner.device)[0])
    longest = max(len(row.branch) for row in rows[:most]) + n_new
    vocabulary: int = prefix.runner.model.get_input_embeddings().weight.shape[0]
    per_row = longest * prefix.bytes_per_token + 3 * keep * vocabulary * 4  # logits, and their softmax or sum
    return max(1, min(len(rows), most, space // (per_row * copies)))
