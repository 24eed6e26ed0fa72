"""What a reader of a run's table must know beside it: failures, dropped shots, banks, dollars."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_harness.analysis.curves import POINT, unusual_format
from icl_harness.counts import agree, n_of
from icl_harness.runner.fine_tuning import TRAINING_FILE, trainings
from icl_harness.store.bank import Bank, Rules, bank_files, read_bank
from icl_harness.store.imported import NO_SCORE

if TYPE_CHECKING:
    import pandas as pd

HALF_A_CENT = 0.005  # dollars; less is shown as nothing
LONGEST_ERROR = 200


def imported_note(header: Mapping[str, Any]) -> str:
    """Return where an imported run is from, and what it lacks."""
    origin = header["imported"]
    files = [file["file"] for file in origin["files"]]
    more = f" and {len(files) - 2} more" if len(files) > 2 else ""
    lacks = ", ".join(origin["lacks"])
    return f"imported from {', '.join(files[:2])}{more}, without {lacks}"


def unfinished_note(headers: Sequence[dict[str, Any]], n_records: int) -> Iterator[str]:
    """Yield how much of the grids of these runs there is, unless it is all."""
    n_all = sum(map(grid_size, headers))
    if n_records < n_all:
        yield f"unfinished: {n_records:,} of {n_all:,} answers so far; the same command resumes it"


def grid_size(header: Mapping[str, Any]) -> int:
    """Return how many answers a finished run holds."""
    if "imported" in header:
        return int(header["imported"]["n_answers"])
    spec = header["spec"]
    n_cells = [len(spec[name]) for name in ("models", "modes", "variants", "shots")]
    n_queries = sum(int(task["n_queries"]) for task in header["tasks"].values())
    return math.prod([*n_cells, int(spec["draws"]), int(n_queries), int(spec.get("samples", 1))])


def bank_notes(path: Path, header: dict[str, Any]) -> Iterator[str]:
    """Yield what a run's folder says beside its records: banks, how local models ran, which rows
    were left out.
    """
    if "imported" in header:
        yield f"{path.name}: {imported_note(header)}"
        yield from _cell_note(header)
    files, rules = sorted(bank_files(path), key=_without_draw), Rules.of(header.get("spec", {}))
    for name, group in groupby(files, key=_without_draw):
        yield f"{name}: {_banks([read_bank(file, rules) for file in group])}"
    yield from _training_note(path)
    yield from _demo_note(header)
    for name, model in header["models"].items():
        if model.get("because"):
            how = f"its prefixes are {model['branches']} ({model['because']})"
            yield f"{name}: exact, but slower, as {how}"
        if model.get("window_held_to"):
            window = f"window held to {model['window_held_to']:,} tokens"
            yield f"{name}: {window}; beyond, its positions change with the prompt's length"
    for name, task in header["tasks"].items():
        yield from _row_notes(name, task)
        for source, pool in task.get("shots_from", {}).items():
            yield from _row_notes(f"{name} after shots of {source}", pool)
    yield from repeated_notes(header)


def _row_notes(name: str, pool: Mapping[str, Any]) -> Iterator[str]:
    """Yield which rows of a pool were left out as queries, and which nearly are some."""
    if pool["n_dropped"]:
        rows = n_of(pool["n_dropped"], "pool row")
        were = agree(pool["n_dropped"], "was", "were")
        yield f"{name}: {rows} equal to a test row {were} left out"
    near = pool.get("near_duplicates")
    if near:
        pool_id, query_id, shown, asked = near["examples"][0]
        n = near["n"]
        yield (
            f"{name}: {n_of(n, 'pool row')} {agree(n, 'is', 'are')} a test row but for word "
            f"breaks, punctuation or the order of options, and {agree(n, 'stays', 'stay')} in the "
            f"pool: {pool_id} {shown!r} = {query_id} {asked!r}"
        )


def repeated_notes(header: Mapping[str, Any]) -> Iterator[str]:
    """Yield how many test rows of each task are no evidence of their own."""
    for name, task in header["tasks"].items():
        if task.get("n_repeated"):
            n = task["n_repeated"]
            yield (
                f"{name}: {n:,} of its test rows {agree(n, 'repeats', 'repeat')} the text of "
                f"another and {agree(n, 'is', 'are')} counted each time, so the intervals are a "
                f"little too narrow; remove {agree(n, 'it', 'them')} from the file to count each "
                "text once"
            )


def _cell_note(header: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the intervals of an imported table of cells leave out."""
    origin = header["imported"]
    if "cell" not in origin["per"]:
        return
    if all("n" in file["columns"] for file in origin["files"]):
        yield (
            "cells without their queries: the intervals are those of draws that had the same "
            "queries right, on the safe side; two cells cannot be paired"
        )
    else:
        yield "means of cells without n: the intervals know other draws, not other queries"


def _training_note(path: Path) -> Iterator[str]:
    """Yield what the trainings of fine-tuned models took."""
    for model, rows in trainings(path).items():
        tokens = sum(int(row["tokens"]) for row in rows)
        seconds = sum(float(row["seconds"]) for row in rows)
        yield (
            f"{model}: {n_of(len(rows), 'training')} on {tokens:,} tokens took {seconds:,.0f} s: "
            f"{TRAINING_FILE}"
        )


def _demo_note(header: Mapping[str, Any]) -> Iterator[str]:
    """Yield that the bundled model cannot know a task, if it was given another than its own."""
    others = [name for name in header["tasks"] if name.partition(":")[0] != "dialects"]
    if "demo" in header["models"] and others:
        yield (
            f"demo: the bundled model knows only dialects, so its answers to {', '.join(others)} "
            "say nothing; try hf/smollm2 for a real model"
        )


