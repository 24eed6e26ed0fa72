"""Operators: what each does to the shots of a prompt, and what holds of longer prompts."""

from __future__ import annotations

from collections import Counter

import pytest

from icl_harness.draws import draw_order
from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.prompts.modes import MODES, PromptPath, gold_shots
from icl_harness.prompts.operators.registry import Context
from icl_harness.prompts.template import Template
from icl_harness.prompts.tree import Prompt, Shot
from icl_harness.prompts.variants import parse_variant, shot_source

TEMPLATE = Template(
    """\
{% block preamble %}Which?
{% endblock %}
{% block shot %}{{ input }} ->{% if target is not none %} {{ target }}{% endif %}
{% endblock %}
{% block format %}Answer.
{% endblock %}
{% block query %}{{ input }} ->{% endblock %}
""",
    "toy.jinja",
)
LABELS = ("red", "green", "blue")
WORDS = ("apple", "leaf", "sky", "rose", "moss", "sea")
POOL = [
    Example(
        id=f"p{i}",
        input=f"{WORDS[i % 6]} {WORDS[i // 6]} {i}",
        target=LABELS[i % 3],
        choices=LABELS,
    )
    for i in range(36)
]
QUERY = Example(id="q", input="apple of the sea", target="red", choices=LABELS)


def path(variant, *, mode="supervised", draw=0, seed=0, pool=POOL, solved=(), **options):
    order = draw_order(pool, seed, draw, "toy")
    context = Context(task="toy", seed=seed, draw=draw, labels=LABELS, solved=solved)
    source = shot_source(parse_variant(variant), order, context, lambda e: gold_shots(e, mode))
    return PromptPath(TEMPLATE, mode, source, {"labels": LABELS}, **options)


def shown(variant, k, **options) -> list[Shot]:
    return path(variant, **options).node(k).shots


def ids(shots) -> list[str]:
    return [shot.id for shot in shots]


@pytest.mark.parametrize("variant", ["noise=0", "order=0", "default"])
@pytest.mark.parametrize("k", [0, 1, 7, 36])
def test_an_operator_that_changes_nothing_gives_the_prompts_of_default(variant, k) -> None:
    assert path(variant).node(k).hash == path("default").node(k).hash


def test_a_noisy_shot_is_noisy_in_every_longer_prompt_and_in_the_same_way() -> None:
    longest = shown("noise=0.5", 36)
    for k in range(36):
        assert shown("noise=0.5", k) == longest[:k]


def test_noise_grows_with_its_share_and_shows_the_other_labels_alike() -> None:
    many = [
        Example(id=str(i), input=f"n {i}", target=LABELS[i % 3], choices=LABELS)
        for i in range(3000)
    ]
    right = {e.id: e.target for e in many}
    wrong = {}
    for share in ("0.1", "0.3", "1"):
        shots = shown(f"noise={share}", 3000, pool=many)
        wrong[share] = {s.id: s.target for s in shots if s.target != right[s.id]}
        assert len(wrong[share]) / 3000 == pytest.approx(float(share), abs=0.03)
    assert wrong["0.1"].items() <= wrong["0.3"].items() <= wrong["1"].items()
    pairs = Counter((right[id], label) for id, label in wrong["1"].items())
    assert len(pairs) == 6
    assert all(count == pytest.approx(500, abs=70) for count in pairs.values())


def test_noise_differs_between_draws_and_seeds_and_comes_again_with_the_same_ones() -> None:
    def noisy(**options):
        by_id = {shot.id: shot.target for shot in shown("noise=0.5", 36, **options)}
        return [by_id[example.id] for example in POOL]

    assert noisy(draw=1) == noisy(draw=1)
    assert noisy(draw=1) != noisy(draw=2)
    assert noisy(seed=1) != noisy(seed=2)


def test_noise_needs_choices() -> None:
    free = [Example(id="a", input="x", target="y")]
    with pytest.raises(SpecError, match=r"task toy: noise needs other labels .* example a has no"):
        path("noise=0.5", pool=free)


@pytest.mark.parametrize("variant", ["sorted", "order=1", "order=2", "order=1+sorted"])
@pytest.mark.parametrize("k", [0, 1, 5, 36])
def test_another_order_is_of_the_same_k_shots(variant, k) -> None:
    assert sorted(ids(shown(variant, k))) == sorted(ids(shown("default", k)))


def test_sorted_shots_stand_by_label_and_within_a_label_as_drawn() -> None:
    shots = shown("sorted", 20)
    ranks = [LABELS.index(shot.target or "") for shot in shots]
    assert ranks == sorted(ranks)
    drawn = ids(shown("default", 20))
    for label in LABELS:
        of_label = [shot.id for shot in shots if shot.target == label]
        assert of_label == [id for id in drawn if id in of_label]


def test_orders_differ_by_number_and_draw_and_are_no_prefixes_of_each_other() -> None:
    orders = [ids(shown(f"order={n}", 12)) for n in range(4)]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[1] == ids(shown("order=1", 12))
    assert ids(shown("order=1", 6)) != orders[1][:6]
    assert not parse_variant("order=1").steps[0].operator.nested


