"""Local models against plain transformers on whole prompts: same ids, same logits, same text."""

import asyncio
import contextlib
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from icl_harness.errors import ModelError, SpecError
from icl_harness.models import hf
from icl_harness.models.base import Answer, Sampling, truncate_at_stop
from icl_harness.models.hf import HfModel
from icl_harness.models.local import choices, decode, kv
from icl_harness.models.local.copied import CopiedPrefix
from icl_harness.models.local.tokens import Branch, common
from icl_harness.prompts.tree import Edge, Node, Query
from tests.tiny_models import MODELS, build_tokenizer, save_tiny_model

PAIRS = [
    *((kind, "byte_bpe") for kind in MODELS),
    ("gemma3", "sp_bpe"),
    ("llama", "unigram"),
    ("llama", "wordpiece"),
]
FILMS = [
    "a warm film",
    "dull",
    "slow, and far too long",
    "funny",
    "a brown fox",
    "naïve café",
    "12 + 345",
    "你好",
]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Return a function that opens a tiny model of a kind, once."""

    @cache
    def open_one(kind="llama", tokenizer="byte_bpe"):
        return HfModel(str(save_tiny_model(tmp_path_factory.mktemp(kind), kind, tokenizer)))

    return open_one


def ask(
    model: HfModel, node: Node, queries: list[Query], sampling: Sampling
) -> dict[tuple[str, int], Answer]:
    async def collect():
        return [
            answer async for batch in model.answers(node, queries, sampling) for answer in batch
        ]

    answers = asyncio.run(collect())
    assert len(answers) == len(queries)
    return {(answer.query_id, answer.sample): answer for answer in answers}


def plain(model: HfModel, ids: list[int]) -> torch.Tensor:
    """Return the log-probabilities of every next token, from one forward without any cache: (n,
    vocabulary).
    """
    with torch.inference_mode():
        return (
            reference(model)(input_ids=torch.tensor([ids]), use_cache=False)
            .logits[0]
            .float()
            .log_softmax(-1)
        )


@cache
def reference(model: HfModel):
    """Return the same weights as transformers opens them, with its own attention."""
    return AutoModelForCausalLM.from_pretrained(
        model._origin["folder"], attn_implementation="eager"
    ).eval()


def tokenizer_of(model: HfModel):
    return model._tree._tokenizer


def whole_ids(model: HfModel, text: str) -> list[int]:
    return tokenizer_of(model)(text)["input_ids"]


def shots(n: int, *, labelled: bool = True) -> list[str]:
    said = ["positive", "negative"]
    return [
        f"Review: {FILMS[i % 8]} {i}\n" + f"Sentiment: {said[i % 2]}\n\n" * labelled
        for i in range(n)
    ]


def grow(node: Node, segments: list[str]) -> Node:
    for segment in segments:
        node = node.child(segment)
    return node


def queries_of(n: int, **more) -> list[Query]:
    return [
        Query(id=f"q{i}", text=f"Review: {' and '.join(FILMS[i % 8 :][:3])}\nSentiment:", **more)
        for i in range(n)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "tokenizer"), PAIRS)
def test_greedy_text_equals_generate_on_whole_prompts(opened, kind, tokenizer):
    model = opened(kind, tokenizer)
    node = Node("Label the reviews.\n\n")
    for segments in (shots(2), shots(6)[2:]):
        node = grow(node, segments)
        queries = queries_of(6)
        answers = ask(model, node, queries, Sampling(max_tokens=12))
        for query in queries:
            ids = torch.tensor([whole_ids(model, node.text + query.text)])
            mask, tok = torch.ones_like(ids), tokenizer_of(model)
            out = reference(model).generate(
                ids,
                attention_mask=mask,
                max_new_tokens=12,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=model._ends,
            )[0]
            before, after = (tok.decode(t, skip_special_tokens=True) for t in (ids[0], out))
            answer = answers[query.id, 0]
            assert answer.text == after[len(before) :]
            assert (
                answer.usage.prompt_tokens == ids.shape[1] == model.count_tokens(node, query.text)
            )
            assert answer.usage.completion_tokens == len(out) - ids.shape[1]
            assert 0 < answer.usage.cached_tokens <= model.count_tokens(node)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "tokenizer"), PAIRS)
@pytest.mark.parametrize("scoring", ["choices", "choices-normalised"])
def test_log_likelihoods_of_choices_equal_plain_ones(opened, kind, tokenizer, scoring):
    model = opened(kind, tokenizer)
    node = grow(Node("Label the reviews.\n\n"), shots(3))
    choices = ("p", "n", "odd", "pos", "same")
    ends = (" positive", " negative", " the quick brown fox", " posit", " positively not")
    queries = queries_of(6, choices=choices, continuations=ends)
    answers = ask(model, node, queries, Sampling(scoring=scoring))
    for query in queries:
        before, *ids = (whole_ids(model, node.text + query.text + end) for end in ("", *ends))
        start, expected = min(common(before, one) for one in ids), {}
        assert start == len(before) or tokenizer == "sp_bpe"
        for choice, one in zip(choices, ids, strict=True):
            told = plain(model, one)[range(start - 1, len(one) - 1), one[start:]]
            expected[choice] = float(told.sum() if scoring == "choices" else told.mean())
        answer = answers[query.id, 0]
        assert answer.logprobs == pytest.approx(expected, abs=2e-4)
        assert answer.text == max(expected, key=expected.__getitem__)


def test_choices_are_one_tree_that_feeds_what_they_share_once_and_their_last_tokens_never():
    ids, query = np.arange(10, dtype=np.int32), Branch(9, [50, 51])
    single = choices.candidate(0, ids, query, [Branch(9, [50, 51, t]) for t in (60, 61, 62)])
    assert (single.twig.own, single.twig.parents, single.wanted) == ([50, 51], (-1, 0), [1])
    assert len(choices.chains(single)) == 1
    ends = ([60], [60, 61, 62], [60, 61], [63, 64], [60, 61, 65, 66])
    nested = choices.candidate(0, ids, query, [Branch(9, [50, 51, *end]) for end in ends])
    assert nested.twig.own == [50, 51, 60, 61, 63, 65]
    assert nested.twig.parents == (-1, 0, 1, 2, 1, 3)
    assert nested.reads[4] == [(1, 60), (2, 61), (3, 65), (5, 66)]
    lines = choices.chains(nested)
    assert [line.twig.own for line in lines] == [[50, 51, 63], [50, 51, 60, 61, 65]]
    assert sorted(choice for line in lines for choice in line.reads) == [0, 1, 2, 3, 4]


@given(
    ends=st.lists(st.lists(st.integers(60, 63), min_size=1, max_size=6), min_size=1, max_size=12),
    most=st.integers(1, 12),
)
def test_small_trees_and_chains_hold_every_choice_once_and_as_it_was(ends, most):
    ids, query = np.arange(10, dtype=np.int32), Branch(9, [50, 51])
    whole = choices.candidate(0, ids, query, [Branch(9, [50, 51, *end]) for end in ends])
    for parts in (choices.small(whole, most), choices.chains(whole)):
        assert sorted(choice for part in parts for choice in part.reads) == list(range(len(ends)))
        for part in parts:
            longest = max(len(part.twig.line(pairs[-1][0])) for pairs in part.reads.values())
            assert len(part.twig.own) <= max(whole.twig.n_stem + most, longest)
            for choice, pairs in part.reads.items():
                line = [part.twig.own[i] for i in part.twig.line(pairs[-1][0])]
                assert line == [50, 51, *ends[choice][:-1]]
                assert [new for _, new in pairs] == ends[choice]
                assert [token for token, _ in pairs] == part.twig.line(pairs[-1][0])[1:]


def test_choices_in_several_small_trees_are_weighed_as_in_one(opened, monkeypatch):
    model, node = opened("gemma3"), grow(Node("Label.\n\n"), shots(3))
    ends = tuple(
        f" {a} {b} {c}"
        for a in ("the", "quick")
        for b in ("brown", "fox", "dog")
        for c in ("dull", "warm")
    )
    queries = queries_of(5, choices=ends, continuations=ends)
    whole = ask(model, node, queries, Sampling(scoring="choices"))
    monkeypatch.setattr(hf, "small", lambda row: choices.small(row, 20))
    parts = ask(model, node, queries, Sampling(scoring="choices"))
    for key, answer in whole.items():
        assert parts[key].logprobs == pytest.approx(answer.logprobs, abs=1e-4)


def test_choices_that_merge_into_the_query_are_weighed_from_one_place(opened):
    model = opened()
    node = grow(Node("Label.\n\n"), shots(2))
    query = Query(id="q", text="Sentiment: posi", choices=("a", "b"), continuations=("tive", "\n"))
    answer = ask(model, node, [query], Sampling(scoring="choices"))["q", 0]
    ids = [whole_ids(model, node.text + query.text + end) for end in query.continuations]
    before = whole_ids(model, node.text + query.text)
    start = min(common(before, one) for one in ids)
    assert start < len(before)
    for choice, one in zip("ab", ids, strict=True):
        told = plain(model, one)[range(start - 1, len(one) - 1), one[start:]].sum()
        assert answer.logprobs[choice] == pytest.approx(float(told), abs=1e-4)


def test_scoring_by_choices_without_choices_is_refused(opened):
    with pytest.raises(SpecError, match="query q has none"):
        ask(opened(), Node("a"), [Query(id="q", text="b")], Sampling(scoring="choices"))


def test_a_choice_without_text_of_its_own_fails_alone(opened):
    good = Query(id="good", text="b", choices=("x", "y"), continuations=(" x", " y"))
    bad = Query(id="bad", text="b", choices=("x", "y"), continuations=("", " y"))
    answers = ask(opened(), Node("a"), [good, bad], Sampling(scoring="choices"))
    assert [answers["good", 0].status, answers["bad", 0].status] == ["ok", "failed"]


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_sample_depends_on_its_seed_and_not_on_its_batch(opened, kind):
    model = opened(kind)
    node = grow(Node("Label the reviews.\n\n"), shots(3))
    texts = [query.text for query in queries_of(4)]
    queries = [
        Query(id=f"q{i}", text=t, sample=s, seed=100 * i + s)
        for i, t in enumerate(texts)
        for s in range(3)
    ]
    sampling = Sampling(max_tokens=10, temperature=1.0)
    together = ask(model, node, queries, sampling)
    alone = {
        key: answer
        for query in queries
        for key, answer in ask(model, node, [query], sampling).items()
    }
    assert {k: a.text for k, a in together.items()} == {k: a.text for k, a in alone.items()}
    assert len({a.text for a in together.values()}) > 8


def test_many_samples_of_a_text_are_asked_in_pieces(opened, monkeypatch):
    model, node = opened(), grow(Node("Label.\n\n"), shots(2))
    queries = [Query(id="q", text="Review: dull", sample=s, seed=s) for s in range(11)]
    together = ask(model, node, queries, Sampling(max_tokens=6, temperature=1.0))
    monkeypatch.setattr(hf, "MAX_SAMPLES", 4)
    pieces = ask(model, node, queries, Sampling(max_tokens=6, temperature=1.0))
    assert {k: a.text for k, a in together.items()} == {k: a.text for k, a in pieces.items()}


def test_samples_follow_the_models_distribution(opened):
    model, node = opened("gpt2"), Node("Review: dull\nSentiment:")
    queries = [Query(id="q", text=" a", sample=s, seed=s) for s in range(2000)]
    with torch.inference_mode():
        logits = reference(model)(torch.tensor([whole_ids(model, node.text + " a")])).logits[0, -1]
    expected = (logits / 2.0).softmax(-1)
    branch = model._tree.branches(node, [" a"])[0].opened(model._tree.ids(node))
    wanted = [decode.Continuation(0, query.seed, branch.own[-1]) for query in queries]
    points = decode._uniforms(wanted, Sampling(max_tokens=1, temperature=2.0))[:, 0]
    got = (
        np.bincount(decode._choose(logits.expand(2000, -1), points, 2.0), minlength=len(expected))
        / 2000
    )
    assert np.abs(got - expected.numpy()).max() < 4 * np.sqrt(0.25 / 2000)


def test_at_temperature_zero_samples_of_a_text_are_one_answer(opened):
    queries = [Query(id="q", text="Review: dull", sample=s, seed=s) for s in range(3)]
    answers = ask(opened(), Node("a\n"), queries, Sampling(max_tokens=4))
    assert len({answer.text for answer in answers.values()}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "tokenizer"), PAIRS)
def test_text_ends_before_the_first_stop_string(opened, kind, tokenizer):
    model = opened(kind, tokenizer)
    node, queries = grow(Node("Label the reviews.\n\n"), shots(2)), queries_of(8)
    free = ask(model, node, queries, Sampling(max_tokens=24))
    full = [answer.text for answer in free.values()]
    stops = sorted(
        {text[k : k + n] for text in full for k, n in ((3, 1), (7, 4)) if text[k : k + n]}
    )
    for one in ((stop, "never") for stop in stops[::3]):
        answers = ask(model, node, queries, Sampling(max_tokens=24, stop=one))
        for key, answer in answers.items():
            assert answer.text == truncate_at_stop(free[key].text, one)
            cut = len(answer.text) < len(free[key].text)
            assert not cut or answer.usage.completion_tokens <= free[key].usage.completion_tokens


def test_a_stop_string_ends_generation_early(opened):
    model, node, [query] = opened(), Node("Label.\n\n"), queries_of(1)
    text = ask(model, node, [query], Sampling(max_tokens=40))["q0", 0].text
    answer = ask(model, node, [query], Sampling(max_tokens=40, stop=(text[1:3],)))["q0", 0]
    assert answer.usage.completion_tokens < 8


def test_prompts_beyond_the_window_are_overflows_and_the_others_go_on(opened):
    model = opened("gpt2")
    node = grow(Node("Label.\n\n"), shots(2))
    edge = next(text for n in range(600) if model.count_tokens(node, text := "a " * n) >= 508)
    n_edge = model.count_tokens(node, edge)
    for sampling in (Sampling(max_tokens=512 - n_edge), Sampling(scoring="choices")):
        texts = {"long": "dull " * 600, "short": edge if sampling.scoring == "generate" else "a"}
        asked = [
            Query(id=name, text=text, choices=("a",), continuations=(" a",))
            for name, text in texts.items()
        ]
        answers = ask(model, node, asked, sampling)
        assert answers["short", 0].status == "ok"
        assert answers["long", 0].status == "overflow"
        assert "window is 512" in answers["long", 0].error
    assert ask(model, node, asked[1:], Sampling(max_tokens=512))["short", 0].status == "overflow"


def test_a_prompt_without_tokens_fails_and_one_of_only_a_bos_does_not(opened):
    query = Query(id="q", text="")
    assert ask(opened(), Node(""), [query], Sampling(max_tokens=2))["q", 0].status == "failed"
    assert (
        ask(opened("gemma3", "sp_bpe"), Node(""), [query], Sampling(max_tokens=2))["q", 0].status
        == "ok"
    )


def test_every_shot_of_a_draw_is_prefilled_exactly_once(tmp_path):
    model = HfModel(str(save_tiny_model(tmp_path, context=8192)))
    for labelled, block in ((True, ""), (False, "Say positive or negative.\n")):
        model._prefix.forget()
        node, before, blocks, n = Node("Label the reviews.\n"), model.n_prefilled, 0, 0
        for k in (0, 1, 4, 16, 64):
            node, n = (
                grow(
                    node, [shot.replace("\n\n", "\n") for shot in shots(k, labelled=labelled)[n:]]
                ),
                k,
            )
            at = node.child(block) if block else node
            ask(model, at, queries_of(5), Sampling(max_tokens=3))
            ask(
                model,
                at,
                queries_of(3, choices=("a", "b"), continuations=(" a b", " b")),
                Sampling(scoring="choices"),
            )
            blocks += model.count_tokens(at) - model.count_tokens(node)
        assert model.n_prefilled - before == model.count_tokens(node) + blocks


def test_long_prefills_go_in_chunks_and_change_nothing(opened):
    model, node = opened("gemma3"), grow(Node("Label.\n\n"), shots(12))
    whole = ask(model, node, queries_of(3), Sampling(max_tokens=6))
    with in_chunks(model, 7):
        pieces = ask(model, node, queries_of(3), Sampling(max_tokens=6))
    assert [a.text for a in whole.values()] == [a.text for a in pieces.values()]


def save_recurrent(folder: Path):
    """Write a model that cannot crop its states; return its tokenizer."""
    config = tf.Lfm2Config(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2, layer_types=["conv", "full_attention"], pad_token_id=None,
        bos_token_id=None, eos_token_id=None, initializer_range=0.3,
    )  # fmt: skip
    return save_config(folder, config)


def save_without_cache(folder: Path):
    """Write a model that does not go on from a cache; return its tokenizer."""
    config = tf.MambaConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=1.0
    )
    return save_config(folder, config)


def save_config(folder: Path, config):
    tok = build_tokenizer("byte_bpe")
    config.vocab_size = len(tok)
    torch.manual_seed(0)
    tf.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return tok


@contextlib.contextmanager
def in_chunks(model: HfModel, chunk: int):
    """Have a model begin anew and feed few tokens at a time."""
    before, model._prefix.chunk = model._prefix.chunk, chunk
    model._prefix.forget()
    try:
        yield
    finally:
        model._prefix.chunk = before


def with_own_edges(rng, nodes: list[Node], query: Query) -> tuple[Node, Query]:
    """Cut a path at random: what stands behind the cut becomes the query's own edges."""
    at = int(rng.integers(1, len(nodes) + 1))
    own = tuple(Edge(text=node.segment) for node in nodes[at:])
    return nodes[at - 1], replace(query, own=own)


