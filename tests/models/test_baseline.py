"""Reference learners: held to the published baselines of the linear task, and to real text."""

from __future__ import annotations

import asyncio
import csv
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from icl_harness.errors import ModelError, SpecError
from icl_harness.models.base import Sampling
from icl_harness.models.baseline import NAMES, OF_SHOTS, _numbers, open_baseline
from icl_harness.prompts.tree import Edge, Node, Query, Shot
from tests.prompts.test_similarity import bm25

PARTS = ("train", "test")
DATA = Path(__file__).parents[3] / "shared/data"


def node_of(shots, mode=""):
    node = Node("preamble\n", mode=mode)
    for i, (text, target) in enumerate(shots):
        node = node.child(f"{text}\n", Shot(id=f"s{i}", input=text, target=target))
    return node


def ask(model, node, inputs, choices=(), sampling=None, **fields):
    async def collect():
        queries = [
            Query(
                id=f"q{i}", text=f"{text} ->", input=text, choices=tuple(choices), seed=i, **fields
            )
            for i, text in enumerate(inputs)
        ]
        return [batch async for batch in model.answers(node, queries, sampling or Sampling())]

    batches = asyncio.run(collect())
    assert len(batches) == (1 if inputs else 0)
    return batches[0] if batches else []


def texts(name, shots, inputs, choices=(), mode="", **options):
    model = open_baseline(name, id=f"baseline/{name}", **options)
    return [answer.text for answer in ask(model, node_of(shots, mode), inputs, choices)]


# ------------------------------------------------------------------- the linear task
# (facts/many_shot_icl.md, 2d)

# Accuracy in percent over 60 data sets of 50 evaluation points, by shots per class.
PUBLISHED = {
    ("knn", 16): {4: 66.2, 16: 75.1, 64: 79.9, 512: 84.9},
    ("knn", 32): {4: 60.5, 16: 67.0, 64: 73.2, 512: 78.5},
    ("knn", 64): {4: 60.6, 16: 63.9, 64: 68.4, 512: 73.7},
    ("logreg", 16): {4: 68.4, 16: 84.9, 64: 95.3, 512: 98.4},
    ("logreg", 32): {4: 63.0, 16: 77.2, 64: 90.3, 512: 98.0},
    ("logreg", 64): {4: 60.8, 16: 70.9, 64: 85.0, 512: 97.7},
}
N_DATASETS, N_PUBLISHED = 20, 60


@cache
def linear_dataset(n_numbers, seed, per_class=512, n_eval=25):
    """Agarwal et al. 2024, A.5: Foo where a.x is above the threshold a.pivot, Bar where it is
    below.
    """
    rng = np.random.default_rng((n_numbers, seed))
    coefficients, pivot = rng.integers(1, 1000, size=(2, n_numbers))
    found = {"Foo": np.empty((0, n_numbers), int), "Bar": np.empty((0, n_numbers), int)}
    while min(map(len, found.values())) < per_class + n_eval:
        points = rng.integers(1, 1000, size=(4096, n_numbers))
        above = (points - pivot) @ coefficients
        for label, of_label in (("Foo", above > 0), ("Bar", above < 0)):
            found[label] = np.vstack([found[label], points[of_label]])[: per_class + n_eval]
    lines = {
        label: [(" ".join(map(str, point)), label) for point in points]
        for label, points in found.items()
    }
    shots = [
        shot for pair in zip(lines["Foo"][:per_class], lines["Bar"], strict=False) for shot in pair
    ]
    return shots, lines["Foo"][-n_eval:] + lines["Bar"][-n_eval:]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_numbers"), PUBLISHED)
def test_baselines_reproduce_the_published_accuracy_on_the_linear_task(name, n_numbers):
    model = open_baseline(name, id=f"baseline/{name}")
    scores = {per_class: [] for per_class in PUBLISHED[name, n_numbers]}
    for seed in range(N_DATASETS):
        shots, queries = linear_dataset(n_numbers, seed)
        for per_class, so_far in scores.items():
            answers = ask(
                model, node_of(shots[: 2 * per_class]), [q for q, _ in queries], ("Foo", "Bar")
            )
            so_far.append(
                100
                * np.mean([a.text == label for a, (_, label) in zip(answers, queries, strict=True)])
            )
    for per_class, so_far in scores.items():
        se = np.std(so_far, ddof=1) * np.sqrt(1 / N_DATASETS + 1 / N_PUBLISHED)
        assert abs(np.mean(so_far) - PUBLISHED[name, n_numbers][per_class]) < 3 * se, per_class


# --------------------------------------------------------------------------------------------------
# real text


