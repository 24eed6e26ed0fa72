"""What share of this machine's peak the local back end reaches, prefilling and decoding.

    python benchmarks/peak.py [--model hf/smollm2] [--prefix 5889] [--queries 100]

Peak: the fastest of a few plain float32 matrix products, on one thread. Shares: the floating-point
operations that an exact model needs (matrix products of the weights; attention, a causal half where
tokens stand in one row) over CPU seconds of one thread and over the peak. Without `--model`, the
random Llama of local_vs_lm_eval.py. Random ids: a forward takes as long whichever they are.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Clock, World, heading, table

from icl_harness.models.hf import HfModel
from icl_harness.models.local.tokens import Branch, Twig

PRODUCTS = [(256, 1024, 1024), (1024, 576, 1536), (2048, 2048, 2048)]  # rows, in, out
REPEATS = 5
HEAD = ["part", "tokens", "CPU s", "Gflop/s", "share of the peak"]


def main() -> None:
    """Measure the peak before and after, prefill and decode in between, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="hf/…; without it, a random one")
    parser.add_argument("--prefix", type=int, default=World().n_prefix("gen", 256))
    parser.add_argument("--queries", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.model is None:
            World().write(Path(folder))
        model = HfModel(args.model.removeprefix("hf/") if args.model else f"{folder}/model")
    peak = peak_flops()
    rows = parts(model, args.prefix, args.queries)
    peak = max(peak, peak_flops())
    print(heading(__file__), end="\n\n")
    print(f"Peak: {peak / 1e9:.0f} Gflop/s, one thread.\n")
    print(
        table(
            HEAD,
            [
                [name, str(n), f"{s:.2f}", f"{flops / s / 1e9:.0f}", f"{flops / s / peak:.0%}"]
                for name, n, s, flops in rows
            ],
        )
    )


def peak_flops() -> float:
    """Return the most operations a second that plain matrix products reach."""
    best = 0.0
    for rows, n_in, n_out in PRODUCTS:
        x, weight = torch.randn(rows, n_in), torch.randn(n_out, n_in)
        seconds = min(cpu_s(partial(torch.nn.functional.linear, x, weight)) for _ in range(REPEATS))
        best = max(best, 2 * rows * n_in * n_out / seconds)
    return best


def cpu_s(work: Callable[[], Any]) -> float:
    """Return the CPU seconds that `work` takes."""
    clock = Clock()
    work()
    return clock.read()["cpu_s"]


def parts(model: HfModel, n: int, n_queries: int) -> list[tuple[str, int, float, float]]:
    """Return for prefill, queries' own tokens and decoding: name, tokens, CPU seconds, operations.

    22 tokens a query, 15 steps behind them.
    """
    n_own, n_steps = 22, 15
    rng, prefix = np.random.default_rng(0), model._prefix
    prefix.reach(rng.integers(0, 100, 64).astype(np.int32))  # prepares more than itself
    prefix.forget()
    ids = rng.integers(0, 100, n).astype(np.int32)
    twigs = [Twig.chain(Branch(n, rng.integers(0, 100, n_own).tolist())) for _ in range(n_queries)]
    last = ([*range(n_queries)], [n_own - 1] * n_queries)
    prefill_s = cpu_s(lambda: prefix.reach(ids))
    opened: list[Any] = []
    own_s = cpu_s(lambda: opened.append(prefix.rows(twigs, last, room=n_steps)))
    new = rng.integers(0, 100, n_queries)
    steps_s = cpu_s(lambda: [opened[0].step(new) for _ in range(n_steps)])
    body, head, pair = work_of(model._model)
    fed, steps = n_queries * n_own, n_queries * n_steps
    behind = n + n_own + n_steps / 2  # keys that a step sees, on average
    return [
        ("prefill", n, prefill_s, n * body + n * n / 2 * pair),
        (
            "queries' own tokens",
            fed,
            own_s,
            fed * (body + (n + n_own / 2) * pair) + n_queries * head,
        ),
        ("decoding", steps, steps_s, steps * (body + head + behind * pair)),
    ]


def work_of(model: Any) -> tuple[float, float, float]:
    """Return operations a token: of the layers' weights, of the output head, for each key seen."""
    config = model.config
    head = model.get_output_embeddings().weight.numel()
    embedded = model.get_input_embeddings().weight.numel()
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    body = sum(p.numel() for p in model.parameters()) - embedded - (0 if tied else head)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pair = 4 * width * config.num_attention_heads * config.num_hidden_layers
    return 2.0 * body, 2.0 * head, float(pair)


if __name__ == "__main__":
    main()
