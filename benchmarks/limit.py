"""How near the harness is to its limit: a grid's seconds over those of one plain forward of the
tree's unique tokens.

    python benchmarks/limit.py [--repeats 3] [--chunks 256,512,1024,2048,0] [--tasks mc1,mc3,gen]

Numerator: CPU seconds of one thread for the grid of 4, 16, 64, 256 shots x 100 queries through the
whole harness, from opening the model to records.db and curves.csv. The tasks are those of
local_vs_lm_eval.py.

Denominator: CPU seconds of one thread that plain `transformers` takes to forward as many tokens as
the prompt tree has: the longest prefix once; at each shot count each query's own tokens; its
choices' tokens but the last of each (`mc3`), or what it generated but the last token (`gen`). They
go through `model(input_ids, past_key_values)`, one row at a time, in chunks of the best size that
the first run finds, with stock cache and attention and the logits of the last token only. Nothing
else is in it: no opening, tokenising, choosing, scoring, storing. Two orders:

- *in place*: the row grows to a shot count's prefix, goes on with all that its queries must be fed,
is cut back to the
  prefix, and grows to the next. Its attention is that of the tree, and the queries' to each other.
  The goal is held to this one.
- *in one row*: the longest prefix, then everything that all queries must be fed. The row ends up
longer than any
  prompt, so its attention costs more than the tree's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import LABELS, World, heading, measured, median, ours, plain_seconds, table

SHOTS = (4, 16, 64, 256)
GOAL = 1.3
ORDERS = ("in place", "in one row")


def main() -> None:
    """Measure both in turn, so that a machine that gets slower does so for both, and print the
    table.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--chunks", default="256,512,1024,2048,0", help="tokens a forward; 0: all at once"
    )
    parser.add_argument("--tasks", default=",".join(LABELS))
    for name in ("--side", "--task", "--places", "--folder", "--result"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        Path(args.result).write_text(json.dumps(side(args)))
        return
    tasks = args.tasks.split(",")
    runs: dict[str, list[dict[str, Any]]] = {task: [] for task in tasks}
    with tempfile.TemporaryDirectory() as folder:
        World().write(Path(folder))
        for _ in range(args.repeats):
            for task in tasks:
                chunks = {
                    order: best(runs[task], order)[1] if runs[task] else args.chunks
                    for order in ORDERS
                }
                runs[task].append(measure(Path(folder), task, chunks))
    print(heading(__file__))
    print(
        f"\nThe grid of {', '.join(map(str, SHOTS))} shots x {World().n_queries} queries, "
        f"{args.repeats} runs.\n"
    )
    head = [
        "task",
        "unique tokens",
        "harness, CPU s",
        *(f"plain {order}, CPU s" for order in ORDERS),
    ]
    rows = [row(task, runs[task]) for task in tasks]
    print(
        table(
            [*head, *(f"ratio, {order}" for order in ORDERS)], [*rows, total(list(runs.values()))]
        )
    )


def measure(folder: Path, task: str, chunks: Mapping[str, str]) -> dict[str, Any]:
    """Measure the harness once, then plain forwards of as many tokens, by order and chunk size."""
    grid = measured(__file__, folder, "--side", "ours", "--task", task)
    places = tree(task, grid["records"])
    n_prefix, n_own = places[-1][0], sum(n_own for _, n_own in places)
    found: dict[str, Any] = {"tokens": n_prefix + n_own, "harness": grid["cpu_s"]}
    for order, which in zip(ORDERS, (places, [(n_prefix, n_own)]), strict=True):
        plain = ("--side", "plain", "--places", json.dumps(which), "--chunks", chunks[order])
        found[order] = measured(__file__, folder, *plain)
    return found


def tree(task: str, records: dict[str, list[Any]]) -> list[tuple[int, int]]:
    """Return, for each shot count, the tokens of its prefix and those that its queries must be fed
    behind it.

    Raises `SystemExit` where the records tell of other prompts than those counted here.
    """
    world, places = World(), []
    longest = world.n_prefix(task, max(SHOTS)) + world.query_words + 2
    if max(records["prompt_tokens"]) != longest:
        raise SystemExit(
            f"{task}: the longest prompt has {max(records['prompt_tokens'])} tokens, not {longest}"
        )
    for shots in SHOTS:
        made = [
            n
            for k, n in zip(records["shots"], records["completion_tokens"], strict=True)
            if k == shots
        ]
        new = 0 if LABELS[task] else sum(n - 1 for n in made)
        places.append((world.n_prefix(task, shots), len(made) * world.n_own(task) + new))
    return places


def side(args: argparse.Namespace) -> dict[str, Any]:
    """Return what one process of its own measures."""
    if args.side == "ours":
        return ours(Path(args.folder), args.task, SHOTS)
    places = [(int(prefix), int(own)) for prefix, own in json.loads(args.places)]
    return {
        n: sum(plain_seconds(Path(args.folder), places, int(n) or None))
        for n in args.chunks.split(",")
    }


def row(task: str, runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return a task's row: seconds as medians over runs, the best chunk size, the ratios."""
    harness = statistics.median(run["harness"] for run in runs)
    plain = [best(runs, order) for order in ORDERS]
    return [
        task,
        f"{runs[0]['tokens']:,}",
        median([run["harness"] for run in runs]),
        *(
            f"{seconds:.2f} (chunks: {'whole' if chunk == '0' else chunk})"
            for seconds, chunk in plain
        ),
        *(f"{harness / seconds:.2f}" for seconds, _ in plain),
    ]


def total(tasks: Sequence[Sequence[dict[str, Any]]]) -> list[str]:
    """Return the row of all tasks together, with the goal."""
    harness = sum(statistics.median(run["harness"] for run in runs) for runs in tasks)
    plain = [sum(best(runs, order)[0] for runs in tasks) for order in ORDERS]
    ratios = [f"{harness / seconds:.2f}" for seconds in plain]
    met = "met" if harness / plain[0] <= GOAL else "missed"
    tokens = sum(runs[0]["tokens"] for runs in tasks)
    seconds = [f"{seconds:.2f}" for seconds in (harness, *plain)]
    return ["all", f"{tokens:,}", *seconds, f"{ratios[0]} (goal {GOAL}: {met})", ratios[1]]


def best(runs: Sequence[dict[str, Any]], order: str) -> tuple[float, str]:
    """Return the chunk size that the first run found fastest, after its median seconds."""
    chunk = min(runs[0][order], key=runs[0][order].__getitem__)
    return statistics.median(run[order][chunk] for run in runs), chunk


if __name__ == "__main__":
    main()
