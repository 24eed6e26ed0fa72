"""A path's keys and values, and rows that each get their own copy of them: what any model can run.

In: token ids. Out: logits. The copies are aligned on the right, so that attention masks, sliding
windows and positions are those of a plain left-padded batch. Recurrent states (`Runner.rigid`) can
be neither cropped nor padded: a path that turns is computed anew, and a batch's rows are of one
length.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from icl_harness.models.local.kv import CHUNK, Places, Prefix, Rows, Runner, in_order
from icl_harness.models.local.tokens import Ids, Twig, common


class _Layer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, (rows, heads, tokens, width), as views of buffers with room to
    grow.

    A sliding-window layer is kept whole, too: the mask hides what is out of the window, and the
    layer can be cropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.buffers: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the new tokens; O(new tokens) but for the rare growth."""
        used = self.get_seq_length()
        self.reserve(key_states, value_states, used, used + key_states.shape[-2])
        return self.keys, self.values

    def reserve(self, keys: torch.Tensor, values: torch.Tensor, used: int, total: int) -> None:
        """Make `total` tokens, of which the last ones are `keys` and `values` and the first `used`
        are kept.
        """
        if not self.buffers or self.buffers[0].shape[-2] < total:
            room = max(total + 32, total * 5 // 4)
            grown = [
                new.new_empty((*new.shape[:-2], room, new.shape[-1])) for new in (keys, values)
            ]
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
        """Return a layer of one row per length: this one's first `length` tokens at the right end
        of `columns`.
        """
        out = _Layer()
        for source in (self.keys, self.values):
            buffer = source.new_empty(
                (len(lengths), source.shape[1], columns + 32, source.shape[3])
            )
            for length in sorted(set(lengths)):
                rows = (
                    slice(None)
                    if len(set(lengths)) == 1
                    else [i for i, n in enumerate(lengths) if n == length]
                )
                buffer[rows, :, : columns - length] = 0.0  # masked, but must not be NaN
                buffer[rows, :, columns - length : columns] = source[:, :, :length]
            out.buffers.append(buffer)
        out.dtype, out.device, out.is_initialized = self.keys.dtype, self.keys.device, True
        out.keys, out.values = (buffer[..., :columns, :] for buffer in out.buffers)
        return out


class CopiedPrefix(Prefix):
    """One path, one row."""

    def __init__(self, runner: Runner, chunk: int = CHUNK) -> None:
        super().__init__(runner, chunk)
        self.way = "recomputed" if runner.rigid else "copied"

    def forget(self) -> None:
        """Free the cache."""
        self.ids: Ids = np.zeros(0, np.int32)
        self.cache = self.new_cache()

    def new_cache(self) -> Any:
        """Return an empty cache."""
        if self.runner.rigid:
            return DynamicCache(config=self.runner.model.config)
        return Cache(layers=[_Layer() for _ in range(self.runner.n_layers)])

    @torch.inference_mode()
    def reach(self, ids: Ids) -> None:
        """Make the cache that of `ids` (n,): keep what it has in common, drop the rest, feed what
        it lacks.
        """
        kept = common(self.ids, ids)
        if kept < len(self.ids):
            if kept == 0 or self.runner.rigid:
                self.forget()
                kept = 0
            else:
                self.cache.crop(kept - len(self.ids))
                self.ids = ids[:kept]
        for start in range(kept, len(ids), self.chunk):
            chunk = ids[start : start + self.chunk]
            positions = np.arange(start, start + len(chunk))[None]
            try:
                self.runner.forward(
                    chunk[None], self.cache, positions, wanted=([0], [len(chunk) - 1])
                )
            except BaseException:
                self.forget()  # the layers may have stopped at different tokens
                raise
            self.ids = ids[: start + len(chunk)]
            self.n_prefilled += len(chunk)
        self._measure()

    def _measure(self) -> None:
        """Note the bytes of a token; of a recurrent state, those of the whole."""
        tensors: list[Any] = []
        for layer in self.cache.layers:
            tensors += [vars(layer).get("keys"), vars(layer).get("values")]
        n_bytes = sum(
            one[:, :, :1].nbytes for one in tensors if torch.is_tensor(one) and one.ndim == 4
        )
        self.bytes_per_token = max(self.bytes_per_token, n_bytes)

    def rows(self, twigs: Sequence[Twig], wanted: Places, room: int = 0) -> Rows:
        """Feed each twig's tokens, one row a twig."""
        return CopiedRows(self, twigs, wanted)


class CopiedRows(Rows):
    """Rows that all end in one column; twigs must be chains.

    A row with fewer own tokens than the longest is fed the prefix's last ones again, in the place
    of padding; only where the prefix is too short for that is it padded, on the left. Long rows are
    fed in chunks.
    """

    def __init__(self, prefix: CopiedPrefix, twigs: Sequence[Twig], wanted: Places) -> None:
        if not all(twig.is_chain for twig in twigs):
            raise ValueError("a row with its own copy of the prefix is one chain of tokens")
        self._runner, self._chunk = prefix.runner, prefix.chunk
        lengths = np.array([twig.n_shared + len(twig.own) for twig in twigs])
        fed = max(1, *(len(twig.own) for twig in twigs))
        cached = np.maximum(lengths - fed, 0)
        columns = int(cached.max())
        tokens = np.zeros((len(twigs), fed), np.int64)
        for row, twig, length in zip(tokens, twigs, lengths.tolist(), strict=True):
            n_own = len(twig.own)
            again = prefix.ids[max(0, length - fed) : twig.n_shared]
            row[fed - n_own :] = twig.own
            row[fed - n_own - len(again) : fed - n_own] = again
        self._cache = self._copy(prefix, cached.tolist(), columns)
        self._mask = np.arange(columns + fed) >= (columns + fed - lengths)[:, None]
        self._next = lengths  # the position of each row's next token
        positions = np.maximum(lengths[:, None] + np.arange(-fed, 0), 0)
        rows, places = wanted
        at = [fed - len(twigs[row].own) + token for row, token in zip(rows, places, strict=True)]
        self.logits = self._feed(tokens, positions, columns, (np.array(rows), np.array(at)))

    def _feed(
        self, tokens: NDArray[np.int64], positions: NDArray[np.int64], columns: int, wanted: Any
    ) -> torch.Tensor:
        """Feed tokens behind `columns` that are there, a chunk at a time; return the logits behind
        the wanted places.
        """
        rows, places = wanted
        mask, n = self._mask, tokens.shape[1]
        found: list[torch.Tensor] = []
        order: list[NDArray[np.int64]] = []
        for start in range(0, n, self._chunk):
            end = min(start + self._chunk, n)
            here = np.flatnonzero((places >= start) & (places < end))
            some: Places = ([0], [0])
            if len(here):
                some = (rows[here].tolist(), (places[here] - start).tolist())
            self._mask = mask[:, : columns + end]
            logits = self._forward(tokens[:, start:end], positions[:, start:end], some)
            found.append(logits[: len(here)])
            order.append(here)
        return in_order(found, order)

    def step(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        """Feed one more token to each row, shape (rows,); return the next one's logits (rows,
        vocabulary).
        """
        self._mask = np.concatenate([self._mask, np.ones((len(self._mask), 1), bool)], axis=1)
        positions, self._next = self._next[:, None], self._next + 1
        return self._forward(
            np.asarray(tokens)[:, None], positions, (range(len(tokens)), [0] * len(tokens))
        )

    def select(self, rows: NDArray[np.int64]) -> None:
        """Go on with `rows` (indices; repeats allowed) only."""
        self._mask, self._next = self._mask[rows], self._next[rows]
        index = torch.as_tensor(rows, device=self._runner.device)
        if self._runner.rigid:
            self._cache.reorder_cache(index)
        else:
            for layer in self._cache.layers:
                layer.select(index)

    def _copy(self, prefix: CopiedPrefix, cached: list[int], columns: int) -> Any:
        if not self._runner.rigid:
            layers = prefix.cache.layers if columns else []
            spread = [
                layer.spread(cached, columns) if layer.is_initialized else _Layer()
                for layer in layers
            ]
            return Cache(layers=spread) if columns else prefix.new_cache()
        if set(cached) != {len(prefix.ids)}:
            raise ValueError(
                "rows of a model with recurrent states must all branch at the prefix's last token"
            )
        cache = copy.deepcopy(prefix.cache)
        cache.reorder_cache(torch.zeros(len(cached), dtype=torch.long, device=self._runner.device))
        return cache

    @torch.inference_mode()
    def _forward(self, tokens: Any, positions: Any, wanted: Any) -> torch.Tensor:
        mask = None if self._mask.all() else self._mask
        return self._runner.forward(tokens, self._cache, positions, mask=mask, wanted=wanted)
