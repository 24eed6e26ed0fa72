"""The bank: one kept attempt per problem, and a file that survives a crash within a line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.errors import DataError
from icl_harness.examples import Example
from icl_harness.store.bank import (
    Attempt,
    append_attempts,
    mark_kept,
    read_bank,
    recover_attempts,
    write_bank,
)


def attempt(id: str, sample: int, reward: float) -> Attempt:
    return Attempt(
        id=id,
        sample=sample,
        problem="",
        answer=f"{id}/{sample}",
        parsed="x",
        reward=reward,
        node="n",
        model="m",
    )


attempts = st.lists(
    st.builds(
        attempt, st.sampled_from("abcdef"), st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0])
    ),
    unique_by=lambda a: (a.id, a.sample),
)


@given(attempts, st.randoms())
def test_the_first_passing_sample_of_a_problem_is_kept_whatever_order_answers_came_in(
    made: list[Attempt], r
) -> None:
    shuffled = made[:]
    r.shuffle(shuffled)
    bank = mark_kept(shuffled)
    assert bank == mark_kept(made)
    for id in {a.id for a in made}:
        passing = sorted(a.sample for a in made if a.id == id and a.reward == 1.0)
        assert [a.sample for a in bank.attempts if a.id == id and a.kept] == passing[:1]
    assert bank.n_problems == len({a.id for a in made})
    assert bank.n_solved == len({a.id for a in made if a.reward == 1.0})


def test_shots_hold_the_models_words_and_follow_the_draw() -> None:
    bank = mark_kept(
        [attempt("a", 0, 1.0), attempt("b", 0, 0.0), attempt("c", 0, 0.0), attempt("c", 1, 1.0)]
    )
    order = [Example(id=i, input=i, target="t", rationale="gold") for i in "cba"]
    assert [(s.id, s.rationale) for s in bank.shots(order)] == [("c", "c/1"), ("a", "a/0")]


@pytest.mark.slow
def test_a_bank_in_the_making_loses_nothing_but_a_half_written_line(tmp_path: Path) -> None:
    path = tmp_path / "bank.partial"
    first, second = (
        attempt("a", 0, 1.0),
        Attempt(**{**attempt("b", 0, 0.0).__dict__, "answer": "line\u2028sep\x85\nnew"}),
    )
    append_attempts(path, [first, second])
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        found = recover_attempts(path)
        assert found == [first, second][: whole[:cut].count(b"\n")]
        append_attempts(path, [first])  # what follows is not glued to the half line
        assert recover_attempts(path)[-1] == first
    write_bank(path, mark_kept([first, second]))
    assert read_bank(path) == mark_kept([first, second])


def test_a_file_that_is_no_bank_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bank.jsonl"
    path.write_text(json.dumps({"id": "a"}) + "\n")
    with pytest.raises(DataError, match=r"bank.jsonl, line 1: not an attempt"):
        read_bank(path)


@pytest.mark.parametrize(
    "broken",
    [
        {"id": 5},
        {"answer": 5},
        {"answer": None},
        {"answer": "\ud800"},
        {"sample": 1.5},
        {"sample": "1"},
        {"reward": "1"},
        {"reward": float("nan")},
        {"reward": 10**400},
        {"prompt_tokens": "many"},
        {"cost_usd": "much"},
        {"colour": "red"},
    ],
)
def test_a_damaged_line_is_refused_and_named(tmp_path: Path, broken: dict[str, object]) -> None:
    path = tmp_path / "bank.jsonl"
    path.write_text(json.dumps({**attempt("a", 0, 1.0).__dict__, **broken}) + "\n")
    with pytest.raises(DataError, match=r"bank.jsonl, line 1: not an attempt"):
        read_bank(path)
