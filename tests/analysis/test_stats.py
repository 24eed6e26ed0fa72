"""Intervals: against published numbers, against other formulas, and against simulations that know
the truth.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections import defaultdict
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness.analysis.stats import components, holm, mean_interval, paired_interval
from tests.conftest import SHARED

PER_ITEM = SHARED.parent / "shared/reference/bertsch2024_llama2_7b_80k_per_item.csv.gz"


@cache
def bertsch() -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(dataset, shots) -> correct, draw, item; sorted, so that a dataset's tables are aligned."""
    if not PER_ITEM.exists():
        pytest.skip(
            f"the published per-item results are not here: {PER_ITEM.name} (../shared/reference)"
        )
    rows = defaultdict(list)
    with gzip.open(PER_ITEM, "rt") as file:
        for row in csv.DictReader(file):
            if row["selection"] == "random":
                entry = (int(row["draw"]), int(row["item"]), int(row["correct"]))
                rows[row["dataset"], int(row["shots"])].append(entry)
    columns = {key: np.array(sorted(values)).T for key, values in rows.items()}
    return {key: (correct, draw, item) for key, (draw, item, correct) in columns.items()}


def crossed(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (draws, queries) table as records."""
    draws, queries = np.indices(table.shape)
    return table.ravel(), draws.ravel(), queries.ravel()


@pytest.mark.parametrize(
    ("dataset", "shots", "mean", "sd", "se10", "se1"),
    [
        ("banking77", 1500, 88.1, 1.62, 1.56, 2.19),
        ("nlu", 1500, 86.9, 1.05, 1.81, 2.14),
        ("banking77", 50, 45.3, 5.07, 2.38, 5.37),
    ],
)
def test_crossed_standard_errors_equal_those_of_the_facts(dataset, shots, mean, sd, se10, se1):
    values, draws, items = bertsch()[dataset, shots]
    found = mean_interval(values, draws, items, binary=True)
    assert round(100 * found.value, 1) == mean
    assert (
        round(100 * np.std([values[draws == d].mean() for d in np.unique(draws)], ddof=1), 2) == sd
    )
    assert round(100 * found.se, 2) == se10
    assert round(100 * components(values, draws, items).se(1, 250), 2) == se1
    assert components(values, draws, items).se(10, 250) == pytest.approx(found.se)


@pytest.mark.parametrize(
    ("dataset", "a", "b", "difference", "se"),
    [("banking77", 1000, 1500, 1.4, 1.15), ("nlu", 1500, 2000, 0.0, 0.46)],
)
def test_paired_differences_equal_those_of_the_facts(dataset, a, b, difference, se):
    (of_a, draws, items), (of_b, _, _) = bertsch()[dataset, a], bertsch()[dataset, b]
    found = paired_interval(of_a, of_b, draws, items, binary=True)
    assert round(100 * found.value, 1) == difference
    assert round(100 * found.se, 2) == se
    assert found.low < 0 < found.high
    assert found.p_value > 0.05


def test_pairing_beats_the_unpaired_standard_error_by_what_the_facts_say():
    (a, draws, items), (b, _, _) = bertsch()["banking77", 1000], bertsch()["banking77", 1500]
    # The unpaired 2.19 of the facts leaves the draws out: it is that of the items alone.
    items_only = [
        math.sqrt(np.var([y[items == i].mean() for i in np.unique(items)], ddof=1) / 250)
        for y in (a, b)
    ]
    assert round(100 * math.hypot(*items_only), 2) == 2.19
    assert paired_interval(a, b, draws, items, binary=True).se < 0.6 * math.hypot(*items_only)


def test_draws_matter_at_few_shots_and_items_at_many():
    few, many = (components(*bertsch()["banking77", shots]) for shots in (20, 1500))
    shares = [found.draw / (found.draw + found.query + found.residual) for found in (few, many)]
    assert shares[0] > 3 * shares[1]
    assert many.query > 0.4 * (many.draw + many.query + many.residual)


def two_way_anova(table: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of a complete table, straight from the textbook."""
    n_draws, n_queries = table.shape
    rows, columns, mean = table.mean(1), table.mean(0), table.mean()
    residual = table - rows[:, None] - columns + mean
    return (
        n_queries * np.sum((rows - mean) ** 2) / (n_draws - 1),
        n_draws * np.sum((columns - mean) ** 2) / (n_queries - 1),
        np.sum(residual**2) / ((n_draws - 1) * (n_queries - 1)),
    )


@given(st.integers(2, 6), st.integers(2, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_complete_tables_give_the_textbook_anova(n_draws, n_queries, seed):
    table = np.random.default_rng(seed).normal(size=(n_draws, n_queries))
    draw, query, rest = two_way_anova(table)
    variance = (max(draw, rest) + max(query, rest) - rest) / table.size
    assert mean_interval(*crossed(table), binary=False).se == pytest.approx(
        math.sqrt(variance), rel=1e-9
    )


def test_unbalanced_residuals_equal_those_of_a_dense_least_squares_fit():
    rng = np.random.default_rng(5)
    values, draws, queries = crossed(
        rng.normal(size=(4, 40)) + rng.normal(size=(4, 1)) + rng.normal(size=40)
    )
    kept = rng.random(values.size) > 0.3
    values, draws, queries = values[kept], draws[kept], queries[kept]
    design = np.hstack([np.eye(4)[draws], np.eye(40)[queries]])
    fit, *_ = np.linalg.lstsq(design, values, rcond=None)
    residual, df = values - design @ fit, len(values) - np.linalg.matrix_rank(design)
    assert components(values, draws, queries).residual == pytest.approx(residual @ residual / df)


def test_components_are_recovered_from_tables_with_holes():
    rng = np.random.default_rng(11)
    found = []
    for _ in range(60):
        table = (
            0.5 * rng.normal(size=(12, 1))
            + 2.0 * rng.normal(size=80)
            + 1.0 * rng.normal(size=(12, 80))
        )
        values, draws, queries = crossed(table)
        kept = rng.random(values.size) > 0.2
        one = components(values[kept], draws[kept], queries[kept])
        found.append((one.draw, one.query, one.residual))
    errors = np.abs(np.mean(found, axis=0) - [0.25, 4.0, 1.0])
    assert (
        errors < [0.05, 0.25, 0.02]
    ).all()  # standard errors of 60 tables: about .014, .08, .006


def test_the_standard_error_agrees_with_a_two_way_bootstrap():
    rng = np.random.default_rng(3)
    table = 0.3 * rng.normal(size=(20, 1)) + rng.normal(size=150) + rng.normal(size=(20, 150))
    means = [
        table[np.ix_(rng.integers(0, 20, 20), rng.integers(0, 150, 150))].mean()
        for _ in range(2000)
    ]
    # The pigeonhole bootstrap counts the residual three times (Owen 2007): two of them are taken
    # off again.
    _, _, rest = two_way_anova(table)
    expected = math.sqrt(np.var(means) - 2 * rest / table.size)
    assert mean_interval(*crossed(table), binary=False).se == pytest.approx(expected, rel=0.08)


def test_several_samples_of_a_query_count_as_their_average():
    rng = np.random.default_rng(0)
    values, draws, queries = crossed(rng.random(size=(3, 20)))
    noise = rng.normal(size=values.size)
    twice = np.concatenate([values + noise, values - noise])
    once = mean_interval(values, draws, queries, binary=False)
    assert mean_interval(
        twice, np.tile(draws, 2), np.tile(queries, 2), binary=False
    ).se == pytest.approx(once.se)


def test_nested_queries_are_clustered_on_draws():
    table = np.array([[1, 1, 1, 1], [0, 0, 0, 1], [1, 0, 1, 1]], dtype=float)
    values, draws, _ = crossed(table)
    found = mean_interval(values, draws, np.arange(12), binary=False)
    assert found.se == pytest.approx(np.std(table.mean(1), ddof=1) / math.sqrt(3))
    assert found.df == 2


def test_nested_draws_that_happen_to_agree_do_not_give_certainty():
    values = np.array([1, 1, 0, 1] * 3, dtype=float)
    found = mean_interval(values, np.repeat([0, 1, 2], 4), np.arange(12), binary=True)
    assert found.high - found.low > 0.3


@pytest.mark.parametrize(
    ("n_draws", "nested", "low"),
    [(3, False, 0.966), (5, False, 0.977), (3, True, 0.987), (5, True, 0.997), (1, False, 0.975)],
)
def test_where_all_is_right_answers_count_as_their_queries_do(n_draws, nested, low):
    ones, draws, queries = crossed(np.ones((n_draws, 100)))
    found = mean_interval(ones, draws, np.arange(ones.size) if nested else queries, binary=True)
    assert (round(found.low, 3), found.high) == (low, 1.0)
    wrong = mean_interval(1 - ones, draws, np.arange(ones.size) if nested else queries, binary=True)
    assert (wrong.low, wrong.high) == pytest.approx((0.0, 1 - found.low), abs=1e-6)


def test_one_draw_covers_the_queries_only_and_one_query_the_draws():
    values = np.array([1, 0, 1, 1, 0, 1, 1, 1], dtype=float)
    found = mean_interval(values, np.zeros(8), np.arange(8), binary=False)
    assert found.se == pytest.approx(np.std(values, ddof=1) / math.sqrt(8))
    assert math.isnan(components(values, np.zeros(8), np.arange(8)).draw)
    assert mean_interval(values, np.arange(8), np.zeros(8), binary=False).se == pytest.approx(
        found.se
    )


def test_a_single_record_says_nothing_of_others():
    one = mean_interval([1.0], [0], ["q"], binary=True)
    assert (one.low, one.high) == (0.0, 1.0)
    assert math.isnan(one.se)
    assert math.isnan(mean_interval([0.3], [0], ["q"], binary=False).low)
    pair = paired_interval([1.0], [0.0], [0], ["q"], binary=True)
    assert (pair.value, pair.low, pair.high) == (-1.0, -1.0, 1.0)
    assert math.isnan(pair.p_value)


def test_records_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 values, 1 draws"):
        mean_interval([1.0, 0.0], [0], [0, 1], binary=True)
    with pytest.raises(ValueError, match="0 values"):
        mean_interval([], [], [], binary=True)


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 12)), min_size=1, max_size=80
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_binary_intervals_stay_within_0_and_1_and_ignore_the_order_of_records(records, random):
    found = mean_interval(*zip(*records, strict=True), binary=True)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low
    shuffled = random.sample(records, len(records))
    again = mean_interval(*zip(*shuffled, strict=True), binary=True)
    assert (again.low, again.high) == pytest.approx((found.low, found.high), abs=1e-9)


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.integers(0, 3), st.integers(0, 9)),
        min_size=2,
        max_size=60,
    )
)
@settings(max_examples=60, deadline=None)
def test_the_p_value_is_below_5_percent_just_where_the_interval_excludes_0(records):
    a, b, draws, queries = zip(*records, strict=True)
    found = paired_interval(a, b, draws, queries, binary=True)
    back = paired_interval(b, a, draws, queries, binary=True)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), abs=1e-9)
    if not math.isnan(found.p_value) and abs(found.p_value - 0.05) > 1e-9:
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


