"""Laws of a curve: formulas that say its value at any shot count, fitted to its points.

In: shot counts and parameters. Out: values. Three laws, of K shots from 1 on:

    log-linear   u + v log2 K
    power        u - v K^-c
    Bayesian     sum_m w_m p_m^(eK + 1) / sum_m w_m p_m^(eK)

The Bayesian one is the probability that a learner gives to the right answer who believes in topic
m with weight w_m before any shot, gives the answers of shots probability p_m under it, and learns e
times as much from each as Bayes' rule does (Arora, Jurafsky, Potts & Goodman 2024, Bayesian scaling
laws for in-context learning, arXiv 2410.16531). It is fitted with two topics: the one that is asked
for, and the rest. Under gold_nll it is the law of -log p.
Left out: how they are fitted (law_fits.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from icl_harness.analysis.crossed import Floats


@dataclass(frozen=True, kw_only=True)
class Law:
    """u + v times a shape; a shape has parameters of its own, with bounds and values to start a fit
    from.
    """

    name: str
    formula: str
    shape: Callable[[Floats, Sequence[float]], Floats]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    starts: tuple[tuple[float, ...], ...] = ()
    is_probability: bool = False

    @property
    def n_parameters(self) -> int:
        """Return how many numbers are fitted."""
        return 2 + len(self.low)


def _log_linear(shots: Floats, own: Sequence[float]) -> Floats:
    found: Floats = np.log2(shots)
    return found


def _power(shots: Floats, own: Sequence[float]) -> Floats:
    found: Floats = -(shots ** -own[0])
    return found


def _bayesian(shots: Floats, own: Sequence[float]) -> Floats:
    """Return minus the posterior weight of the wrong topic; its log-odds fall at a rate."""
    from scipy.special import expit

    prior, log_rate = own
    found: Floats = -expit(-prior - math.exp(log_rate) * shots)
    return found


LAWS: Mapping[str, Law] = {
    law.name: law
    for law in (
        Law(name="log-linear", formula="u + v log2 K", shape=_log_linear),
        Law(
            name="power",
            formula="u - v K^-c",
            shape=_power,
            low=(0.01,),
            high=(10.0,),
            starts=((0.1,), (0.3,), (0.7,), (1.5,), (3.0,)),
        ),
        Law(
            name="Bayesian",
            formula="sum_m w_m p_m^(eK+1) / sum_m w_m p_m^(eK)",
            shape=_bayesian,
            low=(-20.0, -9.0),
            high=(20.0, 4.0),
            starts=tuple(product((-6.0, -2.0, 0.0, 2.0), (-5.0, -3.0, -1.0, 0.5))),
            is_probability=True,
        ),
    )
}

CONSTANT = Law(name="constant", formula="u", shape=lambda shots, own: np.zeros_like(shots))


def parameters_of(law: Law, at: Floats) -> dict[str, float]:
    """Return fitted parameters by the names that they have in the law's formula."""
    u, v, *own = map(float, at)
    if not law.is_probability:
        return dict(zip(("u", "v", "c"), (u, v, *own), strict=False))
    prior, log_rate = own
    other = max(u - v, 1e-12)
    learned = math.log(u / other) if u > other else math.nan
    return {
        "p_1": u,
        "p_2": other,
        "w_1": 1 / (1 + math.exp(-prior)),
        "e": math.exp(log_rate) / learned,
    }
