"""The whole local path against lm-eval: 4, 16, 64, 256 shots x 100 queries on a random Llama of 4.7
M parameters.

    pip install 'lm-eval[hf]==0.4.13' python benchmarks/local_vs_lm_eval.py [--repeats 4] [--tasks
    mc1,mc3,gen] [--lm-eval-queries 4:100,16:100,64:24,…]

Measured: CPU seconds of one thread (busy cores make two threads wait for each other), wall time and
peak memory, each program in a process of its own. Tasks: `mc1` (4 choices of one token), `mc3` (4
choices of three tokens), `gen` (16 greedy tokens). Ours is the whole harness, from opening the
model to records.db and curves.csv, all queries of all cells in one run. lm-eval's clock covers
`evaluate` alone, with the model open and the task loaded. Its settings are its best: the first n
shots of a fixed order (its default draws others for every query), no bootstrap, batches of 1 and of
8, and the better of the two in every cell. It shares nothing between queries, so it is asked fewer
where that takes long, and its seconds are scaled to all queries (marked *); its memory, which grows
with them, is not. Both sides answer one query without shots first, outside the clock.

Before anything is reported the two must agree: prompts equal as strings, each choice's
log-likelihood within 1e-4 nats, the same choice, the same generated text. Else the script ends with
an error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from common import (
    LABELS,
    N_NEW,
    Clock,
    World,
    heading,
    measured,
    median,
    medians,
    ours,
    peak_mb,
    table,
)

SHOTS = (4, 16, 64, 256)
BATCHES = (1, 8)
GOALS = {"mc1": 60, "mc3": 200, "gen": 60}
TOLERANCE = 1e-4  # nats
Answers = dict[str, dict[str, Any]]  # of one cell: query id -> its prompt and what was told
NAME = "benchmark"


def main() -> None:
    """Measure both sides of every task, hold their answers to each other, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=4, help="runs of ours")
    parser.add_argument(
        "--lm-eval-queries", default="4:100,16:100,64:24,256:8", metavar="SHOTS:N,…"
    )
    parser.add_argument("--tasks", default=",".join(LABELS))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    for name in ("--task", "--batch", "--folder", "--result"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        Path(args.result).write_text(json.dumps(SIDES[args.side](args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        World().write(Path(folder))
        cells: list[list[str]] = []
        grids: list[list[str]] = []
        for task in args.tasks.split(","):
            one, grid = compare(Path(folder), task, args.repeats, args.lm_eval_queries)
            cells += one
            grids.append(grid)
    print(heading(__file__, ["lm-eval"]))
    print(
        f"\nThe grid of {', '.join(map(str, SHOTS))} shots x {World().n_queries} queries. "
        "Answers agree.\n"
    )
    head = [
        "task",
        "ours, CPU s",
        "wall s",
        "peak MB",
        "lm-eval, CPU s",
        "wall s",
        "peak MB, batch 1",
        "batch 8",
    ]
    print(table([*head, "ratio (CPU)", "ratio (wall)", "goals"], grids))
    print("\nlm-eval's CPU seconds cell by cell (*: of fewer queries, scaled):\n")
    print(
        table(["task", "shots", *(f"batch {batch}" for batch in BATCHES), "queries asked"], cells)
    )


def compare(folder: Path, task: str, repeats: int, asked: str) -> tuple[list[list[str]], list[str]]:
    """Return the rows of a task: lm-eval's cells, and the grid. Raises `SystemExit` where the two
    do not agree.
    """
    heard = measured(__file__, folder, "--side", "listen", "--task", task)
    write_shots(folder, task, heard["shot_ids"])
    runs = [measured(__file__, folder, "--side", "ours", "--task", task) for _ in range(repeats)]
    for run in runs:
        check_records(heard["cells"], run["records"], task)
    theirs = {
        batch: measured(
            __file__,
            folder,
            "--side",
            "lm-eval",
            "--task",
            task,
            "--batch",
            str(batch),
            "--lm-eval-queries",
            asked,
        )
        for batch in BATCHES
    }
    for found in theirs.values():
        for shots, cell in found["cells"].items():
            check_cell(heard["cells"][shots], cell["answers"], f"{task}, {shots} shots")
    return cell_rows(task, theirs), grid_row(task, runs, theirs)


def cell_rows(task: str, theirs: dict[int, dict[str, Any]]) -> list[list[str]]:
    """Return lm-eval's CPU seconds of each cell and batch size."""
    rows = []
    for shots in map(str, SHOTS):
        found = [theirs[batch]["cells"][shots] for batch in BATCHES]
        mark = "" if found[0]["n"] == World().n_queries else "*"
        rows.append(
            [task, shots, *(f"{cell['cpu_s']:.1f}{mark}" for cell in found), str(found[0]["n"])]
        )
    return rows


def grid_row(
    task: str, runs: Sequence[dict[str, Any]], theirs: dict[int, dict[str, Any]]
) -> list[str]:
    """Return the row of a task: ours, lm-eval's best, the ratios and whether the goals are met."""
    best = [
        min((theirs[b]["cells"][str(s)] for b in BATCHES), key=lambda cell: float(cell["cpu_s"]))
        for s in SHOTS
    ]
    cpu, wall = (sum(cell[name] for cell in best) for name in ("cpu_s", "wall_s"))
    mark = "*" if any(cell["n"] < World().n_queries for cell in best) else ""
    ratio, peak = cpu / medians(runs, "cpu_s"), max(run["peak_mb"] for run in runs)
    goals = {f"{GOALS[task]}x": ratio >= GOALS[task], "memory": peak <= theirs[1]["peak_mb"]}
    return [
        task,
        median([run["cpu_s"] for run in runs]),
        median([run["wall_s"] for run in runs]),
        f"{peak:.0f}",
        f"{cpu:.0f}{mark}",
        f"{wall:.0f}{mark}",
        *(f"{theirs[batch]['peak_mb']:.0f}" for batch in BATCHES),
        f"{ratio:.1f}",
        f"{wall / medians(runs, 'wall_s'):.1f}",
        ", ".join(f"{name} {'met' if met else 'missed'}" for name, met in goals.items()),
    ]


def write_shots(folder: Path, task: str, shot_ids: Sequence[str]) -> None:
    """Write the shots in the order of our draw: lm-eval takes the first n."""
    lines = (folder / f"data/{task}/train.jsonl").read_text().splitlines()
    rows = {json.loads(line)["id"]: line for line in lines}
    (folder / f"{task}_shots.jsonl").write_text("".join(rows[id] + "\n" for id in shot_ids))


def check_records(heard: dict[str, Answers], records: dict[str, list[Any]], task: str) -> None:
    """Hold a measured run's records to the run that was listened to. Raises `SystemExit`."""
    for shots, query, answer in zip(
        records["shots"], records["query_id"], records["answer"], strict=True
    ):
        told = heard[str(shots)][query]["told"]
        if answer != (told if isinstance(told, str) else _likeliest(task, told)):
            raise SystemExit(f"{task}, {shots} shots, {query}: two runs of ours answer differently")


def check_cell(mine: Answers, theirs: Answers, where: str) -> None:
    """Hold lm-eval's prompts and answers to ours. Raises `SystemExit` at the first that differs."""
    for query, their in theirs.items():
        if their["prompt"] != mine[query]["prompt"]:
            raise SystemExit(
                f"{where}, {query}: the prompts differ, so the comparison would not be fair"
            )
        a, b = mine[query]["told"], their["told"]
        if isinstance(a, str):
            # lm-eval decodes an answer without what stands before it, and so loses a space at its
            # start.
            same = a.strip() == b.strip()
        else:
            near = max(abs(x - y) for x, y in zip(a, b, strict=True)) <= TOLERANCE
            same = near and a.index(max(a)) == b.index(max(b))
        if not same:
            raise SystemExit(f"{where}, {query}: ours is {a}, lm-eval's is {b}")


def listen(args: argparse.Namespace) -> dict[str, Any]:
    """Run our grid with a model that notes prompts, log-likelihoods and texts; no measurement."""
    import icl_harness
    from icl_harness.models.base import Answer, Sampling
    from icl_harness.models.hf import HfModel
    from icl_harness.prompts.tree import Node, Query

    heard: dict[str, Answers] = {str(shots): {} for shots in SHOTS}

    class Listener(HfModel):
        async def answers(
            self, node: Node, queries: Sequence[Query], sampling: Sampling
        ) -> AsyncGenerator[list[Answer], None]:
            prefix, texts = node.text, {query.id: query.text for query in queries}
            async with aclosing(super().answers(node, queries, sampling)) as stream:
                async for answers in stream:
                    for answer in answers:
                        nats = answer.logprobs
                        told = (
                            answer.text
                            if nats is None
                            else [nats[label] for label in LABELS[args.task]]
                        )
                        note = {"prompt": prefix + texts[answer.query_id], "told": told}
                        heard[str(node.n_shots)][answer.query_id] = note
                    yield answers

    scoring = "choices" if LABELS[args.task] else "generate"
    with tempfile.TemporaryDirectory() as out, contextlib.chdir(args.folder):
        run = icl_harness.run(
            args.task, Listener("model"), out=out, shots=SHOTS, draws=1, scoring=scoring
        )
        records = run.records(shot_ids=True)
    longest = records[records["shots"] == max(SHOTS)]
    return {"cells": heard, "shot_ids": longest["shot_ids"].iloc[0]}


def run_ours(args: argparse.Namespace) -> dict[str, Any]:
    """Measure our grid."""
    return ours(Path(args.folder), args.task, SHOTS)


def run_lm_eval(args: argparse.Namespace) -> dict[str, Any]:
    """Measure lm-eval's `evaluate` cell by cell; return seconds scaled to all queries, prompts and
    answers.
    """
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(
        pretrained=str(Path(args.folder, "model")),
        batch_size=int(args.batch),
        device="cpu",
        dtype="float32",
    )
    manager = TaskManager(include_defaults=False)
    asked = {
        int(shots): int(n)
        for shots, n in (part.split(":") for part in args.lm_eval_queries.split(","))
    }
    evaluate(
        model,
        manager.load([lm_eval_task(Path(args.folder), args.task, 0)]),
        limit=1,
        bootstrap_iters=0,
    )
    cells = {}
    for shots in SHOTS:
        n = min(asked.get(shots, World().n_queries), World().n_queries)
        loaded = manager.load([lm_eval_task(Path(args.folder), args.task, shots)])
        clock = Clock()
        found = evaluate(model, loaded, limit=n, bootstrap_iters=0)
        spent = {name: seconds * World().n_queries / n for name, seconds in clock.read().items()}
        cells[shots] = {**spent, "n": n, "answers": _read_samples(found["samples"][NAME])}
    return {"cells": cells, "peak_mb": peak_mb()}


def lm_eval_task(folder: Path, task: str, shots: int) -> dict[str, Any]:
    """Return the task as lm-eval's YAML would hold it."""
    files = {
        "train": str(folder / f"{task}_shots.jsonl"),
        "test": str(folder / f"data/{task}/test.jsonl"),
    }
    choices = {"output_type": "multiple_choice", "doc_to_choice": list(LABELS[task])}
    generation = {"until": ["\n"], "max_gen_toks": N_NEW, "do_sample": False}
    return {
        "task": NAME,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "training_split": "train",
        "test_split": "test",
        "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": shots,
        "description": "Answer.\n",
        "doc_to_text": "Q: {{input}}\nA:",
        "doc_to_target": "{{target}}",
        "target_delimiter": " ",
        "fewshot_delimiter": "\n",
        **(
            choices
            if LABELS[task]
            else {"output_type": "generate_until", "generation_kwargs": generation}
        ),
    }


def _read_samples(samples: Sequence[dict[str, Any]]) -> Answers:
    found = {}
    for sample in samples:
        first = sample["arguments"][0]
        told = (
            sample["resps"][0][0]
            if isinstance(first[1], dict)
            else [one[0][0] for one in sample["resps"]]
        )
        found[sample["doc"]["id"]] = {"prompt": first[0], "told": told}
    return found


def _likeliest(task: str, nats: Sequence[float]) -> str:
    return LABELS[task][nats.index(max(nats))]


SIDES = {"listen": listen, "ours": run_ours, "lm-eval": run_lm_eval}


if __name__ == "__main__":
    main()
