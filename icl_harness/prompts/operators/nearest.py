"""Retrieved shots: each query is shown the pool examples that are most like it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Context, Select, one_of, operator

WORDS_AND_MARKS = r"\w+|[^\w\s]"
Cosines = Callable[[str], NDArray[np.float64]]


@operator("selection", argument=one_of("TFIDF"))
def nearest(pool: list[Example], context: Context, method: str) -> Select:
    """Show each query the K pool examples most like it, the most similar last."""
    inputs = [example.input for example in pool]
    # Fitted in an order that no draw changes, so that all draws share it.
    texts = tuple(sorted(set(inputs)))
    row_of = {text: row for row, text in enumerate(texts)}
    rows = np.array([row_of[text] for text in inputs], dtype=np.intp)
    ranks: dict[str, NDArray[np.unsignedinteger]] = {}

    def rank(query: str) -> NDArray[np.unsignedinteger]:
        cosines = fit_tfidf(texts)(query)[rows]
        # A stable sort: of equally similar examples the draw's first comes first.
        order = np.argsort(-cosines, kind="stable")
        return order.astype(np.min_scalar_type(len(pool)))  # thousands of queries are kept

    def select(query: Example, k: int) -> list[Example]:
        if query.input not in ranks:
            ranks[query.input] = rank(query.input)
        return [pool[i] for i in ranks[query.input][:k][::-1]]

    return select


@lru_cache(4)
def fit_tfidf(texts: tuple[str, ...]) -> Cosines:
    """Return a function from a text to its TF-IDF cosine with each of `texts`."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=WORDS_AND_MARKS, sublinear_tf=True)
    try:
        vectors = vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        return lambda text: np.zeros(len(texts))  # blanks alone: nothing to go by

    def cosines(text: str) -> NDArray[np.float64]:
        products = vectors @ vectorizer.transform([text]).T
        found: NDArray[np.float64] = products.toarray().ravel().round(12)
        return found

    return cosines
