"""What makes answers differ: which shots were drawn, their order, the query, or the sample?

In: records. Out: an answer for each curve: the share that each source has in the variance of one
answer's score, with 95 % limits, at each shot count and over all of them together. Curves that
differ in the order of their shots alone are one, of which the SD of the value between orders is
told too: at each shot count, less what queries alone make it differ by. The rest is what a query
has with some shots and not with others; of one draw orders alone are told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_harness.analysis.crossed import Codes, Floats
from icl_harness.analysis.curves import POINT, with_metrics
from icl_harness.analysis.estimates import Estimate
from icl_harness.analysis.influence import (
    Statistics,
    by_metric,
    estimate_and_values,
    is_binary,
    positions,
    statistics_of,
)
from icl_harness.analysis.questions.answers import Answer
from icl_harness.analysis.questions.pairs import USUAL
from icl_harness.analysis.samples import joined_samples
from icl_harness.analysis.totals import scores_of
from icl_harness.analysis.units import is_repeat, shots_of, units_of
from icl_harness.analysis.variances import (
    LIMITS,
    SOURCES,
    Squares,
    components_of,
    moderated,
    order_sd,
    simulated_components,
    squares_of,
)
from icl_harness.prompts.variants import DEFAULT

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.tasks.metrics import Metric

NAME = "variance"
ORDER = "order="
OrderSd = tuple[float, float, float]  # and its 95 % limits
CALLED = {
    "draws": "which shots were drawn",
    "orders": "the order of the shots",
    "queries": "the query",
    "samples": "the sample at this temperature",
    "rest": "the rest (a query that goes well with some shots and not with others)",
}
NESTED = "the query (and all else, as each query is asked in one draw alone)"


@dataclass(frozen=True, kw_only=True)
class _Point:
    """The answers to a curve's prompts of one shot count."""

    shots: int
    estimate: Estimate
    squares: Squares


def variance(
    records: pd.DataFrame, metrics: Mapping[str, Metric] | None = None
) -> Iterator[Answer]:
    """Yield the shares of the variance of each curve. `metrics` are those of the tasks; else each
    is the one that the records name.
    """
    import pandas as pd

    if records.empty:
        return
    table = with_metrics(records, metrics or {})
    scored = table.assign(score=scores_of(table))
    ok = scored[(scored["status"] == "ok") & scored["score"].notna()].reset_index(drop=True)
    for metric, every in by_metric(ok, metrics or {}):
        answers = joined_samples(every, metric)
        of_shots = answers["score"].notna() & (answers["shots"] > 0)
        if of_shots.any():
            yield from _of_task(metric, answers[of_shots].reset_index(drop=True))
        else:
            task = str(every["task"].iloc[0])
            why = f"{task}: no prompt holds shots, so draws make no difference."
            yield Answer(question=NAME, about=task, sentence=why, table=pd.DataFrame())


def _of_task(metric: Metric, answers: pd.DataFrame) -> Iterator[Answer]:
    order, of_variant = _orders(answers["variant"])
    answers = answers.assign(variant=of_variant)
    repeats = is_repeat(answers.assign(variant=order))
    statistics = statistics_of(answers, metric)
    binary = is_binary(answers)
    curve = [name for name in POINT if name != "shots"]
    for named, rows in positions(answers, curve):
        points, orders = [], {}
        for (shots,), places in positions(answers.iloc[rows], ["shots"]):
            kept = rows[places]
            kept = kept[~repeats[kept]]
            point, between = _point(metric, answers, statistics, order, kept, binary=binary)
            if point is not None:
                points.append(_Point(shots=int(shots), estimate=point[0], squares=point[1]))
            if between is not None:
                orders[_shots(int(shots))] = between
        yield _answer(dict(zip(curve, named, strict=True)), points, orders)


def _shots(n: int) -> str:
    return f"{n} shot{'' if n == 1 else 's'}"


def _orders(variants: pd.Series[Any]) -> tuple[Codes, list[str]]:
    """Return the number of the order that each variant puts shots into, and the variant without
    it: `flipped+order=2` is order 2 of `flipped`.
    """
    found = {}
    for name in variants.unique():
        parts = str(name).split("+")
        orders = [part.removeprefix(ORDER) for part in parts if part.startswith(ORDER)]
        others = [part for part in parts if not part.startswith(ORDER)]
        found[name] = (int(orders[0]) if orders else 0, "+".join(others) or DEFAULT)
    order = np.array([found[name][0] for name in variants], dtype=np.intp)
    return order, [found[name][1] for name in variants]


