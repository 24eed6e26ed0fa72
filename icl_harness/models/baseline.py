"""Reference learners behind the same seam as language models: what a plain learner makes of the
same shots.

In: a node's shots, the queries' own shots and inputs; the text of the prompt is not read. Out: a
label a query.

    baseline/majority   the commonest target among the shots (the first seen of several)
    baseline/knn        5 nearest neighbours, or all where there are fewer shots
    baseline/bm25       the target of the most similar shot by BM25 (bm25_learner.py)
    baseline/logreg     logistic regression
    baseline/bayes      the task's own exact learner, under the prior the task declares
    baseline/ceiling    the same, knowing beforehand which variant of the task is asked

Features: inputs that are lists of equally many numbers, with or without the names of columns, are
taken as numbers (knn as they stand, logreg standardised, both otherwise with scikit-learn's
defaults: the baselines of Agarwal et al. 2024, A.5; bm25 takes them as words); any other as TF-IDF
of words. Where nothing
has been learned (no labelled shots) and between equally probable labels, the answer is drawn from
the query's choices by the query's seed; it is empty where there are none. Where inputs and targets
are numbers and there are no choices, the answer is a number: knn's mean, for logreg a ridge
regression's (number_learners.py). bayes and ceiling tell the probability of every label; the others
would hold a label that is in no shot for impossible. Left out: token counts.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Protocol

from icl_harness.errors import ModelError, SpecError, nearest
from icl_harness.models.base import Answer, GoldLikelihood, Model, Sampling
from icl_harness.models.bm25_learner import Bm25
from icl_harness.models.number_learners import learn_numbers
from icl_harness.prompts.tree import Node, Query, Shot

OF_SHOTS = ("majority", "knn", "bm25", "logreg")  # they need nothing of the task but its shots
NAMES = (*OF_SHOTS, "bayes", "ceiling")
N_NEIGHBORS = 5

# Of words and marks, sublinear in their count. Bigrams and character n-grams were tried on
# banking77 and trec: within 5 points either way at 1024 shots, and 10 times slower on tasks with
# hundreds of distinct targets.
TFIDF: dict[str, Any] = {"token_pattern": r"\w+|[^\w\s]", "sublinear_tf": True}
# Text has unit norm, which the default C = 1 shrinks too much: banking77 at 1024 shots 53 %, with C
# = 10 70 %.
TEXT_C = 10.0

_COLUMN = re.compile(r"(?:^|,) ?[^,:\d][^,:\n]{0,80}: ")  # a name before its cell

# Of a query: its equally good labels (none: nothing known), or the probability of each label.
Found = list[str] | dict[str, float]
Predict = Callable[[Sequence[Query]], Sequence[Found]]


# from the shots and the prompting mode
Fit = Callable[[Sequence[Shot], str], Predict]


class Learned(Protocol):
    """A task's exact learner after some shots."""

    def predict(self, query: str, /) -> Any:
        """Return the label probabilities: a mapping, or an array in the order of the query's
        choices.
        """
        ...


LearnerFactory = Callable[[list[tuple[str, str | None]], Any, bool], Learned]


def open_baseline(name: str, *, id: str, learner: LearnerFactory | None = None) -> Model:
    """Return a reference learner. `learner(shots, mode, ceiling)` is the task's exact one, for
    bayes and ceiling.
    """
    name = name.removeprefix("baseline/")
    if name not in NAMES:
        known = ", ".join(f"baseline/{known}" for known in NAMES)
        raise ModelError(f"unknown model baseline/{name}. There are {known}.{nearest(name, NAMES)}")
    if name in OF_SHOTS:
        return BaselineModel(id, lambda shots, mode: _fit(name, shots), "none")
    if learner is None:
        raise ModelError(
            f"baseline/{name} needs a task that ships its exact learner (Task.learner, as dialects "
            "does); for this task use baseline/majority, baseline/knn, baseline/bm25 or "
            "baseline/logreg."
        )
    return BaselineModel(id, partial(_exact, learner, name == "ceiling"), "given")