def read(name):
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"the real data sets are not here: ../shared/data/{name}")
    if name == "banking77":
        parts = [
            (folder / f"{part}.csv").read_text(encoding="utf-8").splitlines(keepends=True)
            for part in PARTS
        ]
        return [[(row["text"], row["category"]) for row in csv.DictReader(part)] for part in parts]
    parts = [(folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines() for part in PARTS]
    return [[(row["text"], row["coarse_label"]) for row in map(json.loads, part)] for part in parts]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "name", "least"),
    [
        ("banking77", "knn", 0.5),
        ("banking77", "logreg", 0.6),
        ("banking77", "bm25", 0.5),
        ("trec", "knn", 0.65),
        ("trec", "bm25", 0.6),
        ("trec", "logreg", 0.75),
    ],
)
def test_curves_on_real_text_rise_with_shots(dataset, name, least):
    pool, test = read(dataset)
    choices = tuple(sorted({label for _, label in pool}))
    model = open_baseline(name, id=f"baseline/{name}")
    rng = np.random.default_rng(0)
    queries = [test[i] for i in rng.permutation(len(test))[:300]]
    orders = [rng.permutation(len(pool))[:1024] for _ in range(2)]
    curve = []
    for n_shots in (4, 16, 64, 256, 1024):
        right = []
        for order in orders:
            answers = ask(
                model, node_of([pool[i] for i in order[:n_shots]]), [q for q, _ in queries], choices
            )
            right += [a.text == label for a, (_, label) in zip(answers, queries, strict=True)]
        curve.append(np.mean(right))
    assert np.all(np.diff(curve) > 0), curve
    assert curve[-1] > least, curve


# --------------------------------------------------------------------------------------------------
# rules


@pytest.mark.parametrize("name", OF_SHOTS)
def test_with_nothing_seen_the_seed_of_the_query_draws_from_the_choices(name):
    inputs = [f"text {i}" for i in range(400)]
    for shots in ([], [("a word", None), ("another", None)]):
        drawn = texts(name, shots, inputs, ("x", "y", "z"))
        assert all(100 < drawn.count(choice) < 170 for choice in "xyz")
        assert drawn == texts(name, shots, inputs, ("x", "y", "z"))
    assert texts(name, [], ["text"]) == [""]


@pytest.mark.parametrize("name", OF_SHOTS)
def test_one_class_is_predicted_for_all(name):
    assert texts(name, [("some text", "a"), ("more", "a")], ["text", "3 4"], ("a", "b")) == [
        "a",
        "a",
    ]


def test_majority_takes_the_commonest_and_of_several_the_first_seen():
    assert texts("majority", [("u", "a"), ("v", "b"), ("w", "b")], ["u"]) == ["b"]
    assert texts("majority", [("u", "b"), ("v", "a")], ["u"]) == ["b"]


def test_unlabelled_shots_are_ignored():
    assert texts("majority", [("u", None), ("v", "a"), ("w", None)], ["u"]) == ["a"]


@pytest.mark.parametrize("name", ["knn", "bm25", "logreg"])
def test_free_answers_are_learned_as_classes(name):
    shots = [
        ("how many apples in a box", "12"),
        ("the height of the tower", "330"),
        ("apples in two boxes", "12"),
    ]
    assert texts(name, shots, ["apples in the box"]) == ["12"]


@pytest.mark.parametrize("name", ["knn", "logreg"])
def test_a_query_that_is_not_like_the_numeric_shots_gets_the_majority(name):
    shots = [
        ("1 2", "low"),
        ("2 1", "low"),
        ("1 1", "low"),
        ("9 8", "high"),
        ("8 9", "high"),
        ("9, 9", "high"),
        ("0 0", "low"),
    ]
    assert texts(name, shots, ["9 9.5", "words", "1 2 3", "nan inf"]) == [
        "high",
        "low",
        "low",
        "low",
    ]


@pytest.mark.parametrize("name", ["knn", "bm25", "logreg"])
def test_blank_inputs_leave_the_majority(name):
    assert texts(name, [(" ", "a"), ("", "b"), (" ", "b")], ["text"]) == ["b"]


def test_numbers_are_read_as_numbers_and_not_as_words():
    shots = [(f"{i} {i}", "low") for i in range(10, 15)] + [
        (f"{i} {i}", "high") for i in range(90, 95)
    ]
    assert texts("knn", shots, ["21 22", "80 81"]) == ["low", "high"]


