"""Metrics: a statistic per answer, and how the statistics of a cell's answers become one number.

In: what an answer was read as, its target, its score, the labels of the task. Out: a vector of
numbers per answer; of their mean, a value. So every metric is a function of means, and its interval
follows from what the value would be without an answer (analysis/influence.py). Left out: metrics
that are no function of means, such as a median.

Define your own metric in the task file:

    def counts(answer: ScoredAnswer) -> list[float]:
        is_rare = answer.target in RARE
        return [is_rare and answer.parsed == answer.target, is_rare]

    recall = Metric(name="rare recall", statistic=counts, aggregate=lambda mean: mean[0] / mean[1])
    Task(..., metric=recall)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from icl_harness.errors import SpecError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Of = Literal["score", "gold_nll", "confidence", "brier", "p_yes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredAnswer:
    """One answer as a metric sees it.

    `parsed` is None where nothing could be read from the answer. `labels` are the same for all
    answers of a task: every choice, target and parsed answer there is, sorted. `probability` is
    that of the answer (of Yes, where the metric is of that), NaN where the metric is of none.
    """

    parsed: str | None
    target: str
    score: float
    labels: tuple[str, ...]
    probability: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A statistic per answer, an aggregate, and the range that the value lies in.

    `statistic` returns the same number of numbers for every answer of a task; None is the score.
    `aggregate` returns the value from the mean of the statistics; None is the mean itself, of a
    statistic of one number. `range` may be infinite. `samples`: what several answers to a query
    count as, each for itself, as their majority, or, for k, whether one of k is right; with "best"
    the queries of a cluster count as one, the likeliest Yes of them. `of`: which number of an
    answer is its score here, the scorer's, the NLL of the gold answer, or what the probabilities of
    its choices give; answers without it are missing. With a statistic the score stays the scorer's.
    """

    name: str
    statistic: Callable[[ScoredAnswer], Sequence[float]] | None = None
    aggregate: Callable[[NDArray[np.float64]], float] | None = None
    range: tuple[float, float] = (0.0, 1.0)
    samples: Literal["each", "majority", "best"] | int = "each"
    of: Of = "score"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise SpecError(
                f"a metric's name is {self.name!r}; it must be a text that is not empty."
            )
        for field in ("statistic", "aggregate"):
            value = getattr(self, field)
            if value is not None and not callable(value):
                raise SpecError(
                    f"metric {self.name}: its {field} is {value!r}; it must be a function."
                )
        if self.aggregate is not None and self.statistic is None:
            raise SpecError(f"metric {self.name}: an aggregate needs a statistic. Give both.")
        if self.samples not in ("each", "majority", "best") and not _is_count(self.samples):
            raise SpecError(
                f"metric {self.name}: samples is {self.samples!r}; it must be 'each', 'majority', "
                "'best' or a whole number above 0."
            )
        if not _is_range(self.range):
            raise SpecError(
                f"metric {self.name}: its range is {self.range!r}; it must be two numbers, the "
                "lower one first."
            )

    @property
    def is_mean_score(self) -> bool:
        """Return whether the value is the mean of the scores: nothing else of answers is needed."""
        return self.statistic is None and self.samples == "each" and self.of == "score"

    def describe(self) -> dict[str, object]:
        """Return what `run.json` says of a task's metric; an infinite limit is null there."""
        limits = [limit if math.isfinite(limit) else None for limit in self.range]
        return {
            "metric": self.name,
            "metric_range": limits,
            "metric_is_mean_score": self.is_mean_score,
        }


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_range(value: object) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    if not all(isinstance(limit, int | float) for limit in value):
        return False
    return bool(value[0] < value[1])  # False for NaN


MOST_LABELS = 2000  # of macro_f1: free answers are each a label of their own
MOST_CONFUSED = 100  # labels of mcc, whose statistic has a number for each pair of them


def _label_counts(answer: ScoredAnswer) -> list[float]:
    """Return three numbers per label: predicted and true, predicted, true. Raises `SpecError`."""
    if len(answer.labels) > MOST_LABELS:
        raise SpecError(
            f"{len(answer.labels):,} different labels occur among the answers; macro_f1 is for "
            "tasks with a fixed set of labels. Take accuracy."
        )
    predicted = [float(label == answer.parsed) for label in answer.labels]
    true = [float(label == answer.target) for label in answer.labels]
    hits = [p * t for p, t in zip(predicted, true, strict=True)]
    return [*hits, *predicted, *true]


def _mean_f1(counts: NDArray[np.float64]) -> float:
    """Return the mean F1 of the labels that were predicted or true at least once."""
    hits, predicted, true = counts.reshape(3, -1)
    there = predicted + true > 0
    return float((2 * hits[there] / (predicted + true)[there]).mean())


