"""Counts in messages agree with their nouns."""

from __future__ import annotations

import pytest

from icl_harness.counts import agree, n_of


@pytest.mark.parametrize(
    ("n", "noun", "said"),
    [
        (0, "shot", "0 shots"),
        (1, "shot", "1 shot"),
        (2000, "query", "2,000 queries"),
        (1, "query", "1 query"),
        (2, "batch", "2 batches"),
        (3, "other cell", "3 other cells"),
        (2, "day", "2 days"),
        (1, "pool row", "1 pool row"),
    ],
)
def test_a_number_and_its_noun_agree(n: int, noun: str, said: str) -> None:
    assert n_of(n, noun) == said


def test_a_number_and_its_verb_agree() -> None:
    assert [agree(n, "is", "are") for n in (0, 1, 2)] == ["are", "is", "are"]
