"""What a plan says on a terminal and in a CSV file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from icl_harness.cli.terminal import add_row, new_table
from icl_harness.plan.estimate import Plan, Planned, dollars

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

DOLLARS = {
    "usd_cached": "$ cached",
    "usd_plain": "$ plain",
    "usd_batch": "$ batch",
    "usd_output": "$ answers",
}


def plan_frame(plan: Plan) -> pd.DataFrame:
    """Return one row per cell, and per bank that is to be made: it has no draw."""
    import pandas as pd

    frame = pd.DataFrame([asdict(row) for row in plan.rows])
    whole = [
        "draw",
        "shots_used",
        "longest",
        "window",
        "prompt_tokens",
        "cached_tokens",
        "cache_write_tokens",
    ]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def plan_tables(plan: Plan) -> Iterator[Table]:
    """Yield a table per task, variant and model: a row per mode and shot count, draws summed."""
    for (task, variant, model), group in groupby(
        plan.rows, lambda row: (row.task, row.variant, row.model)
    ):
        rows = list(group)
        priced = any(row.usd_plain is not None for row in rows)
        how = "" if variant == "default" else f", {variant}"
        n_draws = len({row.draw for row in rows} - {None})
        summed = f", {n_draws} draws summed" if n_draws > 1 else ""
        heading = _heading(priced)
        table = new_table(
            f"{task}{how} · {model}{summed}", heading=heading, right=range(1, len(heading))
        )
        last = None
        for mode, shots, some in _by_shots(rows):
            add_row(table, "" if mode == last else mode, shots, *_figures(some, priced))
            last = mode
        if len({(row.mode, row.shots, row.draw is None) for row in rows}) > 1:
            add_row(table, "all", "", *_figures(rows, priced), style="bold")
        yield table


def _heading(priced: bool) -> list[str]:
    names = ["mode", "shots", "requests", "longest", "tokens"]
    return [*names, "cached", "fits", *DOLLARS.values()] if priced else [*names, "fits"]


def _by_shots(rows: Sequence[Planned]) -> Iterator[tuple[str, str, list[Planned]]]:
    """Yield mode, shots and rows, banks first within their mode."""
    for mode in dict.fromkeys(row.mode for row in rows):
        mine = [row for row in rows if row.mode == mode]
        if banks := [row for row in mine if row.draw is None]:
            yield mode, "bank", banks
        for shots in sorted({row.shots for row in mine if row.draw is not None}):
            yield (
                mode,
                str(shots),
                [row for row in mine if row.shots == shots and row.draw is not None],
            )


def _figures(rows: Sequence[Planned], priced: bool) -> list[str]:
    about = "≈" if any(row.estimated for row in rows) else ""
    requests = sum(row.requests for row in rows)
    prompts, longest = (
        _sum(rows, "prompt_tokens"),
        max((row.longest or 0 for row in rows), default=0),
    )
    cells = [f"{requests:,}", f"{about}{longest:,}" if longest else "-", _count(prompts, about)]
    if priced:
        cached = _sum(rows, "cached_tokens") or 0
        cells.append(f"{cached / prompts:.0%}" if prompts else "-")
    cells.append(_fits(rows, about))
    return cells + ([_usd(_sum(rows, kind)) for kind in DOLLARS] if priced else [])


def _fits(rows: Sequence[Planned], about: str) -> str:
    told = [row for row in rows if row.fits is not None]
    bad = [row for row in told if not row.fits]
    if not bad:
        return f"{about}yes" if told else "-"
    if len({row.shots for row in rows}) > 1:
        return "no"
    used = min(row.shots_used if row.shots_used is not None else -1 for row in bad)
    return f"{about}{used:,} shots" if 0 <= used < bad[0].shots else f"{about}no"


def _sum(rows: Sequence[Planned], name: str) -> Any:
    known = [value for row in rows if (value := getattr(row, name)) is not None]
    return sum(known) if known else None


def _count(n: int | None, about: str) -> str:
    if n is None:
        return "-"
    short = f"{n:,}" if n < 10_000 else f"{n / 1e3:,.0f}k" if n < 10_000_000 else f"{n / 1e6:,.1f}M"
    return about + short


def _usd(usd: float | None) -> str:
    return "-" if usd is None else dollars(usd)


def plan_notes(plan: Plan) -> Iterator[str]:
    """Yield what a reader of the tables must know, and the sums."""
    asked = [row for row in plan.rows if row.requests]
    yield from plan.notes
    if not asked:
        spent = f"; ${_usd(plan.spent_usd)} spent" if plan.spent_usd else ""
        yield f"nothing is left to ask{spent}"
        return
    for how in dict.fromkeys(row.counted for row in asked if row.counted):
        n = sum(row.counted == how for row in asked)
        yield f"tokens of {n:,} of {len(asked):,} cells: {how}"
    yield from _window_notes(plan.rows)
    for model in plan.unpriced:
        yield f"{model}: no price is known; name one with --model-arg priced_as=provider/model"
    if any(row.cached_tokens == 0 and row.shots and row.usd_plain is not None for row in asked):
        yield (
            "cached 0 %: the prefix is shorter than the provider's minimum, "
            "or one query alone uses it"
        )
    yield from _sums(plan, asked)


def _window_notes(rows: Sequence[Planned]) -> Iterator[str]:
    for model, window in dict.fromkeys(
        (row.model, row.window) for row in rows if row.window_source == "price table"
    ):
        yield (
            f"{model}: a window of {window:,} tokens, by the price table; "
            "the provider decides what fits"
        )


def _sums(plan: Plan, asked: Sequence[Planned]) -> Iterator[str]:
    parts = [f"{len(asked):,} cells", f"{sum(row.requests for row in asked):,} requests"]
    prompts, seconds = _sum(asked, "prompt_tokens"), _sum(asked, "seconds")
    if prompts is not None:
        parts.append(
            f"{'≈' if any(row.estimated for row in asked) else ''}{prompts:,} prompt tokens"
        )
    if seconds is not None:
        parts.append(f"{_duration(seconds)} at the rates given (a batch may take a day)")
    yield " · ".join(parts)
    if plan.usd("usd_cached") is not None:
        cached, plain, batch, output = (plan.usd(kind) or 0.0 for kind in DOLLARS)
        yield (
            f"prompts: ${_usd(cached)} with caching, ${_usd(plain)} without, "
            f"${_usd(batch)} in batch"
        )
        room = max(row.completion_tokens // row.requests for row in asked)
        yield (
            f"answers: at most ${_usd(output)}, half of it in batch, if each filled its room of "
            f"{room:,} tokens"
        )
    if plan.spent_usd:
        yield f"${_usd(plan.spent_usd)} spent so far"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{minutes} min"
        if minutes < 100
        else f"{seconds / 3600:.1f} h"
    )