class BaselineModel(Model):
    """Fits once a node, and once a query that has shots of its own; answers all queries of a node
    in one list. Usage is unknown: nothing is counted in tokens.
    """

    def __init__(self, id: str, fit: Fit, gold_likelihood: GoldLikelihood) -> None:
        self.id = id
        self.gold_likelihood = gold_likelihood
        self._fit = fit
        self._last: tuple[Node, Predict] | None = None

    async def answers(
        self, node: Node, queries: Sequence[Query], sampling: Sampling
    ) -> AsyncGenerator[list[Answer], None]:
        """Yield the answers of all queries at once. `sampling` tells only whether a choice or its
        text is asked for.
        """
        if queries:
            yield await asyncio.to_thread(self._answers, node, queries, sampling)

    def _answers(self, node: Node, queries: Sequence[Query], sampling: Sampling) -> list[Answer]:
        start = time.perf_counter()
        # So little to compute that threads only wait for each other: 20 times slower on two busy
        # cores.
        with _pools(len(sys.modules)).limit(limits=1):
            found = self._predict(node, queries)
        answers = [_answer(query, one, sampling) for query, one in zip(queries, found, strict=True)]
        latency_s = (time.perf_counter() - start) / len(queries)
        return [replace(answer, latency_s=latency_s) for answer in answers]

    def _predict(self, node: Node, queries: Sequence[Query]) -> list[Found]:
        """Return what is known of each query."""
        alike = [i for i, query in enumerate(queries) if not query.own_shots]
        found: list[Found] = [[] for _ in queries]
        if alike:
            best = self._of_node(node)([queries[i] for i in alike])
            for i, labels in zip(alike, best, strict=True):
                found[i] = labels
        shots = node.shots if len(alike) < len(queries) else []
        for i, query in enumerate(queries):
            if query.own_shots:
                [found[i]] = self._fit([*shots, *query.own_shots], node.mode)([query])
        return found

    def _of_node(self, node: Node) -> Predict:
        if self._last is None or self._last[0] is not node:
            self._last = (node, self._fit(node.shots, node.mode))
        return self._last[1]

    def describe(self) -> dict[str, Any]:
        """Return the version of the library that the learners come from."""
        import sklearn

        return {"scikit-learn": sklearn.__version__}


@lru_cache(1)
def _pools(n_modules: int) -> Any:
    """Return the thread pools of the libraries loaded so far; looked for again only when more
    modules are.
    """
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def _answer(query: Query, found: Found, sampling: Sampling) -> Answer:
    """Return the answer to a query, with the log-probability of each label where it is known."""
    if not isinstance(found, dict):
        text = _say(query, found, sampling)
        return Answer(query_id=query.id, sample=query.sample, text=text)
    nats = {label: math.log(p) if p > 0 else -math.inf for label, p in found.items()}
    text = _say(query, _likeliest(found), sampling)
    return Answer(query_id=query.id, sample=query.sample, text=text, logprobs=nats)


def _say(query: Query, best: Sequence[str], sampling: Sampling) -> str:
    """Return the answer as a model would give it: the choice where choices are scored, else the
    text that gives it.
    """
    label = (
        best[0]
        if len(best) == 1
        else random.Random(query.seed).choice(best or query.choices or [""])
    )
    if sampling.scoring == "generate" and query.continuations and label in query.choices:
        return query.continuations[query.choices.index(label)]
    return label


class Estimator(Protocol):
    """What of a scikit-learn pipeline is used here: inputs are texts."""

    def fit(self, inputs: Sequence[str], targets: Sequence[str], /) -> object:
        """Learn."""

    def predict(self, inputs: Sequence[str], /) -> Sequence[str]:
        """Return a label per input."""
        ...


@dataclass(frozen=True, slots=True)
class _Classifier:
    """A fitted pipeline. `width`: how many numbers an input is; 0 where inputs are text."""

    pipeline: Estimator
    width: int

    def can_place(self, text: str) -> bool:
        """Whether an input is of the kind of the shots."""
        return self.width == 0 or len(_numbers(text)) == self.width


def _fit(name: str, shots: Sequence[Shot]) -> Predict:
    """Return the supervised learner `name`, fitted to the labelled shots."""
    labelled = [(shot.input, shot.target) for shot in shots if shot.target is not None]
    if not labelled:
        return lambda queries: [[] for _ in queries]
    inputs, targets = zip(*labelled, strict=True)
    majority = Counter(targets).most_common(1)[0][0]
    if name == "majority" or len(set(targets)) == 1:
        return partial(_predict, None, majority)
    classify = partial(_predict, _classifier(name, inputs, targets), majority)
    if name == "bm25":
        return classify
    numbers = learn_numbers(name, [_numbers(text) for text in inputs], targets)
    if numbers is None:
        return classify

    def predict(queries: Sequence[Query]) -> Sequence[Found]:
        if any(query.choices for query in queries):  # labels that are called by numbers
            return classify(queries)
        said = numbers([_numbers(query.input) for query in queries])
        return [[number] for number in said]

    return predict


