"""The points of curves together: how their errors go together.

In: records. Out: a `Joint` for each task and metric: what questions about whole curves are
answered from (questions/). Prompts of a draw are nested, and all points share queries, so a
difference of two points has not the variance of two independent ones. The variances are those that
the points' intervals stand on; the correlations are estimated by source: those of queries and of
residuals from what each adds to each point, those of draws as draw_correlation.py says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from icl_harness.analysis.crossed import Codes, Effects, Floats, effects_of
from icl_harness.analysis.curves import FAMILY, POINT, with_metrics
from icl_harness.analysis.draw_correlation import (
    SHAPE_DF,
    Draws,
    draw_covariance,
    nearest_correlations,
)
from icl_harness.analysis.estimates import Estimate, Range, covers
from icl_harness.analysis.influence import (
    by_metric,
    estimate_and_values,
    is_binary,
    positions,
    statistics_of,
)
from icl_harness.analysis.mixtures import inverse_chi2, margin, tail
from icl_harness.analysis.samples import joined_samples, nothing_known
from icl_harness.analysis.stats import Interval, intervals
from icl_harness.analysis.totals import scores_of
from icl_harness.analysis.units import is_repeat, shots_of, units_of
from icl_harness.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.tasks.metrics import Metric

LEVEL = 0.95
N_NODES = 24


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A weighted sum of points with its 95 % interval and two-sided p-value (of no difference from
    0).
    """

    value: float
    se: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Points of curves on one task under one metric, and how their errors go together.

    `points` has a row for each: the columns of curves.POINT, and value, ci_low, ci_high,
    shots_used, n_draws, n_queries, ci_covers. The diagonal of `covariance` is the squared standard
    error that the point's interval stands on; `of_draws` is the part of it that draws and residuals
    add, which has `df` degrees of freedom, the rest having `df_units`. Where draws add nothing,
    `df` is `df_units`. `limits` are those of the metric.
    """

    points: pd.DataFrame
    covariance: Floats  # (points, points)
    of_draws: Floats  # (points, points)
    df: Floats  # (points,)
    df_units: Floats  # (points,)
    limits: Range

    def at(self, rows: ArrayLike) -> Joint:
        """Return some of the points, by their places or as flags."""
        chosen = np.arange(len(self.points))[np.asarray(rows)]
        block = np.ix_(chosen, chosen)
        return replace(
            self,
            points=self.points.iloc[chosen].reset_index(drop=True),
            covariance=self.covariance[block],
            of_draws=self.of_draws[block],
            df=self.df[chosen],
            df_units=self.df_units[chosen],
        )

    @property
    def values(self) -> Floats:
        """Return the values of the points."""
        return self.points["value"].to_numpy(dtype=float)

    @property
    def one_draw(self) -> bool:
        """Return whether there are points of one draw with shots: what other draws would give is
        left out of their intervals.
        """
        left_out = (self.points["ci_covers"] == "queries") & (self.points["shots_used"] > 0)
        return bool(left_out.any())

    def contrast(self, weights: ArrayLike, null: float = 0.0) -> Contrast:
        """Return the sum of the points times their weights. Its error is a normal mixed over what
        the variances may be, as that of a point; `p_value` is of the sum being `null`.
        """
        w = np.asarray(weights, dtype=float)
        value = float(w @ self.values)
        of_draws = max(float(w @ self.of_draws @ w), 0.0)
        others = max(float(w @ self.covariance @ w) - of_draws, 0.0)
        if of_draws + others <= 0:
            p_value = 1.0 if value == null else 0.0
            return Contrast(value=value, se=0.0, low=value, high=value, p_value=p_value)
        variances, joint = _mixture(of_draws, others, *self._least_df(w != 0))
        half = float(margin(variances, joint, LEVEL)[0])
        p_value = float(tail(np.array([value - null]), variances, joint)[0])
        se = float(np.sqrt(of_draws + others))
        return Contrast(value=value, se=se, low=value - half, high=value + half, p_value=p_value)

    def _least_df(self, rows: Any) -> tuple[float, float]:
        """Return the degrees of freedom of what draws add to some points, and of the rest. Of
        several points, the correlations are estimated too.
        """
        drawn = rows & (np.diag(self.of_draws) > 0)
        least = float(self.df[drawn].min(initial=np.inf))
        if drawn.sum() > 1:
            n_draws = self.points["n_draws"].to_numpy(dtype=float)[drawn]
            least = min(least, SHAPE_DF + float(n_draws.min()) - 1)
        return least, float(self.df_units[rows].min())

    def errors(self, n: int, rng: np.random.Generator) -> Floats:
        """Return `n` rows of errors that the points may have, on both sides alike."""
        scale = _scales(self, n, rng)
        found = rng.standard_normal((n, len(self.df))) @ _root(self.of_draws).T * scale[0]
        others = _root(self.covariance - self.of_draws)
        found += rng.standard_normal(found.shape) @ others.T * scale[1]
        return np.asarray(found, dtype=float)

    def sampled(self, n: int, rng: np.random.Generator) -> Floats:
        """Return `n` rows of values as they may be: each point is within its interval in 95 % of
        them, and all within the limits.
        """
        margins = self._margins()
        relative = self.errors(n, rng) / np.where(margins > 0, margins, 1.0)
        low, high = (self.points[name].to_numpy(dtype=float) for name in ("ci_low", "ci_high"))
        up, down = np.nan_to_num(high - self.values), np.nan_to_num(self.values - low)
        found = self.values + np.where(relative > 0, up, down) * relative
        return np.clip(found, *self.limits)

    def _margins(self) -> Floats:
        """Return the error of each point that is exceeded in 5 of 100 cases."""
        found = []
        for place in range(len(self.df)):
            one = np.arange(len(self.df)) == place
            drawn, every = self.of_draws[place, place], self.covariance[place, place]
            if every <= 0:
                found.append(0.0)
                continue
            mixed = _mixture(drawn, max(every - drawn, 0.0), *self._least_df(one))
            found.append(float(margin(*mixed, LEVEL)[0]))
        return np.array(found)


def _mixture(
    of_draws: float, others: float, df_draws: float, df_others: float
) -> tuple[Floats, Floats]:
    """Return the variances that an error may have, with weights."""
    df = np.array([0.0 if of_draws <= 0 else min(df_draws, 1e6)])
    drawn, of_draw = inverse_chi2(df, N_NODES)
    rest, of_rest = inverse_chi2(np.array([df_others if others > 0 else 0.0]), N_NODES)
    both = (of_draws * drawn)[:, :, None] + (others * rest)[:, None, :]
    return both.reshape(1, -1), np.outer(of_draw, of_rest).ravel()


def _scales(joint: Joint, n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return by how much the errors of draws, and others, may be larger than they are taken to be:
    rows of samples. The points of a model are so together, as their variance is one estimate.
    """
    from scipy.special import gammaincinv

    _, model = np.unique(joint.points["model"].astype(str), return_inverse=True)
    of_model = rng.random((n, int(model.max()) + 1))[:, model]
    drawn = np.sqrt(joint.df / (2 * gammaincinv(joint.df / 2, of_model)))
    df = joint.df_units
    return drawn, np.sqrt(df / (2 * gammaincinv(df / 2, rng.random((n, 1)))))