def _ngram_counts(answer: ScoredAnswer) -> list[float]:
    from icl_harness.tasks.scoring.texts import ngram_counts

    return ngram_counts(answer.parsed or "", answer.target)


def _chrf(counts: NDArray[np.float64]) -> float:
    from icl_harness.tasks.scoring.texts import chrf_of_counts

    return chrf_of_counts(counts)


def _errors(answer: ScoredAnswer) -> list[float]:
    """Return the squared error (0 where nothing could be read), whether nothing could be read, this
    times target and squared target, target and squared target. Raises `ValueError`.
    """
    target = _number(answer.target)
    lost = float(answer.parsed is None)
    error = 0.0 if answer.parsed is None else _number(answer.parsed) - target
    return [error**2, lost, lost * target, lost * target**2, target, target**2]


def _number(text: str) -> float:
    from icl_harness.tasks.scoring.closeness import number_of

    number = number_of(text)
    if number is None:
        raise ValueError(f"{text!r} is no number")
    return float(number)


def _squared_error(mean: NDArray[np.float64]) -> float:
    """Return the mean squared error; an answer that could not be read counts as the mean of the
    targets, as one that knows nothing.
    """
    error, lost, lost_target, lost_square, target, _ = mean
    return float(error + lost_square - 2 * target * lost_target + target**2 * lost)


def _rmse(mean: NDArray[np.float64]) -> float:
    return math.sqrt(max(0.0, _squared_error(mean)))


def _r2(mean: NDArray[np.float64]) -> float:
    """Return the share of the targets' variance that the answers explain; no number where the
    targets are all the same.
    """
    *_, target, square = mean
    variance = float(square - target**2)
    return 1 - _squared_error(mean) / variance if variance > 0 else math.nan


def _calibration_gaps(answer: ScoredAnswer) -> list[float]:
    """Return by how much the answer's score is above its probability, in the bin of that."""
    gaps = [0.0] * N_BINS
    place = math.ceil(answer.probability * N_BINS) - 1  # a bin holds its upper end
    gaps[min(max(place, 0), N_BINS - 1)] = answer.score - answer.probability
    return gaps


def _sum_of_sizes(means: NDArray[np.float64]) -> float:
    return float(abs(means).sum())


def _yes_sums(answer: ScoredAnswer) -> list[float]:
    """Return P(Yes) of a right solution, whether it is right; the same of a wrong one."""
    right = float(answer.target == YES)
    return [answer.probability * right, right, answer.probability * (1 - right), 1 - right]


def _mean_of_right(mean: NDArray[np.float64]) -> float:
    return float(mean[0] / mean[1]) if mean[1] > 0 else math.nan


def _mean_of_wrong(mean: NDArray[np.float64]) -> float:
    return float(mean[2] / mean[3]) if mean[3] > 0 else math.nan


def _gap(mean: NDArray[np.float64]) -> float:
    return _mean_of_right(mean) - _mean_of_wrong(mean)


YES = "Yes"  # the answer of a verifier to a right solution


def _confusion(answer: ScoredAnswer) -> list[float]:
    """Return a number per pair of true and predicted label, and one per true label of an answer
    that could not be read. Raises `SpecError`.
    """
    n = len(answer.labels)
    if n > MOST_CONFUSED:
        raise SpecError(
            f"{n:,} different labels occur among the answers; mcc is for tasks with a fixed set of "
            "labels. Take accuracy."
        )
    counts = [0.0] * (n * (n + 1))
    row = answer.labels.index(answer.target)
    column = n if answer.parsed is None else answer.labels.index(answer.parsed)
    counts[row * (n + 1) + column] = 1.0
    return counts


def _correlation(counts: NDArray[np.float64]) -> float:
    """Return Matthews' correlation of true and predicted labels (Gorodkin 2004); 0 where one side
    is always the same, as scikit-learn has it.
    """
    n = (math.isqrt(4 * len(counts) + 1) - 1) // 2  # n * (n + 1) numbers
    table = counts.reshape(n, n + 1)
    true, predicted = table.sum(axis=1), table.sum(axis=0)
    covariance = float(table.trace() - true @ predicted[:n])
    spread = float((1 - predicted @ predicted) * (1 - true @ true))
    return covariance / math.sqrt(spread) if spread > 0 else 0.0


accuracy = Metric(name="accuracy")
# The mean over labels of their F1, as scikit-learn's f1_score(average="macro") has it by default:
# over the labels that occur as a target or as an answer. An answer that could not be parsed is a
# prediction of no label: it costs its target recall, and is no label of its own.
macro_f1 = Metric(name="macro_f1", statistic=_label_counts, aggregate=_mean_f1)

# Matthews' correlation, as scikit-learn has it; an unparsed answer is a label of its own.
mcc = Metric(name="mcc", statistic=_confusion, aggregate=_correlation, range=(-1.0, 1.0))

