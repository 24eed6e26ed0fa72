"""API models at scale: ours beside lm-eval and Inspect, against a server on this machine that
answers after 50 ms.

    pip install 'lm-eval[api]==0.4.13' inspect-ai==0.3.285
    python benchmarks/api_throughput.py [--provider anthropic] [--repeats 3]
    python benchmarks/api_throughput.py --memory    # 4 MB prompts: peak memory against queries

--only ours,lm-eval,inspect runs some of them; --peer-python PATH names an interpreter where the
others are installed.

One prefix of 399 KB, 1000 queries of 1 KB behind it, 200 requests in flight, one user message each,
records stored. Every program runs in a process of its own, without a warm-up. Two clocks: *whole*
is the process from its start to its end, imports and all; *run* starts once its modules are
imported. Ours is `icl_harness.run` and the curves of the run. lm-eval is `simple_evaluate` with
`local-chat-completions` and what its command line writes with `--log_samples`. Its settings are its
best: no index of its own tasks, the first n shots (by default it draws others for every query),
fields where it would compile a template for every shot of every query (22 CPU s more), no
bootstrap. Inspect is `eval` with `openai-api/` and its log. Both are given ready-made text, made
outside their clocks but for Inspect's (1000 joined strings); they take the same shots in the order
of the file, and speak OpenAI's chat completions whatever ours speaks.

Disk is all that a program leaves in its output folder; the peak is the process's own. The server
must have counted one request for every query, and for all programs as many bytes to within 2 %;
else the script ends with an error. Exit code 1 where a goal is missed. The goals are held to the
whole process. `--memory` runs ours alone, with prompts of 4 MB and of 40 KB: what queries and
records take is the same in both, so the difference must not grow with their number.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

from common import (
    N_NEW,
    ONE_THREAD,
    TASK,
    TEMPLATE,
    Clock,
    heading,
    median,
    medians,
    peak_mb,
    table,
)
from loopback import ANSWER, counts, loopback

Found = dict[str, Any]
N_SHOTS = 40
NAME = "benchmark"
GOALS = {  # of ours: what, its key, the goal, which way
    "CPU s": ("cpu_s", 3.0, "at most"),
    "requests/s": ("per_s", 300.0, "at least"),
    "peak MB": ("peak_mb", 200.0, "at most"),
    "disk MB": ("disk_mb", 3.0, "at most"),
}
RATIOS = {"lm-eval": 4, "inspect": 12}  # times the CPU seconds of ours
TIMES = {
    "cpu_s": "CPU",
    "run_cpu_s": "CPU of the run",
    "wall_s": "wall",
    "peak_mb": "memory",
    "disk_mb": "disk",
}
MEMORY_QUERIES = (200, 800, 1600)
MEMORY_GROWTH_MB = 8  # two prompts of 4 MB
SDK = {"openai": "openai.types.chat", "anthropic": "anthropic"}
KEYS = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "LOOPBACK_API_KEY"), "none")


def main() -> None:
    """Measure what was asked for, print a table and what became of the goals."""
    args = parse()
    if args.side:
        Path(args.result).write_text(json.dumps(SIDES[args.side](args)))
        return
    print(heading(__file__, ("openai", "anthropic")), flush=True)
    missed = memory(args) if args.memory else throughput(args)
    sys.exit(1 if missed else 0)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SIDES), help="which programs")
    parser.add_argument(
        "--provider", choices=("openai", "anthropic"), default="openai", help="what ours speaks"
    )
    parser.add_argument("--queries", help="1000; of --memory: 200,800,1600")
    parser.add_argument("--size", type=int, help="bytes of a prompt: 400000; of --memory: 4000000")
    parser.add_argument(
        "--own", type=int, default=1000, help="bytes of a prompt that are the query's own"
    )
    parser.add_argument("--concurrency", type=int, help="requests in flight: 200; of --memory: 16")
    parser.add_argument(
        "--delay", type=float, default=0.05, help="seconds until the server answers"
    )
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--peer-python", default=sys.executable, metavar="PATH", help="interpreter of the peers"
    )
    parser.add_argument(
        "--memory", action="store_true", help="only how the peak of ours grows with the queries"
    )
    for name in ("--side", "--folder", "--url", "--result"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.queries = args.queries or (",".join(map(str, MEMORY_QUERIES)) if args.memory else "1000")
    args.size = args.size or (4_000_000 if args.memory else 400_000)
    args.concurrency = args.concurrency or (16 if args.memory else 200)
    return args


def throughput(args: argparse.Namespace) -> int:
    """Measure the programs in turn, so that a machine that gets slower does so for all; return the
    goals missed.
    """
    sides = args.only.split(",")
    runs: dict[str, list[Found]] = {side: [] for side in sides}
    for _ in range(args.repeats):
        for side in sides:
            found = measure(args, side, int(args.queries), args.size)
            if "missing" in found:
                print(f"\n{side} was not measured: {found['missing']}.", flush=True)
            else:
                runs[side].append(found)
    runs = {side: found for side, found in runs.items() if found}
    if not runs:
        return 1
    check_alike(runs)
    print(
        f"\n{', '.join(found[0]['version'] for found in runs.values())}; ours speaks to "
        f"{args.provider}/."
    )
    print(
        f"{args.queries} prompts of {args.size:,} bytes, {args.concurrency} in flight, "
        f"{args.delay * 1000:.0f} ms.\n"
    )
    head = [
        "",
        "CPU s, whole",
        "CPU s, run",
        "wall s, whole",
        "wall s, run",
        "requests/s, whole",
        "requests/s, run",
    ]
    print(
        table(
            [*head, "peak MB", "disk MB", "most in flight", "server CPU s"],
            [row(*run) for run in runs.items()],
        )
    )
    return report(runs)


def row(side: str, runs: Sequence[Found]) -> list[str]:
    """Return one program's row."""
    shown = [
        ("cpu_s", 2),
        ("run_cpu_s", 2),
        ("wall_s", 2),
        ("run_wall_s", 2),
        ("per_s", 0),
        ("run_per_s", 0),
    ]
    shown += [("peak_mb", 0), ("disk_mb", 2), ("most_in_flight", 0), ("server_cpu_s", 2)]
    return [side, *(median([run[name] for run in runs], digits) for name, digits in shown)]