def test_pairs_that_never_differ_have_an_interval_with_a_width():
    zeros, draws, queries = crossed(np.zeros((2, 50)))
    found = paired_interval(zeros, zeros, draws, queries, binary=True)
    assert found.low < 0 < found.high < 0.1
    assert found.p_value == 1.0
    shifted = paired_interval(zeros, zeros + 2, draws, queries, binary=False)
    assert math.isnan(shifted.low)  # values without a range: how much they vary is not known
    assert math.isnan(shifted.p_value)
    percent = paired_interval(zeros, zeros + 2, draws, queries, binary=False, limits=(-100, 100))
    assert percent.low < 2 < percent.high < 10


def test_holm_adjusts_step_down_and_leaves_the_unknown_out():
    assert holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx(
        [0.03, 0.06, 0.06, math.nan], nan_ok=True
    )
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


SCENARIOS = {  # draws, queries, logit mean, sd over draws, over queries, nested
    "items dominate, 3 draws": (3, 200, 1.5, 0.1, 2.0, False),
    "items dominate, 10 draws": (10, 50, 1.5, 0.1, 2.0, False),
    "draws dominate, 3 draws": (3, 200, 0.0, 0.6, 0.5, False),
    "draws dominate, 5 draws": (5, 200, 0.0, 0.6, 0.5, False),
    "draws dominate, 10 draws": (10, 50, 0.0, 0.6, 0.5, False),
    "both, 5 draws": (5, 50, 0.5, 0.4, 1.5, False),
    "near 1, 5 draws": (5, 200, 4.5, 0.2, 1.0, False),
    "one draw": (1, 100, 1.0, 0.0, 1.5, False),
    "nested, 10 draws": (10, 50, 1.0, 0.5, 1.0, True),
    "nested, 5 draws near 1": (5, 50, 3.5, 0.3, 1.0, True),
}


