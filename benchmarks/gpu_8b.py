"""A Llama of 8 billion random weights on one GPU: prompts of 131,072 tokens, 200 queries, bfloat16.

    python benchmarks/gpu_8b.py [--queries 200] [--new 64] [--sample 2] [--folder DIR]
                                [--peak-tflops N --peak-gbs N]
    python benchmarks/gpu_8b.py --vllm --folder DIR   # beside vLLM, also with cascade attention
    python benchmarks/gpu_8b.py --tiny     # tests the script, in seconds; its numbers say nothing

The model has the shape of Llama 3 8B and is made on the device: nothing is downloaded; 16 GB are
written to --folder (where they are found the next time) or to a temporary one. One prefix, and
queries of 32 tokens behind it, go through `HfModel.answers`. Measured, in wall time:

- prefill: one query and one token behind a prefix that the model has not seen; tokens per second,
and the share of the
  device's matrix peak: 2 operations a weight and token (the embedding left out, the head counted
  once), and causal attention at half its square;
- decoding: all queries with --new + 1 tokens less all queries with one; tokens per second, and the
share of the
  device's memory bandwidth if each step read the weights once, the prefix's keys and values once
  for all queries, and each query's own keys and values;
- the whole (prefill, and all queries with --new + 1 tokens) against plain `transformers`:
`generate` on whole prompts,
  one at a time, for a sample of the queries, scaled to all; how many of the sample's answers are
  equal (bfloat16 rounds, and to random weights many tokens are nearly alike, so only --tiny, in
  float32, must have them all);
- peak memory of either, as torch counts it.

With --vllm, in an environment that has it, the same queries go through `VllmModel`, each engine in
a process of its own: as vLLM comes, and as we ask for it (all of a node's queries in one call, with
cascade attention). It has not been run here: there was no GPU.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import heading, peak_mb, save_tokenizer, table

if TYPE_CHECKING:
    from icl_harness.models.base import Model

N_OWN = 32  # tokens of a query
ENGINES = {"vLLM, as it comes": "no", "vLLM, cascade attention": "yes"}
# part of the device's name -> bfloat16 Tflop/s without sparsity, GB/s; the first that fits
PEAKS = {
    "H200": (989.0, 4800.0),
    "H100 NVL": (835.0, 3900.0),
    "H100 PCIe": (756.0, 2000.0),
    "H100": (989.0, 3350.0),
    "A100-SXM4-80GB": (312.0, 2039.0),
    "A100 80GB": (312.0, 1935.0),
    "A100": (312.0, 1555.0),
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """A Llama's shape and what it is asked."""

    hidden: int = 4096
    layers: int = 32
    heads: int = 32
    kv_heads: int = 8
    inner: int = 14336
    vocabulary: int = 128256
    dtype: str = "bfloat16"
    n_prompt: int = 131072

    @property
    def n_weights(self) -> int:
        """Weights that a token is multiplied with: those of the layers, then of the head."""
        attention = 2 * self.hidden * self.hidden * (1 + self.kv_heads / self.heads)
        return (
            int(self.layers * (attention + 3 * self.hidden * self.inner))
            + self.hidden * self.vocabulary
        )

    @property
    def n_bytes(self) -> int:
        """Bytes of one weight."""
        return 4 if self.dtype == "float32" else 2

    @property
    def kv_bytes(self) -> int:
        """Bytes of the keys and values of one token."""
        return 2 * self.layers * self.kv_heads * self.hidden // self.heads * self.n_bytes

    def prefill_flops(self, n: int) -> float:
        """Operations of a prefill of `n` tokens with the logits of the last."""
        head = self.hidden * self.vocabulary
        return (
            2.0 * (self.n_weights - head) * n + 2.0 * head + 2.0 * self.layers * self.hidden * n * n
        )

    def step_bytes(self, n_queries: int, n_new: int) -> float:
        """Bytes that a decoding step of all queries must read; half of the new tokens are there on
        average.
        """
        own = n_queries * (N_OWN + n_new / 2)
        return self.n_weights * self.n_bytes + (self.n_prompt - N_OWN + own) * self.kv_bytes


TINY = Size(
    hidden=64, layers=2, heads=4, kv_heads=2, inner=128, vocabulary=512, dtype="float32",
    n_prompt=2048
)  # fmt: skip


