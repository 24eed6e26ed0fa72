"""Choices as a trie of next tokens: what is asked, and that the sums are the log-likelihoods of
whole prompts.
"""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.models.local import choices, trie
from icl_harness.models.local.tokens import Branch, common

token = st.integers(0, 3)
IDS = np.arange(10, dtype=np.int32)


def odds(before: tuple[int, ...], token: int) -> float:
    """A language model: the log-probability of a token depends on all that stands before it."""
    return math.log(random.Random(f"{before} {token}").random())


def whole(ids, branch: Branch) -> tuple[int, ...]:
    return (*map(int, ids[: branch.n_shared]), *branch.own)


def asked_apart(ids, query, ends, most) -> trie.Trie:
    return trie.ask_apart(choices.candidate(0, ids, query, ends), most)


def answer(ids, questions: list[trie.Question]) -> list[dict[int, float]]:
    return [{token: odds(whole(ids, q.branch), token) for token in q.wanted} for q in questions]


@given(
    st.lists(token, min_size=1, max_size=6),
    st.lists(token, max_size=3),
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(token, min_size=1, max_size=4)),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 3),
)
def test_sums_are_the_log_likelihoods_of_the_choices_tokens(node, own, changes, most):
    """A choice may take back ids of the query, and of the node, as tokenisers do."""
    ids = np.array(node, np.int32)
    text = (*node, *own)
    whole_choices = [(*text[: len(text) - back], *new) for back, new in changes]

    def branch(one) -> Branch:
        kept = common(ids, one)
        return Branch(kept, [*one[kept:]])

    start = min(common(text, one) for one in whole_choices)
    build = (ids, branch(text), [branch(one) for one in whole_choices], most)
    if start == 0 or any(len(one) <= start for one in whole_choices):
        with pytest.raises(ValueError, match="no tokens of its own"):
            asked_apart(*build)
        return
    found = asked_apart(*build)
    told = answer(ids, found.questions)
    expected = [
        [odds(one[:place], one[place]) for place in range(start, len(one))] for one in whole_choices
    ]
    assert found.weigh(told) == pytest.approx([sum(one) for one in expected])
    assert found.weigh(told, normalised=True) == pytest.approx(
        [sum(one) / len(one) for one in expected]
    )
    asked = [(whole(ids, q.branch), token) for q in found.questions for token in q.wanted]
    assert len(asked) == len(set(asked))  # nothing is asked twice
    assert max(len(q.wanted) for q in found.questions) <= most
    assert [len(q.branch) for q in found.questions] == sorted(
        len(q.branch) for q in found.questions
    )


def test_one_question_tells_all_choices_of_a_single_token():
    found = asked_apart(IDS, Branch(9, [50]), [Branch(9, [50, t]) for t in (60, 61, 62, 60)], 128)
    assert [(q.branch.own, q.wanted) for q in found.questions] == [([50], [60, 61, 62])]
    assert found.weigh([{60: -1.0, 61: -2.0, 62: -3.0}]) == [-1.0, -2.0, -3.0, -1.0]


def test_a_choice_that_begins_another_is_told_on_the_way():
    ends = ([60], [60, 61, 62], [60, 61], [63, 64])
    found = asked_apart(IDS, Branch(9, [50]), [Branch(9, [50, *end]) for end in ends], 128)
    assert [(q.branch.own, q.wanted) for q in found.questions] == [
        ([50], [60, 63]), ([50, 60], [61]), ([50, 63], [64]), ([50, 60, 61], [62]),
    ]  # fmt: skip


def test_more_next_tokens_than_an_engine_tells_are_asked_in_parts():
    found = asked_apart(IDS, Branch(10, [50]), [Branch(10, [50, t]) for t in range(300)], 128)
    assert [len(q.wanted) for q in found.questions] == [128, 128, 44]
    assert {tuple(q.branch.own) for q in found.questions} == {(50,)}
    assert found.weigh([{t: -float(t) for t in q.wanted} for q in found.questions]) == [
        -float(t) for t in range(300)
    ]