def _point(
    metric: Metric,
    answers: pd.DataFrame,
    statistics: Statistics,
    order: Codes,
    rows: Codes,
    *,
    binary: bool,
) -> tuple[tuple[Estimate, Squares] | None, OrderSd | None]:
    """Return what is known of a point, None where one draw or one query is all there is; and by
    what SD orders differ, None where there is one.
    """
    at = answers.iloc[rows]
    draws, units = at["draw"].to_numpy(), units_of(at)
    estimate, values = estimate_and_values(
        metric, statistics.rows(rows), draws, units, binary=binary, shots=shots_of(at)
    )
    if not np.isfinite(values).all():
        return None, None
    between = order_sd(values, draws, order[rows], units)
    if not (estimate.spread.df_draw > 0 and estimate.spread.df_query > 0):
        return None, between
    return (estimate, squares_of(values, draws, order[rows], units)), between


def _answer(
    named: Mapping[str, Any], points: Sequence[_Point], orders: Mapping[str, OrderSd]
) -> Answer:
    import pandas as pd

    parts = [str(value) for name, value in named.items() if _is_shown(name, value)]
    about = " · ".join(parts)
    if not points:
        why = (
            "one draw or one query was asked: what draws and queries add cannot be told apart. "
            "Run with --draws 3 or more."
        )
        table = pd.DataFrame([{"where": where} | _sds(sds) for where, sds in orders.items()])
        why += _between_orders(orders, str(named["metric"]))
        return Answer(question=NAME, about=about, sentence=f"{about}: {why}", table=table)
    squares = moderated([(one.estimate, one.squares) for one in points])
    found, simulated = components_of(squares), simulated_components(squares)
    if not found.sum() > 0:
        same = "all answers score the same: there is no variance to share."
        return Answer(question=NAME, about=about, sentence=f"{about}: {same}", table=pd.DataFrame())
    sources = _sources(squares)
    rows = []
    for i, name in enumerate(_shots(one.shots) for one in points):
        row = _row(name, found[:, i], simulated[:, i], sources)
        rows.append(row | _sds(orders[name]) if name in orders else row)
    rows.append(_row("all", found.mean(axis=1), simulated.mean(axis=1), sources))
    sentence = _sentence(rows[-1], sources, nested=squares[0].spread.nested)
    sentence += _between_orders(orders, str(named["metric"]))
    return Answer(
        question=NAME, about=about, sentence=f"{about}: {sentence}", table=pd.DataFrame(rows)
    )


def _sds(sds: OrderSd) -> dict[str, float]:
    return dict(zip(("orders_sd", "orders_sd_low", "orders_sd_high"), sds, strict=True))


def _between_orders(orders: Mapping[str, OrderSd], metric: str) -> str:
    """Return by how much a metric differs between orders of the same shots, by shot count."""
    if not orders:
        return ""
    *texts, last = [f"{sds[0]:.3f} at {where}".lstrip("0") for where, sds in orders.items()]
    listed = f"{', '.join(texts)} and {last}" if texts else last
    orders_of = "Between orders of the same shots, less the noise of queries"
    return f" {orders_of}, {metric} has an SD of {listed}."


def _is_shown(name: str, value: object) -> bool:
    return name != "metric" and USUAL.get(name) != value


def _sources(squares: Sequence[Squares]) -> list[str]:
    """Return the sources that these points can tell of."""
    known = {
        "draws": True,
        "orders": any(one.df_order for one in squares),
        "queries": True,
        "samples": any(one.df_sample for one in squares),
        "rest": not all(one.spread.nested for one in squares),
    }
    return [source for source in SOURCES if known[source]]


def _row(where: str, found: Floats, simulated: Floats, sources: Sequence[str]) -> dict[str, Any]:
    """Return the variance of a score and the shares of it: at one shot count, or over all."""
    row: dict[str, Any] = {"where": where, "variance": float(found.sum())}
    total = np.maximum(simulated.sum(axis=0), 1e-300)
    for i, source in enumerate(SOURCES):
        if source not in sources:
            continue
        share = found[i] / found.sum() if found.sum() > 0 else np.nan
        low, high = np.quantile(simulated[i] / total, LIMITS)
        is_known = found.sum() > 0
        row[source] = float(share)
        row[f"{source}_low"] = min(float(low), float(share)) if is_known else np.nan
        row[f"{source}_high"] = max(float(high), float(share)) if is_known else np.nan
    return row


def _sentence(row: Mapping[str, Any], sources: Sequence[str], *, nested: bool) -> str:
    """Return what is said of a curve: the shares of all its shot counts together."""
    called = {**CALLED, "queries": NESTED} if nested else CALLED
    texts = []
    for source in sources:
        share, low, high = (100 * row[f"{source}{end}"] for end in ("", "_low", "_high"))
        texts.append(f"{share:.0f} % [{low:.0f}, {high:.0f}] is {called[source]}")
    listed = f"{', '.join(texts[:-1])} and {texts[-1]}"
    return f"of the variance of one answer's score over all shot counts, {listed}."