# Of a whole corpus, as sacrebleu has it: from the n-grams of all answers together.
chrf = Metric(name="chrF2++", statistic=_ngram_counts, aggregate=_chrf)
rouge_l = Metric(name="rougeL")  # the mean over answers
rmse = Metric(name="rmse", statistic=_errors, aggregate=_rmse, range=(0.0, math.inf))
r2 = Metric(name="r2", statistic=_errors, aggregate=_r2, range=(-math.inf, 1.0))

# Minus the log-likelihood of the gold answer in nats, whatever the model answered: the sum over its
# tokens, or their mean as --scoring choices-normalised has it. Not every run has it.
gold_nll = Metric(name="gold_nll", range=(0.0, math.inf), of="gold_nll")
nll_per_token = Metric(name="gold_nll_per_token", range=(0.0, math.inf), of="gold_nll")

# Of the probabilities of choices, e^score normalised, of the scores by which the answer was chosen.
N_BINS = 15  # equally wide ones of probabilities from 0 to 1 (Guo et al. 2017)
confidence = Metric(name="confidence", of="confidence")  # the mean probability of the answer
brier = Metric(name="brier", of="brier", range=(0.0, 2.0))  # over all choices (Brier 1950)
ece = Metric(name="ece", of="confidence", statistic=_calibration_gaps, aggregate=_sum_of_sizes)
# Of P(Yes), a verifier's (Agarwal et al. 2024): the answer is whether a solution is right.
best_of_n = Metric(name="best_of_n", of="p_yes", samples="best")
p_yes_right = Metric(name="p_yes_right", of="p_yes", statistic=_yes_sums, aggregate=_mean_of_right)
p_yes_wrong = Metric(name="p_yes_wrong", of="p_yes", statistic=_yes_sums, aggregate=_mean_of_wrong)
p_yes_gap = Metric(
    name="p_yes_gap", of="p_yes", statistic=_yes_sums, aggregate=_gap, range=(-1.0, 1.0)
)
OF_CHOICES = (confidence, brier, ece, best_of_n, p_yes_gap, p_yes_right, p_yes_wrong)

# As lm-eval has it: of the gold answers' mean log-likelihood, whatever their length.
perplexity = Metric(
    name="perplexity",
    statistic=lambda answer: [answer.score],
    aggregate=lambda mean: math.exp(mean[0]),
    range=(1.0, math.inf),
    of="gold_nll",
)
LESS_IS_BETTER = frozenset(
    metric.name for metric in (rmse, gold_nll, nll_per_token, perplexity, brier, ece)
)
UNITS = {gold_nll.name: "nats", nll_per_token.name: "nats a token"}


def with_unit(name: str) -> str:
    """Return the name of a metric with its unit, where it has one."""
    return f"{name} ({UNITS[name]})" if name in UNITS else name


# Of several answers to a query (--samples): self-consistency; `pass_at(4)` is called pass@4.
majority = Metric(name="majority", samples="majority")


def pass_at(k: int) -> Metric:
    """Return the metric pass@k: the chance that one of k answers to a query is right."""
    return Metric(name=f"pass@{k}", samples=k)


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        accuracy,
        macro_f1,
        mcc,
        chrf,
        rmse,
        r2,
        majority,
        gold_nll,
        nll_per_token,
        perplexity,
        *OF_CHOICES,
    )
}
_PASS_AT = re.compile(r"pass@([1-9]\d{0,3})")


def find_metric(name: str, others: Sequence[Metric] = ()) -> Metric:
    """Return the library's metric of a name, or that of `others`. Raises `SpecError` with the
    nearest names.
    """
    known = {**{metric.name: metric for metric in others}, **METRICS}
    if name not in known and (of_samples := _PASS_AT.fullmatch(name)):
        return pass_at(int(of_samples[1]))
    if name not in known:
        raise SpecError(
            f"there is no metric {name!r}.{nearest(name, known)} Known: {', '.join(known)}, pass@N."
        )
    return known[name]


def as_metric(value: object) -> Metric:
    """Return the metric that a task names or brings. Raises `SpecError`."""
    of_scores = {name: metric for name, metric in METRICS.items() if metric.of == "score"}
    if isinstance(value, str) and value in of_scores:
        return METRICS[value]
    if not isinstance(value, Metric) or value.of != "score":
        close = nearest(value, of_scores) if isinstance(value, str) else ""
        raise SpecError(
            f"the task's metric is {value!r}; it must be {', '.join(of_scores)} or a Metric(…)."
            f"{close}"
        )
    if METRICS.get(value.name, value) != value:
        raise SpecError(
            f"the task's metric is called {value.name!r}, as another one of the library is. "
            "Give it another name."
        )
    return value