def test_operators_of_shots_are_applied_as_written() -> None:
    assert ids(shown("sorted+order=1", 12)) != ids(shown("order=1+sorted", 12))
    ranks = [LABELS.index(shot.target or "") for shot in shown("order=1+sorted", 12)]
    assert ranks == sorted(ranks)


def test_a_node_of_another_order_ends_in_the_cut_of_its_count_alone() -> None:
    node = path("order=1", cuts=(0, 2, 5)).node(5)
    assert [edge.n_shots for edge in node.path if edge.cut] == [0, 5]


@pytest.mark.parametrize("mode", ["supervised", "unsupervised"])
def test_the_bank_variant_shows_the_solved_problems_in_the_order_of_the_draw(mode) -> None:
    solved = {"p3", "p14", "p7", "p30"}
    prompts = path("bank", mode=mode, solved=solved)
    drawn = [id for id in ids(shown("default", 36)) if id in solved]
    assert ids(prompts.shots) == ids(prompts.node(4).shots) == drawn
    assert ids(prompts.node(2).shots) == drawn[:2]


def test_wrong_labels_of_solved_problems_sorted_by_the_labels_that_are_shown() -> None:
    shots = shown("noise=1+bank+sorted", 5, solved={f"p{i}" for i in range(10)})
    ranks = [LABELS.index(shot.target or "") for shot in shots]
    assert ranks == sorted(ranks)
    assert {shot.id for shot in shots} <= {f"p{i}" for i in range(10)}
    assert all(shot.target != POOL[int(shot.id[1:])].target for shot in shots)


def cosines(texts, query):
    """TF-IDF cosines as scikit-learn gives them, for whole matrices."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    vectorizer = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", sublinear_tf=True)
    return cosine_similarity(vectorizer.fit_transform(texts), vectorizer.transform([query])).ravel()


def test_nearest_shots_are_those_of_the_highest_cosine_the_most_similar_last() -> None:
    prompts = path("nearest=TFIDF")
    similar = dict(zip(ids_of_pool(), cosines([e.input for e in POOL], QUERY.input), strict=True))
    for k in (1, 5, 36):
        own = ids(prompts.query(QUERY, k).own_shots)
        assert len(own) == k
        values = [similar[id] for id in own]
        assert values == pytest.approx(sorted(similar.values())[-k:])


def ids_of_pool() -> list[str]:
    return [example.id for example in POOL]


def test_of_equally_similar_examples_the_first_of_the_draw_is_taken() -> None:
    pool = [Example(id=f"p{i}", input=f"word {i}", target="red") for i in range(10)]
    query = Example(id="q", input="word", target="red")
    by_draw = [
        ids(path("nearest=TFIDF", pool=pool, draw=d).query(query, 3).own_shots) for d in (0, 1)
    ]
    assert by_draw[0] != by_draw[1]
    for draw, found in enumerate(by_draw):
        drawn = [example.id for example in draw_order(pool, 0, draw, "toy")]
        assert found == drawn[:3][::-1]


def test_fewer_nearest_shots_are_the_last_of_more() -> None:
    prompts = path("nearest=TFIDF")
    most = ids(prompts.query(QUERY, 12).own_shots)
    for k in range(1, 12):
        assert ids(prompts.query(QUERY, k).own_shots) == most[-k:]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["text", "chat"])
def test_nearest_shots_stand_below_the_preamble_and_read_as_shared_ones_do(mode, form) -> None:
    prompts = path("nearest=TFIDF", mode=mode, format=form)
    query = prompts.query(QUERY, 3)
    assert prompts.selects
    assert prompts.node(3) is prompts.node(0)
    order = [POOL[ids_of_pool().index(id)] for id in ids(query.own_shots)]
    flat = PromptPath(TEMPLATE, mode, gold_shots(order, mode), {"labels": LABELS}, format=form)
    wanted = Prompt(flat.node(3), flat.query(QUERY))
    assert Prompt(prompts.node(3), query).text == wanted.text
    assert Prompt(prompts.node(3), query).hash == wanted.hash


def test_nearest_of_the_bank_is_chosen_among_the_solved_problems() -> None:
    solved = {"p1", "p2", "p5"}
    prompts = path("bank+nearest=TFIDF", solved=solved)
    assert set(ids(prompts.query(QUERY, 3).own_shots)) == solved
    assert len(prompts.shots) == 3


def test_inputs_without_a_word_or_mark_are_taken_in_the_order_of_the_draw() -> None:
    pool = [Example(id=f"p{i}", input=" " * (i + 1), target="red") for i in range(4)]
    found = path("nearest=TFIDF", pool=pool).query(QUERY, 2).own_shots
    drawn = [example.id for example in draw_order(pool, 0, 0, "toy")]
    assert ids(found) == drawn[:2][::-1]
