"""What a plan says on a terminal and in a CSV file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from icl_harness.cli.terminal import add_row, new_table
from icl_harness.counts import n_of
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
    for _, group in groupby(plan.rows, lambda row: (row.task, row.variant, row.model)):
        rows = list(group)
        priced = any(row.usd_plain is not None for row in rows)
        heading = _heading(priced)
        table = new_table(_title(rows), heading=heading, right=range(1, len(heading)))
        last = None
        for mode, shots, some in _by_shots(rows):
            add_row(table, "" if mode == last else mode, shots, *_figures(some, priced))
            last = mode
        if len({(row.mode, row.shots, row.draw is None) for row in rows}) > 1:
            add_row(table, "all", "", *_figures(rows, priced), style="bold")
        yield table


def _title(rows: Sequence[Planned]) -> str:
    first = rows[0]
    title = first.task
    if first.variant != "default":
        title += f", {first.variant}"
    title += f" · {first.model}"
    n_draws = len({row.draw for row in rows} - {None})
    if n_draws > 1:
        title += f", {n_draws} draws summed"
    return title


def _heading(priced: bool) -> list[str]:
    names = ["mode", "shots", "requests", "longest", "tokens"]
    return [*names, "cached", "fits", *DOLLARS.values()] if priced else [*names, "fits"]


def _by_shots(rows: Sequence[Planned]) -> Iterator[tuple[str, str, list[Planned]]]:
    """Yield mode, shots and rows, banks first within their mode."""
    for mode in dict.fromkeys(row.mode for row in rows):
        of_mode = [row for row in rows if row.mode == mode]
        banks = [row for row in of_mode if row.draw is None]
        if banks:
            yield mode, "bank", banks
        cells = [row for row in of_mode if row.draw is not None]
        for shots in sorted({row.shots for row in cells}):
            yield mode, str(shots), [row for row in cells if row.shots == shots]


def _figures(rows: Sequence[Planned], priced: bool) -> list[str]:
    about = _about(rows)
    requests = sum(row.requests for row in rows)
    prompts = _sum(rows, "prompt_tokens")
    longest = max((row.longest or 0 for row in rows), default=0)
    cells = [f"{requests:,}", f"{about}{longest:,}" if longest else "-", count_text(prompts, about)]
    if priced:
        cached = _sum(rows, "cached_tokens") or 0
        cells.append(f"{cached / prompts:.0%}" if prompts else "-")
    cells.append(_fits(rows, about))
    return cells + ([usd_text(_sum(rows, kind)) for kind in DOLLARS] if priced else [])


def _fits(rows: Sequence[Planned], about: str) -> str:
    known = [row for row in rows if row.fits is not None]
    too_long = [row for row in known if not row.fits]
    if not known:
        return "-"
    if not too_long:
        return f"{about}yes"
    if len({row.shots for row in rows}) > 1:
        return "no"
    used = min(-1 if row.shots_used is None else row.shots_used for row in too_long)
    return f"{about}{used:,} shots" if 0 <= used < too_long[0].shots else f"{about}no"


def _sum(rows: Sequence[Planned], name: str) -> Any:
    values = [getattr(row, name) for row in rows]
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _about(rows: Sequence[Planned]) -> str:
    return "≈" if any(row.estimated for row in rows) else ""


def count_text(n: int | None, about: str) -> str:
    """Return a number of tokens as a table shows it; `about` stands before it."""
    if n is None:
        return "-"
    if n < 10_000:
        return f"{about}{n:,}"
    if n < 10_000_000:
        return f"{about}{n / 1e3:,.0f}k"
    return f"{about}{n / 1e6:,.1f}M"


def usd_text(usd: float | None) -> str:
    """Return dollars as a table shows them."""
    return "-" if usd is None else dollars(usd)


def plan_notes(plan: Plan) -> Iterator[str]:
    """Yield what a reader of the tables must know, and the sums."""
    pending = [row for row in plan.rows if row.requests]
    yield from plan.notes
    if not pending:
        spent = f"; ${usd_text(plan.spent_usd)} spent" if plan.spent_usd else ""
        yield f"nothing is left to ask{spent}"
        return
    for how in dict.fromkeys(row.counted for row in pending if row.counted):
        n = sum(row.counted == how for row in pending)
        yield f"tokens of {n:,} of {n_of(len(pending), 'cell')}: {how}"
    yield from _window_notes(plan.rows)
    for model in plan.unpriced:
        yield f"{model}: no price is known; name one with --model-arg priced_as=provider/model"
    if any(row.cached_tokens == 0 and row.shots and row.usd_plain is not None for row in pending):
        yield (
            "cached 0 %: the prefix is shorter than the provider's minimum, "
            "or one query alone uses it"
        )
    yield from _sums(plan, pending)


def _window_notes(rows: Sequence[Planned]) -> Iterator[str]:
    of_price_table = [row for row in rows if row.window_source == "price table"]
    for model, window in dict.fromkeys((row.model, row.window) for row in of_price_table):
        yield (
            f"{model}: a window of {window:,} tokens, by the price table; "
            "the provider decides what fits"
        )


def _sums(plan: Plan, pending: Sequence[Planned]) -> Iterator[str]:
    n_requests = sum(row.requests for row in pending)
    parts = [n_of(len(pending), "cell"), n_of(n_requests, "request")]
    prompts, seconds = _sum(pending, "prompt_tokens"), _sum(pending, "seconds")
    if prompts is not None:
        parts.append(f"{_about(pending)}{prompts:,} prompt tokens")
    if seconds is not None:
        parts.append(f"{duration(seconds)} at the rates given (a batch may take a day)")
    yield " · ".join(parts)
    if plan.usd("usd_cached") is not None:
        cached, plain, batch = (plan.usd(f"usd_{way}") for way in ("cached", "plain", "batch"))
        without = f"; not counted: {', '.join(plan.unpriced)}" if plan.unpriced else ""
        yield (
            f"prompts: ${usd_text(cached)} with caching, ${usd_text(plain)} without, "
            f"${usd_text(batch)} in batch{without}"
        )
        yield _answers(plan, pending)
        yield from _usual_lengths(pending)
    if plan.spent_usd:
        yield f"${usd_text(plan.spent_usd)} spent so far"


def _answers(plan: Plan, pending: Sequence[Planned]) -> str:
    """Return what the answers cost at most, and usually, where a model reasons."""
    room = max(row.completion_tokens // row.requests for row in pending)
    most = (
        f"at most ${usd_text(plan.usd('usd_output'))}, half of it in batch, if each filled its room"
        f" of {n_of(room, 'token')}"
    )
    thinking = [row for row in pending if row.usd_usual_low is not None]
    if not thinking:
        return f"answers: {most}"
    rest = sum(row.usd_output or 0.0 for row in pending if row.usd_usual_low is None)
    low = _sum(thinking, "usd_usual_low")
    high = _sum(thinking, "usd_usual_high") + rest
    usual = (
        f"about ${usd_text(low)}"
        if low == high
        else f"usually ${usd_text(low)} to ${usd_text(high)}"
    )
    return f"answers: {usual}; {most}"


def _usual_lengths(pending: Sequence[Planned]) -> Iterator[str]:
    """Yield how long answers are taken to be, of each model and task, and who says so."""
    known = [row for row in pending if row.usual_low_tokens is not None]
    said = dict.fromkeys(
        (row.model, row.usual_low_tokens, row.usual_high_tokens, row.usual_source) for row in known
    )
    for model, low, high, source in said:
        tokens = f"{low:,.0f}–{high:,.0f} tokens"
        if low is not None and low == high:
            tokens = n_of(round(low), "token")
        yield f"{model}: {tokens} an answer, {source}"


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{seconds / 3600:.1f} h"