def simulate(rng, n_draws, n_queries, mean, sd_draw, sd_query, nested):
    """One (draws, queries) table of right and wrong answers."""
    query = rng.normal(size=(n_draws if nested else 1, n_queries)) * sd_query
    logit = mean + sd_draw * rng.normal(size=(n_draws, 1)) + query
    return rng.random(size=(n_draws, n_queries)) < 1 / (1 + np.exp(-logit))


def true_mean(mean, sd_draw, sd_query):
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    return float(
        np.sum(weights / (1 + np.exp(-mean - math.hypot(sd_draw, sd_query) * points)))
        / weights.sum()
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_95_percent_intervals_cover_the_truth(name):
    _, _, mean, sd_draw, sd_query, nested = SCENARIOS[name]
    truth, n_runs, covered = true_mean(mean, sd_draw, sd_query), 80, 0
    rng = np.random.default_rng(20260101)
    for _ in range(n_runs):
        values, draws, queries = crossed(simulate(rng, *SCENARIOS[name]))
        found = mean_interval(
            values, draws, np.arange(values.size) if nested else queries, binary=True
        )
        covered += found.low <= truth <= found.high
    assert covered / n_runs >= 0.88  # .95 less 3 standard errors


def test_paired_intervals_cover_the_truth_and_hold_the_level():
    rng = np.random.default_rng(7)
    n_runs, covered, rejected = 120, 0, 0
    for _ in range(n_runs):
        shared = rng.normal(size=100) * 2.0
        tables = []
        for _ in range(2):  # equal in expectation: every rejection is a false one
            logit = 1.0 + 0.3 * rng.normal(size=(5, 1)) + shared + 0.5 * rng.normal(size=100)
            tables.append((rng.random(size=(5, 100)) < 1 / (1 + np.exp(-logit))).astype(float))
        (a, draws, queries), (b, _, _) = crossed(tables[0]), crossed(tables[1])
        found = paired_interval(a, b, draws, queries, binary=True)
        covered += found.low <= 0 <= found.high
        rejected += found.p_value < 0.05
    assert covered / n_runs >= 0.89
    assert rejected == n_runs - covered
