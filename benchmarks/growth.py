"""How the time of a grid grows: with the longest prompt, with the queries, with the number of shot
counts.

    python benchmarks/growth.py [--repeats 3] [--shots 32,64,128,256] [--queries 16,64,256]

Measured: CPU seconds of one thread for a grid through the whole harness, from opening the model to
records.db and curves.csv, medians over repeats. The model is that of local_vs_lm_eval.py with a
longer window; a shot has 125 tokens, so that 256 shots are 32 thousand; a query has 10 and four
choices of one token each.

The last table lays the grid 1, 2, 4, … below the most shots beside the most shots alone. What the
small shot counts add can be no less than their queries' own tokens; what plain `transformers`
forwards take for those, one row behind each prefix, is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import World, heading, measured, median, ours, plain_seconds, table

TASK = "mc1"
GOAL = 0.05  # of the seconds without the smaller shot counts
CHUNK = 1024  # tokens a plain forward
Grid = tuple[tuple[int, ...], int]  # shot counts, queries


def main() -> None:
    """Measure every grid in turn, so that a machine that gets slower does so for all, and print the
    tables.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--shots", default="32,64,128,256", help="the last is the most; a power of two"
    )
    parser.add_argument("--queries", default="16,64,256", help="the first go with every grid")
    for name in ("--side", "--grid", "--folder", "--result"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    shots, queries = (
        [int(part) for part in text.split(",")] for text in (args.shots, args.queries)
    )
    world = World(
        shot_words=122, query_words=8, n_pool=shots[-1], n_queries=max(queries), window=1 << 16
    )
    if args.side:
        Path(args.result).write_text(json.dumps(side(args, world)))
        return
    few, most = queries[0], shots[-1]
    powers = tuple(1 << i for i in range(most.bit_length()))
    grids: list[Grid] = [
        *(((n,), few) for n in shots),
        *(((most,), n) for n in queries[1:]),
        (powers, few),
    ]
    seconds: dict[Grid, list[float]] = {grid: [] for grid in grids}
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        world.write(Path(folder))
        for _ in range(args.repeats):
            for grid in grids:
                found = measured(
                    __file__, Path(folder), "--side", "ours", "--grid", json.dumps(grid)
                )
                seconds[grid].append(found["cpu_s"])
            added = json.dumps((powers[:-1], few))
            plain.append(
                measured(__file__, Path(folder), "--side", "plain", "--grid", added)["cpu_s"]
            )
    print(heading(__file__))
    print(f"\nCPU seconds of one thread, median of {args.repeats} runs [range].\n")
    print(table(*growth([((n,), few) for n in shots], seconds, world)) + "\n")
    print(table(*growth([((most,), n) for n in queries], seconds, world)) + "\n")
    print(table(*counts(((most,), few), (powers, few), seconds, plain)))


def side(args: argparse.Namespace, world: World) -> dict[str, Any]:
    """Return what one process of its own measures."""
    shots, n_queries = json.loads(args.grid)
    if args.side == "ours":
        found = ours(Path(args.folder), TASK, shots, n_queries)
        if max(found["records"]["prompt_tokens"]) != world.n_prefix(TASK, max(shots)) + world.n_own(
            TASK
        ):
            raise SystemExit("the longest prompt has other tokens than those counted here")
        return found
    places = [(world.n_prefix(TASK, n), n_queries * world.n_own(TASK)) for n in shots]
    return {"cpu_s": plain_seconds(Path(args.folder), places, CHUNK)[1]}


def growth(
    grids: Sequence[Grid], seconds: dict[Grid, list[float]], world: World
) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table in which one thing grows."""
    rows = []
    for i, ((shots, n_queries), was) in enumerate(zip(grids, [None, *grids], strict=False)):
        tokens = world.n_prefix(TASK, shots[-1]) + world.n_own(TASK)
        now = seconds[grids[i]]
        times = f"{statistics.median(now) / statistics.median(seconds[was]):.2f}" if was else ""
        rows.append([str(shots[-1]), f"{tokens:,}", str(n_queries), median(now), times])
    return [
        "shots",
        "tokens of the longest prompt",
        "queries",
        "CPU s",
        "times the row above",
    ], rows


def counts(
    alone: Grid, grid: Grid, seconds: dict[Grid, list[float]], plain: Sequence[float]
) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of shot counts, with what the added ones cost."""
    base, more = (statistics.median(seconds[which]) for which in (alone, grid))
    extra, own = more - base, statistics.median(plain)
    met = "met" if extra <= GOAL * base else "missed"
    told = f"{extra:.2f} ({extra / base:.1%}; goal {GOAL:.0%}: {met})"
    head = [
        "shot counts",
        "queries",
        "CPU s",
        "extra, CPU s",
        "added queries' own tokens, plainly",
        "share of the extra",
    ]
    share = f"{own / extra:.0%}" if extra > 0 else ""
    return head, [
        [str(alone[0][0]), str(alone[1]), median(seconds[alone]), "", "", ""],
        [
            ", ".join(map(str, grid[0])),
            str(grid[1]),
            median(seconds[grid]),
            told,
            f"{own:.2f} ({own / base:.1%})",
            share,
        ],
    ]


if __name__ == "__main__":
    main()
