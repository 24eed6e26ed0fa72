"""The dialects world: its exact learner against brute force, its texts, its tokenizer and its
bundled model.
"""

from __future__ import annotations

import hashlib
import itertools
import sys

import jinja2
import numpy as np
import pytest

from icl_harness.tasks import dialect_world as dialects
from icl_harness.tasks.dialect_world import (
    LABELS,
    WORDS,
    BayesLearner,
    Episode,
    bayes,
    render_prompt,
    render_shot,
    world,
)
from tests.conftest import ROOT

MODEL = ROOT / "icl_harness" / "demo_model"
SHOTS = (0, 1, 2, 4, 8, 16, 32, 64)
# The exact learner's accuracies over SHOTS that the project was planned with.
PLANNED = {
    "supervised": (0.43, 0.71, 0.92, 0.99, 1.0, 1.0, 1.0, 1.0),
    "unsupervised": (0.48, 0.50, 0.54, 0.65, 0.79, 0.92, 0.98, 1.0),
}


@pytest.fixture(scope="module")
def batches():
    """The training script's batch maker."""
    sys.path.insert(0, str(ROOT / "training"))
    try:
        import batches
    finally:
        sys.path.pop(0)
    return batches


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def model():
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(MODEL).eval()


def by_enumeration(shots, query, mode, ceiling):
    """p(label) by summing, in plain floats, over dialects, map kinds and every random map of the
    words that occur.
    """
    labelled = mode != "unsupervised"
    prior = {"default": 1.0, "flipped": 0.0, "random": 0.0}
    if labelled and not ceiling:
        prior = {
            "default": dialects.P_DEFAULT,
            "flipped": dialects.P_FLIPPED,
            "random": dialects.P_RANDOM,
        }
    words = [[WORDS.index(word) for word in text.split()] for text, _ in shots]
    first, second = (WORDS.index(word) for word in query.split())
    occurring = sorted({pair[0] for pair in words} | {first})
    total = [0.0] * 4
    for dialect in range(dialects.N_DIALECTS):
        p_words = np.prod(
            [
                world().frequencies[dialect, word]
                for pair in [*words, [first, second]]
                for word in pair
            ]
        )
        taught = {word: int(world().labels[dialect, word]) for word in occurring}
        maps = [
            (prior["default"], taught),
            (prior["flipped"], {word: (i + 1) % 4 for word, i in taught.items()}),
        ]
        for values in itertools.product(range(4), repeat=len(occurring)):
            maps.append(
                (prior["random"] / 4 ** len(occurring), dict(zip(occurring, values, strict=True)))
            )
        for p_map, labels in maps:
            said = [LABELS[labels[pair[0]]] for pair in words]
            if not labelled or said == [target for _, target in shots]:
                total[labels[first]] += p_words * p_map
    return [x / sum(total) if sum(total) else 0.25 for x in total]


@pytest.mark.parametrize("mode", ["supervised", "reinforced", "unsupervised"])
@pytest.mark.parametrize("ceiling", [False, True])
@pytest.mark.parametrize("map_kind", ["default", "flipped", "random"])
def test_bayes_equals_enumeration_of_all_worlds(mode, ceiling, map_kind):
    rng = np.random.default_rng(5)
    for n_shots in (0, 1, 2, 3, 4, 4, 4):
        episode = Episode.sample(rng, map_kind=map_kind)
        shots, (query, _) = episode.draw(rng, n_shots), episode.draw(rng, 1)[0]
        if n_shots:
            query = f"{shots[0][0].split()[0]} {query.split()[1]}"  # a first word seen before
        expected = by_enumeration(shots, query, mode, ceiling)
        np.testing.assert_allclose(
            bayes(shots, query, mode, ceiling), expected, rtol=1e-9, atol=1e-12
        )


def test_many_queries_and_growing_learners_agree_with_one_by_one():
    rng = np.random.default_rng(6)
    episode = Episode.sample(rng, map_kind="random")
    shots, queries = episode.draw(rng, 64), [text for text, _ in episode.draw(rng, 100)]
    growing = BayesLearner()
    for shot in shots:
        growing.add(*shot)
    np.testing.assert_array_equal(
        growing.predict_many(queries), BayesLearner(shots).predict_many(queries)
    )
    for query, row in zip(queries[:5], growing.predict_many(queries), strict=False):
        np.testing.assert_allclose(bayes(shots, query, "supervised"), row)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["supervised", "unsupervised"])
