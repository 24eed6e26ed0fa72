"""Log-probabilities of branches of a path against plain forwards of the whole prompts, in every way
of branching.
"""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from icl_harness.models.local import attention, kv
from icl_harness.models.local.copied import CopiedPrefix
from icl_harness.models.local.kv import Runner
from icl_harness.models.local.shared import SharedPrefix
from icl_harness.models.local.tokens import Branch, Twig
from icl_harness.models.local.ways import open_prefix
from tests.tiny_models import MODELS, build_config

VOCABULARY = 97


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@cache
def models(kind: str, dtype: torch.dtype = torch.float32, spread: float = 0.2):
    """Two copies of one model: the one to branch, and a plain one with transformers' own attention
    by the book.
    """
    torch.manual_seed(0)
    ours = AutoModelForCausalLM.from_config(
        build_config(kind, VOCABULARY, 512, spread), dtype=dtype
    ).eval()
    plain = AutoModelForCausalLM.from_config(
        deepcopy(ours.config), dtype=dtype, attn_implementation="eager"
    ).eval()
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@cache
def prefix_of(
    kind: str,
    way: str,
    dtype: torch.dtype = torch.float32,
    spread: float = 0.2,
    chunk: int = kv.CHUNK,
):
    ours, plain = models(kind, dtype, spread)
    if way == "copied":
        return CopiedPrefix(Runner(plain), chunk)
    if chunk != kv.CHUNK:
        prefix_of(kind, way)  # switches the model's attention
        return SharedPrefix(Runner(ours), chunk)
    prefix, why = open_prefix(ours)
    assert (prefix.way, why) == ("shared", "")
    return prefix


def expected(plain, ids) -> torch.Tensor:
    """The log-probabilities of the token after `ids`, from one forward without a cache."""
    with torch.inference_mode():
        return (
            plain(input_ids=torch.tensor([list(map(int, ids))]), use_cache=False)
            .logits[0, -1]
            .float()
            .log_softmax(-1)
        )


def own_to(twig: Twig, token: int) -> list[int]:
    return [twig.own[i] for i in twig.line(token)]


def random_twig(rng, n_path: int, *, tree: bool) -> Twig:
    n = int(rng.integers(1, 12))
    parents = tuple(int(rng.integers(-1, i)) if tree and i > 2 else i - 1 for i in range(n))
    return Twig(
        max(0, n_path - int(rng.integers(0, 4))), rng.integers(3, VOCABULARY, n).tolist(), parents
    )


def walk(prefix, plain, seed: int, *, turns: int, check) -> None:
    """Grow and turn a path at random, branch rows at each place, and `check` all that they tell."""
    rng, ids = np.random.default_rng(seed), np.zeros(0, np.int32)
    for _ in range(turns):
        kept = int(rng.integers(0, len(ids) + 1)) if rng.random() < 0.4 else len(ids)
        ids = np.concatenate([ids[:kept], rng.integers(3, VOCABULARY, rng.integers(1, 40))]).astype(
            np.int32
        )
        prefix.reach(ids)
        tree = prefix.trees and rng.random() < 0.5
        twigs = [random_twig(rng, len(ids), tree=tree) for _ in range(int(rng.integers(1, 6)))]
        if prefix.runner.level:  # rows of one length, as row_batches.py makes them
            twigs = [
                Twig(
                    twigs[0].n_shared, rng.integers(3, VOCABULARY, 5).tolist(), tuple(range(-1, 4))
                )
                for _ in twigs
            ]
        places = [
            (r, int(t))
            for r, twig in enumerate(twigs)
            for t in {len(twig.own) - 1, rng.integers(len(twig.own))}
        ]
        rows = prefix.rows(twigs, ([r for r, _ in places], [t for _, t in places]), room=3)
        for (r, token), logits in zip(places, rows.logits, strict=True):
            check(logits, expected(plain, [*ids[: twigs[r].n_shared], *own_to(twigs[r], token)]))
        if tree:
            continue
        texts = [[*ids[: twig.n_shared], *twig.own] for twig in twigs]
        for _ in range(3):
            new = rng.integers(3, VOCABULARY, len(texts))
            texts = [[*text, token] for text, token in zip(texts, new, strict=True)]
            for logits, text in zip(rows.step(new), texts, strict=True):
                check(logits, expected(plain, text))
            picked = rng.integers(0, len(texts), int(rng.integers(1, 7)))
            rows.select(picked)
            texts = [texts[i] for i in picked]


def close(logits: torch.Tensor, wanted: torch.Tensor) -> None:
    told = logits.float().log_softmax(-1)
    assert (told - wanted).abs().max() < 1e-4
    best = wanted.topk(2)
    assert told.argmax() == best.indices[0] or best.values[0] - best.values[1] < 1e-5


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", ["shared", "copied"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_log_probabilities_equal_those_of_plain_forwards(way, kind, seed):
    walk(prefix_of(kind, way), models(kind)[1], seed, turns=4, check=close)


