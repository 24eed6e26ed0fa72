"""A million records: seconds and peak memory of what reads them, and of the run that makes them.

    python benchmarks/million.py [--records 1000000] [--folder DIR] [--only few]

Two runs of a made-up task with a reference learner: `few` (two modes, two variants, 0 to 64 shots)
and `many` (1024 and 2048 shots). Some of the answers are then made unparsed, refused or cut, and
given tokens and dollars. Every command is a process of its own; its peak is the kernel's count.
*Beside* is the peak less that of the same command on a run of 80 records: imports and the model
are left out. With --folder, runs that are there already are read again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from common import heading, table

from icl_harness.store.records import RunStore

TASK = '''"""Which of four sounds does a made-up word have? A benchmark."""

from icl_harness import Example, Task, label_match, rows, task


@task
def many() -> Task:
    return Task(
        pool=rows("train"),
        queries=rows("test"),
        example=lambda row: Example(id=row["id"], input=row["text"], target=row["label"]),
        prompts="classify",
        fields={"instruction": "Say which sound a word has.", "asked": "Word", "answer": "Sound"},
        labels=("low", "high", "long", "short"),
        label_maps={"turned": {"low": "high", "high": "long", "long": "short", "short": "low"}},
        scorer=label_match,
    )
'''
LABELS = ("low", "high", "long", "short")
WEIGHTS = (4, 3, 2, 1)
N_POOL, N_QUERIES = 2048, 5000
GRIDS = {
    "few": ("--modes supervised,unsupervised --variants default,turned --shots 0,1,4,16,64", 20),
    "many": ("--shots 1024,2048", 2),
}
LEAST = {"few": 4, "many": 40}  # queries of the run whose peak is that of imports and model
# by a number between 0 and 99 that a record has
CHANGES = """
UPDATE records SET
    prompt_tokens = 20 + number * 3, cached_tokens = number, completion_tokens = 1,
    cost_usd = number * 1e-5,
    answer = CASE WHEN number < 3 THEN 'none' ELSE answer END,
    parsed = CASE WHEN number < 3 THEN NULL ELSE parsed END,
    score = CASE WHEN number < 3 THEN 0.0 ELSE score END,
    cut = number = 5
FROM (SELECT cell AS c, query_id AS q, abs(cell * 31 + unicode(substr(query_id, -1)) * 7) % 100
      AS number FROM records)
WHERE cell = c AND query_id = q
"""
REFUSED = """
UPDATE records SET status = 'refused', answer = NULL, parsed = NULL, score = NULL
WHERE cached_tokens = 7
"""
COMMANDS: dict[str, list[str]] = {
    "resume": [],
    "curves": ["curves", "RUN"],
    "compare": ["compare", "RUN", "--by", "BY"],
    "compare --by shots": ["compare", "RUN", "--by", "shots"],
    "curves --metric macro_f1": ["curves", "RUN", "--metric", "macro_f1"],
    "plot": ["plot", "RUN", "--out", "picture.png"],
    "export csv": ["export", "RUN", "--out", "records.csv"],
    "export parquet": ["export", "RUN", "--out", "records.parquet"],
    "check": ["check", "RUN"],
    "show": ["show", "RUN", "--query", "QUERY"],
    "rescore": ["rescore", "RUN"],
}


def main() -> None:
    """Make the runs, measure each command, and print a table for each run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", choices=list(GRIDS))
    parser.add_argument("--commands", default=",".join(COMMANDS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as private:
        folder = args.folder or Path(private)
        write_task(folder)
        print(heading(__file__), flush=True)
        for name in [args.only] if args.only else GRIDS:
            rows = measure(folder, name, args.records, args.commands.split(","))
            head = [f"{name}, {args.records:,} records", "wall s", "CPU s", "peak MB", "beside MB"]
            print(f"\n{table(head, rows)}", flush=True)


def write_task(folder: Path) -> None:
    """Write the task's file and its rows."""
    for name in ("tasks", "data/many"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "tasks/many.py").write_text(TASK)
    rng = random.Random(0)
    for split, n in (("train", N_POOL), ("test", N_QUERIES)):
        rows = [{"id": f"{split}{i}", "text": f"{split} word {i}"} for i in range(n)]
        labels = rng.choices(LABELS, WEIGHTS, k=n)
        lines = [
            json.dumps({**row, "label": label}) for row, label in zip(rows, labels, strict=True)
        ]
        (folder / f"data/many/{split}.jsonl").write_text("\n".join(lines) + "\n")


def measure(folder: Path, name: str, n_records: int, commands: Sequence[str]) -> list[list[str]]:
    """Return a row for each command on a run of about `n_records`."""
    options, n_lines = GRIDS[name]
    n_draws = max(1, round(n_records / (n_lines * N_QUERIES)))
    large = Grid(folder, f"{name}-{n_records}", options, N_QUERIES, n_draws)
    small = Grid(folder, f"{name}-least", options, LEAST[name], 1)
    rows = []
    for grid in (small, large):
        grid.measured = {}
        if not (folder / grid.run).exists():
            grid.measured["run"] = grid.icl(grid.command)
            change(folder / grid.run)
        by = "mode" if name == "few" else "shots"
        names = {"RUN": grid.run, "BY": by, "QUERY": some_query(folder / grid.run)}
        for command in commands:
            arguments = COMMANDS[command] or grid.command
            grid.measured[command] = grid.icl([names.get(a, a) for a in arguments])
    for command, (wall_s, cpu_s, peak) in large.measured.items():
        beside = peak - small.measured[command][2] if command in small.measured else float("nan")
        rows.append([command, f"{wall_s:.1f}", f"{cpu_s:.1f}", f"{peak:.0f}", f"{beside:.0f}"])
    return rows


class Grid:
    """A run of some size, and what its commands took: wall and CPU seconds, peak megabytes."""

    measured: dict[str, tuple[float, float, float]]

    def __init__(self, folder: Path, run: str, options: str, queries: int, draws: int) -> None:
        self.folder = folder
        self.run = run
        sizes = ["--queries", str(queries), "--draws", str(draws), "--out", run]
        given = ["--model", "baseline/majority", "--data", "data", *options.split(), *sizes]
        self.command = ["run", "many", *given]

    def icl(self, arguments: Sequence[str]) -> tuple[float, float, float]:
        """Run a command; return its wall and CPU seconds and its peak in megabytes."""
        command = [sys.executable, str(Path(__file__).parents[1] / "cli.py"), *arguments]
        started = time.perf_counter()
        with open(os.devnull, "w") as nowhere, tempfile.TemporaryFile() as errors:
            child = subprocess.Popen(command, cwd=self.folder, stdout=nowhere, stderr=errors)
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - started
            child.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            if child.returncode:
                raise SystemExit(f"icl {' '.join(arguments)}: {errors.read().decode()[-2000:]}")
        return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def change(run: Path) -> None:
    """Make some answers of a run unparsed, refused or cut, and give all of them tokens."""
    with closing(RunStore.open_for_writing(run)) as store, store._db as db:
        db.execute(CHANGES)
        db.execute(REFUSED)


def some_query(run: Path) -> str:
    """Return the id of a query of a run."""
    with closing(RunStore.open(run)) as store:
        return store.query_ids()[0]


if __name__ == "__main__":
    main()