@pytest.mark.slow
@pytest.mark.parametrize("branches", ["shared", "copied", "recomputed", "whole"])
@pytest.mark.parametrize("chunk", [5, kv.CHUNK])
@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_queries_with_own_edges_are_answered_as_the_same_texts_flattened(
    tmp_path_factory, branches, chunk, seed
):
    """Likelihoods, greedy texts and samples, of paths that are cut wherever chance would."""
    model = model_that(branches, tmp_path_factory)
    rng = np.random.default_rng(seed)
    nodes = grow(Node("Label the reviews.\n\n"), shots(int(rng.integers(1, 7)))).path
    some = queries_of(4, choices=("p", "n"), continuations=(" positive", " negative or so"))
    below: dict[str, tuple[Node, list[Query]]] = {}
    for query in some:
        node, cut = with_own_edges(rng, nodes, query)
        below.setdefault(node.hash, (node, []))[1].append(cut)
    for sampling in (
        Sampling(scoring="choices"),
        Sampling(max_tokens=4),
        Sampling(max_tokens=4, temperature=1.0),
    ):
        with in_chunks(model, chunk):
            flat = ask(model, nodes[-1], some, sampling)
            for node, queries in below.values():
                for key, answer in ask(model, node, queries, sampling).items():
                    assert answer.text == flat[key].text
                    assert answer.usage.prompt_tokens == flat[key].usage.prompt_tokens
                    if answer.logprobs:
                        assert answer.logprobs == pytest.approx(flat[key].logprobs, abs=1e-4)


