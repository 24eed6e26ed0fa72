"""What `icl power` prints of a comparison, and the line of a run or a plan that sees too little."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from icl_harness.cli.plan_tables import duration
from icl_harness.cli.power_costs import Cost, Costs
from icl_harness.cli.terminal import add_row, new_table
from icl_harness.plan.estimate import dollars
from icl_harness.report.power import DRAWS, QUERIES, Comparison, axis, least_draws

if TYPE_CHECKING:
    from rich.table import Table

NO_LIMIT = "no limit"


def seen_table(one: Comparison, draws: Sequence[int], queries: Sequence[int]) -> Table:
    """Return the smallest difference that is seen, by draws (rows) and queries (columns)."""
    columns = [*axis(queries or QUERIES, one.n_queries), math.inf]
    rows = [*axis(draws or DRAWS, one.n_draws), math.inf]
    title = f"{_where(one)}smallest {_what(one)} seen, in {_unit(one)}, by draws and queries"
    heading = ["draws", *map(_number, columns)]
    table = new_table(title, heading=heading, right=range(len(heading)))
    middle = one.some()[:1]
    for n_draws in rows:
        found = [one.seen(n_draws, n_queries, middle)[0] for n_queries in columns]
        add_row(table, _number(n_draws), *map(points, found))
    return table


def about_run(
    one: Comparison, difference: float, draws: Sequence[int], queries: Sequence[int]
) -> Iterator[str]:
    """Yield what the table is of, what the run itself and one planned grid see, and where more of
    draws or queries alone cannot help.
    """
    middle, _ = one.some()
    n_tests, n_pairs = one.family.n_tests[middle], len(one.members())
    which = f", the middle one of {n_pairs:,}: {one.names[middle]}" if one.names[middle] else ""
    yield f"80 % power, p (Holm) < .05 in a family of {n_tests:,}{which}"
    grids = {"this run": (one.n_draws, one.n_queries)} if one.n_draws else {}
    if len(draws) == 1 and len(queries) == 1:
        grids["planned"] = (draws[0], queries[0])
    for name, grid in grids.items():
        yield f"{name}, {grid_text(*grid)}: {_seen(one, *grid)}"
    for grid in list(grids.values())[-1:]:
        yield from _limits(one, difference, *grid)


def _seen(one: Comparison, n_draws: int, n_queries: int) -> str:
    """Return what a grid sees of the pair in the middle and of the hardest."""
    middle, hardest = one.seen(n_draws, n_queries, one.some())
    (alone,) = one.seen(n_draws, n_queries, one.some()[:1], alone=True)
    found = f"{points(middle)} {_unit(one)} ({points(alone)} without Holm)"
    name = one.names[one.some()[1]]
    return f"{found}; {points(hardest)} for {name}, the hardest" if name else found


def _limits(one: Comparison, difference: float, n_draws: int, n_queries: int) -> Iterator[str]:
    """Yield that more queries, or more draws, cannot show a difference alone."""
    middle = one.some()[:1]
    wanted = f"{difference:g} {_unit(one)}"
    (at_best,) = one.seen(n_draws, math.inf, middle)
    if at_best > difference:
        draws = least_draws(one, difference, middle)
        remedy = f"; it takes {draws:,} or more" if math.isfinite(draws) else ""
        yield (
            f"more queries cannot show {wanted}: with {n_draws:,} draws they show "
            f"{points(at_best)} at best, as draws differ{remedy}"
        )
    (at_best,) = one.seen(math.inf, n_queries, middle)
    if at_best > difference:
        yield (
            f"more draws cannot show {wanted}: of {n_queries:,} queries they show "
            f"{points(at_best)} at best; ask more queries"
        )


def needed_table(one: Comparison, difference: float, draws: Sequence[int], costs: Costs) -> Table:
    """Return by draws how many queries show a difference, and what such a grid costs."""
    from icl_harness.analysis.power import queries_needed

    known = [
        (n_draws, queries_needed(one.family, n_draws, difference * one.unit, one.some()[:1]))
        for n_draws in axis(draws or DRAWS, one.n_draws)
    ]
    found = [(n_draws, _rounded(n)) for n_draws, n in known]
    of = [costs.of(n_draws, int(n)) if math.isfinite(n) else None for n_draws, n in found]
    heading = ["draws", "queries", *(_cost_names(of))]
    title = f"{_where(one)}to see {difference:g} {_unit(one)}"
    table = new_table(title, heading=heading, right=range(len(heading)))
    for (n_draws, n), cost in zip(found, of, strict=True):
        numbers = _cost(cost) if cost is not None else {}
        queries = _number(n) if math.isfinite(n) else "no number is enough"
        row = [numbers.get(name, "") for name in heading[2:]]
        add_row(table, _number(n_draws), queries, *row)
    return table


def _cost_names(costs: Sequence[Cost | None]) -> list[str]:
    """Return the columns of what is known of any cost."""
    names: dict[str, None] = {}
    for cost in costs:
        names |= dict.fromkeys(_cost(cost) if cost is not None else {})
    return list(names)


def _cost(cost: Cost) -> dict[str, str]:
    """Return what is known of a cost as the columns of a table."""
    found = {}
    for name, value in (("requests", cost.requests), ("prompt tokens", cost.prompt_tokens)):
        if value is not None:
            found[name] = f"{value:,.0f}"
    for name, usd in (("$ at most", cost.usd), ("$ in batch", cost.usd_batch)):
        if usd is not None:
            found[name] = dollars(usd)
    if cost.seconds is not None:
        found["time"] = duration(cost.seconds)
    return found


def _where(one: Comparison) -> str:
    names = [name for name in (one.task, one.model) if name]
    return f"{' · '.join([*names, one.metric])}: " if names else ""


def _what(one: Comparison) -> str:
    return "difference between shot counts" if one.by == "shots" else f"difference by {one.by}"


def _unit(one: Comparison) -> str:
    return "points" if one.family.is_bounded else f"units of {one.metric}"


def grid_text(n_draws: int, n_queries: int) -> str:
    """Return the size of a grid in words."""
    return f"{n_draws:,} draws x {n_queries:,} queries"


def _number(n: float) -> str:
    return f"{n:,.0f}" if math.isfinite(n) else NO_LIMIT


def points(found: float) -> str:
    """Return a difference as a table shows it."""
    if not math.isfinite(found):
        return "none"
    return f"{found:.0f}" if found >= 20 else f"{found:.1f}"


def _rounded(n: float) -> float:
    """Return a number rounded up to two digits: it is no more exact than that."""
    if not math.isfinite(n) or n < 100:
        return n
    step = float(10 ** (len(str(int(n))) - 2))
    return math.ceil(n / step) * step