def report(runs: Mapping[str, Sequence[Found]]) -> int:
    """Print ratios and goals; return how many goals were missed."""
    if "ours" not in runs:
        return 0
    ours = runs["ours"]
    verdicts: list[tuple[str, bool]] = []
    for side, times_cpu in RATIOS.items():
        if side not in runs:
            continue
        ratio = {name: medians(runs[side], name) / medians(ours, name) for name in TIMES}
        told = ", ".join(f"{TIMES[name]} {times:.1f}x" for name, times in ratio.items())
        verdicts.append(
            (
                f"{side} over ours: {told}. At least {times_cpu}x the CPU",
                ratio["cpu_s"] >= times_cpu,
            )
        )
    for name, (key, goal, way) in GOALS.items():
        value = medians(ours, key)
        met = value <= goal if way == "at most" else value >= goal
        verdicts.append((f"ours, {name}: {value:.2f}, {way} {goal:g}", met))
    print("\n" + "\n".join(f"- {text}: {'met' if met else 'MISSED'}" for text, met in verdicts))
    return sum(not met for _, met in verdicts)


def memory(args: argparse.Namespace) -> int:
    """Print the peak of ours for each number of queries; return 1 where it grows with the prompts,
    else 0.

    Queries and records take room of their own, which prompts of a hundredth of the size show.
    """
    sizes = (args.size, args.size // 100)
    rows: list[list[str]] = []
    excess: list[float] = []
    for queries in map(int, args.queries.split(",")):
        large, small = (
            [measure(args, "ours", queries, size) for _ in range(args.repeats)] for size in sizes
        )
        excess.append(medians(large, "peak_mb") - medians(small, "peak_mb"))
        shown = [("peak_mb", 0), ("cpu_s", 2), ("wall_s", 2), ("disk_mb", 2), ("most_in_flight", 0)]
        told = [median([run[name] for run in large], digits) for name, digits in shown]
        rows.append(
            [f"{queries}", *told, median([run["peak_mb"] for run in small], 0), f"{excess[-1]:.0f}"]
        )
    print(
        f"\nOurs ({args.provider}/), prompts of {args.size:,} bytes, at most {args.concurrency} "
        "in flight.\n"
    )
    head = [
        "queries",
        "peak MB",
        "CPU s",
        "wall s",
        "disk MB",
        "most in flight",
        f"peak MB, prompts of {sizes[1]:,}",
    ]
    print(table([*head, "difference"], rows))
    growth = max(excess) - excess[0]
    met = growth <= MEMORY_GROWTH_MB
    print(
        f"\n- the difference grows by {growth:.0f} MB, at most {MEMORY_GROWTH_MB}: "
        f"{'met' if met else 'MISSED'}"
    )
    return int(not met)


def measure(args: argparse.Namespace, side: str, queries: int, size: int) -> Found:
    """Run one program in its own process against its own server; return its figures."""
    with tempfile.TemporaryDirectory() as folder, loopback(args.delay) as url:
        write_world(Path(folder), size, args.own, queries)
        result = Path(folder, "result.json")
        python = sys.executable if side == "ours" else args.peer_python
        command = [
            python,
            __file__,
            "--side",
            side,
            "--folder",
            folder,
            "--url",
            url,
            "--result",
            str(result),
        ]
        command += ["--concurrency", str(args.concurrency), "--provider", args.provider]
        before, start = _cpu_of_children(), time.perf_counter()
        done = subprocess.run(
            command, env=_environment(folder, url), cwd=folder, capture_output=True, text=True
        )
        wall, cpu = time.perf_counter() - start, _cpu_of_children() - before
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{(done.stderr or done.stdout)[-3000:]}")
        found: Found = json.loads(result.read_text())
        if "missing" in found:
            return found
        heard = counts(url)
    if heard["requests"] != queries:
        raise SystemExit(f"{side} sent {heard['requests']} requests for {queries} queries")
    return {
        **found,
        "cpu_s": cpu,
        "wall_s": wall,
        "per_s": queries / wall,
        "run_per_s": queries / found["run_wall_s"],
        "most_in_flight": heard["most_in_flight"],
        "server_cpu_s": heard["cpu_s"],
        "bytes": heard["bytes"],
    }


def check_alike(runs: Mapping[str, Sequence[Found]]) -> None:
    """Hold the programs' requests to each other. Raises `SystemExit` where one sends more or less
    than the others.
    """
    sent = {side: found[0]["bytes"] for side, found in runs.items()}
    if sent and max(sent.values()) > 1.02 * min(sent.values()):
        raise SystemExit(f"the programs did not send the same: {sent} bytes")


def write_world(folder: Path, size: int, own: int, queries: int) -> None:
    """Write tasks/, prompts/, data/ and an empty out/: a pool that makes a prefix of `size - own`
    bytes.
    """
    rng = random.Random(0)
    for name in ("tasks", "prompts", f"data/{NAME}", "out"):
        (folder / name).mkdir(parents=True)
    (folder / f"prompts/{NAME}.jinja").write_text(TEMPLATE)
    task = TASK.format(name=NAME, labels=(), scorer="exact_match", n_new=N_NEW)
    (folder / f"tasks/{NAME}.py").write_text(task)
    frame = len(f"Q: \nA: {ANSWER}\n")
    for split, n, n_bytes in (("train", N_SHOTS, (size - own) // N_SHOTS), ("test", queries, own)):
        rows = [
            {"id": f"{split}{i}", "input": _words(rng, n_bytes - frame), "target": ANSWER}
            for i in range(n)
        ]
        (folder / f"data/{NAME}/{split}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )


def read_rows(folder: Path, split: str) -> list[dict[str, str]]:
    """Return the rows of `train` or `test`."""
    return [
        json.loads(line)
        for line in (folder / f"data/{NAME}/{split}.jsonl").read_text().splitlines()
    ]


def _words(rng: random.Random, n_bytes: int) -> str:
    words = " ".join(f"w{rng.randrange(1000)}" for _ in range(n_bytes // 3 + 1))
    return words[:n_bytes]


def _environment(folder: str, url: str) -> dict[str, str]:
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": f"{folder}/cache",
        "XDG_DATA_HOME": f"{folder}/share",
    }
    return {**os.environ, **ONE_THREAD, **KEYS, **quiet, "LOOPBACK_BASE_URL": f"{url}/v1"}


def _cpu_of_children() -> float:
    spent = getrusage(RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def figures(out: Path, clock: Clock, name: str) -> Found:
    """Return what a side knows of itself once it is done."""
    spent = clock.read()
    n_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    run = {
        "run_cpu_s": spent["cpu_s"],
        "run_wall_s": spent["wall_s"],
        "peak_mb": peak_mb(),
        "disk_mb": n_bytes / 1e6,
    }
    return {**run, "version": f"{name} {version(name)}"}


def run_ours(args: argparse.Namespace) -> Found:
    """Run a grid as a user does, from opening the model to curves.csv."""
    for module in (
        "pandas",
        SDK[args.provider],
    ):  # a run imports them by and by, which is no part of its clock
        importlib.import_module(module)
    import icl_harness.cli.execute
    from icl_harness.analysis.curves import write_csv

    out = Path(args.folder, "out")
    clock = Clock()
    run = icl_harness.run(
        NAME,
        f"{args.provider}/loopback",
        out=out / "run",
        shots=[N_SHOTS],
        draws=1,
        base_url=args.url + ("/v1" if args.provider == "openai" else ""),
        model_args={"concurrency": str(args.concurrency)},
    )
    write_csv(run.curves(), run.path / "curves.csv")
    found = figures(out, clock, "icl-harness")
    records = run.records()
    if not records["status"].eq("ok").all() or not records["answer"].eq(ANSWER).all():
        raise SystemExit("not every query was answered")
    return found


def run_lm_eval(args: argparse.Namespace) -> Found:
    """Run the same in lm-eval, and write what its command line writes."""
    if missing := _missing("lm_eval", "datasets", "aiohttp", "tenacity", "tqdm", "requests"):
        return missing
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    folder, out = Path(args.folder), Path(args.folder, "out")
    for split in ("train", "test"):
        ready = [
            {"prompt": f"Q: {row['input']}\nA:", "target": row["target"]}
            for row in read_rows(folder, split)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ready))
    clock = Clock()
    tracker = EvaluationTracker(output_path=str(out))
    options = {
        "model": "loopback", "base_url": f"{args.url}/v1/chat/completions",
        "num_concurrent": args.concurrency,
    }  # fmt: skip
    found = simple_evaluate(
        "local-chat-completions", options, tasks=[lm_eval_task(folder)], apply_chat_template=True,
        fewshot_as_multiturn=False, task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0, evaluation_tracker=tracker, log_samples=True,
    )  # fmt: skip
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    tracker.save_results_samples(task_name=NAME, samples=samples[NAME])
    return figures(out, clock, "lm-eval")


def lm_eval_task(folder: Path) -> dict[str, Any]:
    """Return the task as lm-eval's YAML would hold it."""
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}
    return {
        "task": NAME,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "training_split": "train",
        "test_split": "test",
        "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": N_SHOTS,
        "description": "Answer.\n",
        # a field of the row: a template would be compiled anew for every shot of every query
        "doc_to_text": "prompt",
        "doc_to_target": "target",
        "target_delimiter": " ",
        "fewshot_delimiter": "\n",
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": N_NEW, "do_sample": False},
    }


def run_inspect(args: argparse.Namespace) -> Found:
    """Run the same in Inspect, with its log."""
    if missing := _missing("inspect_ai", "openai"):
        return missing
    from inspect_ai import Task, eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import exact
    from inspect_ai.solver import generate

    out = Path(args.folder, "out")
    clock = Clock()
    shots = "".join(
        f"Q: {row['input']}\nA: {row['target']}\n" for row in read_rows(Path(args.folder), "train")
    )
    samples = [
        Sample(id=row["id"], input=f"Answer.\n{shots}Q: {row['input']}\nA:", target=row["target"])
        for row in read_rows(Path(args.folder), "test")
    ]
    task = Task(name=NAME, dataset=MemoryDataset(samples), solver=generate(), scorer=exact())
    log, *_ = eval(
        task, "openai-api/loopback/any", log_dir=str(out), display="none",
        max_connections=args.concurrency,
        max_samples=args.concurrency, max_tokens=N_NEW, temperature=0.0, stop_seqs=["\n"],
    )  # fmt: skip
    if log.status != "success":
        raise SystemExit(f"Inspect ended with {log.status}: {log.error}")
    return figures(out, clock, "inspect-ai")


def _missing(*modules: str) -> Found | None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return {"missing": f"{sys.executable} has no {', '.join(missing)}"} if missing else None


SIDES: dict[str, Callable[[argparse.Namespace], Found]] = {
    "ours": run_ours,
    "lm-eval": run_lm_eval,
    "inspect": run_inspect,
}


if __name__ == "__main__":
    main()
