"""A path's keys and values, once, and rows that attend to them where they lie.

In: token ids. Out: logits. Memory: the path once, and each row's own tokens. A row's tokens may be
a tree: the choices of a query are in the query's row, each attending to its own ancestors alone.
Rows are aligned on the left, so that a column is a distance from the path and no row is padded
where it attends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, CacheLayerMixin

from icl_harness.models.base import KvCache
from icl_harness.models.local import attention
from icl_harness.models.local.kv import CHUNK, Places, Prefix, Rows, Runner, in_order
from icl_harness.models.local.kv_disk import Blocks
from icl_harness.models.local.tokens import Ids, Twig, common


class Switch:
    """Whether a model took the shared attention; it gets its own back unless it is kept."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._before = model.config._attn_implementation
        self.possible = bool(model._can_set_attn_implementation())
        if self.possible:
            attention.register()
            model.set_attn_implementation(attention.NAME)

    def keep(self) -> None:
        """Leave the model with the shared attention."""
        self._before = None

    def restore(self) -> None:
        """Give the model back what it had."""
        if self.possible and self._before is not None:
            self._model.set_attn_implementation(self._before)


@contextlib.contextmanager
def attention_of(model: Any) -> Iterator[Switch]:
    """Switch a model to the shared attention, where it can be."""
    switch = Switch(model)
    try:
        yield switch
    finally:
        switch.restore()


class _Filled(Exception):
    """The last layer has its keys and values: what follows in the forward would be thrown away."""


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, (rows, heads, `n`, width), in buffers with room to grow.

    `update` shows the model what it just wrote, or all (`whole`); `ends`: stop the forward then.
    """

    is_sliding = False
    is_croppable = True

    def __init__(self, room: int = 0, *, n_past: int = 0, whole: bool, ends: bool = False) -> None:
        super().__init__()
        self.buffers: tuple[torch.Tensor, ...] = ()
        self.n = 0
        self.shown: torch.Tensor | None = None  # the keys that the model was shown last
        self._room, self._n_past, self._whole, self._ends = room, n_past, whole, ends

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        """Write the new tokens behind those that are there, and show what the model is to see."""
        at = self.n
        self.write(key_states, value_states)
        if self._ends:
            raise _Filled
        keys, values = (buffer[:, :, 0 if self._whole else at : self.n] for buffer in self.buffers)
        self.shown = keys
        return keys, values

    def write(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Write tokens behind those that are there; O(new tokens) but for the rare growth."""
        at, self.n = self.n, self.n + key_states.shape[-2]
        if not self.buffers or self.buffers[0].shape[-2] < self.n:
            room = max(self._room, self.n + 32, self.n * 5 // 4 if self.buffers else 0)
            self.buffers = tuple(
                _grown(old, new, at, room)
                for old, new in zip(
                    self.buffers or (None, None), (key_states, value_states), strict=True
                )
            )
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, at : self.n] = new

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: the first `update` allocates."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return what a mask would span; none is built."""
        return self._n_past + self.n + query_length, 0

    def get_seq_length(self) -> int:
        """Return the tokens up to here, those of the path that are kept elsewhere among them."""
        return self._n_past + self.n

    def get_max_length(self) -> int:
        """Return that there is no limit."""
        return -1


def _grown(old: torch.Tensor | None, new: torch.Tensor, n: int, room: int) -> torch.Tensor:
    """Return a buffer for `room` tokens like `new` that begins with the first `n` of `old`."""
    buffer = new.new_empty((*new.shape[:2], room, new.shape[3]))
    if old is not None:
        buffer[:, :, :n] = old[:, :, :n]
    return buffer


