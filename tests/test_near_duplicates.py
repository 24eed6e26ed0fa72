"""Near duplicates between pool and queries: what is found, what is not, and how fast."""

from __future__ import annotations

import random
import time

import pytest

from icl_harness.examples import Example
from icl_harness.near_duplicates import described, near_duplicates, unordered


def found(pool_text: str, query_text: str) -> bool:
    pool = [Example(id="p", input=pool_text, target="x")]
    queries = [Example(id="q", input=query_text, target="x")]
    pairs = near_duplicates(pool, queries)
    assert pairs in ([], [("p", "q")])
    return bool(pairs)


NEAR = {
    "word breaks": ("play my play list", "play my playlist"),
    "a hyphen": ("my top-up failed", "My topup failed!"),
    "an apostrophe": ("Why didnt it go", "Why didn't it go?"),
    "a number beside a word": ("covid19 rules", "covid 19 rules"),
    "options in lines": ("Which?\n(A) cat\n(B) a dog", "Which?\n(A) a dog\n(B) cat"),
    "options in a row": ("Which? A. cat B. dog C. cow", "Which?  A) cow B) cat C) dog"),
    "numbered options": ("Pick one. 1. ice 2. fire", "Pick one: 1) fire 2) ice"),
    "options behind dashes": ("Is it?\n- Yes\n- No", "Is it?\n- No\n- Yes"),
}
OTHER = {
    "another word": ("play my list", "play my songs"),
    "numbers that would run together": ("12 7 988", "127 988"),
    "another expression": ("((-1 + 2) * 3)", "(-1 + (2 * 3))"),
    "another option": ("Which? (A) cat (B) dog", "Which? (A) cat (B) cow"),
    "another question": ("Which? (A) cat (B) dog", "What? (A) dog (B) cat"),
    "an exact copy, which is a leak": ("Play my list.", "play my list"),
}


@pytest.mark.parametrize("case", NEAR)
def test_what_differs_in_spelling_or_in_the_order_of_options_is_found(case: str) -> None:
    assert found(*NEAR[case])
    assert found(*NEAR[case][::-1])


@pytest.mark.parametrize("case", OTHER)
def test_what_differs_otherwise_is_not(case: str) -> None:
    assert not found(*OTHER[case])


def test_a_text_without_marks_that_count_up_has_no_options() -> None:
    assert unordered("Plan B. It rains.") is None
    assert unordered("(A) one (C) two") is None


def test_they_are_described_with_their_number_and_first_texts() -> None:
    pool = [Example(id=f"p{i}", input=f"word{i} one", target="x") for i in range(5)]
    queries = [Example(id=f"q{i}", input=f"word{i}one", target="x") for i in range(5)]
    about = described(pool, queries, near_duplicates(pool, queries))
    assert about["n"] == 5
    assert about["examples"][0] == ["p0", "q0", "word0 one", "word0one"]
    assert len(about["examples"]) == 3


def test_twenty_thousand_rows_take_seconds() -> None:
    rng = random.Random(0)
    words = [a + b for a in "abcdefghij" for b in ("xo", "ta", "ri", "mu")]

    def examples(name: str, n: int) -> list[Example]:
        texts = [" ".join(rng.choices(words, k=12)) for _ in range(n)]
        return [Example(id=f"{name}{i}", input=text, target="x") for i, text in enumerate(texts)]

    pool, queries = examples("p", 20_000), examples("q", 3_000)
    start = time.process_time()
    assert near_duplicates(pool, queries) == []
    assert time.process_time() - start < 10