def main() -> None:
    """Measure and print the table."""
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--new", type=int, default=64, help="tokens that each query decodes")
    parser.add_argument(
        "--sample", type=int, default=2, help="queries that plain transformers answers"
    )
    parser.add_argument("--folder", type=Path, help="where the model is, or is to be kept")
    parser.add_argument(
        "--peak-tflops", type=float, help="of the device's matrix units in bfloat16"
    )
    parser.add_argument("--peak-gbs", type=float, help="of the device's memory")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--vllm", action="store_true", help="measure vLLM, too")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.tiny and not torch.cuda.is_available():
        print("gpu_8b: this needs a CUDA device; --tiny checks the script without one.")
        raise SystemExit(2)
    size = TINY if args.tiny else Size()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with contextlib.ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model"
        if not (folder / "config.json").exists():
            make_model(folder, size, device)
        rng = random.Random(0)
        prefix, *queries = (
            [f"w{i}" for i in rng.choices(range(1, size.vocabulary), k=n)]
            for n in (size.n_prompt - N_OWN, *[N_OWN] * args.queries)
        )
        if args.engine:
            model = open_engine(args.engine, folder)
            args.result.write_text(json.dumps(measure(model, prefix, queries, args.new)))
            return
        engines = {name: run_engine(args, name, folder) for name in ENGINES if args.vllm}
        mine = measure_ours(folder, prefix, queries, args.new)
        theirs = measure_plain(folder, prefix, queries[: args.sample], args.new, device, size.dtype)
    equal = sum(
        a.split() == b.split() for a, b in zip(mine["texts"], theirs["texts"], strict=False)
    )
    if args.tiny and equal < len(theirs["texts"]):
        raise SystemExit(
            f"gpu_8b: only {equal} of {len(theirs['texts'])} answers are those of plain "
            "transformers"
        )
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(heading(__file__))
    print(f"\nDevice: {name}. {args.queries} queries, {args.new} tokens decoded each; {size}.\n")
    print(
        table(
            ["", "measured", "share of the device's peak"],
            [
                *report(args, size, name, mine, theirs, equal),
                *(engine_row(args, name, found) for name, found in engines.items()),
            ],
        )
    )


def make_model(folder: Path, size: Size, device: str) -> None:
    """Make the model on the device and write it, with a tokenizer whose words are as many as its
    embeddings.
    """
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = LlamaConfig(
        vocab_size=size.vocabulary, hidden_size=size.hidden, num_hidden_layers=size.layers,
        num_attention_heads=size.heads, num_key_value_heads=size.kv_heads,
        intermediate_size=size.inner,
        max_position_embeddings=2 * size.n_prompt, bos_token_id=None, eos_token_id=None,
        pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, size.dtype))
    save_tokenizer(folder, [f"w{i}" for i in range(size.vocabulary)])
    model.save_pretrained(folder)
    del model
    if device == "cuda":
        torch.cuda.empty_cache()


def measure_ours(
    folder: Path, prefix: Sequence[str], queries: Sequence[Sequence[str]], n_new: int
) -> dict[str, Any]:
    """Measure `HfModel`."""
    from icl_harness.models.hf import HfModel

    return measure(HfModel(str(folder)), prefix, queries, n_new)


def open_engine(name: str, folder: Path) -> Model:
    """Return vLLM as it comes, or with cascade attention."""
    from icl_harness.models.vllm import VllmModel

    return VllmModel(str(folder), cascade_attention=ENGINES[name])


def run_engine(args: argparse.Namespace, name: str, folder: Path) -> dict[str, Any]:
    """Measure an engine in a process of its own: it keeps its memory as long as it lives."""
    with tempfile.TemporaryDirectory() as private:
        result = Path(private, "result.json")
        command = [sys.executable, __file__, "--engine", name, "--result", str(result)]
        command += ["--folder", str(folder), "--new", str(args.new)]
        command += ["--queries", str(args.queries), *(["--tiny"] if args.tiny else [])]
        subprocess.run(command, check=True)
        found: dict[str, Any] = json.loads(result.read_text())
        return found


def engine_row(args: argparse.Namespace, name: str, found: dict[str, Any]) -> list[str]:
    """Return the row of an engine: prefill, the whole, and decoding."""
    whole = found["prefill_s"] + found["all_s"]
    rate = args.queries * args.new / (found["all_s"] - found["one_s"])
    prefill = f"prefill {found['prefill_s']:.1f} s, decoding {rate:,.0f} tokens/s"
    return [name, f"{whole:.1f} s", prefill]


