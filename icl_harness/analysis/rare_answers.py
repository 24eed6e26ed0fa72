"""How much draws differ where right answers, or wrong ones, are rare.

With some five right answers a draw or fewer most draws look alike, and a few that do well carry the
mean: neither the logits of draws nor the variance of their shares show how much draws differ. Their
counts do. In: shares of right answers by draw. Out: the most likely standard deviation, in logits.
"""

from __future__ import annotations

import numpy as np

from icl_harness.analysis.crossed import Floats
from icl_harness.analysis.logit_normal import share_of_draws

SDS = np.concatenate([[0.0], np.geomspace(0.1, 4.0, 16)])  # logits
LARGE = 1.5  # a priori the SD is half-normal with this scale: published curves have .1 to 1
OF_OTHERS = 16.0


def most_likely_sds(by_draw: Floats, p: Floats, n: Floats, which: Floats) -> Floats:
    """Return the likeliest SD of draws' logits of each member of a family (the last axis), by its
    own counts and by those of the others; 0 where they say nothing.

    `by_draw` has one more axis: the shares of `n` answers that are right in each draw; NaN where a
    draw is missing. `p` is the mean of each member, `which` is 1 for those that count, else 0. The
    others count for no more than `OF_OTHERS` degrees of freedom: members may differ.
    """
    each = log_likelihood(by_draw, p, n) * which[..., None]
    df = which * ((~np.isnan(by_draw)).sum(axis=-1) - 1)
    others = each.sum(axis=-2, keepdims=True) - each
    of_others = df.sum(axis=-1, keepdims=True) - df
    counts = np.minimum(OF_OTHERS / np.maximum(of_others, 1), 1.0)
    likelihood = each + counts[..., None] * others
    found: Floats = SDS[(likelihood - (SDS / LARGE) ** 2 / 2).argmax(axis=-1)]
    return found


def log_likelihood(by_draw: Floats, p: Floats, n: Floats) -> Floats:
    """Return the log likelihood of each of `SDS`, along a new last axis.

    A draw's count is beta-binomial, with the variance that a logit-normal accuracy has. The sum of
    the counts is taken as given: it says nothing of how draws differ, and without that few draws
    would look too alike, as a variance does that is divided by the number of draws.
    """
    there = ~np.isnan(by_draw)
    right = np.where(there, np.clip(by_draw, 0.0, 1.0), 0.0) * n[..., None]
    of_sd = np.broadcast_to(SDS, (*p.shape, len(SDS)))
    share = share_of_draws(np.broadcast_to(p[..., None], of_sd.shape), of_sd)
    size = 1 / np.clip(share, 1e-6, 0.999) - 1
    a, b = p[..., None] * size, (1 - p[..., None]) * size
    each = _beta_binomial(right[..., None, :], n[..., None, None], a[..., None], b[..., None])
    n_draws = there.sum(axis=-1)[..., None]
    total = right.sum(axis=-1)[..., None]
    of_sum = _beta_binomial(total, n_draws * n[..., None], n_draws * a, n_draws * b)
    found: Floats = np.where(there[..., None, :], each, 0.0).sum(axis=-1) - of_sum
    return found


def _beta_binomial(right: Floats, n: Floats, a: Floats, b: Floats) -> Floats:
    """Return the log probability of a count, but for what does not depend on `a` and `b`."""
    from scipy.special import betaln

    found: Floats = betaln(right + a, n - right + b) - betaln(a, b)
    return found