def _without_draw(file: Path) -> str:
    """Return a bank's file name; a task that is generated anew for each draw has one of each."""
    return re.sub(r"-draw\d+--", "-draw*--", file.name)


def _banks(banks: Sequence[Bank]) -> str:
    """Return what came of banks that differ in their draw alone."""
    solved = [bank.n_solved for bank in banks]
    n_attempts = sum(len(bank.attempts) for bank in banks)
    costs = [bank.cost_usd for bank in banks if bank.cost_usd is not None]
    cost = f", ${sum(costs):.2f}" if len(costs) == len(banks) else ""
    most = max(bank.n_problems for bank in banks)
    if len(banks) == 1:
        return f"{solved[0]} of {most} solved, {n_of(n_attempts, 'attempt')}{cost}"
    each = f"{min(solved)} to {max(solved)} of {most} solved in each"
    return f"{len(banks)} banks, {each}, {n_attempts:,} attempts{cost}"


def curve_notes(
    curves: pd.DataFrame, errors: Mapping[tuple[Any, ...], str] | None = None
) -> Iterator[str]:
    """Yield what a reader of the table must know: failures, overflows, dropped shots, unparsed
    shares. `errors`: the commonest one of each point.
    """
    for row in curves.to_dict("records"):
        names = [row["task"], row["model"], row["mode"], row["variant"], *unusual_format(row)]
        where = f"{' '.join(names)} {n_of(row['shots'], 'shot')}"
        error = (errors or {}).get(tuple(row[name] for name in POINT))
        yield from (f"{where}: {note}" for note in _point_notes(row, error))
    for (task, model, mode), rows in curves.groupby(["task", "model", "mode"], sort=False):
        n_unparsed = rows["n_unparsed"].sum()
        if n_unparsed:
            share = f"{n_unparsed / rows['n_ok'].sum():.0%} of the answers"
            yield f"{task} {model} {mode}: {share} could not be parsed and count as wrong"
    yield from _one_draw(curves)
    spent = curves["cost_usd"].sum()
    if spent >= HALF_A_CENT:
        yield f"${spent:,.2f} spent on these answers{_cached(curves)}"
    n_lost = int(curves["n_lost"].sum())
    if n_lost:
        yield (
            f"{n_of(n_lost, 'request')} broke off once sent; the provider may have charged for "
            f"{agree(n_lost, 'it', 'them')}, which cost_usd leaves out"
        )


def lacking_notes(frame: pd.DataFrame) -> Iterator[str]:
    """Yield where there is no mean over tasks, as some lack a value."""
    if "lacking" not in frame:
        return
    without = frame[frame["lacking"] != ""]
    sides = [name for name in ("a", "b") if name in frame]
    names = [name for name in ("model", "mode", "variant") if name in frame]
    for key, rows in without.groupby([*names, *sides, "lacking"], sort=False):
        *where, lacking = map(str, key)
        shots = "" if "shots" not in rows else f" {', '.join(map(str, rows['shots']))} shots"
        yield f"{' '.join(where)}{shots}: no mean over tasks, as there is no value of {lacking}"


def unpriced_notes(headers: Sequence[Mapping[str, Any]], curves: pd.DataFrame) -> Iterator[str]:
    """Yield which models of APIs have no price: what they cost is unknown, which is not nothing."""
    answered = curves[curves["n_ok"] > 0]
    unknown = set(answered["model"][answered["cost_usd"].isna()])
    apis = set()
    for header in headers:
        apis |= {name for name, model in header["models"].items() if "sdk" in model}
    for name in sorted(unknown & apis):
        yield (
            f"{name}: what it cost is unknown, no price is known; name one with --model-arg "
            "priced_as=provider/model, or see the provider's bill"
        )


def _one_draw(curves: pd.DataFrame) -> Iterator[str]:
    """Yield that one draw says nothing of others."""
    alone = curves[(curves["shots"] > 0) & (curves["ci_covers"] == "queries")]
    if len(alone):
        names = ", ".join(dict.fromkeys(alone["task"]))
        yield f"{names}: one draw, so intervals leave out what other draws of the shots would give"


def _point_notes(row: Mapping[Any, Any], error: str | None) -> Iterator[str]:
    if row["n_failed"] and error == NO_SCORE:
        n = row["n_failed"]
        yield f"{n_of(n, 'score')} {agree(n, 'is', 'are')} missing in what was imported"
    elif row["n_failed"]:
        why = f" ({' '.join(error.split())[:LONGEST_ERROR]})" if error else ""
        yield _missing(row["n_failed"], f"failed{why} and", again=True)
    if row["n_refused"]:
        were = agree(row["n_refused"], "was", "were")
        yield _missing(row["n_refused"], f"{were} refused by the provider or its filter and")
    if row["n_overflow"]:
        yield _missing(row["n_overflow"], "did not fit the context window and", noun="prompt")
    elif row["shots_used"] < row["shots"]:
        yield _shots_used(row["shots_used"])


def _missing(n: int, why: str, *, noun: str = "request", again: bool = False) -> str:
    missing = f"{n_of(n, noun)} {why} {agree(n, 'is', 'are')} missing"
    return f"{missing}; the same command sends {agree(n, 'it', 'them')} again" if again else missing


def _shots_used(mean: float) -> str:
    if mean == round(mean):
        return f"{n_of(round(mean), 'shot')} used"
    return f"{mean:.1f} shots used on average"


def _cached(curves: pd.DataFrame) -> str:
    """Return which share of the prompt tokens came from caches, where tokens are known."""
    prompts = (curves["prompt_tokens"] * curves["n_ok"]).sum()
    cached = (curves["cached_tokens"] * curves["n_ok"]).sum()
    return f", {cached / prompts:.0%} of the prompt tokens read from caches" if prompts else ""
