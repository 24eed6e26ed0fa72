"""Paired differences: does one mode (model, shot count, format) do better than another on the same
draws and queries?

In: records. Out: one row per pair of values, cell by cell, with its interval. Pairing on draw,
query and sample takes out what both share, which is worth 4 to 30 times as many queries as
comparing two curves' bands. Left out: what has no partner (a record that failed, a query only one
side was asked).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_harness.analysis.crossed import Codes, Floats
from icl_harness.analysis.curves import FAMILY, POINT, with_metrics
from icl_harness.analysis.estimates import Estimate
from icl_harness.analysis.families import check_family, with_holm
from icl_harness.analysis.influence import (
    by_metric,
    is_binary,
    metric_difference,
    positions,
    statistics_of,
)
from icl_harness.analysis.samples import joined_samples, nothing_known
from icl_harness.analysis.stats import differences
from icl_harness.analysis.task_means import mean_differences, tasks_of
from icl_harness.analysis.totals import scores_of
from icl_harness.analysis.units import joined, originals_of, units_of
from icl_harness.errors import SpecError, nearest
from icl_harness.prompts.variants import DEFAULT, parse_variant

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.tasks.metrics import Metric

SIDES = ("mode", "model", "variant", "shots", "format", "queries_per_request")
AXES = {"prompts": "prompts=", "shots_from": "shots-from="}  # operators that are sides, too
PAIR = ["draw", "query_id", "sample"]
FOUND = ["b_minus_a", "ci_low", "ci_high", "p_value", "p_holm", "n_family", "n_pairs", "n_draws",
         "n_queries", "a_shots_used", "b_shots_used"]  # fmt: skip
Pair = tuple[dict[str, Any], Estimate]  # a row before its interval, and what that is made of


def compare(
    records: pd.DataFrame,
    by: str = "mode",
    level: float = 0.95,
    metrics: Mapping[str, Metric] | None = None,
    baseline: str | int | None = None,
    family: str = "shots",
    *,
    mean_over_tasks: bool = False,
) -> pd.DataFrame:
    """Return metric(b) - metric(a) for every two values of `by`, all else equal: a is the variant
    `default`, else the first in sorted order. With a `baseline`, that value of `by` is a, and each
    other one is b.

    Columns: by, a, b, what else names the point, b_minus_a, ci_low, ci_high (at `level`, each row
    for itself), p_value, p_holm, n_pairs, n_draws, n_queries, and the shots that each side's
    prompts held on average. `p_holm` is adjusted over `n_family` comparisons: the shot grid, which
    is all shot counts of a pair or all pairs of shot counts; with another `family` (families.py)
    over tasks, models or the whole table too. There is no p-value where one draw was made of shots
    that differ, and no interval either where both sides hold the same shots, as where a bank held
    fewer than both ask for. With `mean_over_tasks` differences are those of the mean over all tasks
    (task_means.py). `metrics` are those of the tasks; else each is the one that the records name.
    Raises `SpecError` where `by` or `family` is unknown, where `by` has one value only, or
    where a metric needs what the records lack.
    """
    import pandas as pd

    check_family(family)
    by = by.replace("-", "_")
    tasks = tasks_of(with_metrics(records, metrics or {})) if mean_over_tasks else []
    families = paired_families(records, by, metrics or {}, baseline)
    found = chain.from_iterable(_with_limits(pairs, level) for pairs in families)
    rest = [name for name in POINT if name != by]
    table = pd.DataFrame(found, columns=["by", "a", "b", *rest, *FOUND, "moderated_se"])
    if mean_over_tasks:
        table = mean_differences(table, tasks, level)
    else:
        table = table.drop(columns="moderated_se")
    table = with_holm(table, by, family)
    last = [] if by == "shots" else ["shots"]
    order = [*(name for name in rest if name != "shots"), "a", "b", *last]
    return table.sort_values(order, ignore_index=True)


def paired_families(
    records: pd.DataFrame,
    by: str,
    metrics: Mapping[str, Metric],
    baseline: str | int | None = None,
) -> list[list[Pair]]:
    """Return what a comparison is made of: for each task, model and metric its pairs, which tell
    together how much draws vary. Raises `SpecError` as `compare` does.
    """
    by = by.replace("-", "_")
    known = (*SIDES, *AXES)
    if by not in known:
        raise SpecError(
            f"cannot compare by {by!r}; choose from {', '.join(known)}.{nearest(by, known)}"
        )
    if by in AXES:
        records = _with_axis(records, by)
    values = sorted(records[by].dropna().unique())
    if len(values) < 2:
        only = f" ({values[0]})" if values else ""
        several = [side for side in SIDES if records[side].nunique() > 1]
        instead = f" Several there are by {', '.join(several)}." if several else ""
        raise SpecError(
            f"the records hold {len(values)} {by}{only}: a comparison by {by} needs 2.{instead}"
        )
    chosen = _baseline(by, values, baseline)
    return _families(with_metrics(records, metrics), metrics, by, chosen)


def _with_axis(records: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Return the records with a column of what their variants say of an operator, which the column
    `variant` leaves out then.
    """
    values, rest = {}, {}
    for name in records["variant"].unique():
        parts = str(name).split("+")
        named = [part for part in parts if part.startswith(AXES[axis])]
        values[name] = named[0].removeprefix(AXES[axis]) if named else DEFAULT
        rest[name] = "+".join(part for part in parts if part not in named) or DEFAULT
    variant = records["variant"]
    return records.assign(**{axis: variant.map(values), "variant": variant.map(rest)})


