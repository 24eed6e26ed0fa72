"""Attention of many rows to one prefix that is not copied for each of them.

In: a layer's queries, the rows' own keys and values, and a `Fork` that knows what they branch from.
Out: exactly what plain attention over prefix and own tokens gives. All rows' queries are folded
into one call against the prefix, a small one goes over each row's own tokens, and the two are
merged by their log-sum-exps (as Hydragen, Juravsky et al. 2024, section 3, and cascade attention
do). It reaches the models through transformers' attention interface, so that any model whose
attention goes through it works. Windows and chunks come from the model's own mask function. Left
out: learned position biases; a model that adds any is refused (`Unsupported`) and runs on copies.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, causal_mask_function

NAME = "icl_shared_prefix"
FEW = 16  # own tokens below which no fused kernel is worth calling
SCORES = 1 << 24  # attention scores held at a time where no fused kernel serves
KNOWN = {"cache_position", "position_ids"}  # tensors that change no score

Tensor = torch.Tensor
Pair = tuple[Tensor, Tensor]  # keys and values
Weighed = tuple[
    Tensor, Tensor
]  # output (rows, heads, queries, width) and log-sum-exp (rows, heads, queries), float32


class Unsupported(Exception):
    """This model's attention is more than this file knows."""


@dataclass(kw_only=True)
class Fork:
    """What one forward of a batch of rows attends to.

    `past(layer)`: the prefix's keys and values, (1, heads, tokens, width), of which all rows see
    the first `n_past`. `queries`, `keys`: the positions of the tokens fed, (rows, fed), and of all
    own tokens so far, (rows, own), of which those fed are the last. `mask`: which own tokens each
    fed one sees, (rows, fed, own); None: those up to itself, or all where fed is 1. `wanted`: rows
    and columns of the tokens whose logits are needed; the last layer need not do others.
    `layers` hold the keys that this forward shows the model; a layer that keeps none reads
    another's (Gemma 3n).
    """

    past: Callable[[int], Pair]
    layers: Sequence[Any]
    n_past: int
    queries: Tensor
    keys: Tensor
    mask: Tensor | None
    wanted: tuple[Tensor, Tensor] | None
    patterns: dict[Any, Pattern] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """What a layer's own rule (a window, chunks) leaves visible: the prefix from token `start` on.

    `past`: (rows * fed, tokens) where that is not all of it; `own`: (rows, fed, own), None as in
    `Fork.mask`.
    """

    start: int
    past: Tensor | None
    own: Tensor | None


_fork: ContextVar[Fork] = ContextVar("fork")


@contextlib.contextmanager
def forked(fork: Fork) -> Iterator[None]:
    """Let the model's attention see `fork` instead of a whole cache."""
    token = _fork.set(fork)
    try:
        yield
    finally:
        _fork.reset(token)


