"""Operators that select the shots of each query, held to a brute force over the pool."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from icl_harness.draws import draw_order
from icl_harness.prompts.modes import MODES, PromptPath, gold_shots
from icl_harness.prompts.tree import Prompt
from tests.prompts.test_operators import (
    LABELS,
    POOL,
    QUERY,
    TEMPLATE,
    cosines,
    ids,
    ids_of_pool,
    path,
)
from tests.prompts.test_similarity import bm25

BY_ID = {example.id: example for example in POOL}
SELECTIONS = [
    "nearest=TFIDF",
    "nearest=BM25",
    "farthest=TFIDF",
    "farthest=BM25",
    "redraw",
    "hybrid=3",
    "drop-nearest=0.25",
    "drop-farthest=0.25",
]


def drawn(draw: int = 0, pool=POOL) -> list[str]:
    return ids(draw_order(pool, 0, draw, "toy"))


def shown(prompts: PromptPath, k: int, query=QUERY) -> list[str]:
    """The shots of a whole prompt, as they are read."""
    return ids(Prompt(prompts.node(k), prompts.query(query, k)).leaf.shots)


def likeness(method: str) -> dict[str, float]:
    inputs = [example.input for example in POOL]
    score = cosines if method == "TFIDF" else bm25
    values = [round(float(value), 9) for value in score(inputs, QUERY.input)]
    return dict(zip(ids_of_pool(), values, strict=True))


def ranked(method: str, sign: int, draw: int = 0) -> list[str]:
    """The pool by likeness, ties as drawn: the most similar first where sign is -1."""
    similar, order = likeness(method), drawn(draw)
    return sorted(order, key=lambda id: (sign * similar[id], order.index(id)))


@pytest.mark.parametrize("method", ["TFIDF", "BM25"])
@pytest.mark.parametrize(("name", "sign"), [("nearest", -1), ("farthest", 1)])
@pytest.mark.parametrize("k", [0, 1, 5, 36])
def test_the_most_or_least_similar_are_shown_the_last_one_most_so(method, name, sign, k) -> None:
    for draw in (0, 1):
        found = shown(path(f"{name}={method}", draw=draw), k)
        assert found == ranked(method, sign, draw)[:k][::-1]


@pytest.mark.parametrize("n", [0, 1, 4, 36])
@pytest.mark.parametrize("k", [0, 1, 4, 9, 36])
def test_hybrid_shots_are_the_first_of_the_draw_then_the_most_similar_of_the_rest(n, k) -> None:
    prompts, order = path(f"hybrid={n}", draw=1), drawn(1)
    block = order[: min(n, k)]
    rest = [id for id in ranked("TFIDF", -1, 1) if id not in order[:n]]
    assert shown(prompts, k) == block + rest[: max(0, k - n)][::-1]
    assert ids(prompts.node(k).shots) == block


def test_hybrid_shots_up_to_the_block_are_the_prompts_of_the_draw_itself() -> None:
    for mode in MODES:
        prompts, default = path("hybrid=4", mode=mode), path("default", mode=mode)
        for k in range(5):
            own = Prompt(prompts.node(k), prompts.query(QUERY, k))
            assert own.hash == Prompt(default.node(k), default.query(QUERY)).hash
        assert prompts.node(9).hash != default.node(9).hash


def test_the_shared_block_ends_in_a_cut_of_every_count_that_lies_in_it_or_beyond() -> None:
    prompts = path("hybrid=4", cuts=(0, 2, 9, 16))
    assert prompts.node(9) is prompts.node(16) is prompts.node(4)
    assert [node.n_shots for node in prompts.node(16).path if node.cut] == [0, 2, 4]
    assert [node.n_shots for node in path("redraw", cuts=(2, 9)).node(9).path if node.cut] == [0]


@pytest.mark.parametrize(("name", "sign"), [("drop-nearest", 1), ("drop-farthest", -1)])
@pytest.mark.parametrize(("p", "n_dropped"), [("0", 0), ("0.1", 4), ("0.25", 9), (".99", 36)])
def test_dropped_rows_are_replaced_by_the_next_of_the_draw(name, sign, p, n_dropped) -> None:
    for draw in (0, 1):
        prompts = path(f"{name}={p}", draw=draw)
        left = ranked("TFIDF", sign, draw)[: 36 - n_dropped]
        wanted = [id for id in drawn(draw) if id in left]
        assert len(prompts.shots) == 36 - n_dropped
        for k in (0, 3, 20, 36 - n_dropped):
            assert shown(prompts, k) == wanted[:k]


def queries(n: int):
    return [replace(QUERY, id=f"q{i}") for i in range(n)]


def test_redrawn_shots_differ_between_queries_and_draws_and_are_nested_in_k() -> None:
    by_draw = []
    for draw in (0, 1):
        prompts = path("redraw", draw=draw)
        found = [shown(prompts, 8, query) for query in queries(20)]
        assert len(set(map(tuple, found))) == 20
        assert all(len(set(shots)) == 8 for shots in found)
        for query, shots in zip(queries(20), found, strict=True):
            assert shown(path("redraw", draw=draw), 8, query) == shots, "seeded"
            assert shown(prompts, 3, query) == shots[:3]
        by_draw.append(found)
    assert all(a != b for a, b in zip(*by_draw, strict=True))
    assert shown(path("redraw", seed=1), 8) != shown(path("redraw"), 8)


def test_redrawn_shots_show_every_example_equally_often() -> None:
    prompts = path("redraw")
    n = 400
    counts = Counter(id for query in queries(n) for id in shown(prompts, 6, query))
    assert set(counts) == set(BY_ID)
    expected = n * 6 / 36
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi2 < 66.6  # its 0.999 quantile at 35 degrees of freedom


@pytest.mark.parametrize("variant", SELECTIONS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["text", "chat"])
def test_selected_shots_read_as_shared_ones_do_in_every_mode(variant, mode, form) -> None:
    prompts = path(variant, mode=mode, format=form)
    found = shown(prompts, 6)
    shots = gold_shots([BY_ID[id] for id in found], mode)
    flat = PromptPath(TEMPLATE, mode, shots, {"labels": LABELS}, format=form)
    own = Prompt(prompts.node(6), prompts.query(QUERY, 6))
    assert own.text == Prompt(flat.node(6), flat.query(QUERY)).text
    assert own.hash == Prompt(flat.node(6), flat.query(QUERY)).hash


@pytest.mark.parametrize("variant", SELECTIONS)
def test_they_compose_with_operators_of_labels_and_with_the_bank(variant: str) -> None:
    assert shown(path(f"noise=1+{variant}"), 6) == shown(path(variant), 6)
    prompts = path(f"noise=1+{variant}")
    for shot in Prompt(prompts.node(6), prompts.query(QUERY, 6)).leaf.shots:
        assert shot.target != BY_ID[shot.id].target
    solved = {"p1", "p2", "p5", "p8"}
    banked = path(f"bank+{variant}", solved=solved)
    n = 3 if variant.startswith("drop") else 4
    assert len(banked.shots) == n
    assert set(shown(banked, n)) <= solved
    assert len(set(shown(banked, n))) == n


@pytest.mark.parametrize("variant", SELECTIONS)
def test_a_longer_prompt_holds_the_shots_of_a_shorter_one(variant: str) -> None:
    prompts = path(variant)
    for k in range(12):
        assert set(shown(prompts, k)) < set(shown(prompts, k + 1))