def _baseline(by: str, values: Sequence[Any], name: str | int | None) -> Any:
    """Return the value of `by` that is subtracted from the others, None where none is named."""
    if name is None:
        return None
    known = {str(value): value for value in values}
    written = str(name)
    if written not in known and by == "variant":
        written = str(parse_variant(written))
    if written in known:
        return known[written]
    raise SpecError(
        f"--baseline {name}: no {by} of these records.{nearest(str(name), known)} "
        f"There are {', '.join(known)}."
    )


def _families(
    records: pd.DataFrame, metrics: Mapping[str, Metric], by: str, baseline: Any
) -> list[list[Pair]]:
    """Return the pairs that have partners, point by point; Holm's column is filled in when all are
    known.
    """
    rest = [name for name in POINT if name != by]
    scored = records.assign(score=scores_of(records))
    ok = scored[(scored["status"] == "ok") & scored["score"].notna()].reset_index(drop=True)
    families: dict[tuple[Any, ...], list[Pair]] = {}
    lacking: dict[str, Metric] = {}
    for metric, every in by_metric(ok, metrics):
        answers = joined_samples(every, metric)
        if answers.empty:
            lacking[str(every["task"].iloc[0])] = metric
            continue
        statistics = statistics_of(answers, metric)
        binary = is_binary(answers)
        answers = answers.assign(original=originals_of(answers))
        for point, chosen in positions(answers, rest):
            named = dict(zip(rest, point, strict=True))
            family = families.setdefault(tuple(named.get(name) for name in FAMILY), [])
            sides = dict(_sides(answers.iloc[chosen], statistics.rows(chosen), by))
            for a, b in _pairs(sides, baseline):
                found = _difference(metric, sides[a], sides[b], binary=binary)
                if found is not None:
                    row, estimate = found
                    family.append(({"by": by, "a": a, "b": b, **named, **row}, estimate))
    if lacking and not families:
        raise SpecError(nothing_known(lacking))
    return list(families.values())


def _with_limits(family: list[Pair], level: float) -> Iterator[dict[str, Any]]:
    """Yield rows with their intervals: the differences tell together how much draws vary."""
    new = [one for row, one in family if not row["same_prompts"]]
    limits = iter(differences(new, level))
    for row, one in family:
        same = row.pop("same_prompts")
        found = None if same else next(limits)
        yield {
            **row,
            "b_minus_a": one.value,
            "ci_low": math.nan if found is None else found.low,
            "ci_high": math.nan if found is None else found.high,
            "p_value": math.nan if found is None else found.p_value,
            "moderated_se": math.nan if found is None else found.moderated_se,
        }