def test_bm25_gives_the_label_of_the_shot_that_is_most_like_by_the_published_formula():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(12)]
    inputs = [" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(60)]
    asked = [" ".join(rng.choice(words, rng.integers(1, 6))) for _ in range(200)]
    found = texts("bm25", [(text, f"label {i}") for i, text in enumerate(inputs)], asked)
    for query, label in zip(asked, found, strict=True):
        scores = np.round(bm25(inputs, query), 12)
        assert label == f"label {np.flatnonzero(scores == scores.max())[0]}"


def test_bm25_takes_the_first_of_equal_shots_and_without_a_common_word_the_majority():
    shots = [("red ball", "a"), ("blue sea", "c"), ("ball red", "b"), ("sea of blue", "c")]
    asked = ["the red ball", "green grass", "", "blue"]
    assert texts("bm25", shots, asked, ("a", "b", "c")) == ["a", "c", "c", "c"]
    assert texts("bm25", shots[::-1], asked[:1], ("a", "b", "c")) == ["b"]


def test_to_bm25_numbers_are_words():
    shots = [("10 11", "4"), ("90 91", "7"), ("12 13", "4")]
    assert texts("bm25", shots, ["91 5", "89 92"]) == ["7", "4"]


def test_a_node_is_fitted_once():
    model = open_baseline("knn", id="baseline/knn")
    fitted, fit = [], model._fit
    model._fit = lambda shots, mode: fitted.append(list(shots)) or fit(shots, mode)
    first, second = node_of([("u", "a"), ("v", "b")]), node_of([("u", "b"), ("v", "a")])
    for node in (first, first, second):
        ask(model, node, ["u"])
    assert fitted == [first.shots, second.shots]
    assert ask(model, first, []) == []


@pytest.mark.parametrize("name", OF_SHOTS)
def test_a_querys_own_shots_are_learned_with_those_of_the_node(name):
    """As of one prompt that holds them all, and only by that query."""
    pairs = [("red ball", "a"), ("blue sea", "b"), ("blue sky", "b"), ("red brick", "a")]
    whole = node_of([*pairs, ("green leaf", "c"), ("green tree", "c"), ("green pea", "c")])
    node = whole.path[len(pairs)]
    own = tuple(Edge(text=node.segment, shot=node.shot) for node in whole.path[len(pairs) + 1 :])
    model = open_baseline(name, id=f"baseline/{name}")
    [with_own] = ask(model, node, ["green grass"], own=own)
    [flat], [without] = ask(model, whole, ["green grass"]), ask(model, node, ["green grass"])
    assert with_own.text == flat.text == "c"
    assert without.text in "ab"


def test_answers_carry_their_query_and_no_token_counts():
    model = open_baseline("majority", id="baseline/majority")
    (answer,) = ask(model, node_of([("u", "a")]), ["v"], sample=3)
    assert (model.id, answer.query_id, answer.sample, answer.text) == (
        "baseline/majority",
        "q0",
        3,
        "a",
    )
    assert answer.usage.prompt_tokens is None
    assert answer.usage.cost_usd is None
    assert "scikit-learn" in model.describe()


def test_the_answer_is_worded_as_the_prompt_wants_it():
    model = open_baseline("majority", id="baseline/majority")
    node = node_of([("u", "b")])
    worded = {"continuations": (" The answer is (a).", " The answer is (b).")}
    (generated,) = ask(model, node, ["v"], ("a", "b"), **worded)
    (scored,) = ask(model, node, ["v"], ("a", "b"), Sampling(scoring="choices"), **worded)
    assert (generated.text, scored.text) == (" The answer is (b).", "b")


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(
        ModelError, match=r"There are baseline/majority.*baseline/ceiling\. Nearest: logreg"
    ) as raised:
        open_baseline("baseline/logrek", id="baseline/logrek")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["bayes", "ceiling"])
def test_exact_learners_need_a_task_that_ships_one(name):
    with pytest.raises(
        ModelError, match=f"baseline/{name} needs a task that ships its exact learner"
    ):
        open_baseline(name, id=f"baseline/{name}")


class Recorder:
    """An exact learner that says what it was made from."""

    made: list = []  # noqa: RUF012

    def __init__(self, shots, mode, ceiling):
        self.made.append((shots, mode, ceiling))

    def predict(self, query):
        return {"a": 0.2, "b": 0.5, "c": 0.3} if query == "u" else np.array([0.4, 0.2, 0.4])


@pytest.mark.parametrize(("name", "ceiling"), [("bayes", False), ("ceiling", True)])
def test_exact_learners_get_shots_mode_and_prior(name, ceiling):
    Recorder.made.clear()
    choices = ("a", "b", "c")
    assert texts(name, [("u", "a")], ["u"], choices, learner=Recorder) == ["b"]
    assert texts(name, [("u", None)], ["u"], choices, learner=Recorder) == ["b"]
    ties = texts(name, [], ["v"] * 100, choices, mode="unsupervised", learner=Recorder)
    assert Recorder.made == [
        ([("u", "a")], "supervised", ceiling),
        ([("u", None)], "unsupervised", ceiling),
        ([], "unsupervised", ceiling),
    ]
    assert set(ties) == {"a", "c"}