def register() -> None:
    """Make the attention known to transformers under `NAME`; it works within `forked` only."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _mask)


def _mask(
    *args: Any, mask_function: Callable[..., Any] = causal_mask_function, **kwargs: Any
) -> Any:
    """Hand the layer's rule on as it is: no mask of (fed, whole prompt) is ever built."""
    return mask_function


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Return (rows, fed, heads, width) for `query` (rows, heads, fed, width) and own `key`,
    `value`.

    `softcap` bounds the scores (Gemma 2), `s_aux` is a score per head that leads nowhere (gpt-oss).
    """
    fork = _fork.get()
    odd = [
        name for name, given in others.items() if name not in KNOWN and isinstance(given, Tensor)
    ]
    if odd or not (attention_mask is None or callable(attention_mask)):
        raise Unsupported(f"its attention takes {', '.join(odd) or 'a mask of its own'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    rule = _pattern(fork, attention_mask, query.device)
    past = _past(fork, module.layer_idx, key, rule) if rule.start < fork.n_past else None
    if fork.wanted is not None and module.layer_idx == len(fork.layers) - 1 and query.shape[2] > 1:
        return _last(fork, rule, query, (key, value), past, scale, softcap, s_aux), None
    parts = _over_own(query, key, value, rule.own, scale, softcap)
    if past is not None:
        parts.append(_over_past(query, *past, rule.past, scale, softcap))
    return _merged(parts, s_aux).to(query.dtype).transpose(1, 2).contiguous(), None


def _past(fork: Fork, layer: int, key: Tensor, rule: Pattern) -> Pair:
    if not fork.layers[layer].buffers:
        layer = next(i for i, one in enumerate(fork.layers) if one.shown is key)
    keys, values = fork.past(layer)
    return keys[:, :, rule.start : fork.n_past], values[:, :, rule.start : fork.n_past]


def _last(
    fork: Fork,
    rule: Pattern,
    query: Tensor,
    own: Pair,
    past: Pair | None,
    scale: float,
    softcap: Any,
    s_aux: Any,
) -> Tensor:
    """Attention of the wanted tokens alone, in their places; the others' outputs would be read by
    nobody.
    """
    rows, columns = (index.to(query.device) for index in fork.wanted or ())
    n_rows, heads, fed, width = query.shape
    order = torch.argsort(rows, stable=True)
    counts = torch.bincount(rows, minlength=n_rows)
    nth = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows[order]]
    places = torch.zeros(
        n_rows, int(counts.max()), dtype=torch.long, device=query.device
    )  # filled up with the first
    places[rows[order], nth] = columns[order]
    some = query.gather(2, places[:, None, :, None].expand(-1, heads, -1, width))
    mask = rule.own
    if mask is None:
        mask = _up_to_itself(fed, own[0].shape[2], query.device).expand(n_rows, -1, -1)
    seen = mask.gather(1, places[:, :, None].expand(-1, -1, mask.shape[2]))
    parts = _over_own(some, *own, seen, scale, softcap)
    if past is not None:
        far = (
            None
            if rule.past is None
            else rule.past.view(n_rows, fed, -1)[_each_row(places), places].flatten(0, 1)
        )
        parts.append(_over_past(some, *past, far, scale, softcap))
    out = query.new_zeros((n_rows, fed, heads, own[1].shape[-1]))
    out[_each_row(places), places] = _merged(parts, s_aux).to(query.dtype).transpose(1, 2)
    return out


def _each_row(places: Tensor) -> Tensor:
    return torch.arange(len(places), device=places.device)[:, None].expand_as(places)


def _up_to_itself(fed: int, own: int, device: torch.device) -> Tensor:
    """Which of `own` tokens the last `fed` of them see: (1, fed, own)."""
    return torch.ones(fed, own, dtype=torch.bool, device=device).tril(own - fed)[None]


def _merged(parts: Sequence[Weighed], s_aux: Tensor | None) -> Tensor:
    """Join attentions over disjoint keys: each counts by its share of the sum of exponentials."""
    if len(parts) == 1 and s_aux is None:
        return parts[0][0]
    sums = [lse for _, lse in parts]
    total = sums[0]
    for lse in sums[1:]:
        total = torch.logaddexp(total, lse)
    if s_aux is not None:
        total = torch.logaddexp(total, s_aux.float()[None, :, None])
    out = parts[0][0].float() * (sums[0] - total).exp_().unsqueeze(-1)
    for one, lse in parts[1:]:
        out.addcmul_(one.float(), (lse - total).exp_().unsqueeze(-1))
    return out


def _over_own(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, softcap: Any
) -> list[Weighed]:
    """Attend to the rows' own tokens; in two parts where some of them were fed before."""
    fed = query.shape[2]
    before = key.shape[2] - fed
    if mask is not None or fed == 1 or before == 0:
        causal = mask is None and fed > 1
        return [_over_some(query, key, value, mask, scale, softcap, causal=causal)]
    earlier = (key[:, :, :before], value[:, :, :before])
    now = (key[:, :, before:], value[:, :, before:])
    return [
        _over_some(query, *earlier, None, scale, softcap, causal=False),
        _over_some(query, *now, None, scale, softcap, causal=True),
    ]


def _over_some(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    softcap: Any,
    *,
    causal: bool,
) -> Weighed:
    fed = query.shape[2]
    if not softcap and fed >= FEW and _fused(query, value, masked=mask is not None):
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        return _flash(query, key, value, scale, causal=causal, mask=mask)
    if causal:
        mask = _up_to_itself(fed, fed, key.device)
    return _plain(query, key, value, mask, scale, softcap)