def test_bayes_scores_what_was_planned(mode):
    rng = np.random.default_rng(7)
    right = np.zeros(len(SHOTS))
    n_episodes, n_queries = 240, 10
    for i in range(n_episodes):
        episode = Episode.sample(rng, dialect=i % dialects.N_DIALECTS, map_kind="default")
        shots, queries = episode.draw(rng, max(SHOTS)), episode.draw(rng, n_queries)
        learner, at = BayesLearner(mode=mode), 0
        for k, n_shots in enumerate(SHOTS):
            for shot in shots[at:n_shots]:
                learner.add(*shot)
            at = n_shots
            said = learner.predict_many([text for text, _ in queries]).argmax(axis=1)
            right[k] += sum(
                LABELS[a] == target for a, (_, target) in zip(said, queries, strict=True)
            )
    # 3 standard errors of 240 episodes (queries of one share their shots), and 2 points for another
    # draw of the world
    np.testing.assert_allclose(right / (n_episodes * n_queries), PLANNED[mode], atol=0.06)


def test_the_ceiling_knows_no_remapped_words():
    shots = [
        ("bamo beku", label) for label in ("north", "south")
    ]  # one word, two labels: nothing fits
    np.testing.assert_array_equal(bayes(shots, "bamo zilo", "supervised", ceiling=True), [0.25] * 4)


@pytest.mark.parametrize("text", ["bamo", "bamo bamo bamo", "bamo house", ""])
def test_an_input_is_two_words_of_the_world(text):
    with pytest.raises(ValueError, match="two of its 32 words"):
        bayes([], text, "supervised")


def test_a_labelled_shot_needs_a_target():
    with pytest.raises(ValueError, match="one of north, east, south, west"):
        bayes([("bamo beku", None)], "bamo beku", "supervised")


def test_the_world_is_the_one_the_model_was_trained_on():
    rounded = (
        np.round(world().frequencies * 1e6).astype("<i8").tobytes()
        + world().labels.astype("<i8").tobytes()
    )
    assert hashlib.sha256(rounded).hexdigest()[:16] == "fa527ce07b0c54d5"
    np.testing.assert_allclose(world().frequencies.sum(axis=1), 1.0)
    assert len(set(WORDS)) == 32


def test_episodes_map_labels_as_their_kind_says():
    rng = np.random.default_rng(8)
    taught = world().labels[3]
    assert Episode.sample(rng, 3, "default").labels == tuple(taught)
    assert Episode.sample(rng, 3, "flipped").labels == tuple((taught + 1) % 4)
    assert Episode.sample(rng, 3, "random").labels != Episode.sample(rng, 3, "random").labels
    kinds = [Episode.sample(rng).map_kind for _ in range(4000)]
    shares = [kinds.count(kind) / 4000 for kind in dialects.MAP_KINDS]
    np.testing.assert_allclose(
        shares, [dialects.P_DEFAULT, dialects.P_FLIPPED, dialects.P_RANDOM], atol=0.03
    )


@pytest.mark.parametrize("mode", ["supervised", "reinforced", "unsupervised"])
def test_the_template_writes_the_text_the_model_was_trained_on(mode):
    loader = jinja2.FileSystemLoader(ROOT / "prompts")
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    template = environment.get_template("dialects.jinja")

    def block(name, **values):
        context = template.new_context({"mode": mode, "labels": LABELS, **values})
        return "".join(template.blocks[name](context))

    shots = Episode.sample(np.random.default_rng(9)).draw(np.random.default_rng(9), 3)
    labelled = mode != "unsupervised"
    lines = [
        block("shot", input=text, target=target if labelled else None) for text, target in shots
    ]
    assert lines == [render_shot(text, target if labelled else None) for text, target in shots]
    middle = "" if labelled else block("format", examples=[])
    whole = block("preamble") + "".join(lines) + middle + block("query", input="bamo beku")
    assert whole == render_prompt(shots, "bamo beku", mode)


@pytest.mark.slow
def test_any_text_survives_the_tokenizer(tokenizer):
    rng = np.random.default_rng(10)
    texts = [bytes(rng.integers(0, 256, 400, dtype=np.uint8)).decode("latin-1") for _ in range(20)]
    texts += [
        "",
        "\n\n bamo\t bamo,\r\n  beku  ",
        "日本語 — naïve 🙂\u3000x",
        "bamobamo -> northeast\x00 ",
    ]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert (
            tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            == text
        )