def test_shots_that_an_exact_learner_cannot_read_are_one_line():
    def learner(shots, mode, ceiling):
        raise ValueError("a target is one of north, east; got 'A'.")

    with pytest.raises(
        SpecError, match="cannot read these shots: a target is one of north, east; got 'A'"
    ):
        texts("bayes", [("u", "A")], ["u"], ("A",), learner=learner)


def test_the_dialects_learner_learns_in_both_modes():
    dialects = pytest.importorskip("icl_harness.tasks.dialect_world")
    rng = np.random.default_rng(4)
    curves = {mode: [] for mode in ("supervised", "unsupervised")}
    episodes = [
        dialects.Episode.sample(rng, map_kind="default").draw(rng, 64 + 40) for _ in range(12)
    ]
    for mode, curve in curves.items():
        for n_shots in (0, 8, 64):
            right = []
            for pairs in episodes:
                shots = [
                    (text, target if mode == "supervised" else None)
                    for text, target in pairs[:n_shots]
                ]
                inputs = [text for text, _ in pairs[64:]]
                given = texts(
                    "ceiling",
                    shots,
                    inputs,
                    dialects.LABELS,
                    mode=mode,
                    learner=dialects.BayesLearner,
                )
                right += [a == target for a, (_, target) in zip(given, pairs[64:], strict=True)]
            curve.append(np.mean(right))
    # Issue 2: supervised .43, 1.0, 1.0 and unsupervised .48, .79, 1.0 at 0, 8 and 64 shots; 480
    # answers are +-.05.
    assert curves["supervised"] == pytest.approx([0.45, 1.0, 1.0], abs=0.08)
    assert curves["unsupervised"] == pytest.approx([0.45, 0.79, 1.0], abs=0.12)


def test_all_names_open():
    for name in NAMES:
        assert open_baseline(f"baseline/{name}", id=name, learner=Recorder).id == name


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("12 7 988", [12, 7, 988]),
        ("0.5, 1", [0.5, 1]),
        ("age: 41, height: 1.8", [41, 1.8]),
        ("bill_length_mm: 39.5, x: -1e3", [39.5, -1000]),
        ("age: 41", [41]),
        ("age: 41, city: Bonn", []),
        ("age: missing, height: 2", []),
        ("x1: 5, x2: 6", [5, 6]),
        ("What is 5 + 5?", []),
        ("12: 7", []),
        ("nan, 1", []),
        ("", []),
    ],
)
def test_lists_of_numbers_are_read_with_or_without_the_names_of_columns(
    text: str, numbers: list[float]
) -> None:
    assert _numbers(text) == numbers


def said_numbers(name, inputs, targets, asked, choices=()):
    model = open_baseline(f"baseline/{name}", id=name)
    node = Node("")
    for number, (text, target) in enumerate(zip(inputs, targets, strict=True)):
        node = node.child("x", Shot(id=f"s{number}", input=text, target=target))
    queries = [
        Query(id=f"q{n}", text=text, input=text, choices=choices) for n, text in enumerate(asked)
    ]

    async def collect():
        return [a async for part in model.answers(node, queries, Sampling()) for a in part]

    return [answer.text for answer in asyncio.run(collect())]


def test_numbers_are_learned_as_numbers_where_there_are_no_choices() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(3)
    rows = rng.normal(size=(40, 3)).round(3)
    golds = (rows @ [1, -2, 3] + 100).round(2)
    texts = [", ".join(f"c{i}: {cell}" for i, cell in enumerate(row)) for row in rows]
    targets = [str(gold) for gold in golds]
    for name, learner in (
        ("knn", KNeighborsRegressor(5)),
        ("logreg", make_pipeline(StandardScaler(), Ridge())),
    ):
        expected = learner.fit(rows[:30], golds[:30]).predict(rows[30:])
        said = said_numbers(name, texts[:30], targets[:30], texts[30:])
        assert [float(text) for text in said] == pytest.approx(list(expected), abs=0.0051)
    labels = said_numbers("knn", texts[:30], ["0", "1"] * 15, texts[30:], ("0", "1"))
    assert set(labels) <= {"0", "1"}
    words = said_numbers("knn", ["red", "blue"] * 5, ["1", "2"] * 5, ["red"])
    assert words == ["1"]
    other = said_numbers("knn", texts[:30], targets[:30], ["c0: 1"])
    assert float(other[0]) == pytest.approx(float(golds[:30].mean()), abs=0.0051)
    whole = said_numbers(
        "logreg", texts[:30], [str(round(gold)) for gold in golds[:30]], texts[30:]
    )
    assert all(text.lstrip("-").isdigit() for text in whole)
