"""What the benchmarks share: a random model with its tasks, processes measured on their own, plain
forwards, tables.

In: a folder. Out: seconds, megabytes and Markdown. It is no script; the others import it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
N_NEW = 16  # tokens of a generated answer
LABELS: dict[
    str, tuple[str, ...]
] = {  # of each task; no two begin alike, or they would share what is fed for them
    "mc1": ("harbour", "airport", "station", "depot"),
    "mc3": ("down the river", "over the hill", "through the wood", "along the road"),
    "gen": (),
}
N_WORDS = 1000
TEMPLATE = """\
{% block preamble %}Answer.\n{% endblock %}
{% block shot %}Q: {{ input }}\nA: {{ target }}\n{% endblock %}
{% block format %}{% endblock %}
{% block query %}Q: {{ input }}\nA:{% endblock %}
"""
TASK = '''"""A benchmark: words that mean nothing."""

from icl_harness import Example, Task, exact_match, label_match, rows, task


def example(row) -> Example:
    return Example(id=row["id"], input=row["input"], target=row["target"])


@task
def {name}() -> Task:
    return Task(
        pool=rows("train"), queries=rows("test"), example=example, prompts="benchmark",
        max_tokens={n_new}, labels={labels!r}, scorer={scorer},
    )
'''


@dataclass(frozen=True, kw_only=True)
class World:
    """A model of 4.7 million random weights, and tasks `mc1`, `mc3` and `gen` for it. One word is
    one token.
    """

    shot_words: int = 20
    query_words: int = 20
    n_pool: int = 256
    n_queries: int = 100
    window: int = 8192

    def n_prefix(self, task: str, shots: int) -> int:
        """Return the tokens of a prefix: the preamble, and for each shot its words, `Q:`, `A:` and
        the answer.
        """
        return 1 + shots * (self.shot_words + 2 + _n_words(task))

    def n_own(self, task: str) -> int:
        """Return the tokens that one query must be fed: its own, and those of its choices but the
        last of each.
        """
        inner = sum(len(label.split()) - 1 for label in LABELS[task])
        return self.query_words + 2 + inner

    def write(self, folder: Path) -> None:
        """Write model/, tasks/, prompts/ and data/ into a folder. Same bytes every time."""
        words = [
            "<unk>",
            "<end>",
            "Answer.",
            "Q:",
            "A:",
            *(w for t in LABELS.values() for label in t for w in label.split()),
        ]
        words = list(dict.fromkeys(words))
        plain = [f"w{i}" for i in range(N_WORDS - len(words))]
        save_model(folder / "model", [*words, *plain], self.window)
        for name in ("tasks", "prompts", *(f"data/{task}" for task in LABELS)):
            (folder / name).mkdir(parents=True)
        (folder / "prompts/benchmark.jinja").write_text(TEMPLATE)
        for task, labels in LABELS.items():
            scorer = "label_match" if labels else "exact_match"
            (folder / f"tasks/{task}.py").write_text(
                TASK.format(name=task, labels=labels, scorer=scorer, n_new=N_NEW)
            )
            rng = random.Random(task)
            for split, n, n_words in (
                ("train", self.n_pool, self.shot_words),
                ("test", self.n_queries, self.query_words),
            ):
                rows = [
                    {
                        "id": f"{split}{i}",
                        "input": " ".join(rng.choices(plain, k=n_words)),
                        "target": rng.choice(labels or plain),
                    }
                    for i in range(n)
                ]
                (folder / f"data/{task}/{split}.jsonl").write_text(
                    "".join(json.dumps(row) + "\n" for row in rows)
                )


def save_tokenizer(folder: Path, words: Sequence[str], **special: str) -> None:
    """Write a tokenizer that splits at white space; a word's id is its place."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=words[0], **special
    ).save_pretrained(folder)


def save_model(folder: Path, words: Sequence[str], window: int) -> None:
    """Write the random Llama. Its weights are large enough that no two answers are as likely but
    for rounding.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    save_tokenizer(folder, words, eos_token="<end>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=256, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=1024, max_position_embeddings=window, initializer_range=0.1,
        bos_token_id=None, eos_token_id=1, pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


class Clock:
    """CPU seconds of this process (user and system, all threads) and wall time since its start."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def read(self) -> dict[str, float]:
        """Return both."""
        return {
            "cpu_s": time.process_time() - self._cpu,
            "wall_s": time.perf_counter() - self._wall,
        }