def _predict(
    classifier: _Classifier | None, majority: str, queries: Sequence[Query]
) -> Sequence[Found]:
    """Return each query's label; the majority's where an input cannot be placed among the shots."""
    best: list[Found] = [[majority] for _ in queries]
    if classifier is None:
        return best
    placed = [i for i, query in enumerate(queries) if classifier.can_place(query.input)]
    if placed:
        labels = classifier.pipeline.predict([queries[i].input for i in placed])
        for i, label in zip(placed, labels, strict=True):
            best[i] = [str(label)]
    return best


def _classifier(name: str, inputs: Sequence[str], targets: Sequence[str]) -> _Classifier | None:
    """Return a fitted classifier; None where inputs are blanks alone: there is nothing to go by."""
    widths = {len(_numbers(text)) for text in inputs}
    width = widths.pop() if len(widths) == 1 and name != "bm25" else 0
    pipeline = _pipeline(name, width > 0, len(targets))
    try:
        with warnings.catch_warnings():
            # As many classes as shots is what few shots of a task with many labels are; no reason
            # to warn.
            warnings.filterwarnings(
                "ignore", "The number of unique classes is greater than 50%", UserWarning
            )
            pipeline.fit(list(inputs), list(targets))
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        return None
    return _Classifier(pipeline, width)


def _pipeline(name: str, numeric: bool, n_shots: int) -> Estimator:
    """Return what the features are and who learns from them: a scikit-learn pipeline, or BM25."""
    if name == "bm25":
        return Bm25()
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    features = FunctionTransformer(_number_rows) if numeric else TfidfVectorizer(**TFIDF)
    if name == "knn":
        # Among 77 intents 5 neighbours rarely agree: the nearer one must count for more, or few
        # shots score below 1-NN.
        weights = "uniform" if numeric else "distance"
        learner = KNeighborsClassifier(min(N_NEIGHBORS, n_shots), weights=weights)
        steps = [features, learner]
    elif numeric:
        steps = [features, StandardScaler(), LogisticRegression(max_iter=1000)]
    else:
        steps = [features, LogisticRegression(C=TEXT_C, max_iter=1000)]
    pipeline: Estimator = make_pipeline(*steps)
    return pipeline


def _number_rows(texts: Sequence[str]) -> list[list[float]]:
    return [_numbers(text) for text in texts]


def _numbers(text: str) -> list[float]:
    """Return the numbers of a list such as ``12 7 988``, ``0.5, 1`` or, with the names of columns,
    ``age: 41, height: 1.8``; empty where it is anything else.
    """
    text = _COLUMN.sub(" ", text)
    try:
        numbers = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def _exact(learner: LearnerFactory, ceiling: bool, given: Sequence[Shot], mode: str) -> Predict:
    """Return the task's learner after the shots. Where no mode is named the shots tell it."""
    shots = [(shot.input, shot.target) for shot in given]
    unlabelled = any(target is None for _, target in shots)
    try:
        learned = learner(shots, mode or ("unsupervised" if unlabelled else "supervised"), ceiling)
    except ValueError as error:
        raise SpecError(f"the task's exact learner cannot read these shots: {error}") from error

    def predict(queries: Sequence[Query]) -> Sequence[Found]:
        return [_by_label(learned.predict(query.input), query.choices) for query in queries]

    return predict


def _by_label(probabilities: Any, choices: Sequence[str]) -> dict[str, float]:
    """Return label -> probability; an array is in the order of the query's choices."""
    if isinstance(probabilities, Mapping):
        return {label: float(p) for label, p in probabilities.items()}
    return dict(zip(choices, map(float, probabilities), strict=True))


def _likeliest(probabilities: Mapping[str, float]) -> list[str]:
    """Return all labels whose probability is within rounding of the highest."""
    top = max(probabilities.values())
    return [label for label, p in probabilities.items() if math.isclose(p, top, rel_tol=1e-9)]