def _root(covariance: Floats) -> Floats:
    """Return a matrix whose product with its transpose is `covariance`."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), dtype=float)


@dataclass(frozen=True, kw_only=True)
class _Point:
    """A point of a curve: what its row says, and what draws, queries and cells add to it."""

    row: dict[str, Any]
    estimate: Estimate
    effects: Effects


def joints(records: pd.DataFrame, metrics: Mapping[str, Metric] | None = None) -> list[Joint]:
    """Return the points of each task under its metric. Those without an answer, or with answers to
    one query in one draw alone, of which nothing is known, are left out.

    `metrics` are those of the tasks; else each is the one that the records name. Raises `SpecError`
    where no answer has what a metric is of.
    """
    if records.empty:
        return []
    table = with_metrics(records, metrics or {})
    scored = table.assign(score=scores_of(table))
    ok = scored[(scored["status"] == "ok") & scored["score"].notna()].reset_index(drop=True)
    groups = table.groupby(POINT, sort=False, dropna=False, observed=True)
    counts = groups[["draw", "query_id"]].nunique().set_axis(["n_draws", "n_queries"], axis=1)
    found = []
    lacking: dict[str, Metric] = {}
    for metric, every in by_metric(ok, metrics or {}):
        answers = joined_samples(every, metric)
        answers = answers[answers["score"].notna()].reset_index(drop=True)
        if answers.empty:
            lacking[str(every["task"].iloc[0])] = metric
            continue
        points = list(_points(metric, answers))
        if points:
            found.append(_joint(points, counts))
    if lacking and not found:
        raise SpecError(nothing_known(lacking))
    return found


def _points(metric: Metric, answers: pd.DataFrame) -> Iterator[_Point]:
    import pandas as pd

    statistics = statistics_of(answers, metric)
    binary = is_binary(answers)
    repeats = is_repeat(answers)
    query = pd.factorize(answers["query_id"], sort=True)[0].astype(np.intp)
    for point, rows in positions(answers, POINT):
        kept = rows[~repeats[rows]]
        at = answers.iloc[kept]
        draws, units = at["draw"].to_numpy(), _named(units_of(at), query[kept])
        estimate, values = estimate_and_values(
            metric, statistics.rows(kept), draws, units, binary=binary, shots=shots_of(at)
        )
        if estimate.spread.n_units < 2:
            continue
        row = dict(zip(POINT, point, strict=True))
        row["shots_used"] = estimate.shots[0]
        row["ci_covers"] = covers(estimate)
        yield _Point(row=row, estimate=estimate, effects=effects_of(values, draws, units))


def _named(units: Codes, query: Codes) -> Codes:
    """Return units by their first query, so that those of two points can be told to be one."""
    first = np.full(int(units.max()) + 1, np.iinfo(np.intp).max, dtype=np.intp)
    np.minimum.at(first, units, query)
    return first[units]


def _joint(points: Sequence[_Point], counts: pd.DataFrame) -> Joint:
    import pandas as pd

    table = pd.DataFrame([one.row for one in points]).sort_values(POINT, kind="stable")
    table = table.join(counts, on=POINT)
    points = [points[i] for i in table.index]
    found = _intervals(table, [one.estimate for one in points])
    table = table.assign(
        value=[one.value for one in found],
        ci_low=[one.low for one in found],
        ci_high=[one.high for one in found],
    )
    drawn, queries, noise = np.array([one.variances for one in found]).T
    of_noise = np.outer(np.sqrt(noise), np.sqrt(noise)) * _noise_correlation(points)
    of_draws = draw_covariance(_draws(points, table, drawn, of_noise))
    of_queries = np.outer(np.sqrt(queries), np.sqrt(queries)) * _query_correlation(points, queries)
    return Joint(
        points=table.reset_index(drop=True),
        covariance=of_draws + of_queries,
        of_draws=of_draws,
        df=np.array([one.df for one in found]),
        df_units=np.array([float(one.estimate.spread.n_units - 1) for one in points]),
        limits=points[0].estimate.limits,
    )


def _intervals(table: pd.DataFrame, estimates: Sequence[Estimate]) -> list[Interval]:
    """Return the intervals of the points: those of a model tell together how much draws vary."""
    found: dict[int, Interval] = {}
    rows = table.reset_index(drop=True)
    for places in rows.groupby(FAMILY, sort=False, dropna=False).indices.values():
        family = intervals([estimates[i] for i in places], LEVEL)
        found.update(zip(map(int, places), family, strict=True))
    return [found[i] for i in range(len(rows))]


def _draws(points: Sequence[_Point], table: pd.DataFrame, between: Floats, noise: Floats) -> Draws:
    import pandas as pd

    curve = [name for name in POINT if name != "shots"]
    weights = [np.bincount(one.effects.draw, one.effects.weight) for one in points]
    names = [one.effects.draws for one in points]
    return Draws(
        by_draw=_rows(names, [one.effects.by_draw for one in points]),
        weight=_rows(names, weights),
        between=between,
        noise=noise,
        df=np.array([float(one.estimate.spread.df_draw) for one in points]),
        curve=pd.factorize(pd.MultiIndex.from_frame(table[curve]))[0].astype(np.intp),
        doublings=np.log2(1 + table["shots_used"].to_numpy(dtype=float)),
    )


def _noise_correlation(points: Sequence[_Point]) -> Floats:
    """Return how the residuals of two points go together."""
    cells = _products_of_cells(points)
    return _scaled(cells, np.diag(cells))


def _query_correlation(points: Sequence[_Point], moderated: Floats) -> Floats:
    """Return how the errors that queries make go together, less what residuals add to them."""
    units = [_units(one) for one in points]
    rows = _rows([names for names, _ in units], [sums for _, sums in units])
    excess = rows @ rows.T - _products_of_cells(points)
    return _scaled(excess, np.maximum(np.diag(excess), moderated))


def _scaled(covariance: Floats, variance: Floats) -> Floats:
    """Return covariances as correlations, those of points without variance 0."""
    size = np.sqrt(np.outer(variance, variance))
    found = np.clip(covariance / np.where(size > 0, size, np.inf), -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return nearest_correlations(found)


def _units(one: _Point) -> tuple[Codes, Floats]:
    """Return the names of a point's units with what each adds: with one query, draws are all there
    is.
    """
    if one.estimate.spread.df_query:
        return one.effects.queries, one.effects.by_query
    return -1 - one.effects.draws.astype(np.intp), one.effects.by_draw


def _products_of_cells(points: Sequence[_Point]) -> Floats:
    """Return sums of products of what the cells of two points add; on the diagonal what residuals
    add to a point's variance.
    """
    most = 1 + max(int(one.effects.queries.max()) for one in points)
    names = [
        one.effects.draws[one.effects.draw].astype(np.intp) * most
        + one.effects.queries[one.effects.query]
        for one in points
    ]
    rows = _rows(names, [one.effects.by_cell for one in points])
    found: Floats = rows @ rows.T
    return found


def _rows(names: Sequence[Any], values: Sequence[NDArray[Any]]) -> Floats:
    """Return values with names as a table: a row each, a column a name; 0 where there is none."""
    every = np.unique(np.concatenate(names))
    table = np.zeros((len(names), len(every)))
    for row, of, value in zip(table, names, values, strict=True):
        row[np.searchsorted(every, of)] = value
    return table