def _pairs(sides: Collection[Any], baseline: Any) -> list[tuple[Any, Any]]:
    """Return what is subtracted (a) from what (b): all pairs, or the baseline from each other."""
    if baseline is None:
        return list(combinations(sorted(sides, key=_default_first), 2))
    others = sorted(value for value in sides if value != baseline)
    return [(baseline, other) for other in others if baseline in sides]


def _default_first(value: Any) -> tuple[bool, Any]:
    """Return the sort key of a value of `by`: the variant `default` is what others differ from."""
    return value != DEFAULT, value


@dataclass(frozen=True)
class _Side:
    """The answers of one side: (draw, query, sample), with their statistics and what is known of
    their prompts.
    """

    names: pd.MultiIndex
    statistics: Floats
    shots: Floats
    units: Codes
    originals: Codes  # equal where one answer is a copy of the other
    shots_asked: float

    def at(self, names: pd.MultiIndex) -> _Side:
        """Return the answers of these names."""
        rows = self.names.get_indexer(names)
        return replace(
            self,
            names=names,
            statistics=self.statistics[rows],
            shots=self.shots[rows],
            units=self.units[rows],
            originals=self.originals[rows],
        )


def _sides(answers: pd.DataFrame, statistics: Floats, by: str) -> Iterator[tuple[Any, _Side]]:
    """Yield each value of `by` with its answers; runs that asked the same twice are averaged."""
    import pandas as pd

    used = "shots_used" if "shots_used" in answers else "shots"
    for (value,), chosen in positions(answers, [by]):
        part = answers.iloc[chosen]
        pairs = pd.MultiIndex.from_frame(part[PAIR])
        names = pairs.unique().sort_values()
        code = names.get_indexer(pairs)
        sums = np.zeros((len(names), statistics.shape[1]))
        np.add.at(sums, code, statistics[chosen])
        first = np.zeros(len(names), dtype=np.intp)
        first[code[::-1]] = np.arange(len(part))[::-1]
        shots = part[used].to_numpy(dtype=float)[first]
        units, originals = units_of(part)[first], part["original"].to_numpy()[first]
        mean = sums / np.bincount(code)[:, None]
        yield value, _Side(names, mean, shots, units, originals, float(part["shots"].iloc[0]))


def _difference(
    metric: Metric, a: _Side, b: _Side, *, binary: bool
) -> tuple[dict[str, Any], Estimate] | None:
    """Return the numbers of a row and what its interval is made of; None where no query was
    answered on both sides.
    """
    import pandas as pd

    both = a.names.intersection(b.names, sort=None)
    if both.empty:
        return None
    of_a, of_b = a.at(both), b.at(both)
    pairs = pd.MultiIndex.from_arrays([of_a.originals, of_b.originals])
    kept = both[~pairs.duplicated()]  # two answers that were paired already tell nothing
    of_a, of_b = of_a.at(kept), of_b.at(kept)
    draws, queries = (kept.get_level_values(i).factorize()[0] for i in (0, 1))
    units = joined(joined(queries, of_a.units), of_b.units)
    shots = (float(of_a.shots.mean()), float(of_b.shots.mean()))
    rows = of_a.statistics, of_b.statistics
    found = metric_difference(metric, rows, draws, units, binary=binary, shots=shots)
    counts = {
        "n_pairs": len(kept),
        "n_draws": int(draws.max()) + 1,
        "n_queries": int(queries.max()) + 1,
        "a_shots_used": shots[0],
        "b_shots_used": shots[1],
        "same_prompts": bool((of_a.shots == of_b.shots).all()) and a.shots_asked != b.shots_asked,
    }
    return counts, found