_MODELS: dict[str, HfModel] = {}


def model_that(branches: str, tmp_path_factory) -> HfModel:
    """Open a tiny model that goes on from a prefix in one of the four ways."""
    if branches in _MODELS:
        return _MODELS[branches]
    folder = tmp_path_factory.mktemp(branches)
    if branches == "recomputed":
        save_recurrent(folder)
    elif branches == "whole":
        save_without_cache(folder)
    else:
        save_tiny_model(folder, "gemma3" if branches == "copied" else "llama")
    model = HfModel(str(folder))
    if branches == "copied":
        model._model.set_attn_implementation("eager")
        model._prefix = CopiedPrefix(kv.Runner(model._model))
    assert model._prefix.way == branches
    _MODELS[branches] = model
    return model


def test_batches_are_halved_when_memory_ends_and_nothing_is_lost(opened, monkeypatch):
    model, node, queries = opened(), grow(Node("Label.\n\n"), shots(2)), queries_of(8)
    expected, forward, sizes = (
        ask(model, node, queries, Sampling(max_tokens=3)),
        kv.Runner.forward,
        [],
    )

    def scarce(self, tokens, *rest, **more):
        sizes.append(len(tokens))
        if len(tokens) > 3:
            raise torch.OutOfMemoryError
        return forward(self, tokens, *rest, **more)

    monkeypatch.setattr(kv.Runner, "forward", scarce)
    got = ask(model, node, queries, Sampling(max_tokens=3))
    assert {k: a.text for k, a in got.items()} == {k: a.text for k, a in expected.items()}
    assert sizes[:3] == [8, 4, 2]

    model._prefix.forget()

    def none_left(self, tokens, *rest, **more):
        raise RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
        )

    monkeypatch.setattr(kv.Runner, "forward", none_left)
    with_choices = queries_of(2, choices=("a", "b"), continuations=(" x y", " z w"))
    for sampling in (Sampling(max_tokens=3), Sampling(scoring="choices")):
        answers = ask(model, node, with_choices, sampling)
        assert {a.status for a in answers.values()} == {"failed"}
        assert all("out of memory" in a.error for a in answers.values())


