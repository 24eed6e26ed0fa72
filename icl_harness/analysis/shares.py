"""The variance of one pair's difference by source, where it is stated and not measured.

In: an accuracy, and by how many logits draws and queries differ. Out: what draws, queries and the
rest add to the variance of a difference of two answers to one query in one draw. Both sides have
the same accuracy; each has draws of its own kind, and queries are much as hard on one as on the
other.
"""

from __future__ import annotations

import numpy as np

from icl_harness.analysis.crossed import Floats
from icl_harness.analysis.stats import Components

SHARED_QUERIES = 0.8  # of the variance between queries in logits, what both sides have in common
N_POINTS, N_STEPS = 60, 60
MOST_LOGITS = 60.0


def paired_components(accuracy: float, draw_sd: float, query_sd: float) -> Components:
    """Return the variance of the difference between two answers by source."""
    both = float(np.hypot(draw_sd, query_sd))
    base = _intercept(accuracy, both)
    common = np.sqrt(SHARED_QUERIES) * query_sd
    draw = _between(base, draw_sd, query_sd, accuracy)
    query = _between(base, query_sd, draw_sd, accuracy)
    shared = _between(base, common, float(np.sqrt(both**2 - common**2)), accuracy)
    rest = accuracy * (1 - accuracy) - draw - query
    return Components(draw=2 * draw, query=2 * (query - shared), residual=2 * rest)


def _between(base: float, own_sd: float, other_sd: float, accuracy: float) -> float:
    """Return the variance of the accuracy over what varies by `own_sd` logits, the rest averaged
    out.
    """
    points, weights = _normal()
    accuracies = _sigmoid(base + own_sd * points[:, None] + other_sd * points) @ weights
    return max(0.0, float(weights @ accuracies**2) - accuracy**2)


def _intercept(accuracy: float, sd: float) -> float:
    """Return the logit around which logits with this standard deviation give the accuracy."""
    points, weights = _normal()
    low, high = -MOST_LOGITS, MOST_LOGITS
    for _ in range(N_STEPS):
        middle = (low + high) / 2
        is_below = float(_sigmoid(middle + sd * points) @ weights) < accuracy
        low, high = (middle, high) if is_below else (low, middle)
    return low


def _normal() -> tuple[Floats, Floats]:
    points, weights = np.polynomial.hermite_e.hermegauss(N_POINTS)
    return points, weights / weights.sum()


def _sigmoid(x: Floats) -> Floats:
    found: Floats = 1 / (1 + np.exp(-x))
    return found
