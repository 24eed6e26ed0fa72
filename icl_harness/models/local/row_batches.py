"""Rows in batches that memory holds.

In: a prefix, and rows (things with a `twig`). Out: what became of each, a batch at a time. Batches
follow the free memory of the device, or of the machine, and are halved where it ends all the same;
no row is lost.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from icl_harness.models.local.kv import Prefix
from icl_harness.models.local.tokens import Ids, Twig

SHARE = 0.4  # of the free memory, for one batch
FED = 8192  # tokens fed at a time on a CPU: more is no faster and takes more memory
COPIED_ON_CPU = (
    1 << 26
)  # bytes of copied keys and values; more is slower, until the weights weigh more
BUSY = 512  # tokens that keep a CPU's matrix products busy
PADDED = 1.1  # tokens that are fed for one that is read
DRIFT = 8  # how much earlier than others in its batch a row may leave the path


@dataclass(frozen=True, slots=True)
class Done:
    """A batch of rows and what came of each; `results` is None where the prefix or even one row did
    not fit.
    """

    rows: list[Any]
    results: list[Any] | None
    seconds: float


def in_batches(
    prefix: Prefix,
    ids: Ids,
    rows: list[Any],
    most: int,
    solve: Callable[[list[Any]], list[Any]],
    split: Callable[[Any], list[Any]],
    *,
    n_new: int = 0,
    wanted: int = 1,
    copies: int = 1,
) -> Iterator[Done]:
    """Bring the prefix to the node's `ids` and solve rows, at most `most` at a time.

    Rows of like lengths go together; batches shrink to what memory holds when a row becomes
    `copies` rows that grow by `n_new` tokens and hold the logits of `wanted`; where memory ends all
    the same they are halved, and a row alone is `split` into several, if it can be. `seconds` leave
    the prefill out.
    """
    level = prefix.runner.level
    rows = sorted(
        rows, key=lambda row: (row.twig.n_shared // (1 if level else DRIFT), len(row.twig.own))
    )
    at = 0
    while at < len(rows):
        batch, results, halved, alone = rows[at:], None, 0, False
        started = time.perf_counter()
        try:
            prefix.reach(ids[: rows[at].twig.n_shared] if prefix.runner.rigid else ids)
            started = time.perf_counter()
            batch = rows[
                at : at
                + _n_fitting(prefix, rows[at:], max(1, most // copies), n_new, wanted, copies)
            ]
            halved, alone = len(batch) // 2, len(batch) == 1
            results = solve(batch)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            most = max(1, halved * copies)
        if results is None:  # after the handler, whose traceback holds the batch's tensors
            if prefix.runner.device.type == "cuda":
                torch.cuda.empty_cache()
            if halved:
                continue
            if alone and (parts := split(batch[0])):
                rows[at : at + 1] = parts
                continue
        yield Done(batch, results, time.perf_counter() - started)
        at += len(batch)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory has ended; on a CPU torch says so in words only."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _n_fitting(
    prefix: Prefix, rows: list[Any], most: int, n_new: int, wanted: int, copies: int
) -> int:
    """Return how many of the first `rows` (shortest first) fit into a batch; at least 1."""
    twigs = [row.twig for row in rows]
    first = twigs[0]
    if prefix.runner.level:  # without padding, so of one length only
        alike = (first.n_shared, len(first.own))
        twigs = list(
            itertools.takewhile(lambda twig: (twig.n_shared, len(twig.own)) == alike, twigs)
        )
    else:
        twigs = list(
            itertools.takewhile(lambda twig: abs(twig.n_shared - first.n_shared) <= DRIFT, twigs)
        )
    on_cuda = prefix.runner.device.type == "cuda"
    space = int(SHARE * _free_bytes(prefix.runner.device))
    own = max(len(twig.own) for twig in twigs[:most]) + DRIFT
    fed = min(own, prefix.chunk)
    kept = own + n_new
    if prefix.way == "whole":
        fed = kept = max(twig.n_shared + len(twig.own) for twig in twigs[:most]) + n_new
    elif prefix.way != "shared":
        kept = max(twig.n_shared + len(twig.own) for twig in twigs[:most]) + n_new
        if not on_cuda:
            space = min(space, max(COPIED_ON_CPU, prefix.runner.n_bytes // 2))
    per_row = (
        copies * kept * prefix.bytes_per_token
        + fed * _activation_bytes(prefix)
        + copies * wanted * _row(prefix)
    )
    n = min(len(twigs), most, space // per_row)
    if on_cuda:
        return max(1, n)
    n = max(1, min(n, FED // own))
    return n if n_new else _n_alike(twigs, n)


def _n_alike(twigs: Sequence[Twig], n: int) -> int:
    """Return how many of the first `n` rows, shortest first, to feed at once on a CPU: as many as
    keep it busy, then more while they are padded little.
    """
    own = fed = 0
    for i, twig in enumerate(twigs[:n]):
        own += len(twig.own)
        fed = (i + 1) * len(twig.own)
        if fed > BUSY and fed > PADDED * own:
            return max(1, i)
    return n


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def _activation_bytes(prefix: Prefix) -> int:
    """Bytes that one fed token takes at the widest place of a forward, roughly."""
    config = prefix.runner.model.config.get_text_config(decoder=True)
    hidden = int(config.hidden_size)
    wide = getattr(config, "intermediate_size", None) or 4 * hidden
    wide = max(wide) if isinstance(wide, list) else int(wide)  # one a layer
    return (12 * hidden + 3 * wide) * int(prefix.runner.model.dtype.itemsize)


def _row(prefix: Prefix) -> int:
    """Bytes of one token's logits, and of their softmax or sum."""
    return 3 * int(prefix.runner.model.get_input_embeddings().weight.shape[0]) * 4
