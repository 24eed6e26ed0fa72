"""Real pretrained models, SmolLM2-135M and Gemma-3-270M, where their packages are installed: exact
along the tree in each way of branching, and run from the command line.
"""

from __future__ import annotations

import json
import sys
from copy import copy, deepcopy
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import icl_harness
from icl_harness.cli.app import main
from icl_harness.models.base import Sampling
from icl_harness.models.hf import HfModel
from icl_harness.models.local.copied import CopiedPrefix
from icl_harness.models.local.kv import Runner
from icl_harness.models.local.packaged import PACKAGES
from icl_harness.models.local.tokens import Branch, Twig
from icl_harness.prompts.tree import Edge, Node, Query
from tests.models.test_hf import ask

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
every_package = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                find_spec(package.module) is None,
                reason=f"not installed: pip install {package.install}",
            ),
        )
        for name, package in PACKAGES.items()
    ],
)
every_way = pytest.mark.parametrize("way", ["shared", "copied"])
FILMS = ["warm and funny", "dull", "far too long", "a small wonder", "a waste of time", "lovely"]


@cache
def pretrained(name: str) -> HfModel:
    return HfModel(name)


@cache
def plain(name: str):
    """The same weights with transformers' own attention by the book."""
    import transformers

    ours = pretrained(name)._model
    model = transformers.AutoModelForCausalLM.from_config(
        deepcopy(ours.config), attn_implementation="eager", dtype=torch.float32
    ).eval()
    model.load_state_dict(ours.state_dict())
    return model


@cache
def model_that(name: str, way: str) -> HfModel:
    """Return the model as it goes on from a prefix in one of the ways."""
    shared = pretrained(name)
    assert shared._prefix.way == "shared"
    if way == "shared":
        return shared
    model = copy(shared)
    model._model, model._prefix = plain(name), CopiedPrefix(Runner(plain(name)))
    return model


@cache
@torch.inference_mode()
def expected(name: str, ids: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities of every next token, from one forward of the whole: (n, vocabulary)."""
    return plain(name)(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)


def close(logits: torch.Tensor, wanted: torch.Tensor) -> None:
    assert (logits.log_softmax(-1) - wanted).abs().max() < 2e-3


def path(n: int) -> Node:
    node = Node("Say what a review means: good or bad.\n\n")
    for i in range(n):
        label = ("good", "bad")[i % 2]
        node = node.child(f"Review: {FILMS[i % len(FILMS)]}\nMeaning: {label}\n\n")
    return node


def query(i: int, **more) -> Query:
    return Query(
        id=f"q{i}",
        text=f"Review: {FILMS[-i]} and {FILMS[i]}\nMeaning:",
        choices=("good", "bad", "good or bad"),
        continuations=(" good", " bad", " good or bad"),
        **more,
    )


@every_package
@every_way
def test_choices_are_as_likely_as_in_plain_forwards_of_whole_prompts(name: str, way: str) -> None:
    model, queries = model_that(name, way), [query(i) for i in range(3)]
    tokenizer = model._tree._tokenizer
    for k in (2, 5):
        answers = ask(model, path(k), queries, Sampling(scoring="choices"))
        for one in queries:
            text = path(k).text + one.text
            start = len(tokenizer(text)["input_ids"])
            for choice, end in zip(one.choices, one.continuations, strict=True):
                ids = tuple(tokenizer(text + end)["input_ids"])
                nats = expected(name, ids)[range(start - 1, len(ids) - 1), ids[start:]].sum()
                assert answers[one.id, 0].logprobs[choice] == pytest.approx(float(nats), abs=2e-3)


@every_package
@every_way
def test_own_edges_give_the_likelihoods_of_the_same_text_flattened(name: str, way: str) -> None:
    model, whole = model_that(name, way), path(5)
    flat = ask(model, whole, [query(1)], Sampling(scoring="choices"))["q1", 0]
    for at in (0, 3):
        own = tuple(Edge(text=node.segment) for node in whole.path[at + 1 :])
        answer = ask(model, whole.path[at], [query(1, own=own)], Sampling(scoring="choices"))
        assert answer["q1", 0].logprobs == pytest.approx(flat.logprobs, abs=2e-3)


@every_package
@every_way
def test_trees_and_steps_behind_a_long_path_tell_what_plain_forwards_do(
    name: str, way: str
) -> None:
    """Longer than a sliding window, where the model has one."""
    rng, model = np.random.default_rng(0), model_that(name, way)
    prefix = model._prefix
    n = 60 + (getattr(model._model.config, "sliding_window", None) or 0)
    ids = rng.integers(100, 40_000, n).astype(np.int32)
    prefix.reach(ids)
    parents = (-1, 0, 1, 1, 3, 1) if prefix.trees else range(-1, 5)
    twig = Twig(n - 2, rng.integers(100, 40_000, 6).tolist(), tuple(parents))
    rows = prefix.rows([twig], ([0, 0], [2, 4]))
    for token, logits in zip((2, 4), rows.logits, strict=True):
        whole = (*ids[: twig.n_shared].tolist(), *(twig.own[i] for i in twig.line(token)))
        close(logits, expected(name, whole)[-1])
    chains = [Twig.chain(Branch(at, rng.integers(100, 40_000, 4).tolist())) for at in (n, n - 1)]
    rows = prefix.rows(chains, ([0, 1], [3, 3]), room=1)
    new = rng.integers(100, 40_000, 2)
    for chain, token, logits in zip(chains, new, rows.step(new), strict=True):
        whole = (*ids[: chain.n_shared].tolist(), *chain.own, int(token))
        close(logits, expected(name, whole)[-1])
    prefix.forget()


@every_package
def test_a_run_from_the_command_line_answers_and_learns_labels_from_its_shots(
    name, toy, capfd, monkeypatch
) -> None:
    """`toy` labels numbers even or odd. With shots the model names one of the two."""
    arguments = (
        "icl", "run", "toy", "--model", f"hf/{name}", "--shots", "0,8", "--draws", "1",
        "--queries", "6", "--data", "data", "--scoring", "choices", "--out", "out",
    )  # fmt: skip
    monkeypatch.setattr(sys, "argv", list(arguments))
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code, capfd.readouterr().err
    run = icl_harness.Run("out")
    records = run.records()
    assert len(records) == 12
    assert records["status"].eq("ok").all()
    nll = records.groupby("shots")["gold_nll"].mean()
    assert nll[8] < nll[0]
    about = json.loads((run.path / "run.json").read_text())["models"][f"hf/{name}"]
    assert about["branches"] == "shared"
    assert [file.endswith(".gguf") for file in about["sha256"]] == [True]