def test_where_memory_ends_for_one_text_alone_its_samples_or_choices_are_split(opened, monkeypatch):
    model, node, forward = opened(), grow(Node("Label.\n\n"), shots(2)), kv.Runner.forward
    [text] = queries_of(1)
    samples = [Query(id="q", text=text.text, sample=s, seed=s) for s in range(11)]
    ends = tuple(
        f" {a} {b} {a}" for a in ("the", "quick", "fox", "dog") for b in ("red", "dull", "warm")
    )
    choosing = [Query(id="q", text=text.text, choices=ends, continuations=ends)]
    sampling = Sampling(max_tokens=5, temperature=1.0)
    expected = [
        ask(model, node, samples, sampling),
        ask(model, node, choosing, Sampling(scoring="choices")),
    ]
    for limit in (3, 60):
        model._prefix.reach(model._tree.ids(node))

        def scarce(self, tokens, *rest, limit=limit, **more):
            if (len(tokens) if limit == 3 else np.size(tokens)) > limit:
                raise torch.OutOfMemoryError
            return forward(self, tokens, *rest, **more)

        with monkeypatch.context() as patch:
            patch.setattr(kv.Runner, "forward", scarce)
            if limit == 3:
                told = ask(model, node, samples, sampling)
                assert {k: a.text for k, a in told.items()} == {
                    k: a.text for k, a in expected[0].items()
                }
            else:
                told = ask(model, node, choosing, Sampling(scoring="choices"))
                assert told["q", 0].logprobs == pytest.approx(
                    expected[1]["q", 0].logprobs, abs=1e-4
                )