@pytest.mark.parametrize("kind", MODELS)
def test_in_half_precision_they_are_within_a_hundredth(kind):
    """Of a model that is not peaked: at larger logits the steps of bfloat16 alone are wider than
    that.

    A rounding may send a token to another expert (gpt_oss), and Gemma 3n adds up four streams: of
    those a few are not.
    """
    gaps = []

    def note(logits, wanted):
        gaps.append(float((logits.float().log_softmax(-1) - wanted).abs().max()))

    prefix = prefix_of(kind, "shared", torch.bfloat16, 0.02)
    for seed in range(3):
        walk(prefix, models(kind, torch.bfloat16, 0.02)[1], seed, turns=6, check=note)
    few = 0.03 if kind in ("gpt_oss", "gemma3n") else 0.0
    assert np.mean(np.array(gaps) > 1e-2) <= few
    assert np.median(gaps) < 5e-3


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt_oss"])
def test_pieces_of_the_scores_change_nothing(kind, monkeypatch):
    monkeypatch.setattr(attention, "SCORES", 64)
    monkeypatch.setattr(attention, "_fused", lambda query, value, **_: False)
    walk(prefix_of(kind, "shared", chunk=7), models(kind)[1], 3, turns=5, check=close)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", ["shared", "copied"])
def test_long_paths_and_rows_are_fed_in_chunks_and_change_nothing(way, kind):
    """Three tokens at a time: chains, trees that fork inside a chunk and across several."""
    prefix, plain = prefix_of(kind, way, chunk=3), models(kind)[1]
    for seed in range(6):
        walk(prefix, plain, seed, turns=3, check=close)


def test_a_window_is_masked_and_not_only_ignored():
    """The merge without the window's mask is wrong by nats, and would be noticed here."""
    prefix, plain = prefix_of("mistral", "shared"), models("mistral")[1]
    ids = np.random.default_rng(1).integers(3, VOCABULARY, 60).astype(np.int32)
    wanted = expected(plain, [*ids, 5])

    def told() -> torch.Tensor:
        prefix.forget()
        prefix.reach(ids)
        return prefix.rows([Twig.chain(Branch(60, [5]))], ([0], [0])).logits[0].log_softmax(-1)

    assert (told() - wanted).abs().max() < 1e-4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            attention, "_pattern", lambda *_: attention.Pattern(start=0, past=None, own=None)
        )
        assert (told() - wanted).abs().max() > 0.5
    prefix.forget()


def test_a_prefixs_keys_and_values_are_not_copied_for_the_rows():
    prefix = prefix_of("llama", "shared")
    ids = np.random.default_rng(1).integers(3, VOCABULARY, 400).astype(np.int32)
    prefix.reach(ids)
    rows = prefix.rows([Twig.chain(Branch(400, [5, 6, 7]))] * 50, (range(50), [2] * 50), room=4)
    kept = [buffer.shape for layer in rows._cache.layers for buffer in layer.buffers]
    assert {shape[0] for shape in kept} == {50}
    assert (
        max(shape[2] for shape in kept) < 40
    )  # own tokens and a little room; the path's 400 are nowhere in them
    before = prefix.layers[0].buffers[0].data_ptr()
    prefix.reach(np.concatenate([ids, ids[:3]]))
    assert prefix.layers[0].buffers[0].data_ptr() == before


def test_a_model_that_does_not_let_its_attention_be_changed_runs_on_copies_and_says_why(
    monkeypatch,
):
    plain = models("qwen3")[1]
    with monkeypatch.context() as patch:
        patch.setattr(type(plain), "_can_set_attn_implementation", lambda self: False)
        prefix, why = open_prefix(plain)
    assert prefix.way == "copied"
    assert "transformers' interface" in why
    walk(prefix, plain, 5, turns=2, check=close)


def test_an_attention_that_comes_out_wrong_is_noticed_and_given_back(monkeypatch):
    plain = models("phi")[1]
    before = plain.config._attn_implementation
    merged = attention._merged
    monkeypatch.setattr(attention, "_merged", lambda parts, sink: merged(parts[:1], sink))
    prefix, why = open_prefix(plain)
    assert prefix.way == "copied"
    assert why.startswith("logits differ")
    assert plain.config._attn_implementation == before


def test_a_forward_that_fails_leaves_a_path_that_goes_on(monkeypatch):
    prefix, plain = SharedPrefix(Runner(models("gpt2")[0])), models("gpt2")[1]
    open_prefix(models("gpt2")[0])
    ids = np.random.default_rng(2).integers(3, VOCABULARY, 80).astype(np.int32)
    prefix.reach(ids[:30])
    update, calls = type(prefix.layers[0]).update, []

    def fails_at_the_second_layer(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError
        return update(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(prefix.layers[0]), "update", fails_at_the_second_layer)
        with pytest.raises(torch.OutOfMemoryError):
            prefix.reach(ids)
    assert len(prefix.ids) == 30
    prefix.reach(ids)
    close(
        prefix.rows([Twig.chain(Branch(80, [9]))], ([0], [0])).logits[0], expected(plain, [*ids, 9])
    )
    assert prefix.chunk > 50
