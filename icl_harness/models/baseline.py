"""Reference learners behind the same seam as language models: what a plain learner makes of the
same shots.

In: a node's shots and the queries' inputs; the text of the prompt is not read. Out: a label a
query.

    baseline/majority   the commonest target among the shots (the first seen of several)
    baseline/knn        5 nearest neighbours, or all where there are fewer shots
    baseline/logreg     logistic regression
    baseline/bayes      the task's own exact learner, under the prior the task declares
    baseline/ceiling    the same, knowing beforehand which variant of the task is asked

Features: inputs that are lists of equally many numbers are taken as numbers (knn as they stand,
logreg standardised, both otherwise with scikit-learn's defaults: the baselines of Agarwal et al.
2024, A.5); any other as TF-IDF of words. Where nothing has been learned (no labelled shots) and
between equally probable labels, the answer is drawn from the query's choices by the query's seed;
it is empty where there are none. Left out: token counts, log-probabilities.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from icl_harness.errors import ModelError, SpecError, nearest
from icl_harness.models.base import Answer, Model, Sampling
from icl_harness.prompts.tree import Node, Query

NAMES = ("majority", "knn", "logreg", "bayes", "ceiling")
N_NEIGHBORS = 5

# Of words and marks, sublinear in their count. Bigrams and character n-grams were tried on
# banking77 and trec: within 5 points either way at 1024 shots, and 10 times slower on tasks with
# hundreds of distinct targets.
TFIDF: dict[str, Any] = {"token_pattern": r"\w+|[^\w\s]", "sublinear_tf": True}
# Text has unit norm, which the default C = 1 shrinks too much: banking77 at 1024 shots 53 %, with C
# = 10 70 %.
TEXT_C = 10.0

Predict = Callable[
    [Sequence[Query]], list[list[str]]
]  # the equally good labels of each query; none: nothing known


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
    if name in ("majority", "knn", "logreg"):
        return BaselineModel(id, lambda node: _fit(name, node))
    if learner is None:
        raise ModelError(
            f"baseline/{name} needs a task that ships its exact learner (Task.learner, as dialects does); "
            "for this task use baseline/majority, baseline/knn or baseline/logreg."
        )
    return BaselineModel(id, lambda node: _exact(learner, node, ceiling=name == "ceiling"))


class BaselineModel(Model):
    """Fits once a node, answers all its queries in one list. Usage is unknown: nothing is counted
    in tokens.
    """

    def __init__(self, id: str, fit: Callable[[Node], Predict]) -> None:
        self.id = id
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
        last = self._last
        # So little to compute that threads only wait for each other: 20 times slower on two busy
        # cores.
        with _pools(len(sys.modules)).limit(limits=1):
            predict = last[1] if last is not None and last[0] is node else self._fit(node)
            found = predict(queries)
        self._last = (node, predict)
        texts = [_say(query, best, sampling) for query, best in zip(queries, found, strict=True)]
        latency_s = (time.perf_counter() - start) / len(queries)
        return [
            Answer(query_id=query.id, sample=query.sample, text=text, latency_s=latency_s)
            for query, text in zip(queries, texts, strict=True)
        ]

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


def _fit(name: str, node: Node) -> Predict:
    """Return the supervised learner `name`, fitted to the node's labelled shots."""
    labelled = [(shot.input, shot.target) for shot in node.shots if shot.target is not None]
    if not labelled:
        return lambda queries: [[] for _ in queries]
    inputs, targets = zip(*labelled, strict=True)
    majority = Counter(targets).most_common(1)[0][0]
    if name == "majority" or len(set(targets)) == 1:
        return lambda queries: [[majority] for _ in queries]
    vectors = [_numbers(text) for text in inputs]
    width = len(vectors[0]) if len({len(vector) for vector in vectors}) == 1 else 0
    pipeline = _pipeline(name, width > 0, len(targets))
    try:
        with warnings.catch_warnings():
            # As many classes as shots is what few shots of a task with many labels are; no reason
            # to warn.
            warnings.filterwarnings(
                "ignore", "The number of unique classes is greater than 50%", UserWarning
            )
            pipeline.fit(vectors if width else list(inputs), list(targets))
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        return lambda queries: [
            [majority] for _ in queries
        ]  # inputs of blanks alone: there is nothing to go by

    def predict(queries: Sequence[Query]) -> list[list[str]]:
        best = [[majority] for _ in queries]
        features = [_numbers(query.input) if width else query.input for query in queries]
        # A query that is no list of as many numbers as the shots cannot be placed among them: it
        # gets the majority.
        placed = [i for i, feature in enumerate(features) if not width or len(feature) == width]
        if placed:
            for i, label in zip(
                placed, pipeline.predict([features[i] for i in placed]), strict=True
            ):
                best[i] = [str(label)]
        return best

    return predict


def _pipeline(name: str, numeric: bool, n_shots: int) -> Any:
    """Return the scikit-learn estimator: what the features are, then who learns from them."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if name == "knn":
        # Among 77 intents 5 neighbours rarely agree: the nearer one must count for more, or few
        # shots score below 1-NN.
        weights = "uniform" if numeric else "distance"
        learner = KNeighborsClassifier(min(N_NEIGHBORS, n_shots), weights=weights)
        return learner if numeric else make_pipeline(TfidfVectorizer(**TFIDF), learner)
    if numeric:
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return make_pipeline(TfidfVectorizer(**TFIDF), LogisticRegression(C=TEXT_C, max_iter=1000))


def _numbers(text: str) -> list[float]:
    """Return the numbers of a list such as ``12 7 988`` or ``0.5, 1``; empty where it is anything
    else.
    """
    try:
        numbers = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def _exact(learner: LearnerFactory, node: Node, *, ceiling: bool) -> Predict:
    """Return the task's learner after the node's shots. The node's mode counts; shots of a bare
    node tell it.
    """
    shots = [(shot.input, shot.target) for shot in node.shots]
    unlabelled = any(target is None for _, target in shots)
    try:
        learned = learner(
            shots, node.mode or ("unsupervised" if unlabelled else "supervised"), ceiling
        )
    except ValueError as error:
        raise SpecError(f"the task's exact learner cannot read these shots: {error}") from error

    def predict(queries: Sequence[Query]) -> list[list[str]]:
        return [_likeliest(learned.predict(query.input), query.choices) for query in queries]

    return predict


def _likeliest(probabilities: Any, choices: Sequence[str]) -> list[str]:
    """Return all labels whose probability is within rounding of the highest."""
    if not isinstance(probabilities, Mapping):
        probabilities = dict(zip(choices, map(float, probabilities), strict=True))
    top = max(probabilities.values())
    return [label for label, p in probabilities.items() if math.isclose(p, top, rel_tol=1e-9)]