class SharedPrefix(Prefix):
    """One path, one row, extended in place; a turn of the path forgets nothing but what is beyond
    it.
    """

    way = "shared"
    _blocks: Blocks | None = None

    def __init__(self, runner: Runner, chunk: int = CHUNK) -> None:
        super().__init__(runner, chunk)
        self.trees = not runner.level
        self._devices: dict[
            int, torch.device
        ] = {}  # of the layers that keep anything; others read those

    def keep_on_disk(self, cache: KvCache, description: Mapping[str, Any]) -> None:
        """Look for keys and values in a folder before computing them, and leave them there."""
        self._blocks = Blocks(cache, description)

    def forget(self) -> None:
        """Free the cache."""
        self.ids: Ids = np.zeros(0, np.int32)
        n = self.runner.n_layers
        # Leaving a forward early would leave weights that accelerate moved in where they are.
        ends = not hasattr(self.runner.model, "hf_device_map")
        self.layers = [_Layer(whole=False, ends=ends and i == n - 1) for i in range(n)]

    @torch.inference_mode()
    def reach(self, ids: Ids) -> None:
        """Make the cache that of `ids` (n,): keep what it has in common, drop the rest, feed what
        it lacks.
        """
        self.ids = ids[: common(self.ids, ids)]
        if self._blocks is not None and len(self.ids) < len(ids):
            for end, pairs in self._blocks.load(ids, len(self.ids)):
                self._take(ids[:end], pairs)
        known = len(self.ids)
        for start in range(known, len(ids), self.chunk):
            chunk = ids[start : start + self.chunk]
            self._turn_back(start)
            self._feed(chunk, start)
            self.ids = ids[: start + len(chunk)]
            self.n_prefilled += len(chunk)
        if known < len(ids):
            self._measure()
            if self._blocks is not None:
                self._blocks.save(ids, [self.past(i) for i in self._devices])

    def _measure(self) -> None:
        """Note where keys and values lie, and how many bytes a token's take."""
        kept = {i: layer.buffers for i, layer in enumerate(self.layers) if layer.buffers}
        self._devices = {i: buffers[0].device for i, buffers in kept.items()}
        all_buffers = chain.from_iterable(kept.values())
        self.bytes_per_token = sum(buffer[:, :, :1].nbytes for buffer in all_buffers)

    def _turn_back(self, n: int) -> None:
        """Keep the first `n` tokens, whatever a forward that failed has left."""
        for layer in self.layers:
            layer.n = n

    def _take(self, ids: Ids, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Go on to `ids` with keys and values from the disk, of which the last are new."""
        n = len(self.ids) - len(ids)
        self._turn_back(len(self.ids))
        for (i, device), pair in zip(self._devices.items(), pairs, strict=True):
            self.layers[i].write(*(tensor[:, :, n:].to(device) for tensor in pair))
        self.ids = ids

    def _feed(self, chunk: Ids, start: int) -> None:
        places = np.arange(start, start + len(chunk))[None]
        positions = self.runner.tensor(places)
        fork = attention.Fork(
            past=self.past, layers=self.layers, n_past=start, queries=positions, keys=positions,
            mask=None, wanted=None,
        )  # fmt: skip
        with contextlib.suppress(_Filled), attention.forked(fork):
            self.runner.forward(chunk[None], Cache(layers=self.layers), places, wanted=([0], [0]))

    def past(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a layer's keys and values, (1, heads, tokens or more, width)."""
        keys, values = self.layers[layer].buffers
        return keys, values

    def rows(self, twigs: Sequence[Twig], wanted: Places, room: int = 0) -> Rows:
        """Feed each twig's tokens, one row a twig."""
        return SharedRows(self, twigs, wanted, room)


class SharedRows(Rows):
    """Rows of which only their own tokens are fed, kept and padded; all begin at the same token of
    the path. Long rows are fed in chunks.
    """

    def __init__(
        self, prefix: SharedPrefix, twigs: Sequence[Twig], wanted: Places, room: int = 0
    ) -> None:
        self._prefix, self._runner = prefix, prefix.runner
        self._n_past = min(twig.n_shared for twig in twigs)
        # tokens of the path that a row is fed, too
        again = [twig.n_shared - self._n_past for twig in twigs]
        lengths = np.array([n + len(twig.own) for n, twig in zip(again, twigs, strict=True)])
        self._fed = int(lengths.max())
        tokens = np.zeros((len(twigs), self._fed), np.int64)
        depths = np.tile(np.arange(self._fed), (len(twigs), 1))
        for i, (n, twig) in enumerate(zip(again, twigs, strict=True)):
            tokens[i, : lengths[i]] = [*prefix.ids[self._n_past : twig.n_shared], *twig.own]
            if not twig.is_chain:
                depths[i, n : lengths[i]] = n + _depths(twig.parents)
        self._lengths, self._n_more = lengths, 0
        self._positions = self._n_past + depths
        self._crowns = [_Crown.of(twig, n) for twig, n in zip(twigs, again, strict=True)]
        layers = [
            _Layer(room + self._fed, n_past=self._n_past, whole=True)
            for _ in range(self._runner.n_layers)
        ]
        self._cache = Cache(layers=layers)
        rows, places = wanted
        columns = [again[row] + place for row, place in zip(rows, places, strict=True)]
        self.logits = self._feed(tokens, np.array(rows), np.array(columns))

    def _feed(
        self, tokens: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> torch.Tensor:
        """Feed columns of tokens, a chunk at a time; return the logits behind the wanted places."""
        found: list[torch.Tensor] = []
        order: list[NDArray[np.int64]] = []
        for start in range(0, self._fed, self._prefix.chunk):
            end = min(start + self._prefix.chunk, self._fed)
            here = np.flatnonzero((columns >= start) & (columns < end))
            wanted: Places = ([0], [0])
            if len(here):
                wanted = (rows[here].tolist(), (columns[here] - start).tolist())
            mask = _sees(self._crowns, start, end)
            logits = self._forward(
                tokens[:, start:end], self._positions[:, :end], mask, wanted, n_fed=end - start
            )
            found.append(logits[: len(here)])
            order.append(here)
        return in_order(found, order)

    def step(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        """Feed one more token to each row; return the next one's logits. A row that steps is a
        chain.
        """
        at = (self._n_past + self._lengths + self._n_more)[:, None]
        self._n_more += 1
        self._positions = np.concatenate([self._positions, at], axis=1)
        columns = np.arange(self._fed + self._n_more)
        padded = (columns >= self._lengths[:, None]) & (columns < self._fed)
        mask = ~padded[:, None] if padded.any() else None
        wanted = (range(len(tokens)), [0] * len(tokens))
        return self._forward(np.asarray(tokens)[:, None], self._positions, mask, wanted, n_fed=1)

    def select(self, rows: NDArray[np.int64]) -> None:
        """Keep `rows` (indices; repeats allowed) only; copies their own tokens, not the path."""
        self._lengths, self._positions = self._lengths[rows], self._positions[rows]
        for layer in self._cache.layers:
            layer.buffers = tuple(b[torch.as_tensor(rows, device=b.device)] for b in layer.buffers)

    @torch.inference_mode()
    def _forward(
        self,
        tokens: NDArray[np.int64],
        positions: NDArray[np.int64],
        mask: NDArray[np.bool_] | None,
        wanted: Places,
        *,
        n_fed: int,
    ) -> torch.Tensor:
        """Feed tokens, whose positions are the last `n_fed` of all own ones so far."""
        runner = self._runner
        own = runner.tensor(positions)
        fork = attention.Fork(
            past=self._prefix.past,
            layers=self._cache.layers,
            n_past=self._n_past,
            queries=own[:, -n_fed:],
            keys=own,
            mask=None if mask is None else torch.as_tensor(mask),
            wanted=(runner.tensor(wanted[0]), runner.tensor(wanted[1])),
        )
        with attention.forked(fork):
            return runner.forward(tokens, self._cache, positions[:, -n_fed:], wanted=wanted)


def _depths(parents: Sequence[int]) -> NDArray[np.int64]:
    """Return each token's distance from the path, from 0."""
    depths: list[int] = []
    for parent in parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    return np.array(depths)


@dataclass(frozen=True, slots=True)
class _Crown:
    """Where a row forks: its first `start` columns are a chain, and `seen` (n, n) says which of the
    n tokens behind them each of these follows, itself among them.
    """

    start: int
    seen: NDArray[np.bool_] | None

    @classmethod
    def of(cls, twig: Twig, again: int) -> _Crown:
        """Return the crown of a row whose first `again` columns are the path's."""
        n = twig.n_stem
        if n == len(twig.own):
            return cls(again + n, None)
        return cls(again + n, _ancestors(tuple(p - n for p in twig.parents[n:])))


@lru_cache(64)
def _ancestors(parents: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which tokens of a crown each of its tokens follows; most queries have the same."""
    seen = np.eye(len(parents), dtype=bool)
    for token, parent in enumerate(parents):
        if parent >= 0:
            seen[token] |= seen[parent]
    return seen


def _sees(crowns: Sequence[_Crown], start: int, end: int) -> NDArray[np.bool_] | None:
    """Return which columns up to `end` the tokens of columns `start` to `end` see, (rows, fed,
    end); None where these are all up to their own.
    """
    forks = [crown.seen is not None and crown.start < end for crown in crowns]
    if not any(forks):
        return None
    chain = np.tri(end - start, end, start, dtype=bool)
    mask = np.tile(chain, (len(crowns), 1, 1))
    for i, crown in enumerate(crowns):
        if crown.seen is None or not forks[i]:
            continue
        low = max(start, crown.start)
        first, last = low - crown.start, min(end - crown.start, len(crown.seen))
        if first < last:
            high = crown.start + last
            mask[i, low - start : high - start, crown.start : high] = crown.seen[first:last, :last]
    return mask