@pytest.mark.parametrize("mode", ["supervised", "unsupervised"])
def test_segments_tokenise_as_the_whole_prompt_does(tokenizer, mode):
    rng = np.random.default_rng(11)
    shots = Episode.sample(rng).draw(rng, 5)
    whole = render_prompt(shots, "bamo beku", mode)
    segments = whole.splitlines(keepends=True)
    assert [i for segment in segments for i in tokenizer(segment)["input_ids"]] == tokenizer(whole)[
        "input_ids"
    ]
    per_shot = 5 if mode == "supervised" else 3
    assert len(tokenizer(segments[1])["input_ids"]) == per_shot
    answers = [tokenizer(f" {label}")["input_ids"] for label in LABELS]
    assert [len(answer) for answer in answers] == [1] * 4


def test_training_batches_hold_the_exact_posteriors_of_their_own_text(batches, tokenizer):
    rng = np.random.default_rng(12)
    spelling = batches.Spelling(tokenizer)
    batch = batches.supervised_batch(rng, spelling, size=12, shots=20)
    for row, tokens in enumerate(batch.tokens):
        lines = tokenizer.decode(tokens).splitlines()[1:]
        shots = [tuple(line.split(" -> ")) for line in lines]
        for i in (0, 1, 5, 19):
            np.testing.assert_allclose(
                batch.bayes[row, i], bayes(shots[:i], shots[i][0], "supervised"), atol=1e-12
            )
            assert LABELS[batch.answers[row, i]] == shots[i][1]


@pytest.mark.slow
def test_branches_get_the_logits_of_plain_prompts(batches, tokenizer, model):
    import torch

    rng = np.random.default_rng(13)
    cuts = np.array([0, 3, 10])
    batch = batches.unsupervised_batch(
        rng, batches.Spelling(tokenizer), size=3, cuts=cuts, branches=2
    )
    mask = torch.zeros(batch.sees.shape).masked_fill(
        ~torch.from_numpy(batch.sees), torch.finfo(torch.float32).min
    )
    with torch.no_grad():
        logits = model(
            torch.from_numpy(batch.tokens),
            attention_mask=mask[None, None].expand(3, 1, -1, -1),
            position_ids=torch.from_numpy(batch.positions)[None],
        ).logits
    for row, tokens in enumerate(batch.tokens):
        inputs = [(text, None) for text in tokenizer.decode(tokens[: 7 + 3 * 10]).splitlines()[1:]]
        for i, place in enumerate(batch.asked):
            query = tokenizer.decode(tokens[place - 2 : place])
            shots = inputs[: cuts[i // 2]]
            plain = tokenizer(render_prompt(shots, query, "unsupervised"), return_tensors="pt")[
                "input_ids"
            ]
            with torch.no_grad():
                expected = model(plain).logits[0, -1]
            torch.testing.assert_close(logits[row, place], expected, atol=1e-4, rtol=1e-4)
            np.testing.assert_allclose(
                batch.bayes[row, i], bayes(shots, query, "unsupervised"), atol=1e-12
            )


def test_the_bundled_model_is_small_and_takes_long_texts(model):
    import torch

    assert sum(p.numel() for p in model.parameters()) <= 2_000_000
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 5_000_000
    names = {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    }
    assert {path.name for path in MODEL.iterdir()} == names
    assert model.config.model_type == "llama"
    with torch.no_grad():
        assert torch.isfinite(model(torch.full((1, 4000), 40)).logits[0, -1]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "map_kind", "floors"),
    [
        ("supervised", "default", {0: 0.33, 8: 0.97, 64: 0.98}),
        ("supervised", "random", {64: 0.75}),
        ("unsupervised", "default", {0: 0.33, 8: 0.65, 64: 0.96}),
    ],
)
def test_the_bundled_model_learns_from_fresh_shots(tokenizer, model, mode, map_kind, floors):
    import torch

    rng = np.random.default_rng(14)
    n_episodes = 120
    for n_shots, floor in floors.items():
        prompts, targets = [], []
        for i in range(n_episodes):
            episode = Episode.sample(rng, i % dialects.N_DIALECTS, map_kind)
            (query, target), shots = episode.draw(rng, 1)[0], episode.draw(rng, n_shots)
            prompts.append(tokenizer(render_prompt(shots, query, mode))["input_ids"])
            targets.append(tokenizer(f" {target}")["input_ids"][0])
        with torch.no_grad():
            said = model(torch.tensor(prompts)).logits[:, -1].argmax(dim=-1)
        assert (said == torch.tensor(targets)).float().mean() >= floor
