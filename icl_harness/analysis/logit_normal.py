"""How much draws differ in accuracy when they differ on the logit scale.

In: accuracies, and the standard deviation of a draw's logit. Out: the share of p (1 - p) that is
variance between draws. A draw's accuracy is taken as logit-normal (Aitchison & Shen 1980); its
moments have no closed form, so they are tabulated once by Gauss-Hermite quadrature.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from icl_harness.analysis.crossed import Floats

MOST_LOGITS, STEP = 9.0, 0.25  # accuracies from .0001 to .9999
SDS = np.concatenate([[0.0], np.geomspace(0.05, 8.0, 30)])


def share_of_draws(p: Floats, sd: Floats) -> Floats:
    """Return Var(a draw's accuracy) / (p (1 - p)), from 0 to 1, where the mean accuracy is `p`."""
    table = _table()
    logits = np.clip(logit(p), -MOST_LOGITS, MOST_LOGITS)
    column, right = _place((logits + MOST_LOGITS) / STEP, table.shape[1])
    row, below = _place(np.interp(sd, SDS, np.arange(len(SDS))), len(SDS))
    above = (1 - right) * table[row, column] + right * table[row, column + 1]
    under = (1 - right) * table[row + 1, column] + right * table[row + 1, column + 1]
    found: Floats = (1 - below) * above + below * under
    return found


def logit(p: Floats) -> Floats:
    """Return log(p / (1 - p)); 0 and 1 count as one in a billion from there."""
    inside = np.clip(p, 1e-9, 1 - 1e-9)
    found: Floats = np.log(inside / (1 - inside))
    return found


def _place(where: Floats, size: int) -> tuple[np.ndarray, Floats]:
    """Return the grid point below each place, and how far beyond it the place is."""
    index = np.clip(where.astype(int), 0, size - 2)
    return index, where - index


@cache
def _table() -> Floats:
    """Return the share for each of `SDS` (rows) and each logit of p (columns)."""
    from scipy.special import expit

    points, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()
    wanted = np.arange(-MOST_LOGITS, MOST_LOGITS + STEP / 2, STEP)
    rows = []
    for sd in SDS:
        most = MOST_LOGITS + 5 + 5 * sd + sd * sd
        accuracy = expit(np.linspace(-most, most, 1200)[:, None] + sd * points)
        mean = accuracy @ weights
        variance = (accuracy**2) @ weights - mean**2
        share = variance / np.maximum(mean * (1 - mean), 1e-300)
        rows.append(np.interp(wanted, logit(mean), share))
    return np.array(rows)
