"""Likeness of texts, held to the published formulas written out word by word."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness.examples import Example
from icl_harness.prompts.similarity import fit_bm25, fit_tfidf, ranking


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def bm25(texts: list[str], query: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """Robertson and Zaragoza 2009, (3.15), with the idf ln(1 + (N - n + 0.5) / (n + 0.5))."""
    documents = [words(text) for text in texts]
    mean = sum(map(len, documents)) / len(documents) or 1.0
    scores = []
    for document in documents:
        score = 0.0
        for word in words(query):
            n = sum(word in other for other in documents)
            often = document.count(word)
            idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
            score += idf * often * (k1 + 1) / (often + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return scores


def test_bm25_of_a_case_reckoned_by_hand() -> None:
    # N = 2, mean length 2; "cat" stands in one text, of length 1; "a" in the other alone.
    first, second = fit_bm25(("cat", "a dog ?"))("Cat")
    assert first == pytest.approx(math.log(2) * 2.5 / (1 + 1.5 * (0.25 + 0.75 / 2)))
    assert second == 0


CASES = {
    "one word": (["apple pie", "pear", "apple apple tree ."], "apple"),
    "a word twice in the query": (["apple pie", "pear", "apple apple tree"], "apple apple pie"),
    "a word in every text": (["the cat", "the dog", "the end"], "the cat"),
    "other case": (["The Cat", "DOG"], "tHE dog"),
    "marks": (["why ?", "why !", "because ?"], "how ? !"),
    "no word in common": (["a b", "c"], "x y"),
    "an empty query": (["a b", "c"], ""),
    "a text of blanks": (["a b", " ", "b"], "b"),
    "one text": (["only one"], "one"),
}


@pytest.mark.parametrize("case", CASES)
def test_bm25_is_the_published_formula(case: str) -> None:
    texts, query = CASES[case]
    assert fit_bm25(tuple(texts))(query) == pytest.approx(bm25(texts, query), abs=1e-9)


TEXT = st.lists(st.sampled_from(["a", "B", "cat", "?", "été", "9"]), max_size=6).map(" ".join)


@given(st.lists(TEXT, min_size=1, max_size=8, unique=True), TEXT)
@settings(deadline=None, max_examples=30)
def test_bm25_of_any_texts_is_the_published_formula(texts: list[str], query: str) -> None:
    assert fit_bm25(tuple(texts))(query) == pytest.approx(bm25(texts, query), abs=1e-9)


@pytest.mark.parametrize("fit", [fit_tfidf, fit_bm25])
def test_texts_without_a_word_or_mark_are_all_alike(fit) -> None:
    assert fit((" ", "  "))("cat").tolist() == [0, 0]


@pytest.mark.parametrize("method", ["TFIDF", "BM25"])
@pytest.mark.parametrize("ascending", [False, True])
def test_of_equally_similar_examples_the_first_of_the_pool_comes_first(method, ascending) -> None:
    inputs = ["dog", "cat", "cow", "cat", "dog"]
    pool = [Example(id=str(i), input=text, target="") for i, text in enumerate(inputs)]
    wanted = [0, 2, 4, 1, 3] if ascending else [1, 3, 0, 2, 4]
    assert ranking(pool, method, ascending=ascending)("cat").tolist() == wanted


def test_a_rank_is_kept_in_few_bytes_and_holds_every_place_once() -> None:
    pool = [Example(id=str(i), input=f"n {i % 7}", target="") for i in range(300)]
    found = ranking(pool, "BM25")("n 3")
    assert found.dtype == np.uint16
    assert sorted(found) == list(range(300))
