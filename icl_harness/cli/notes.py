"""What a reader of a run's table must know beside it: failures, dropped shots, banks, dollars."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_harness.analysis.curves import POINT, asked_how
from icl_harness.store.bank import read_bank

if TYPE_CHECKING:
    import pandas as pd


def unfinished_note(headers: Sequence[dict[str, Any]], n_records: int) -> Iterator[str]:
    """Yield how much of the grids of these runs there is, unless it is all."""
    n_all = 0
    for header in headers:
        spec = header["spec"]
        cells = [len(spec[name]) for name in ("models", "modes", "variants", "shots")]
        n_all += math.prod([*cells, spec["draws"]]) * sum(
            task["n_queries"] for task in header["tasks"].values()
        )
    if n_records < n_all:
        yield f"unfinished: {n_records:,} of {n_all:,} answers so far; the same icl run goes on"


def bank_notes(path: Path, header: dict[str, Any]) -> Iterator[str]:
    """Yield what a run's folder says beside its records: banks, how local models ran, which rows
    were left out.
    """
    for file in sorted(path.glob("bank-*.jsonl")):
        bank = read_bank(file)
        cost = "" if bank.cost_usd is None else f", ${bank.cost_usd:.2f}"
        yield f"{file.name}: {bank.n_solved} of {bank.n_problems} solved, {len(bank.attempts):,} attempts{cost}"
    for name, model in header["models"].items():
        if model.get("because"):
            yield f"{name}: exact, but slower, as its prefixes are {model['branches']} ({model['because']})"
        if model.get("window_held_to"):
            n = model["window_held_to"]
            yield f"{name}: window held to {n:,} tokens; beyond, its positions change with the prompt's length"
    for name, task in header["tasks"].items():
        if task["n_dropped"]:
            yield f"{name}: {task['n_dropped']} pool rows equal to a test row were left out"


def common_errors(records: pd.DataFrame) -> dict[tuple[Any, ...], str]:
    """Return the commonest error of the requests that failed, by cell (`POINT`)."""
    failed = records[records["status"] == "failed"]
    groups = failed.groupby(POINT, sort=False)["error"] if len(failed) else ()
    return {cell: " ".join(str(errors.mode().iloc[0]).split())[:200] for cell, errors in groups}


def curve_notes(
    curves: pd.DataFrame, errors: Mapping[tuple[Any, ...], str] | None = None
) -> Iterator[str]:
    """Yield what a reader of the table must know: failures, overflows, dropped shots, unparsed
    shares. `errors`: the commonest one of each cell.
    """
    for row in curves.to_dict("records"):
        names = [row["task"], row["model"], row["mode"], row["variant"], *asked_how(row)]
        where = f"{' '.join(names)} {row['shots']} shots"
        if row["n_failed"]:
            error = (errors or {}).get(tuple(row[name] for name in POINT))
            why = f" ({error})" if error else ""
            yield f"{where}: {row['n_failed']} requests failed{why} and are missing; the same command asks them again"
        if row["n_refused"]:
            yield f"{where}: {row['n_refused']} requests were refused by the provider or its filter and are missing"
        if row["n_overflow"]:
            yield f"{where}: {row['n_overflow']} prompts did not fit the context window and are missing"
        elif row["shots_used"] < row["shots"]:
            yield f"{where}: {row['shots_used']:g} shots used"
    for (task, model, mode), rows in curves.groupby(["task", "model", "mode"], sort=False):
        if n_unparsed := rows["n_unparsed"].sum():
            share = f"{n_unparsed / rows['n_ok'].sum():.0%}"
            yield f"{task} {model} {mode}: {share} of the answers could not be parsed and count as wrong"
    if (spent := curves["cost_usd"].sum()) >= 0.005:  # half a cent
        prompts, cached = (
            (curves[name] * curves["n_ok"]).sum() for name in ("prompt_tokens", "cached_tokens")
        )
        share = f", {cached / prompts:.0%} of the prompt tokens read from caches" if prompts else ""
        yield f"${spent:,.2f} spent on these answers{share}"
    if n_lost := curves["n_lost"].sum():
        yield (
            f"{n_lost} requests broke off once they were sent; the provider may have charged for them, cost_usd leaves "
            "them out"
        )