def test_a_batch_size_bounds_the_samples_of_one_text_too(tmp_path, monkeypatch):
    model, widths, forward = (
        HfModel(str(save_tiny_model(tmp_path)), batch_size="2"),
        [],
        kv.Runner.forward,
    )

    def noting(self, tokens, *rest, **more):
        widths.append(len(tokens))
        return forward(self, tokens, *rest, **more)

    monkeypatch.setattr(kv.Runner, "forward", noting)
    queries = [Query(id="q", text="Review: dull", sample=s, seed=s) for s in range(9)]
    ask(model, Node("Label.\n"), queries, Sampling(max_tokens=3, temperature=1.0))
    assert max(widths) == 2


def test_two_models_asked_in_turn_leave_the_threads_as_they_were(opened):
    torch.set_num_threads(2)

    async def both():
        node, queries = Node("Label.\n"), queries_of(3)
        streams = [
            opened(kind).answers(node, queries, Sampling(max_tokens=2))
            for kind in ("llama", "gpt2")
        ]
        for _ in range(2):
            for stream in streams:
                await anext(stream, None)
                assert torch.get_num_threads() == 2
        for stream in streams:
            await stream.aclose()

    try:
        asyncio.run(both())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_recurrent_model_recomputes_what_it_cannot_crop(tmp_path):
    tok = save_recurrent(tmp_path)
    model = HfModel(str(tmp_path))
    node = Node("Label the reviews.\n\n")
    for k in (2, 5):
        node = grow(node, shots(k)[node.n_shots :])
        at = node.child("Say positive or negative.\n\n")
        queries = [
            *queries_of(5, choices=("p", "n"), continuations=(" posi tive", " n")),
            Query(id="none", text=""),
        ]
        assert (
            ask(model, Node(""), queries[:2], Sampling(max_tokens=2))["q0", 0].usage.cached_tokens
            == 0
        )
        answers = ask(model, at, queries, Sampling(max_tokens=6))
        weighed = ask(model, at, queries[:5], Sampling(scoring="choices"))
        for query in queries:
            ids = whole_ids(model, at.text + query.text)
            new = []
            for _ in range(6):
                new.append(int(plain(model, ids + new)[-1].argmax()))
            assert answers[query.id, 0].text == tok.decode(new)
        for query in queries[:5]:
            before, ids = (
                whole_ids(model, at.text + query.text + end) for end in ("", " posi tive")
            )
            told = plain(model, ids)[range(len(before) - 1, len(ids) - 1), ids[len(before) :]].sum()
            assert weighed[query.id, 0].logprobs["p"] == pytest.approx(float(told), abs=1e-4)


