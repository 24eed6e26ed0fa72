"""How alike texts are, for the operators that select shots by it.

In: the inputs of a pool and a method of `METHODS`. Out: the pool in the order of its likeness to a
query. TFIDF: the cosine of TF-IDF vectors. BM25: the formula of Robertson and Zaragoza 2009, where
a word that stands twice in the query counts twice, with the idf that is never negative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from icl_harness.examples import Example

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

WORDS_AND_MARKS = r"\w+|[^\w\s]"
K1, B = 1.5, 0.75  # how soon a repeated word adds no more; how far long texts are marked down
Scores = NDArray[np.float64]
Rank = Callable[[str], NDArray[np.unsignedinteger]]


def ranking(pool: Sequence[Example], method: str, *, ascending: bool = False) -> Rank:
    """Return a function from a text to the places of the pool examples, the most similar first, or
    the least with `ascending`. Of equally similar ones, the pool's first comes first.
    """
    inputs = [example.input for example in pool]
    # Fitted in an order that no draw changes, so that all draws share it.
    texts = tuple(sorted(set(inputs)))
    row_of = {text: row for row, text in enumerate(texts)}
    rows = np.array([row_of[text] for text in inputs], dtype=np.intp)
    ranks: dict[str, NDArray[np.unsignedinteger]] = {}

    def rank(query: str) -> NDArray[np.unsignedinteger]:
        if query not in ranks:
            scores = METHODS[method](texts)(query)[rows]
            order = np.argsort(scores if ascending else -scores, kind="stable")
            # thousands of queries are kept
            ranks[query] = order.astype(np.min_scalar_type(len(pool)))
        return ranks[query]

    return rank


@lru_cache(4)
def fit_tfidf(texts: tuple[str, ...]) -> Callable[[str], Scores]:
    """Return a function from a text to its TF-IDF cosine with each of `texts`."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=WORDS_AND_MARKS, sublinear_tf=True)
    return _fit(vectorizer, texts, lambda vectors: vectors)


@lru_cache(4)
def fit_bm25(texts: tuple[str, ...]) -> Callable[[str], Scores]:
    """Return a function from a text to the BM25 score of each of `texts`."""
    from sklearn.feature_extraction.text import CountVectorizer

    return _fit(CountVectorizer(token_pattern=WORDS_AND_MARKS), texts, _bm25_weights)


METHODS = {"TFIDF": fit_tfidf, "BM25": fit_bm25}


def _bm25_weights(counts: csr_matrix) -> csr_matrix:
    """Return what each word of each text adds to a score where a query holds the word once."""
    weights = counts.astype(np.float64)
    n_texts, lengths = weights.shape[0], weights.sum(axis=1).A1
    n_with = np.bincount(weights.indices, minlength=weights.shape[1])
    idf = np.log1p((n_texts - n_with + 0.5) / (n_with + 0.5))
    marked_down = K1 * (1 - B + B * lengths / lengths.mean())
    often = weights.data
    rows = np.repeat(np.arange(n_texts), np.diff(weights.indptr))
    weights.data = idf[weights.indices] * often * (K1 + 1) / (often + marked_down[rows])
    return weights


def _fit(
    vectorizer: Any, texts: tuple[str, ...], weigh: Callable[[csr_matrix], csr_matrix]
) -> Callable[[str], Scores]:
    try:
        weights = weigh(vectorizer.fit_transform(texts))
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        return lambda text: np.zeros(len(texts))  # blanks alone: nothing to go by

    def scores(text: str) -> Scores:
        products = weights @ vectorizer.transform([text]).T
        found: Scores = products.toarray().ravel().round(12)
        return found

    return scores
