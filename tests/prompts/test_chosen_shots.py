"""Operators that choose shots or permute their labels: what holds of every pool, K and draw."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_harness.draws import draw_order
from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.prompts.modes import MODES, gold_shots
from icl_harness.prompts.operators.registry import Context
from icl_harness.prompts.tree import Shot
from icl_harness.prompts.variants import check_variant, parse_variant, shot_source
from icl_harness.tasks.scoring import label_match
from icl_harness.tasks.task import Task

LABELS = ("red", "green", "blue", "grey")
labels_of_pools = st.lists(st.sampled_from(LABELS), min_size=1, max_size=30)
draws = st.integers(0, 5)


def pool_of(labels) -> list[Example]:
    return [
        Example(id=f"p{i}", input=f"n {i}", target=label, choices=LABELS)
        for i, label in enumerate(labels)
    ]


def source_of(variant, pool, *, mode="supervised", draw=0, solved=None):
    order = draw_order(pool, 0, draw, "toy")
    context = Context(task="toy", draw=draw, labels=LABELS, solved=solved or ())

    def make(examples) -> list[Shot]:
        kept = [e for e in examples if solved is None or e.id in solved]
        return gold_shots(kept, mode)

    return shot_source(parse_variant(variant), order, context, make)


def shown(variant, pool, k, **options) -> list[Shot]:
    source = source_of(variant, pool, **options)
    return list(source.arrange(k) if source.arrange else source.shots[:k])


def ids(shots) -> list[str]:
    return [shot.id for shot in shots]


@settings(deadline=None)
@given(labels_of_pools, st.integers(1, 8), draws)
def test_repeats_are_the_first_of_the_draw_in_turn_and_nested(labels, n, draw) -> None:
    pool = pool_of(labels)
    drawn = ids(shown("default", pool, len(pool), draw=draw))
    source = source_of(f"repeat={n}", pool, draw=draw)
    assert source.arrange is None, "prompts are nested"
    assert len(source.shots) == len(pool)
    assert ids(source.shots) == [drawn[i % n] for i in range(len(pool))]


def test_more_repeats_than_k_are_the_prompts_of_default() -> None:
    pool = pool_of(LABELS * 3)
    assert shown("repeat=5", pool, 5) == shown("default", pool, 5)


@pytest.mark.parametrize("mode", MODES)
def test_repeats_are_of_solved_problems_where_a_bank_gives_the_shots(mode) -> None:
    pool = pool_of(LABELS * 5)
    solved = {"p3", "p8", "p11", "p17"}
    drawn = [id for id in ids(shown("default", pool, 20)) if id in solved]
    for variant in ("repeat=3", "bank+repeat=3", "repeat=3+bank"):
        shots = shown(variant, pool, 12, mode=mode, solved=solved)
        assert ids(shots) == drawn[:3] * 4, "R of them differ and there are K"
    assert ids(shown("repeat=5", pool, 12, mode=mode, solved=solved)) == drawn


@settings(deadline=None)
@given(labels_of_pools, draws)
def test_balanced_labels_are_as_even_as_the_pool_allows_at_every_k(labels, draw) -> None:
    pool = pool_of(labels)
    source = source_of("balanced", pool, draw=draw)
    there = Counter(labels)
    assert source.arrange is None, "prompts are nested"
    assert sorted(ids(source.shots)) == sorted(example.id for example in pool)
    for k in range(len(pool) + 1):
        counts = Counter(shot.target for shot in source.shots[:k])
        most = max(counts.values(), default=0)
        for label, n in there.items():
            assert counts[label] >= min(most - 1, n)


def test_of_each_label_the_balanced_shots_are_the_first_of_the_draw() -> None:
    pool = pool_of(LABELS * 5)
    drawn = shown("default", pool, 20, draw=2)
    balanced = shown("balanced", pool, 20, draw=2)
    for label in LABELS:
        assert [s for s in balanced if s.target == label] == [s for s in drawn if s.target == label]


def test_no_label_is_the_first_of_every_balanced_draw() -> None:
    pool = pool_of([*["red"] * 26, "green", "green", "blue", "grey"])
    firsts = Counter(shown("balanced", pool, 1, draw=draw)[0].target for draw in range(400))
    assert set(firsts) == set(LABELS)
    assert all(count == pytest.approx(100, abs=40) for count in firsts.values())


@settings(deadline=None)
@given(labels_of_pools, st.integers(0, 30), draws)
def test_shuffled_labels_are_those_of_the_k_shots_and_inputs_stay(labels, k, draw) -> None:
    pool = pool_of(labels)
    drawn = shown("default", pool, k, draw=draw)
    shots = shown("shuffled", pool, k, draw=draw)
    assert [(s.id, s.input) for s in shots] == [(s.id, s.input) for s in drawn]
    assert Counter(s.target for s in shots) == Counter(s.target for s in drawn)
    assert shots == shown("shuffled", pool, k, draw=draw)


def test_shuffled_labels_do_not_depend_on_the_inputs() -> None:
    pool = pool_of(LABELS * 200)
    gold = {example.id: example.target for example in pool}
    pairs = Counter((gold[s.id], s.target) for s in shown("shuffled", pool, 800))
    assert len(pairs) == 16
    assert all(count == pytest.approx(50, abs=25) for count in pairs.values())
    assert shown("shuffled", pool, 800) != shown("shuffled", pool, 800, draw=1)


def test_shuffled_answers_keep_their_rationales() -> None:
    pool = [
        Example(id=f"p{i}", input=f"n {i}", target=f"{i}", rationale=f"so {i}") for i in range(9)
    ]
    shots = shown("shuffled", pool, 9)
    assert all(shot.rationale == f"so {shot.target}" for shot in shots)
    assert any(shot.input != f"n {shot.target}" for shot in shots)


def test_operators_of_shots_compose() -> None:
    pool = pool_of(["red"] * 9 + ["green"] * 3)
    shots = shown("shuffled+repeat=4+balanced", pool, 8)
    assert str(parse_variant("shuffled+repeat=4+balanced")) == "balanced+repeat=4+shuffled"
    assert ids(shots) == ids(shown("balanced", pool, 4)) * 2
    assert Counter(shot.target for shot in shots) == {"red": 4, "green": 4}
    noisy = shown("noise=0.5+repeat=2", pool, 8)
    assert noisy[:2] * 4 == noisy, "a repeated shot is as noisy every time"


@pytest.mark.parametrize("mode", MODES)
def test_ids_are_shown_in_the_order_of_their_file_in_every_draw(tmp_path: Path, mode) -> None:
    file = tmp_path / "shots.txt"
    file.write_text("p7\n\n p2 \r\np5\n")
    pool = pool_of(LABELS * 3)
    for draw in (0, 1):
        assert ids(shown(f"ids={file}", pool, 3, draw=draw, mode=mode)) == ["p7", "p2", "p5"]
    assert ids(shown(f"repeat=2+ids={file}", pool, 5)) == ["p7", "p2", "p7", "p2", "p7"]
    assert ids(shown(f"ids={file}", pool, 3, solved={"p5", "p7"})) == ["p7", "p5"]


def test_a_file_that_has_changed_is_refused_under_its_old_name(tmp_path: Path) -> None:
    file = tmp_path / "shots.txt"
    file.write_text("p1\np2\n")
    before = str(parse_variant(f"ids={file}"))
    assert str(parse_variant(before)) == before
    file.write_text("p2\np1\n")
    assert str(parse_variant(f"ids={file}")) != before
    with pytest.raises(SpecError, match="has changed since"):
        shown(before, pool_of(LABELS), 2)
    file.unlink()
    assert str(parse_variant(before)) == before, "old runs stay readable without it"


WRONG_IDS = {
    b"p1\np99\n": "line 2: 'p99' is the id of no example that can be a shot of toy",
    b"p1\np2\np1\n": "line 3: 'p1' stands in line 1 already",
    b"\n \n": "the file names no example",
    b"p1\n\xff\xfe": "the file is not UTF-8 text",
}


@pytest.mark.parametrize("text", WRONG_IDS)
def test_a_wrong_file_of_ids_is_one_line(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "shots.txt"
    file.write_bytes(text)
    with pytest.raises(SpecError, match=WRONG_IDS[text]) as caught:
        shown(f"ids={file}", pool_of(LABELS), 2)
    assert "\n" not in str(caught.value)


WRONG = {
    "repeat=0": "repeat takes a whole number of 1 or more, as in repeat=4; '0' is not one",
    "repeat": "as in repeat=4; none is given",
    "balanced=2": "balanced takes no argument",
    "ids=": "ids takes a file .*, as in ids=shots.txt; '' is not one",
    "ids=no-such-file.txt": "cannot read the file .No such file or directory.",
    "repeat=4+nearest=TFIDF": "nearest chooses the shots of each query itself, which repeat cannot",
    "balanced+nearest=TFIDF": "which balanced cannot change",
    "nearest=TFIDF+shuffled": "which shuffled cannot change",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_is_one_line(text: str) -> None:
    with pytest.raises(SpecError, match=WRONG[text]) as caught:
        parse_variant(text)
    assert "\n" not in str(caught.value)


def test_labels_are_needed_where_they_matter() -> None:
    free = Task(generate=lambda *_: ([], []), prompts="solve", scorer=label_match, name="free")
    with pytest.raises(SpecError, match="no fixed labels, which balanced needs"):
        check_variant(parse_variant("balanced"), free, ["supervised"])
    for mode in ("reinforced", "unsupervised"):
        with pytest.raises(SpecError, match=f"shuffled would do nothing in {mode} mode"):
            check_variant(parse_variant("shuffled"), free, [mode])


def test_a_variant_says_what_prompts_share_and_whose_labels_it_shows() -> None:
    assert parse_variant("balanced+repeat=4").shared == ""
    assert parse_variant("shuffled").shared == (
        "answers are shuffled among the shots for each count, so that prompts of other counts "
        "share no shots"
    )
    assert parse_variant("order=1+shuffled").shared.startswith(
        "shots are reordered and answers are shuffled among the shots for each count"
    )
    assert parse_variant("shuffled").changes_labels
    assert not parse_variant("balanced+repeat=4").changes_labels