def measured(script: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a script's `--side` in a process of its own, on one thread, and return what it found."""
    with tempfile.TemporaryDirectory() as private:
        result = Path(private, "result.json")
        env = {
            **os.environ,
            **ONE_THREAD,
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": f"{private}/cache",
        }
        command = [
            sys.executable,
            script,
            *arguments,
            "--folder",
            str(folder),
            "--result",
            str(result),
        ]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(result.read_text())
        return found


def ours(
    folder: Path, task: str, shots: Sequence[int], n_queries: int | None = None
) -> dict[str, Any]:
    """Run a grid as a user does, from opening the model to curves.csv, and return its costs and its
    records.

    One query without shots is answered before the clock starts, which imports what there is to
    import.
    """
    import icl_harness
    from icl_harness.analysis.curves import write_csv

    scoring = "choices" if LABELS[task] else "generate"
    with tempfile.TemporaryDirectory() as out, contextlib.chdir(folder):

        def grid(name: str, shots: Sequence[int], n_queries: int | None) -> icl_harness.Run:
            run = icl_harness.run(
                task,
                "hf/model",
                out=f"{out}/{name}",
                shots=shots,
                draws=1,
                queries=n_queries,
                scoring=scoring,
            )
            write_csv(run.curves(), run.path / "curves.csv")
            return run

        grid("imports", [0], 1)
        clock = Clock()
        run = grid("run", shots, n_queries)
        spent = clock.read()
        records = run.records()
        if not records["status"].eq("ok").all():
            raise SystemExit(f"{task}: not every query was answered")
        columns = ["shots", "query_id", "answer", "prompt_tokens", "completion_tokens"]
        return {**spent, "peak_mb": peak_mb(), "records": records[columns].to_dict("list")}


def plain_seconds(
    folder: Path, places: Sequence[tuple[int, int]], chunk: int | None
) -> tuple[float, float]:
    """Return CPU seconds of plain `transformers` forwards, for prefixes and for what follows them.

    `places` are (tokens of the prefix, tokens that follow it), rising. The prefix is extended in
    one growing row; what follows is fed as one continuation, and cut off again. All goes in chunks
    of `chunk` tokens, with a stock cache and stock attention; logits are made for the last token
    only. Random ids: a forward takes as long whichever they are.
    """
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    ids = torch.randint(
        0, N_WORDS, (1, sum(map(max, places))), generator=torch.Generator().manual_seed(0)
    )
    cache = DynamicCache(config=model.config)

    @torch.inference_mode()
    def feed(n: int) -> float:
        clock = Clock()
        for start in range(0, n, chunk or n):
            model(
                input_ids=ids[:, start : min(n, start + (chunk or n))],
                past_key_values=cache,
                logits_to_keep=1,
            )
        return clock.read()["cpu_s"]

    feed(64)  # the first forward of a process prepares more than itself
    cache.crop(-64)
    prefix_s = own_s = 0.0
    for i, (n_prefix, n_own) in enumerate(places):
        prefix_s += feed(n_prefix - (places[i - 1][0] if i else 0))
        own_s += feed(n_own)
        if n_own:
            cache.crop(-n_own)
    return prefix_s, own_s


def peak_mb() -> float:
    """Return this process's peak memory; Linux's own count, as getrusage's includes a forked
    parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return (
            int(
                next(line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line)
            )
            / 1024
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def heading(script: str, packages: Sequence[str] = ()) -> str:
    """Return the heading of a script's table: date, commit, versions and the machine."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    changed = subprocess.run(
        [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True
    ).stdout.strip()
    versions = [f"{name} {_version(name)}" for name in ("torch", "transformers", *packages)]
    at = f"commit {commit or 'unknown'}{' and changes' if changed else ''}"
    software = f"Python {platform.python_version()}, {', '.join(versions)}"
    return f"## {Path(script).name} ({datetime.date.today()}, {at})\n\n{_machine()}; {software}."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is set to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def median(values: Sequence[float], digits: int = 2) -> str:
    """Return the median, and the range where there are several."""
    middle = f"{statistics.median(values):.{digits}f}"
    return (
        middle
        if len(values) == 1
        else f"{middle} [{min(values):.{digits}f}, {max(values):.{digits}f}]"
    )


def medians(runs: Sequence[Mapping[str, Any]], name: str) -> float:
    """Return the median of one figure over runs."""
    return float(statistics.median(run[name] for run in runs))


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if "model name" in line
        ]
        if info.exists()
        else []
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _n_words(task: str) -> int:
    return len(LABELS[task][0].split()) if LABELS[task] else 1