def _over_past(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, softcap: Any
) -> Weighed:
    """Fold rows and the heads that share keys into one long row of queries; `mask` (rows * fed,
    tokens) or None.
    """
    rows, heads, fed, width = query.shape
    folded = query.transpose(0, 1).reshape(1, heads, rows * fed, width)
    if mask is None and not softcap and _fused(query, value):
        long = folded.reshape(1, key.shape[1], -1, width)
        out, lse = _flash(long, key, value, scale, causal=False)
    else:
        out, lse = _plain(folded, key, value, None if mask is None else mask[None], scale, softcap)
    out = out.reshape(heads, rows, fed, -1).transpose(0, 1)
    return out, lse.reshape(heads, rows, fed).transpose(0, 1)


def _fused(query: Tensor, value: Tensor, *, masked: bool = False) -> bool:
    """Whether torch has a kernel here that returns the log-sum-exp: PyTorch's flash attention."""
    if query.shape[-1] != value.shape[-1]:
        return False
    if query.device.type == "cuda":
        width = query.shape[-1]
        return (
            not masked
            and query.dtype in (torch.float16, torch.bfloat16)
            and width <= 256
            and width % 8 == 0
        )
    return query.device.type == "cpu"


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    *,
    causal: bool,
    mask: Tensor | None = None,
) -> Weighed:
    if query.device.type == "cuda":
        out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, causal, scale=scale
        )
        return out, lse[..., : query.shape[2]]
    hides = (
        None
        if mask is None
        else query.new_zeros(mask.shape).masked_fill_(~mask, -math.inf)[:, None]
    )
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, attn_mask=hides, scale=scale
    )
    return out, lse


def _plain(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, softcap: Any
) -> Weighed:
    """Attention by the book in float32, a few queries at a time; `mask` (rows or 1, queries or 1,
    keys) or None.

    A query that sees nothing weighs nothing: output 0, log-sum-exp minus infinity.
    """
    rows, heads, fed, width = query.shape
    groups, n_keys = heads // key.shape[1], key.shape[2]
    folded = query.reshape(rows, heads // groups, groups, fed, width)
    keys, values = key.float().mT.unsqueeze(2), value.float().unsqueeze(2)
    step = max(1, SCORES // max(1, rows * heads * n_keys))
    outs, sums = [], []
    for at in range(0, fed, step):
        scores = (folded[:, :, :, at : at + step].float() * scale) @ keys
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        if mask is not None:
            seen = mask[:, None, None, at : at + step] if mask.shape[1] > 1 else mask[:, None, None]
            scores = scores.masked_fill(~seen, -math.inf)
        lse = scores.logsumexp(-1)
        outs.append(torch.exp(scores - lse.unsqueeze(-1).clamp(min=-1e30)) @ values)
        sums.append(lse)
    out, lse = (outs[0], sums[0]) if len(outs) == 1 else (torch.cat(outs, -2), torch.cat(sums, -1))
    return out.reshape(rows, heads, fed, -1), lse.reshape(rows, heads, fed)


def _pattern(fork: Fork, rule: Callable[..., Any] | None, device: torch.device) -> Pattern:
    """Return what `rule`, a mask function of transformers, leaves visible; made once per forward
    and device.
    """
    key = (None if rule is causal_mask_function else rule, device)
    if key not in fork.patterns:
        fork.patterns[key] = _evaluated(fork, key[0], device)
    return fork.patterns[key]


def _evaluated(fork: Fork, rule: Callable[..., Any] | None, device: torch.device) -> Pattern:
    own = None if fork.mask is None else fork.mask.to(device)
    if rule is None:
        return Pattern(start=0, past=None, own=own)
    queries, keys = fork.queries.to(device), fork.keys.to(device)
    zero = torch.zeros((), dtype=torch.long, device=device)

    def sees(query: Tensor, key: Tensor) -> Tensor:
        return torch.as_tensor(rule(zero, zero, query, key)).expand((query + key).shape)

    near = sees(queries[:, :, None], keys[:, None, :])
    if own is None and queries.shape[1] > 1:
        own = _up_to_itself(queries.shape[1], keys.shape[1], device)
    own = near if own is None else near & own
    places = torch.arange(fork.n_past, device=device)
    first, last = int(queries.min()), int(queries.max())
    early, late = (sees(zero + place, places) for place in (first, last))
    if bool((late & ~early).any()):
        raise Unsupported("a later token sees further back than an earlier one")
    start = int(early.int().argmax()) if fork.n_past and bool(early.any()) else fork.n_past
    distinct = torch.arange(first, last + 1, device=device)
    far = sees(distinct[:, None], places[None, start:])
    past = None if bool(far.all()) else far[(queries - first).flatten()]
    return Pattern(start=start, past=past, own=own)
