"""Rare answers: what counts of draws say of how draws differ, and what intervals make of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from icl_harness.analysis.estimates import SHARE, mean_estimate
from icl_harness.analysis.rare_answers import SDS, log_likelihood, most_likely_sds
from icl_harness.analysis.stats import intervals
from tests.analysis.test_moderation import SHOTS, curve
from tests.analysis.test_stats import crossed, true_mean


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ([0, 0, 0], 0, 0),  # says nothing
        ([1, 0, 0], 0, 0),  # one answer is in some draw
        ([1, 1, 1], 0, 0),
        ([2, 2, 2, 2, 2], 0, 0),
        ([8, 0, 0], 1, 4),
        ([0, 0, 0, 0, 9], 1, 4),
        ([50, 50, 50], 0, 0),  # of 50: all are right
        ([50, 50, 41], 1, 4),
    ],
)
def test_the_sd_of_draws_is_told_by_how_uneven_their_counts_are(counts, low, high):
    by_draw = np.array([counts]) / 50
    p = (by_draw.mean(axis=-1) * 50 + 1) / 52
    (sd,) = most_likely_sds(by_draw, p, np.array([50.0]), np.ones(1))
    assert low <= sd <= high
    mirrored = most_likely_sds(1 - by_draw, 1 - p, np.array([50.0]), np.ones(1))
    assert mirrored[0] == pytest.approx(sd)


@pytest.mark.parametrize("sd", [0.0, 0.5, 1.0])
def test_counts_of_many_draws_find_the_sd_that_they_were_drawn_with(sd):
    rng = np.random.default_rng(1)
    accuracy = 1 / (1 + np.exp(3.5 - sd * rng.normal(size=(1, 4000))))
    by_draw = rng.binomial(50, accuracy) / 50
    n = np.array([50.0])
    found = most_likely_sds(by_draw, by_draw.mean(axis=-1), n, np.ones(1))[0]
    # A beta has lighter tails than the logit-normal of its variance.
    assert abs(found - sd) <= 0.25


def test_a_missing_draw_tells_nothing():
    by_draw = np.array([[0.0, 0.1, 0.02, math.nan]])
    p, n = np.array([0.04]), np.array([50.0])
    without = log_likelihood(by_draw[:, :3], p, n)
    assert log_likelihood(by_draw, p, n) == pytest.approx(without)
    assert without.shape == (1, len(SDS))


def test_many_draws_of_one_member_are_not_overruled_by_those_of_others():
    rng = np.random.default_rng(2)
    alike = rng.binomial(12, 0.4, size=(1, 96)) / 12
    unlike = rng.binomial(12, 1 / (1 + np.exp(3 - 1.5 * rng.normal(size=(7, 96))))) / 12
    by_draw = np.concatenate([alike, unlike])
    p, n = by_draw.mean(axis=-1), np.full(8, 12.0)
    found = most_likely_sds(by_draw, p, n, np.ones(8))
    assert found[0] <= 0.35
    assert min(found[1:]) >= 1


@pytest.mark.parametrize(
    ("n_draws", "n_queries", "sd_draw", "nested"),
    [(3, 50, 2.0, False), (10, 50, 2.0, False), (5, 50, 1.0, True), (10, 250, 2.0, True)],
)
def test_intervals_cover_rare_answers_of_draws_that_differ(n_draws, n_queries, sd_draw, nested):
    rng = np.random.default_rng(3)
    mean = -4.5 - sd_draw / 2
    truth, covered = true_mean(mean, sd_draw, 0.5), []
    for _ in range(30):
        tables = curve(rng, n_draws, n_queries, sd_draw, 0.5, mean=mean, nested=nested)
        _, draws, queries = crossed(tables[0])
        units = np.arange(draws.size) if nested else queries
        family = [
            mean_estimate(table.ravel(), draws, units, limits=SHARE, shots=k)
            for table, k in zip(tables, SHOTS, strict=True)
        ]
        covered += [one.low <= truth <= one.high for one in intervals(family)]
    assert np.mean(covered) >= 0.89  # before: down to .74