def measure(
    model: Model, prefix: Sequence[str], queries: Sequence[Sequence[str]], n_new: int
) -> dict[str, Any]:
    """Return wall seconds of the prefill, of all queries with one token, and with `n_new` more;
    texts and memory.
    """
    from icl_harness import Answer, Node, Query, Sampling

    _reset_peak()
    asked = [Query(id=str(i), text=" ".join(words)) for i, words in enumerate(queries)]

    def ask(node: Node, queries: Sequence[Query], n: int) -> tuple[float, list[Answer]]:
        async def collect() -> list[Answer]:
            async with aclosing(model.answers(node, queries, Sampling(max_tokens=n))) as stream:
                return [answer async for answers in stream for answer in answers]

        model.count_tokens(node)  # reading text is no part of what is measured
        started = time.perf_counter()
        answers = asyncio.run(collect())
        failed = [answer.error for answer in answers if answer.text is None]
        if failed:
            raise SystemExit(f"gpu_8b: {len(failed)} queries were not answered: {failed[0]}")
        return time.perf_counter() - started, sorted(
            answers, key=lambda answer: int(answer.query_id)
        )

    ask(
        Node(" ".join(prefix[:256]) + "\n"), asked[:1], 2
    )  # the first forward of a process prepares more than itself
    node = Node(
        " ".join([prefix[-1], *prefix[1:]]) + "\n"
    )  # begins otherwise, so that nothing of it is known
    prefill_s, _ = ask(node, asked[:1], 1)
    one_s, _ = ask(node, asked, 1)
    all_s, answers = ask(node, asked, n_new + 1)
    found = {"prefill_s": prefill_s, "one_s": one_s, "all_s": all_s, "peak_mb": _peak_mb()}
    asyncio.run(model.close())
    return {**found, "texts": [answer.text for answer in answers]}


def measure_plain(
    folder: Path,
    prefix: Sequence[str],
    queries: Sequence[Sequence[str]],
    n_new: int,
    device: str,
    dtype: str,
) -> dict[str, Any]:
    """Return wall seconds of plain `generate` per query, the texts, and peak memory."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device).eval()
    )
    _reset_peak()
    seconds, texts = [], []
    for words in queries:
        ids = tokenizer(
            " ".join([prefix[-1], *prefix[1:], *words]), return_tensors="pt"
        ).input_ids.to(device)
        started = time.perf_counter()
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n_new + 1,
            do_sample=False,
            pad_token_id=0,
        )
        texts.append(tokenizer.decode(out[0, ids.shape[1] :].cpu()))
        seconds.append(time.perf_counter() - started)
    return {"query_s": sum(seconds) / len(seconds), "texts": texts, "peak_mb": _peak_mb()}


def report(
    args: argparse.Namespace,
    size: Size,
    name: str,
    mine: dict[str, Any],
    theirs: dict[str, Any],
    equal: int,
) -> list[list[str]]:
    """Return the rows of the table."""
    tflops, gbs = next((peaks for part, peaks in PEAKS.items() if part in name), (None, None))
    tflops, gbs = args.peak_tflops or tflops, args.peak_gbs or gbs
    decode_s = mine["all_s"] - mine["one_s"]
    flops = size.prefill_flops(size.n_prompt) / mine["prefill_s"]
    read = size.step_bytes(args.queries, args.new) * args.new / decode_s
    whole, plain = mine["prefill_s"] + mine["all_s"], theirs["query_s"] * args.queries
    asked, n_sample = args.queries * args.new, len(theirs["texts"])
    return [
        [
            "prefill",
            f"{size.n_prompt / mine['prefill_s']:,.0f} tokens/s",
            _share(flops, tflops, 1e12, "Tflop/s"),
        ],
        ["all queries, one token", f"{mine['one_s']:.2f} s", ""],
        ["decoding", f"{asked / decode_s:,.0f} tokens/s", _share(read, gbs, 1e9, "GB/s")],
        ["whole", f"{whole:.1f} s", ""],
        ["plain transformers*", f"{plain:.1f} s", f"{plain / whole:.1f} times ours"],
        ["equal answers", f"{equal} of {n_sample}", ""],
        ["peak memory", f"{mine['peak_mb']:,.0f} MB", f"plain: {theirs['peak_mb']:,.0f} MB"],
        [f"*: {n_sample} queries, scaled to {args.queries}", "", ""],
    ]


def _share(rate: float, peak: float | None, unit: float, name: str) -> str:
    told = f"{rate / unit:,.1f} {name}"
    return (
        f"{told}, {rate / unit / peak:.0%} of {peak:,.0f}"
        if peak
        else f"{told}; the device's peak is not known"
    )


def _reset_peak() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_mb() -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak_mb()


if __name__ == "__main__":
    main()