def test_a_model_that_does_not_go_on_from_a_cache_is_fed_whole_and_says_so(tmp_path):
    tok = save_without_cache(tmp_path)
    model = HfModel(str(tmp_path))
    told = model.describe()
    assert told["branches"] == "whole"
    assert "does not go on from a cache" in told["because"]
    node = grow(Node("Label the reviews.\n\n"), shots(3))
    queries = queries_of(4, choices=("p", "n"), continuations=(" positive", " n"))
    written = ask(model, node, queries, Sampling(max_tokens=4))
    weighed = ask(model, node, queries, Sampling(scoring="choices"))
    for query in queries:
        ids = whole_ids(model, node.text + query.text)
        new: list[int] = []
        for _ in range(4):
            new.append(int(plain(model, ids + new)[-1].argmax()))
        assert written[query.id, 0].text == tok.decode(new)
        assert written[query.id, 0].usage.cached_tokens == 0
        whole = whole_ids(model, node.text + query.text + " positive")
        nats = plain(model, whole)[range(len(ids) - 1, len(whole) - 1), whole[len(ids) :]].sum()
        assert weighed[query.id, 0].logprobs["p"] == pytest.approx(float(nats), abs=1e-4)


def one_line(error: pytest.ExceptionInfo[ModelError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def test_a_path_that_is_no_model_is_told_in_one_line(tmp_path, opened):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("{}")
    rules = {
        "missing/model": "does not exist",
        "file": "is a file",
        "empty": "has no config.json",
        "odd": "cannot be opened as a causal",
    }
    for name, rule in rules.items():
        with pytest.raises(ModelError) as error:
            HfModel(str(tmp_path / name))
        assert rule in one_line(error)
        assert name in one_line(error)


def test_a_folder_without_weights_or_tokenizer_is_told_in_one_line(tmp_path):
    folder = save_tiny_model(tmp_path)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(ModelError) as error:
        HfModel(str(folder))
    assert "cannot be opened" in one_line(error)
    (folder / "model.safetensors").write_bytes(weights)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError) as error:
        HfModel(str(folder))
    assert "tokenizer" in one_line(error)


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_told_at_once():
    code = "from icl_harness.models.hf import HfModel; HfModel('nobody/nothing')"
    env = {"PATH": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "/nonexistent"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (
        "ModelError: hf/nobody/nothing: no such folder here, and the hub does not"
        in ran.stderr.splitlines()[-1]
    )
    assert "Retry" not in ran.stderr


@pytest.mark.slow
def test_without_a_hub_what_was_downloaded_before_is_opened(tmp_path):
    """The layout is the hub cache's own; the commit's name is what a run folder is told."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--some--tiny"
    save_tiny_model(repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    code = (
        "from icl_harness.models.hf import HfModel; "
        "print(HfModel('some/tiny').describe()['revision'])"
    )
    env = {"PATH": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert ran.stdout == f"{commit}\n", ran.stderr
    assert "Retry" not in ran.stderr  # nobody waits for the hub


@pytest.mark.parametrize(
    ("args", "rule"),
    [
        ({"dtyp": "float32"}, "Nearest: dtype"),
        ({"dtype": "float31"}, "auto, float32, float16 or bfloat16"),
        ({"batch_size": "0"}, "a whole number from 1 up"),
        ({"context_window": "many"}, "a whole number from 1 up"),
        ({"trust_remote_code": "maybe"}, "yes or no"),
        ({"device": "toaster"}, "toaster"),
    ],
)
def test_a_wrong_model_argument_is_named(opened, tmp_path, args, rule):
    folder = save_tiny_model(tmp_path)
    with pytest.raises(ModelError) as error:
        HfModel(str(folder), **args)
    assert rule in one_line(error)


def test_model_arguments_are_taken(tmp_path):
    folder = save_tiny_model(tmp_path)
    model = HfModel(
        str(folder), id="demo", dtype="bfloat16", batch_size="2", context_window="64", device="cpu"
    )
    assert model.id == "demo"
    assert model.capabilities.context_window == 64
    assert model.describe()["dtype"] == "bfloat16"
    answers = ask(model, Node("Label.\n"), queries_of(5), Sampling(max_tokens=4))
    assert {answer.status for answer in answers.values()} == {"ok"}


def test_a_model_says_what_it_is_without_saying_where(tmp_path):
    model = HfModel(str(save_tiny_model(tmp_path)))
    told = model.describe()
    assert told["dtype"] == "float32"
    assert len(told["sha256"]["model.safetensors"]) == 64
    assert str(tmp_path) not in str(told)
    assert model.id == f"hf/{tmp_path}"
    asyncio.run(model.close())


def test_importing_the_seam_loads_no_torch():
    code = (
        "import sys, icl_harness.models.hf; "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert ran.stdout == "False False\n"
